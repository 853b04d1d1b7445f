"""Draws from the prior against what came: a score that only the right distribution makes least.

Shapes: B windows, S rollout starts, n steps a rollout, K draws, D latent size (tokens are flattened).
"""

from __future__ import annotations

from typing import Any

import msgspec
import torch

from steersman.core.boxes import Objective
from steersman.core.errors import ConfigError
from steersman.core.learning import Drawn, Encoded, LearningBatch, Loss, Need
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.objectives.statistics import mean

_LEAST = 1e-6  # added to squared distances, whose root has no slope at 0


class EnergyScore(Objective):
    """The energy score of K draws from the prior (Gneiting & Raftery 2007), strictly proper:

        E = weight · mean_{b,s,i} [ mean_k |ŝ_k - s| - ½ mean_{k≠l} |ŝ_k - ŝ_l| ],   |·| over the D numbers of a state

    It needs no posterior: predictor and prior learn together that draws lie where states come, as often. What moves
    a draw must have a slope, so it teaches the prior of a continuous latent variable (`Gaussian`); that of codes learns
    by `ExplainedPrediction`. Beside that one a `Gaussian` keeps a posterior that tells z, and its draws
    get the odds of outcomes that lie apart, which the evidence bound alone leaves loose: between two modes no step ever
    tells it where the border of the draws runs.

    Parts: "score", and "spread", the mean distance of two draws.

    Errors: ConfigError for fewer than two draws.
    """

    @register(Objective)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="energy_score"):
        """weight; draws K, of which each costs a rollout."""

        weight: float = 1.0
        draws: int = 2

        def __post_init__(self) -> None:
            if self.draws < 2:
                raise ConfigError("at least 2 draws", f"{self.draws}", "a single draw has no spread: raise `draws`")

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
        ) -> EnergyScore:
            return EnergyScore(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @property
    def needs(self) -> tuple[Need[Any], ...]:
        return (Encoded(), *(Drawn(number) for number in range(self.config.draws)))

    def forward(self, batch: LearningBatch) -> Loss:
        rolled = [batch.of(Drawn(number)) for number in range(self.config.draws)]
        draws = torch.stack([one.predicted.states[:, :, 1:].float().flatten(3) for one in rolled])
        came = batch.reached(rolled[0]).float().flatten(3)
        error = mean(_distance(draws, came[None]))
        count = len(draws)
        pairs = torch.combinations(torch.arange(count, device=draws.device))
        spread = mean(_distance(draws[pairs[:, 0]], draws[pairs[:, 1]]))
        score = error - spread / 2
        return Loss(self.config.weight * score, {"score": score.detach(), "spread": spread.detach()})


def _distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return ((a - b).square().sum(-1) + _LEAST).sqrt()
