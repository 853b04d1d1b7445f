"""Invariance: views of the same moment have the same latent. Collapses on its own.

Shapes: V views, B windows, T = L+1 moments, D latent size (a vector, or N tokens of size D).
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import msgspec
import torch

from steersman.core.boxes import Objective
from steersman.core.errors import ConfigError
from steersman.core.learning import LearningBatch, Loss, Need, Views
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.view_configs import ViewConfig
from steersman.objectives.statistics import mean


class Invariance(Objective):
    """Squared distance between the latents of every two views.

        E = mean_{v<w} mean_{b,t,d} (s^v_{b,t,d} - s^w_{b,t,d})²

    with s^v the state of view v, (B, T, [N,] D), in `batch.of(Views(views))`: a mean over entries, of every process.
    It needs `VICReg` or `SIGReg` with the same `views` beside it. Source: VICReg (Bardes, Ponce & LeCun 2022, eq. 5),
    whose weight is 25.

    Part: "invariance".

    Raises:
        ConfigError: fewer than two views.
    """

    @register(Objective)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="invariance"):
        views: tuple[ViewConfig, ...]
        weight: float = 25.0

        def __post_init__(self) -> None:
            if len(self.views) < 2:
                raise ConfigError("two views or more", f"{len(self.views)}", "name two, the same one twice if you like")

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
        ) -> Invariance:
            return Invariance(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @property
    def needs(self) -> tuple[Need[Any], ...]:
        return (Views(self.config.views),)

    def forward(self, batch: LearningBatch) -> Loss:
        states = [latent.state.float() for latent in batch.of(Views(self.config.views)).latents]
        error = torch.stack([mean((one - other).square()) for one, other in combinations(states, 2)]).mean()
        return Loss(self.config.weight * error, {"invariance": error.detach()})
