"""How success, or error, goes on with the length of a log: a power law with a floor, and an interval of what longer
logs give. Knows numbers alone.

Shapes: n lengths that were measured, G points of a grid of curves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from steersman.core import UsageError

Array = np.ndarray[Any, np.dtype[Any]]
LEVEL = 0.9
_POWERS = np.linspace(0, 3, 31)
_FLOORS = np.linspace(0, 1, 21)
_FIRST = np.concatenate([[0.002, 0.005], np.linspace(0.01, 0.99, 50)])
_NOISE = (0.05, 0.1, 0.2, 0.4)
"""Deviations of log errors about their curve that are thought possible: trainings of one log differ by as much."""


@dataclass(frozen=True)
class Forecast:
    """What is to be expected at one length: the median, and the interval that holds LEVEL of what may be measured."""

    length: float
    low: float
    middle: float
    high: float

    def covers(self, value: float) -> bool:
        """Whether the interval holds it."""
        return self.low - 1e-9 <= value <= self.high + 1e-9


def forecast_success(
    lengths: Sequence[float], reached: Sequence[int], tried: int, at: float, *, level: float = LEVEL,
) -> Forecast:
    """Success in `tried` new trips after a log of length `at`, from `reached` of as many at each of `lengths`.

        1 - p(n) = f ((1 - a) (n / n_1)^-c + a),     f, a in [0, 1], 0 <= c <= 3, all equally likely beforehand

    The likelihood is binomial; the interval is of the predictive mixture of binomials, so it holds both what the few
    measurements leave open and the chance of the new trips themselves.

    Raises:
        UsageError: fewer than two lengths, lengths that are not above 0, or counts that do not fit.
    """
    x = _lengths(lengths)
    if len(reached) != len(x) or tried < 1 or not all(0 <= k <= tried for k in reached):
        raise UsageError(f"{len(x)} counts from 0 to {tried}", f"{list(reached)}", "give one for each length")
    first, floor, power = (grid.ravel() for grid in np.meshgrid(_FIRST, _FLOORS, _POWERS, indexing="ij"))
    weight = np.zeros(len(first))
    for length, k in zip(x, reached, strict=True):
        weight += _binomial(1 - _failing(first, floor, power, length / x[0]), k, tried)
    weight = np.exp(weight - weight.max())
    p = 1 - _failing(first, floor, power, at / x[0])
    chance = np.array([float((weight * np.exp(_binomial(p, k, tried))).sum()) for k in range(tried + 1)])
    total = (chance / chance.sum()).cumsum()
    low, middle, high = (int(np.searchsorted(total, q)) for q in ((1 - level) / 2, 0.5, (1 + level) / 2))
    return Forecast(at, low / tried, middle / tried, min(high, tried) / tried)


def forecast_error(
    lengths: Sequence[float], errors: Sequence[float], at: float, *, level: float = LEVEL,
) -> Forecast:
    """The error after a log of length `at`, from those at each of `lengths`.

        log e(n) = log b + log((1 - a) (n / n_1)^-c + a) + ε,  ε ~ N(0, σ²),  σ in (.05, .1, .2, .4)

    log b is integrated out under a flat prior, the others are summed over a grid.

    Raises:
        UsageError: fewer than two lengths, or what is not above 0.
    """
    x, y = _lengths(lengths), np.log(np.asarray(errors, float))
    if len(y) != len(x) or not np.isfinite(y).all():
        raise UsageError(f"{len(x)} errors above 0", f"{list(errors)}", "give one for each length")
    floor, power, noise = (grid.ravel() for grid in np.meshgrid(_FLOORS, _POWERS, _NOISE, indexing="ij"))
    curve = np.stack([np.log(_failing(1.0, floor, power, length / x[0])) for length in x])
    scale = (y[:, None] - curve).mean(0)
    left = ((y[:, None] - curve - scale) ** 2).sum(0)
    weight = -left / (2 * noise**2) - (len(x) - 1) * np.log(noise)
    weight = np.exp(weight - weight.max())
    centre = scale + np.log(_failing(1.0, floor, power, at / x[0]))
    spread = noise * math.sqrt(1 + 1 / len(x))
    points = np.linspace((centre - 3 * spread).min(), (centre + 3 * spread).max(), 400)
    below = torch.special.ndtr(torch.from_numpy((points[:, None] - centre) / spread)).numpy()
    total = (below * weight).sum(1) / weight.sum()
    low, middle, high = (float(np.exp(np.interp(q, total, points))) for q in ((1 - level) / 2, 0.5, (1 + level) / 2))
    return Forecast(at, low, middle, high)


def _failing(first: Any, floor: Array, power: Array, times: float) -> Array:
    found: Array = first * ((1 - floor) * times**-power + floor)
    return found


def _binomial(p: Array, k: int, n: int) -> Array:
    """Log probability of k of n."""
    p = np.clip(p, 1e-9, 1 - 1e-9)
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    found: Array = ways + k * np.log(p) + (n - k) * np.log(1 - p)
    return found


def _lengths(lengths: Sequence[float]) -> Array:
    x = np.asarray(lengths, float)
    if len(x) < 2 or not (x > 0).all():
        raise UsageError("at least two lengths above 0", f"{list(lengths)}", "measure at another length")
    return x
