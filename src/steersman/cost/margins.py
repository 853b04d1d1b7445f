"""Margins that grow with the horizon: how far a limit is drawn in at each imagined step, and with what promise.

Knows errors and guardrails, not what made them. Shapes: n windows, H horizon, U units (episodes).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from steersman.core import Guardrail, PlanningError
from steersman.cost.conformal import conformal_quantile, grouped_quantile

G = TypeVar("G", bound=Guardrail)

_LEAST = 10  # windows from which the growth of errors is learned
_FLOOR = 1e-3  # of the largest σ_h: a step without error keeps a little


@dataclass(frozen=True)
class Margins:
    """What to keep from a limit at step 1, 2, … of a plan.

    by_step  (H,) in the unit of the errors
    level    probability with which a plan's errors stay within all of them at once
    count    windows that they were calibrated on
    units    episodes that those came from
    lasting  what is kept at the last of these steps is kept at every later one, without a promise (`recourse`)
    """

    by_step: tuple[float, ...]
    level: float
    count: int
    units: int
    lasting: bool = False

    def __str__(self) -> str:
        first, last = self.by_step[0], self.by_step[-1]
        later = " and later" if self.lasting else ""
        return (f"{first:.3g} at step 1 to {last:.3g} at step {len(self.by_step)}{later} "
                f"({self.level:.1%}, n = {self.count})")

    @property
    def promise(self) -> str:
        """In words."""
        steps, most = len(self.by_step), f"{self.by_step[-1]:.3g}"
        ahead = "the next step turns" if steps == 1 else f"the next {steps} steps together turn"
        by = most if steps == 1 else f"{self.by_step[0]:.3g} (step 1) to {most} (step {steps})"
        return (f"with a probability of {self.level:.4g}, {ahead} out no worse than foreseen by more than {by}, at a "
                f"moment like those of {self.units} held-out episodes")


def calibrate_margins(
    errors: Tensor, level: float = 0.99, *, unit: Tensor | None = None, growth: Tensor | None = None,
    recourse: int | None = None, seed: int = 0,
) -> Margins:
    """Margins by step from held-out prediction errors, simultaneous over the steps of a decision.

        margin_h = σ_h · q,   q = the conformal quantile at `level` of  max_h e_h / σ_h

    so that e_h <= margin_h at every step h = 1..H of a new window with probability >= `level`, whatever the model and
    the distribution of errors, as long as the new window is exchangeable with these. A margin that only held step by
    step would break somewhere along a plan more often than it says.

    errors  (n, H): by how much the truth was worse than imagined h steps ahead, for instance g(measured) - g(imagined)
            of the guardrail, or |measured - imagined| of a column; from moments that nothing was fitted to
    unit    (n,) int: the episode of each window. Windows of one episode are not independent; the promise is then for a
            random window of a new episode
    growth  (H,) σ_h > 0, if it is known from elsewhere (the training part). Otherwise a quarter of the units is set
            aside, drawn with `seed`, for their root mean square errors, because σ must not see what it is judged by
    recourse  r: the steps after which a decision made now could undo an error in full. Margins grow up to there only:
            margin_h = σ_min(h, r) q, and the promise is for the next r steps. An agent that decides again at every step
            never follows its plan further, so what may go wrong behind step r is for a later decision to put right;
            a promise about it costs room, or probability where it matters

    The idea of recourse is that of constraint tightening, where limits are drawn in by what feedback has not undone
    yet: Chisci, Rossiter & Zappa 2001, "Systems with persistent disturbances: predictive control with restricted
    constraints"; Richards & How 2006; Kuwata, Richards & How 2007. There the r steps of a linear system are proved to
    suffice; here r is given, and what is promised is what was measured.

    Source: split conformal prediction with a normalised score, Lei et al. 2018; simultaneous over the horizon as in
    Cleaveland et al. 2024, "Conformal prediction regions for time series using linear complementarity programming".

    Raises:
        PlanningError: wrong shapes, NaN, or too few units for this level.

    >>> import torch
    >>> errors = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)).abs() * torch.tensor([1.0, 2.0, 3.0])
    >>> margins = calibrate_margins(errors, 0.9)
    >>> [round(x) for x in margins.by_step]
    [2, 4, 6]
    """
    if errors.ndim != 2 or 0 in errors.shape or bool(errors.isnan().any()):
        raise PlanningError("errors (windows, steps), none of them NaN", f"{tuple(errors.shape)}, perhaps NaN",
                            "calibrate on held-out windows")
    if recourse is not None and not 1 <= recourse <= errors.shape[1]:
        raise PlanningError(f"a recourse of 1 to {errors.shape[1]} steps", f"{recourse}",
                            "correct it, or give errors further ahead")
    errors = errors[:, :recourse].detach().double()
    unit = torch.arange(len(errors)) if unit is None else unit.cpu()
    if unit.shape != errors.shape[:1]:
        raise PlanningError(f"a unit for each of {len(errors)} windows", f"{tuple(unit.shape)}", "pass one number each")
    if growth is None:
        aside = _aside(unit, seed)
        if int(aside.sum()) < _LEAST:
            raise PlanningError(f"at least {4 * _LEAST} windows", f"{len(errors)}", "hold out more, or pass `growth`")
        growth = errors[aside].square().mean(0).sqrt()
        growth = growth.clamp_min(max(_FLOOR * float(growth.max()), 1e-12))
        errors, unit = errors[~aside], unit[~aside]
    growth = growth[:recourse].double()
    if growth.shape != errors.shape[1:] or not bool((growth > 0).all()):
        raise PlanningError(f"growth of {errors.shape[1]} positive numbers", f"{growth.tolist()}", "one for each step")
    worst = (errors / growth).amax(1)
    units = len(unit.unique())
    if units == len(worst):
        quantile = conformal_quantile(worst, level)
    else:
        quantile = float(grouped_quantile(worst[:, None], unit, level)[0])
    if not math.isfinite(quantile):
        needed = math.ceil(round(level / (1 - level), 6))
        raise PlanningError(f"at least {needed} episodes (or independent windows) to promise {level:.1%}", f"{units}",
                            "hold out more, or ask for a lower level")
    return Margins(tuple((max(quantile, 0.0) * growth).tolist()), level, len(worst), units, recourse is not None)


def _aside(unit: Tensor, seed: int) -> Tensor:
    """(n,) bool: the windows of a quarter of the units."""
    numbers, index = unit.unique(return_inverse=True)
    order = torch.randperm(len(numbers), generator=torch.Generator().manual_seed(seed))
    return (order < max(1, len(numbers) // 4))[index]


AnyMargin = float | tuple[float, ...] | Margins
"""A margin as configurations hold it: one number, one for each step, or calibrated ones with their level."""


class StepMargin:
    """A margin as guardrails take it: one number, one for each step, or `Margins`. `given` is what a configuration
    keeps of it.

    Raises:
        PlanningError: below 0, NaN or infinite; asked about more steps than there are numbers.
    """

    _lasting = False

    def __init__(self, margin: float | Sequence[float] | Tensor | Margins) -> None:
        self._lasting = isinstance(margin, Margins) and margin.lasting
        values = margin.by_step if isinstance(margin, Margins) else margin
        self.given: AnyMargin = margin if isinstance(margin, Margins) else _plain(margin)
        self._values = torch.as_tensor(values, dtype=torch.float32)
        self.level = margin.level if isinstance(margin, Margins) else None
        if self._values.ndim > 1 or not self._values.numel() or not bool(
            ((self._values >= 0) & self._values.isfinite()).all()
        ):
            raise PlanningError("a finite margin of at least 0, or one for each step", f"{values}",
                                "calibrate on more windows, or ask for a lower level")

    @classmethod
    def off(cls, guardrail: G) -> G:
        """A copy of a guardrail that keeps `_margin` (of each column, perhaps): with none."""
        return cls.put(guardrail, 0.0)

    @classmethod
    def put(cls, guardrail: G, margin: float | Sequence[float] | Tensor | Margins) -> G:
        """A copy of a guardrail that keeps a margin (of each column that has one, perhaps): with this one.

        Raises:
            PlanningError: a guardrail that keeps none.
        """
        copied = copy.copy(guardrail)
        kept = getattr(copied, "_margin", None)
        if kept is None:
            raise PlanningError("a guardrail that keeps a margin", guardrail.name, "use a limit on columns")
        given = dict.fromkeys(kept, cls(margin)) if isinstance(kept, dict) else cls(margin)
        copied._margin = given  # type: ignore[attr-defined]
        return copied

    @property
    def first(self) -> float:
        """That of the next step; the present is no less certain."""
        return float(self._values.flatten()[0])

    def steps(self, like: Tensor) -> Tensor:
        """For values (B, K, H): one number, or (H,)."""
        values, horizon = self._values.to(like), like.shape[2]
        if values.ndim and len(values) < horizon and self._lasting:
            values = torch.cat([values, values[-1:].expand(horizon - len(values))])
        if values.ndim and len(values) < horizon:
            raise PlanningError(f"margins for {horizon} steps", f"{len(values)}",
                                "calibrate them further ahead, or plan less far (Task.trusted)")
        return values[:horizon] if values.ndim else values


def _plain(margin: float | Sequence[float] | Tensor) -> float | tuple[float, ...]:
    values = margin.tolist() if isinstance(margin, Tensor) else margin
    return tuple(map(float, values)) if isinstance(values, Sequence) else float(values)
