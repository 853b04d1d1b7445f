"""Margins that keep their promise in a world that changes: a conformal level followed online.

Knows errors and calibrated margins, not what made them. Shapes: n windows that ended together, H steps, G promises: one
for all steps together, or one for each.
"""

from __future__ import annotations

import math
from typing import TypeVar

import msgspec
import torch
from torch import Tensor

from steersman.core import Guardrail, PlanningError
from steersman.cost.margins import Margins, StepMargin

R = TypeVar("R", bound=Guardrail)


class AdaptiveMargins(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Calibrated margins m_h times a factor that follows what comes true.

        score_t  = max_h e_h / m_h    (`together`), or e_h / m_h of each step
        factor  <- max(0, factor + rate · largest · (miss_t - (1 - level))),    miss_t = [score_t > factor]
        largest <- max(score_t, decay · largest)

    Every error that goes beyond its margin widens the margins by `rate` of the largest error of late, every one that
    does not narrows them by 1 / level - 1 as much. Whatever the world does, the share of misses over T windows differs
    from 1 - level by at most (S + η) / (η T), where S bounds the scores and η is the least of rate · largest on the
    way: no assumption on the errors, where the margins of `calibrate_margins` assume that they are exchangeable with
    those of the log. What is paid: in the few windows behind a change the promise is broken, as it must be.

    start    what it begins from, and `level`; together  the promise is for all steps at once, as that of `start`
    rate     of the largest score; decay  of that from one window to the next
    factors  (G,) as they stand, largest (G,) scores of late; windows, missed (G,) so far: times that were told

    A state, not an object that changes: `after` gives the next one, and `margins` is what guardrails take and what a
    recorded decision holds, so that decisions are replayed with the margins of then. As JSON it goes on in another
    process.

    Source: Gibbs & Candès 2021, "Adaptive conformal inference under distribution shift", in the form that tracks the
    quantile itself and never asks for an infinite one: Angelopoulos, Candès & Tibshirani 2023, "Conformal PID control
    for time series prediction", section 2.2 and proposition 1.

    >>> import torch
    >>> now = AdaptiveMargins.begin(Margins((1.0, 2.0), 0.9, 100, 100))
    >>> now = now.after(torch.tensor([[4.0, 4.0]]))
    >>> [round(x, 2) for x in now.margins.by_step], now.missed
    ([1.36, 2.72], (1.0,))
    """

    start: Margins
    together: bool = True
    rate: float = 0.1
    decay: float = 0.98
    factors: tuple[float, ...]
    largest: tuple[float, ...]
    windows: tuple[int, ...]
    missed: tuple[float, ...]

    def __post_init__(self) -> None:
        if not (0 < self.rate <= 1 and 0 < self.decay <= 1):
            raise PlanningError("rate and decay in (0, 1]", f"{self.rate:g} and {self.decay:g}", "use 0.1 and 0.98")
        if not self.start.by_step or min(self.start.by_step) <= 0 or not 0 < self.start.level < 1:
            raise PlanningError("margins above 0 at every step, of a level within (0, 1)", f"{self.start}",
                                "calibrate them: cost.calibrate_margins")
        wanted = 1 if self.together else len(self.start.by_step)
        if not len(self.factors) == len(self.largest) == len(self.windows) == len(self.missed) == wanted:
            raise PlanningError(f"{wanted} factors", f"{len(self.factors)}", "begin with AdaptiveMargins.begin")

    @classmethod
    def begin(
        cls, start: Margins, *, together: bool = True, rate: float = 0.1, decay: float = 0.98
    ) -> AdaptiveMargins:
        """From calibrated margins."""
        count = 1 if together else len(start.by_step)
        return cls(start=start, together=together, rate=rate, decay=decay, factors=(1.0,) * count,
                   largest=(1.0,) * count, windows=(0,) * count, missed=(0.0,) * count)

    def after(self, errors: Tensor) -> AdaptiveMargins:
        """With the errors (n, H) of windows that ended together: by how much the truth was worse than imagined 1, 2, …
        steps ahead. Several are one step of the rule, which takes their mean. NaN where a step is not known (yet); no
        known error leaves everything as it is.

        Raises:
            PlanningError: another number of steps than the margins have, or infinite errors.
        """
        steps = len(self.start.by_step)
        if errors.ndim != 2 or errors.shape[1] != steps or bool(errors.isinf().any()):
            raise PlanningError(f"finite errors (n, {steps}), NaN where not known", f"{tuple(errors.shape)}",
                                "give the errors of as many steps as there are margins")
        scores = errors.detach().double().cpu() / torch.tensor(self.start.by_step, dtype=torch.float64)
        if self.together:
            scores = scores.amax(1, keepdim=True)  # a window counts once all of its steps are known
        known = ~scores.isnan()
        if not bool(known.any()):
            return self
        factor, largest = (torch.tensor(x, dtype=torch.float64) for x in (self.factors, self.largest))
        told = known.any(0)
        miss = ((scores > factor) & known).double().sum(0) / known.sum(0).clamp(min=1)
        top = torch.maximum(scores.nan_to_num(nan=-math.inf).amax(0), self.decay * largest)
        moved = (factor + self.rate * top * (miss - (1 - self.start.level))).clamp_min(0)
        return msgspec.structs.replace(
            self, factors=tuple(torch.where(told, moved, factor).tolist()),
            largest=tuple(torch.where(told, top, largest).tolist()),
            windows=tuple(n + int(x) for n, x in zip(self.windows, told.tolist(), strict=True)),
            missed=tuple((torch.tensor(self.missed, dtype=torch.float64) + miss).tolist()))

    @property
    def margins(self) -> Margins:
        """As they stand: what guardrails take."""
        factors = self.factors * len(self.start.by_step) if self.together else self.factors
        kept = tuple(factor * margin for factor, margin in zip(factors, self.start.by_step, strict=True))
        return Margins(kept, self.start.level, self.start.count, self.start.units, self.start.lasting)

    @property
    def held(self) -> tuple[float, ...]:
        """(G,) share of the windows so far that stayed within the margins of their time; NaN before the first."""
        return tuple(1 - miss / n if n else math.nan for miss, n in zip(self.missed, self.windows, strict=True))

    def put(self, guardrail: R) -> R:
        """A copy of a guardrail that keeps margins, with these."""
        return StepMargin.put(guardrail, self.margins)
