"""Epistemic uncertainty as an energy: plans stay inside what an ensemble of world models agrees on."""

from __future__ import annotations

from typing import ClassVar

import msgspec
from torch import Tensor

from steersman.core import Cost, Imagined, PlanningError, Signature, Task


class DisagreementCost(Cost):
    """e_t = the world model's disagreement at step t, (B, K, H).

    Raises:
        PlanningError: the world model is no ensemble.
    """

    name: ClassVar[str] = "disagreement"

    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="disagreement"):
        def build(self, signature: Signature) -> DisagreementCost:
            return DisagreementCost()

    @property
    def config(self) -> Config:
        """What builds it again."""
        return self.Config()

    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        if imagined.disagreement is None:
            raise PlanningError(
                "a world model that reports disagreement", "a single model", "train with members > 1, or drop the term"
            )
        return imagined.disagreement
