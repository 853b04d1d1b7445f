"""Multi-step prediction: rollouts in latent space should meet the encoded future. Does not prevent collapse.

Shapes: B windows, S rollout starts, n steps a rollout, D latent size (a vector, or N tokens of size D).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import torch
from torch import Tensor
from torch.nn import functional as F

from steersman.core.boxes import Objective
from steersman.core.errors import ConfigError
from steersman.core.learning import Encoded, LearningBatch, Loss, Need, Rollouts
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.objectives.statistics import mean

Distance = Literal["mse", "l1", "smooth_l1"]


def step_errors(
    batch: LearningBatch, distance: Distance = "mse", stop_gradient: bool = False, per_change: bool = False,
    changed: float = 0.0,
) -> Tensor:
    """(B, S, n): distance of every predicted state to the encoded one, averaged over the entries that were measured;
    per_change: in units of what a step changes; changed: how much more a token counts that changes in its rollout.

    A state of which nothing was measured scores 0; `measured_share` weighs states for a mean over many.
    """
    predicted, targets = batch.predicted.states[:, :, 1:].float(), batch.targets().float()
    if stop_gradient:
        targets = targets.detach()
    if per_change:
        path = torch.cat([batch.predicted.states[:, :, :1].float(), targets], 2).detach()
        change = path.diff(dim=2).square().flatten(0, 2).mean(0).sqrt().clamp_min(1e-3)
        predicted, targets = predicted / change, targets / change
    loss = {"mse": F.mse_loss, "l1": F.l1_loss, "smooth_l1": F.smooth_l1_loss}[distance]
    errors = loss(predicted, targets, reduction="none")
    if changed and errors.ndim == 5:
        errors = errors * (1 + changed * _moved(batch.predicted.states[:, :, :1].float(), targets))
    measured = batch.measured_targets()
    if measured is None:
        return errors.flatten(3).mean(3)
    share = measured.expand_as(errors).flatten(3).float().mean(3)
    return (errors * measured).flatten(3).mean(3) / share.clamp(min=1e-9)


def _moved(starts: Tensor, targets: Tensor) -> Tensor:
    """Rollouts' starts (B, S, 1, N, D) and what followed (B, S, n, N, D) -> (B, S, 1, N, 1): 1 for tokens that change.

    A token has changed that lies farther from its start than a hundredth of the tokens' spread over the batch, and than
    three times what is usual there: the median, which is 0 where pictures are drawn and the camera's noise elsewhere.
    """
    apart = (targets - starts).detach().norm(dim=-1).amax(2, keepdim=True)
    spread = targets.detach().flatten(0, -2).std(0, correction=0).norm()
    least = torch.maximum(0.01 * spread, 3 * apart.median())
    return (apart > least)[..., None].to(targets)


def measured_share(batch: LearningBatch) -> Tensor | None:
    """(B, S, n): share of each target's entries that stem from measurements; None: all of them do."""
    measured = batch.measured_targets()
    return None if measured is None else measured.expand_as(batch.targets()).flatten(3).float().mean(3)


class Prediction(Objective):
    """Rollout error against the encoded future.

        E = Σ_b w_b · mean_{s,i,d} ρ(ŝ_{b,s,i,d} - s_{b,s,i,d}) / Σ_b w_b

    with ŝ = batch.predicted.states[:, :, 1:] and s = batch.targets(), both (B, S, n, [N,] D); w = batch.weight (1 if
    None). Normalised as a mean over windows, starts, steps, tokens and entries, over every process; entries that stem
    from a repeated value instead of a measurement (batch.measured) are left out of the sum and of the count. ρ is the
    square ("mse"), the absolute value ("l1") or Huber's with β = 1 ("smooth_l1").

    With `per_change` every entry's error counts in units of what a step changes it by, d_d = √ mean (s_t+1 - s_t)² over
    the batch: ρ((ŝ - s) / d). A place that moves by 3% of its range in a step and a speed that turns round in two then
    count alike; without it imagined places are an order of magnitude coarser than they need be. For latents that no
    gradient reaches (`VectorEncoder` with size 0): of others d could be enlarged instead.

    With `changed` c > 0, of states of tokens, the error of a token that changes anywhere in its rollout counts 1 + c
    times. Where one token in a hundred does, a predictor that copies is nearly right, and what is rare, a door that
    opens, is learned last: on MiniGrid's DoorKey in 40 CPU-seconds not at all with c = 0, without a miss with 10
    (LOG.md). A token has changed if it moves by more than a hundredth of the tokens' spread and three times as far as
    half of them do, which leaves a camera's noise out.

    Gradients reach the targets unless `stop_gradient`: joint training without EMA or stop-gradient as in PLDM (Sobal
    et al. 2025) and LeWM (Maes et al. 2026) needs an objective beside it that prevents collapse.

    Part: "prediction".
    """

    @register(Objective)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="prediction"):
        weight: float = 1.0
        distance: Distance = "mse"
        stop_gradient: bool = False
        per_change: bool = False
        changed: float = 0.0

        def __post_init__(self) -> None:
            if not 0 <= self.changed < float("inf"):
                raise ConfigError("changed of at least 0", f"{self.changed}", "10 where few tokens change, 0 elsewhere")

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
        ) -> Prediction:
            return Prediction(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @property
    def needs(self) -> tuple[Need[Any], ...]:
        return (Encoded(), Rollouts())

    def forward(self, batch: LearningBatch) -> Loss:
        c = self.config
        errors = step_errors(batch, c.distance, c.stop_gradient, c.per_change, c.changed)
        error = mean(errors, measured_share(batch))
        return Loss(self.config.weight * error, {"prediction": error.detach()})
