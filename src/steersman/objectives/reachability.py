"""Reachability: can a state be reached from another within so many steps, and is it foreseen over many steps?

Shapes: B windows, L steps, S rollout starts, n steps a rollout, D latent size (tokens flattened), K budgets, Q sources
(the L+1 encoded moments, then the S·n imagined ones), G pairs of a source and a goal.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.nn import functional as F

from steersman.core.boxes import Objective
from steersman.core.errors import ConfigError
from steersman.core.learning import Encoded, LearningBatch, Loss, Need, Rollouts
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.nn.distributed import all_rows, all_sum, own_rows
from steersman.nn.pair_head import PairHead
from steersman.objectives.prediction import measured_share, step_errors
from steersman.objectives.statistics import mean

NEAR = 8
"""Goals at every distance up to here are asked about; farther ones at each budget and the step beyond it."""


class Reachability(Objective):
    """A head that says whether a goal is reached within a budget, and a prediction that counts later steps more.

        E = weight · mean_k ½ [ Σ_+ v·softplus(-ℓ_k) / Σ_+ v  +  Σ_- v·softplus(ℓ_k) / Σ_- v ]
          + prediction · Σ_i i^rise · mean_{b,s,d} (ŝ_{b,s,i,d} - s_{b,s,i,d})² / Σ_i i^rise

    ℓ_k = head(s, g)_k is the logit of "g is reached from s within n_k steps", for the budgets n_k = `budgets`; it rises
    with k by construction. A pair is positive (+) for budget n_k where g comes at most n_k steps after s in the same
    episode, and negative (-) where it comes later, or belongs to another episode; a goal that comes before its state in
    the same episode says nothing. Each of the two halves is a mean of its own, so that the head says .5 where a pair is
    as likely among the positive as among the negative ones, however many there are.

    Sources are all encoded moments (v = 1), and all imagined ones (v = `imagined`), because planners ask about imagined
    states. Goals are encoded: of the same window at distances 0 to 8, and n_k and n_k + 1, the nearest that is too far;
    and `others` from other windows of the batch, those of other processes included. Gradients reach the encoder and the
    world model, unless `stop_gradient`, where only the head learns.

    The second term is the rollouts' squared error with later steps weighing more (rise 1: linearly). Beside
    `Prediction`, which weighs them alike, keep it at 0; in its place set `prediction` to 1.

    It needs windows longer than the budgets it should tell apart. `training.reachable_cost(run)` makes of the trained
    head the cost "reachable" for planning.

    Source: RC-aux (Li et al. 2026, arXiv:2605.07278): weight .35, imagined pairs .5, linear weighting there.

    Parts: "reachability" (log 2 where the head knows nothing), "reachable" (share of pairs and budgets that it tells
    right, positive and negative ones alike), and "open_loop" where `prediction` is not 0.

    Raises:
        ConfigError: budgets that are not growing whole numbers of at least 1.
    """

    @register(Objective)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="reachability"):
        """budgets: in steps of the world model, evenly spaced in their logarithm; width: of the head's layers."""

        weight: float = 0.35
        budgets: tuple[int, ...] = (1, 2, 4, 8, 16)
        others: int = 2
        imagined: float = 0.5
        prediction: float = 0.0
        rise: float = 1.0
        width: int = 128
        stop_gradient: bool = False

        def __post_init__(self) -> None:
            grow = all(a < b for a, b in zip((0, *self.budgets), self.budgets, strict=False))
            if not self.budgets or not grow or self.width < 1 or min(self.others, self.imagined, self.weight) < 0:
                raise ConfigError("growing budgets of at least 1 step, a positive width, others >= 0, weights >= 0",
                                  f"{self}", "use budgets like (1, 2, 4, 8, 16)")

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
        ) -> Reachability:
            return Reachability(self, math.prod(latent_shape))

    def __init__(self, config: Config, size: int) -> None:
        super().__init__()
        self.config = config
        self.head = PairHead(size, config.width, len(config.budgets))

    @property
    def needs(self) -> tuple[Need[Any], ...]:
        return (Encoded(), Rollouts())

    def forward(self, batch: LearningBatch) -> Loss:
        config = self.config
        error, right = self._told(batch)
        total, parts = config.weight * error, {"reachability": error.detach(), "reachable": right}
        if config.prediction:
            errors, share = step_errors(batch), measured_share(batch)
            later = torch.arange(1, errors.shape[2] + 1, device=errors.device).float().pow(config.rise)
            foreseen = mean(errors, later.expand_as(errors) if share is None else share * later)
            total = total + config.prediction * foreseen
            parts["open_loop"] = foreseen.detach()
        return Loss(total, parts)

    def _told(self, batch: LearningBatch) -> tuple[Tensor, Tensor]:
        """The balanced cross-entropy, and the share that is told right."""
        config, window = self.config, batch.window
        encoded = batch.latent.state.float().flatten(2)                                          # (B, L+1, D)
        imagined = batch.predicted.states[:, :, 1:].float().flatten(3).flatten(1, 2)              # (B, S·n, D)
        moments, steps = encoded.shape[1], batch.predicted.states.shape[2] - 1
        goals = all_rows(encoded)
        place = all_rows(torch.stack([window.episode, window.start], 1).to(encoded.device))
        mine = torch.arange(len(goals), device=goals.device)[own_rows(len(encoded))]
        sources = torch.cat([encoded, imagined], 1)
        if config.stop_gradient:
            goals, sources = goals.detach(), sources.detach()
        source, row, goal, other = _pairs(
            tuple(batch.starts.tolist()), steps, moments, config.budgets, min(config.others, len(goals) - 1),
            str(goals.device))
        there = (mine[:, None] + other) % len(goals)                                             # (B, G) windows
        logits = self.head(sources[:, source], goals[there, goal])                               # (B, G, K)
        ahead = place[there, 1] + goal - place[mine, 1][:, None] - row
        same = place[there, 0] == place[mine, 0][:, None]
        budgets = torch.tensor(config.budgets, device=goals.device)
        positive = same[..., None] & (ahead[..., None] <= budgets)
        value = torch.where(source < moments, 1.0, config.imagined) * ~(same & (ahead < 0))
        plus, minus = value[..., None] * positive, value[..., None] * ~positive
        right = (logits.detach() > 0) == positive
        sums = all_sum(torch.stack([
            (plus * F.softplus(-logits)).sum((0, 1)), (minus * F.softplus(logits)).sum((0, 1)),
            (plus * right).sum((0, 1)), (minus * right).sum((0, 1)),
            plus.sum((0, 1)), minus.sum((0, 1)),
        ]))
        halves = sums[:4] / sums[4:].repeat(2, 1).clamp(min=1e-9)
        return halves[:2].sum(0).mean() / 2, halves[2:].mean().detach()


@lru_cache(maxsize=16)
def _pairs(
    starts: tuple[int, ...], steps: int, moments: int, budgets: tuple[int, ...], others: int, device: str
) -> tuple[Tensor, ...]:
    """(G,) each: number of the source, its row, the goal's row, and how many windows on the goal's is."""
    rows = [*range(moments), *(start + i for start in starts for i in range(1, steps + 1))]
    distances = sorted({*range(NEAR + 1), *budgets, *(n + 1 for n in budgets)})
    pairs = [(q, row, row + d, 0) for q, row in enumerate(rows) for d in distances if row + d < moments]
    pairs += [(q, row, row, shift) for q, row in enumerate(rows) for shift in range(1, others + 1)]
    return tuple(torch.tensor(column, device=device) for column in zip(*pairs, strict=True))
