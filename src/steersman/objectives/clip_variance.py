"""Variance within clips: a latent must vary while a clip goes on, which what never moves in it cannot make it do.

Shapes: B windows, T = L+1 moments, n = B·T samples, D latent size (N tokens count as samples).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import torch
from torch import Tensor

from steersman.core.boxes import Objective
from steersman.core.errors import ConfigError
from steersman.core.learning import Encoded, LearningBatch, Loss, Need
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.nn.distributed import all_sum
from steersman.objectives.sigreg import drawn_directions, epps_pulley
from steersman.objectives.statistics import full_precision
from steersman.objectives.vicreg import EPSILON, hinge


def clip_deviations(state: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T, [N,] D) -> deviations (B·T[·N], D) of every state from its own clip's mean over time (each token from its
    own), and the degrees of freedom of their covariance, B·(T - 1)[·N], of every process."""
    deviation = state - state.mean(1, keepdim=True)
    rows = deviation[:, 1:].numel() // state.shape[-1]
    return deviation.flatten(0, -2), all_sum(state.new_tensor(float(max(rows, 1))))


class ClipVariance(Objective):
    """Spread and decorrelation of each state's deviation from the mean of its own clip.

        d_{b,t} = s_{b,t} - mean_t s_{b,t},   C = Σ_{b,t} d dᵀ / (B·(T - 1)),   R_ij = C_ij / √((C_ii + ε)(C_jj + ε))

        form "hinge":     E = weight · mean_i relu(std - √(C_ii + ε))       + decorrelation · Σ_{i≠j} R_ij² / D
        form "gaussian":  E = weight · mean_p EP(⟨d, u_p⟩·√(T/(T-1)) / std) + decorrelation · Σ_{i≠j} R_ij² / D

    ε = 1e-4, EP as in `SIGReg` (its factor n is in it) with `slices` random slices u_p, on batch.latent.state
    (B, T, [N,] D). "hinge" only asks for a spread of at least `std`; "gaussian" asks that deviations look like a normal
    distribution of that spread, in every direction (weigh it like `SIGReg`, about .09). Samples are those of every
    process.

    Without it a latent may spend itself on what tells clips apart and never changes in them (a background, an angle of
    the camera): variance over the batch, which VICReg and SIGReg ask for, is then there for nothing, and a predictor
    that says "no change" is right. Stands beside `SIGReg` or `VISReg`; `VICReg(within=…)` is the hinge for vectors with
    its own weight (and for tokens asks it of each place by itself, where here all places are one population).

    Defaults are those that raised prediction skill over persistence from .15 to .56 on rendered clips: a hinge at .7
    and .04 · decorrelation beside a mean squared error.

    Parts: "clip_variance", "clip_decorrelation".

    Raises:
        ConfigError: impossible settings, or windows of single moments.
    """

    @register(Objective)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="clip_variance"):
        """std: spread within clips that is asked for; slices, seed: of the form "gaussian"."""

        weight: float = 1.0
        decorrelation: float = 0.04
        std: float = 0.7
        form: Literal["hinge", "gaussian"] = "hinge"
        slices: int = 256
        seed: int = 0

        def __post_init__(self) -> None:
            if not self.std > 0 or self.slices < 1 or min(self.weight, self.decorrelation) < 0:
                raise ConfigError("std > 0, slices >= 1 and weights of at least 0", f"{self}", "keep the defaults")

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
        ) -> ClipVariance:
            return ClipVariance(self)

    draws: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    @property
    def needs(self) -> tuple[Need[Any], ...]:
        return (Encoded(),)

    def forward(self, batch: LearningBatch) -> Loss:
        config, state = self.config, batch.latent.state.float()
        moments = state.shape[1]
        if moments < 2:
            raise ConfigError("windows of at least one step, for a variance within them", "single moments",
                              "set `window`, or drop ClipVariance")
        with full_precision(state):
            deviations, degrees = clip_deviations(state)
            covariance = all_sum(deviations.mT @ deviations) / degrees
            variance = covariance.diagonal()
            if config.form == "hinge":
                spread = hinge(variance, config.std)
            else:
                directions = drawn_directions(config.seed, int(self.draws), state.shape[-1], config.slices,
                                              state.device)
                scale = (moments / (moments - 1)) ** 0.5 / config.std
                spread = epps_pulley(deviations @ directions * scale).mean()
            correlation = covariance.square() / torch.outer(variance + EPSILON, variance + EPSILON)
            apart = (correlation.sum() - correlation.diagonal().sum()) / len(variance)
        if self.training:
            self.draws += 1
        total = config.weight * spread + config.decorrelation * apart
        return Loss(total, {"clip_variance": spread.detach(), "clip_decorrelation": apart.detach()})
