"""When a surprise is one: an alarm above a threshold that was calibrated where nothing had changed.

Knows surprises, no boxes and no world. Shapes: B episodes side by side.
"""

from __future__ import annotations

import math
from collections import deque

import msgspec
import torch

from steersman.core import Surprise, UsageError

LEAST = 1e-12
"""Surprise below which nothing is told apart: that of a model which foresees exactly."""


class Alarm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A threshold of surprise, and what is promised of it.

    threshold  of the standing surprise: exp of the mean of log s over the last `window` moments of every episode, s
               the pooled energy of `Surprise`. Errors of a model differ by orders of magnitude from one moment to the
               next; the mean of their logarithms moves with a change of the world, and hardly with a single outlier
    level      probability with which it is exceeded although nothing has changed, at a moment of an undisturbed
               episode drawn at random
    window     moments that it takes
    count      windows that it was calibrated on; units  episodes, or pieces of episodes, that those came from
    """

    threshold: float
    level: float
    window: int = 5
    count: int = 0
    units: int = 0

    def __post_init__(self) -> None:
        if not (self.threshold > 0 and math.isfinite(self.threshold) and 0 < self.level < 1 and self.window >= 1):
            raise UsageError("a finite threshold above 0, a level within (0, 1) and a window of at least 1", f"{self}",
                             "calibrate it: evaluation.calibrate_alarm")


class Watch:
    """The surprise that stands, and whether it is above an alarm's threshold.

    >>> import torch
    >>> from steersman.core.surprising import surprise_of
    >>> watch = Watch(Alarm(threshold=0.1, level=0.01, window=2))
    >>> for error in (0.1, 1.0, 1.0):
    ...     watch.saw(surprise_of(torch.zeros(1, 3), torch.full((1, 3), error), 1))
    ...     print(round(watch.standing, 3), watch.raised)
    0.0 False
    0.1 False
    1.0 True

    With B episodes side by side all of them are averaged: a change concerns the weights, which they share. Nothing is
    raised before `window` moments were foreseen.
    """

    def __init__(self, alarm: Alarm) -> None:
        self.alarm = alarm
        self._logs: deque[float] = deque(maxlen=alarm.window)

    def saw(self, surprise: Surprise | None) -> None:
        """Take in one moment; one of which nothing had been foreseen in any episode says nothing."""
        if surprise is None:
            return
        known = surprise.known.flatten(1).any(1)
        if bool(known.any()):
            self._logs.append(float(log_surprise(surprise)[known].mean()))

    @property
    def standing(self) -> float:
        """exp of the mean log surprise of the last moments; 0 before there are enough of them."""
        full = len(self._logs) == self.alarm.window
        return math.exp(sum(self._logs) / len(self._logs)) if full else 0.0

    @property
    def raised(self) -> bool:
        """Whether it stands above the threshold."""
        return self.standing > self.alarm.threshold

    def forget(self) -> None:
        """The surprises so far were those of other weights."""
        self._logs.clear()


def log_surprise(surprise: Surprise) -> torch.Tensor:
    """(B,): log of the pooled energy, at least that of `LEAST`."""
    return surprise.pooled().double().clamp_min(LEAST).log()
