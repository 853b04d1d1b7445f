"""A guardrail on what an ensemble knows: no imagined step may leave its members more apart than logged steps do.

Knows imagined futures only. Shapes: B problems, K candidates, H horizon, n windows, U units (episodes).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
from torch import Tensor

from steersman.core import Guardrail, Imagined, PlanningError, Readout, register
from steersman.cost.conformal import conformal_quantile, grouped_quantile, labels_needed


class Agreement(Guardrail):
    """g_t = d_t / τ - 1: d the world model's disagreement at step t, τ a conformal quantile of logged windows' worst.

        τ = quantile at `level` of  max_h d_h  over held-out windows of H steps with their logged actions

    so that a new logged window of H steps is refused with probability at most 1 - level, noisy or not: where outcomes
    scatter and the log is rich, the members' means agree, and what disagreement is left there is part of τ. Make one
    with `Agreement.fit`, or for a run's agent with `evaluation.fit_agreement`.

    It says nothing where members agree and are wrong: they are blind to a region that no log shows as long as what
    happens around it gives them no reason to tell it apart (see docs/doubt.md, and `Logged` for the other measure).

    Source: Chua et al. 2018 (disagreement of an ensemble); Vovk et al. 2005 (the threshold).

    Raises:
        PlanningError: the world model is no ensemble.
    """

    name: str = ""

    @register(Guardrail)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="agreement"):
        """threshold τ in the unit of disagreement, above 0; level, count, units: where it comes from."""

        threshold: float
        level: float | None = None
        count: int = 0
        units: int = 0
        name: str = "agreement"

        def build(
            self, readout: Readout | None, latent_shape: tuple[int, ...], tensors: Mapping[str, Tensor]
        ) -> Agreement:
            return Agreement(self.threshold, level=self.level, count=self.count, units=self.units, name=self.name)

    def __init__(
        self, threshold: float, *, level: float | None = None, count: int = 0, units: int = 0, name: str = "agreement"
    ) -> None:
        if not 0 < threshold < math.inf:
            raise PlanningError("a threshold above 0, and finite", f"{threshold}", "calibrate it: Agreement.fit")
        self.threshold, self.level, self.count, self.units, self.name = threshold, level, count, units, name

    @classmethod
    def fit(
        cls, disagreement: Tensor, level: float = 0.99, *, unit: Tensor | None = None, name: str = "agreement"
    ) -> Agreement:
        """disagreement (n, H) of windows that nothing was learned from; unit (n,) int: the episode of each.

        Raises:
            PlanningError: wrong shapes, NaN, no disagreement at all, or too few units for this level.
        """
        if disagreement.ndim != 2 or 0 in disagreement.shape or bool(disagreement.isnan().any()):
            raise PlanningError("disagreement (windows, steps), none of it NaN", f"{tuple(disagreement.shape)}",
                                "imagine held-out windows with an ensemble")
        worst = disagreement.detach().double().amax(1)
        units = len(worst) if unit is None else len(unit.unique())
        found = conformal_quantile(worst, level) if unit is None else float(
            grouped_quantile(worst[:, None], unit, level)[0])
        if not math.isfinite(found):
            raise PlanningError(f"at least {labels_needed(level)} held-out episodes for a level of {level:.4g}",
                                f"{units}", "hold out more, or ask for a lower level")
        return cls(found, level=level, count=len(worst), units=units, name=name)

    @property
    def config(self) -> Config:
        """What builds it again."""
        return self.Config(threshold=self.threshold, level=self.level, count=self.count, units=self.units,
                           name=self.name)

    def margin(self, imagined: Imagined, actions: Tensor) -> Tensor:
        if imagined.disagreement is None:
            raise PlanningError("a world model that reports disagreement", "a single model",
                                "train with members > 1, or use `cost.Logged`, which asks for no ensemble")
        return imagined.disagreement / self.threshold - 1
