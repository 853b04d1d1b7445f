"""Epistemic uncertainty as an energy: plans stay inside what an ensemble agrees on, or look for where it does not."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from steersman.core import Cost, Imagined, PlanningError, Signature, Task, register
from steersman.cost.unit import InUnits


class DisagreementCost(Cost):
    """e_t = ±(the world model's disagreement at step t), (B, K, H).

    curious  False: the term "disagreement", +, plans stay where the ensemble agrees. True: the term "curiosity", -,
             plans go where it does not, for tasks that say "explore"; nothing explores unless it is told to

    Source of the second: Sekar et al. 2020, "Planning to explore via self-supervised world models".

    Raises:
        PlanningError: the world model is no ensemble.
    """

    name: ClassVar[str] = "disagreement"

    @register(Cost)
    class Config(InUnits, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="disagreement"):
        def build(self, signature: Signature) -> DisagreementCost:
            return self.of(DisagreementCost())

    @register(Cost)
    class Curiosity(InUnits, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="curiosity"):
        def build(self, signature: Signature) -> DisagreementCost:
            return self.of(DisagreementCost(curious=True))

    @property
    def config(self) -> Config | Curiosity:
        """What builds it again."""
        return self.Curiosity(unit=self.unit) if self.name == "curiosity" else self.Config(unit=self.unit)

    def __init__(self, *, curious: bool = False) -> None:
        if curious:
            self.__dict__["name"] = "curiosity"

    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        if imagined.disagreement is None:
            raise PlanningError(
                "a world model that reports disagreement", "a single model", "train with members > 1, or drop the term"
            )
        return -imagined.disagreement if self.name == "curiosity" else imagined.disagreement
