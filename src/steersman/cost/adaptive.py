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
        factor  <- max(least, factor · exp(rate · (miss_t - (1 - level)))),    miss_t = [score_t > factor]

    Every window with an error beyond its margin widens the margins by a share, every one without narrows them by a
    share that is smaller by (1 - level) / level. Whatever the world does, the share of misses over T windows is at most

        1 - level + (log max(1, S) + rate) / (rate · T),    S the largest score

    with no assumption on the errors, where the margins of `calibrate_margins` assume that they are exchangeable with
    those of the log. What is paid: in the log(S) / rate windows behind a change the promise is broken.

    start    what it begins from, and `level`; together  the promise is for all steps at once, as that of `start`
    rate     of the factor's logarithm; least  factor: what is kept where nothing went wrong for long
    factors  (G,) as they stand; windows, missed (G,) so far: times that were told

    A state, not an object that changes: `after` gives the next one, and `margins` is what guardrails take and what a
    recorded decision holds, so that decisions are replayed with the margins of then. As JSON it goes on in another
    process.

    Source: Gibbs & Candès 2021, "Adaptive conformal inference under distribution shift", in the form that tracks the
    quantile itself and never asks for an infinite one (Angelopoulos, Candès & Tibshirani 2023, "Conformal PID control
    for time series prediction", section 2.2), here its logarithm: errors of a model that became wrong are larger by
    orders of magnitude, and a step in their own unit that reaches them soon takes long to come back.

    >>> import torch
    >>> now = AdaptiveMargins.begin(Margins((1.0, 2.0), 0.9, 100, 100))
    >>> now = now.after(torch.tensor([[4.0, 4.0]]))
    >>> [round(x, 2) for x in now.margins.by_step], now.missed
    ([1.2, 2.39], (1.0,))
    """

    start: Margins
    together: bool = True
    rate: float = 0.2
    least: float = 0.1
    factors: tuple[float, ...]
    windows: tuple[int, ...]
    missed: tuple[float, ...]

    def __post_init__(self) -> None:
        if not (0 < self.rate <= 1 and 0 < self.least <= 1):
            raise PlanningError("rate and least in (0, 1]", f"{self.rate:g} and {self.least:g}", "use 0.2 and 0.1")
        if not self.start.by_step or min(self.start.by_step) <= 0 or not 0 < self.start.level < 1:
            raise PlanningError("margins above 0 at every step, of a level within (0, 1)", f"{self.start}",
                                "calibrate them: cost.calibrate_margins")
        wanted = 1 if self.together else len(self.start.by_step)
        if not len(self.factors) == len(self.windows) == len(self.missed) == wanted:
            raise PlanningError(f"{wanted} factors", f"{len(self.factors)}", "begin with AdaptiveMargins.begin")

    @classmethod
    def begin(
        cls, start: Margins, *, together: bool = True, rate: float = 0.2, least: float = 0.1
    ) -> AdaptiveMargins:
        """From calibrated margins."""
        count = 1 if together else len(start.by_step)
        return cls(start=start, together=together, rate=rate, least=least, factors=(1.0,) * count,
                   windows=(0,) * count, missed=(0.0,) * count)

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
        factor, told = torch.tensor(self.factors, dtype=torch.float64), known.any(0)
        miss = ((scores > factor) & known).double().sum(0) / known.sum(0).clamp(min=1)
        moved = (factor * (self.rate * (miss - (1 - self.start.level))).exp()).clamp_min(self.least)
        return msgspec.structs.replace(
            self, factors=tuple(torch.where(told, moved, factor).tolist()),
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
