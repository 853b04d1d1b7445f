"""Returns of remembered episodes: what cost came after each moment. Knows times, episodes and costs; no state.

Shapes: n moments in any order, S stretches of moments that follow one another, L moments of the longest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.core import DataError

_TAIL = 0.05
"""Share of a discounted sum that may lie beyond the end of an episode that was cut."""


@dataclass(frozen=True)
class Returns:
    """value (n,): the cost that came after each moment; counts (n,) bool: enough of it is known."""

    value: Tensor
    counts: Tensor


@dataclass(frozen=True)
class Known:
    """Moments of episodes as stretches without a gap.

    stretch, place  (n,) of each moment: which stretch, how far along it
    costs           (S, L) of the moments, 0 beyond the end
    length          (S,) moments; over (S,) bool: the last of them ended its episode for good
    """

    stretch: Tensor
    place: Tensor
    costs: Tensor
    length: Tensor
    over: Tensor

    @classmethod
    def of(cls, time: Tensor, episode: Tensor, costs: Tensor, ended: Tensor) -> Known:
        """time (n,) whole moments, episode (n,), costs (n,), ended (n,) bool.

        Raises:
            DataError: no moments, or two of one time in one episode.
        """
        if not len(time):
            raise DataError("at least one moment", "none", "remember some first")
        order = time.argsort(stable=True)
        order = order[episode[order].argsort(stable=True)]
        when, which, over = time[order].long(), episode[order], ended[order]
        same = which[1:] == which[:-1]
        if bool((same & (when[1:] == when[:-1])).any()):
            raise DataError("moments of different times in an episode", "two of one time", "give each moment once")
        begins = torch.ones(len(order), dtype=torch.bool)
        begins[1:] = ~same | (when[1:] != when[:-1] + 1) | over[:-1]
        along = begins.cumsum(0) - 1
        first = begins.nonzero()[:, 0]
        position = torch.arange(len(order)) - first[along]
        length = along.bincount()
        padded = torch.zeros(len(length), int(length.max()))
        padded[along, position] = costs[order].to(padded)
        stretch, place = torch.empty_like(along), torch.empty_like(position)
        stretch[order], place[order] = along, position
        return cls(stretch, place, padded, length, over[first + length - 1])

    @property
    def left(self) -> Tensor:
        """(n,) moments that come after each in its stretch."""
        return self.length[self.stretch] - 1 - self.place

    @property
    def followed(self) -> Tensor:
        """(n,) bool: something is known to come, or nothing is to come for good."""
        return (self.left > 0) | self.over[self.stretch]

    def of_moments(self, padded: Tensor) -> Tensor:
        """(S, L) -> (n,)."""
        return padded[self.stretch, self.place]


def returns_to_come(known: Known, discount: float, window: int | None = None) -> Returns:
    """G_τ = Σ_{k=1..δ} γ^(k-1) c_τ+k, δ the window, or what is left of the episode (None).

    A moment counts if its episode ended for good, or goes on for the window; without one, for as long as it takes until
    no more than 5% of the weight of an endless sum is missing.
    """
    total = torch.zeros_like(known.costs, dtype=torch.float64)
    costs = known.costs.double()
    for t in range(costs.shape[1] - 2, -1, -1):
        total[:, t] = costs[:, t + 1] + discount * total[:, t + 1]
    if window is not None and window < costs.shape[1]:
        later = torch.zeros_like(total)
        later[:, :-window] = total[:, window:]
        total = total - discount**window * later
    needed = window if window is not None else math.ceil(math.log(_TAIL) / math.log(discount))
    return Returns(known.of_moments(total).float(), (known.left >= needed) | known.over[known.stretch])


def bootstrapped_returns(known: Known, value: Tensor, discount: float, trace: float) -> Tensor:
    """G_τ = c_τ+1 + γ [(1-λ) V(s_τ+1) + λ G_τ+1], (n,); value V (n,) of each moment, λ = trace.

    Where a stretch is cut, its last moment is worth V; where its episode ended for good, nothing.
    """
    worth = torch.zeros_like(known.costs, dtype=torch.float64)
    worth[known.stretch, known.place] = value.double()
    last = known.length - 1
    rows = torch.arange(len(last))
    worth[rows, last] = torch.where(known.over, 0.0, worth[rows, last])
    total, costs = worth.clone(), known.costs.double()
    for t in range(costs.shape[1] - 2, -1, -1):
        ahead = costs[:, t + 1] + discount * ((1 - trace) * worth[:, t + 1] + trace * total[:, t + 1])
        total[:, t] = torch.where(t < last, ahead, total[:, t])
    return known.of_moments(total).float()
