"""Curiosity: an energy that is low where an ensemble of world models disagrees, for tasks that say "explore"."""

from __future__ import annotations

from typing import ClassVar

import msgspec
from torch import Tensor

from steersman.core import Cost, Imagined, PlanningError, Signature, Task


class CuriosityCost(Cost):
    """e_t = -disagreement of the world model at step t, (B, K, H). The opposite of `DisagreementCost`.

    It counts only where a task weighs it: nothing explores unless it is told to. Guardrails hold as always.

    Source: Sekar et al. 2020, "Planning to explore via self-supervised world models".

    Raises:
        PlanningError: the world model is no ensemble.
    """

    name: ClassVar[str] = "curiosity"

    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="curiosity"):
        def build(self, signature: Signature) -> CuriosityCost:
            return CuriosityCost()

    @property
    def config(self) -> Config:
        """What builds it again."""
        return self.Config()

    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        if imagined.disagreement is None:
            raise PlanningError(
                "a world model that reports disagreement", "a single model", "train with members > 1, or drop the term"
            )
        return -imagined.disagreement
