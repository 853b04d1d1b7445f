"""Conformal bounds from errors that come in groups: episodes are exchangeable, windows inside an episode are not.

Knows scores and the unit (episode) that each belongs to. Shapes: W windows, M scores of each, U units, S splits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def unit_maxima(scores: Tensor, unit: Tensor) -> Tensor:
    """(W, M), (W,) -> (U, M): the largest score of each unit."""
    number, index = unit.unique(return_inverse=True)
    result = scores.new_full((len(number), scores.shape[1]), -math.inf)
    return result.scatter_reduce_(0, index[:, None].expand_as(scores), scores, "amax")


def halves_coverage(scores: Tensor, unit: Tensor, level: float = 0.9, splits: int = 400, seed: int = 0) -> float | None:
    """Mean share of windows within the bound, over random halves of the units: calibrated on one, counted in the other.

    scores (W,). None if half of the units are too few for a finite bound.
    """
    _, index, count = unit.unique(return_inverse=True, return_counts=True)
    units = len(count)
    half = units // 2
    if half < math.ceil(round(level / (1 - level), 6)):
        return None
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand(splits, units, generator=generator).argsort(1) < half  # (S, U)
    values, order = scores.sort()
    share = 1 / count[index[order]].double()
    inside = chosen[:, index[order]]
    mass = (inside * share).cumsum(1) / (half + 1)
    first = (mass >= level - 1e-9).to(torch.int8).argmax(1)
    bound = values[first]
    hit = (~inside * share * (values <= bound[:, None])).sum(1) / (units - half)
    return float(hit.mean())


def coverage_of(scores: Tensor, unit: Tensor, bound: Tensor | float) -> Tensor:
    """(U, …) share of each unit's windows whose scores (W, …) are within `bound`, one or one for each of them."""
    _, index, count = unit.unique(return_inverse=True, return_counts=True)
    inside = (scores <= bound).float()
    sums = inside.new_zeros(len(count), *scores.shape[1:]).index_add_(0, index, inside)
    return sums / count.view(-1, *[1] * (scores.dim() - 1))


def bootstrap(units: int, draws: int = 1000, seed: int = 0) -> Tensor:
    """(draws, U) how often each unit is drawn when as many as there are are drawn with replacement."""
    picked = torch.randint(units, (draws, units), generator=torch.Generator().manual_seed(seed))
    return torch.zeros(draws, units).scatter_add_(1, picked, torch.ones_like(picked, dtype=torch.float32))


def unit_sums(values: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
    """Values (W, M) -> their sums by unit (U, M), and the windows of each (U,)."""
    _, index, count = unit.unique(return_inverse=True, return_counts=True)
    return values.new_zeros(len(count), values.shape[1]).index_add_(0, index, values), count.float()


def resampled_means(values: Tensor, unit: Tensor, draws: int = 1000, seed: int = 0) -> Tensor:
    """Means over windows, of resampled units: values (W, M) -> (draws, M)."""
    sums, count = unit_sums(values, unit)
    times = bootstrap(len(count), draws, seed)
    return (times @ sums) / (times @ count)[:, None]
