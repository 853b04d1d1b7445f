"""Prediction along a stream: what a world model foresees of the next moment, from all that it has carried so far.

Shapes: B streams, L steps, D latent size (a vector, or N tokens of size D).
"""

from __future__ import annotations

from typing import Any

import msgspec

from steersman.core.boxes import Objective
from steersman.core.learning import Carried, Encoded, LearningBatch, Loss, Need
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.objectives.statistics import mean


class Following(Objective):
    """Squared error of each foreseen moment, where the belief lives as long as the stream.

        E = Σ_{b,t,d} m · (ŝ_{b,t,d} - s_{b,t,d})² / Σ_{b,t,d} m

    with ŝ = batch.of(Carried()).foreseen (B, L, [N,] D), s the encoded moments 1 to L, and m = 0 for entries that only
    repeat an older measurement. Gradients reach back to the beginning of the piece (truncated back-propagation through
    time, Williams & Peng 1990), and the encoder through the targets unless `stop_gradient`; something beside it must
    prevent collapse. A stream's first piece has no past to draw on and counts like the others.

    Part: "following".
    """

    @register(Objective)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="following"):
        weight: float = 1.0
        stop_gradient: bool = False

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
        ) -> Following:
            return Following(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @property
    def needs(self) -> tuple[Need[Any], ...]:
        return (Encoded(), Carried())

    def forward(self, batch: LearningBatch) -> Loss:
        targets = batch.latent.state[:, 1:].float()
        errors = (batch.of(Carried()).foreseen.float() - (targets.detach() if self.config.stop_gradient else targets))
        known = None if batch.measured is None else batch.measured[:, 1:]
        error = mean(errors.square(), known)
        return Loss(self.config.weight * error, {"following": error.detach()})
