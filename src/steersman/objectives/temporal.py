"""Temporal similarity: neighbouring moments have neighbouring latents. Collapses on its own.

Shapes: B windows, L steps, D latent size (a vector, or N tokens of size D).
"""

from __future__ import annotations

import msgspec

from steersman.core.boxes import Objective
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.types import LearningBatch, Loss
from steersman.objectives.statistics import mean


class TemporalSimilarity(Objective):
    """Squared distance of neighbouring latents.

        E = mean_{b,t,d} (s_{b,t+1,d} - s_{b,t,d})²

    with s = batch.latent.state (B, L+1, [N,] D): a mean over entries, not the squared norm ‖·‖² (which is D times
    larger). It straightens latent paths, and rewards slow features: with a static background keep its weight small
    (.2 of the prediction's in two rooms) and inverse dynamics beside it. Source: PLDM (Sobal et al. 2025).

    Part: "temporal".
    """

    @register(Objective)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="temporal"):
        weight: float = 1.0

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
        ) -> TemporalSimilarity:
            return TemporalSimilarity(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, batch: LearningBatch) -> Loss:
        state = batch.latent.state.float()
        error = mean((state[:, 1:] - state[:, :-1]).square())
        return Loss(self.config.weight * error, {"temporal": error.detach()})
