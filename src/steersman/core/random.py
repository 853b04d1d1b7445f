"""Randomness that does not depend on neighbours: one counter-based stream per problem.

A draw is a pure function of (seed, decision, number of the draw, position), so problem b gets the same numbers
alone as in a batch, on any device, and a saved seed replays a decision exactly.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15, the golden-ratio increment of SplitMix64


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser (Steele, Lea & Flood 2014) on int64; `& mask` makes the shifts logical."""
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * -4658895280553007687
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * -7723592293110705685
    return x ^ ((x >> 31) & ((1 << 33) - 1))


class Streams:
    """B independent random streams, drawn from together.

    >>> one = Streams(torch.tensor([7])).uniform(3)
    >>> both = Streams(torch.tensor([5, 7])).uniform(3)
    >>> bool((one[0] == both[1]).all())
    True
    """

    def __init__(self, seeds: Tensor, decision: Tensor | None = None) -> None:
        """seeds (B,) int64; decision (B,) int64 selects an independent sub-stream of each."""
        key = _mix(seeds.to(torch.int64) * 2 + 1)
        if decision is not None:
            key = _mix(key ^ _mix(decision.to(torch.int64) + _GAMMA))
        self._key, self._draws = key, 0

    def _bits(self, count: int) -> Tensor:
        self._draws += 1
        key = _mix(self._key + self._draws * 1000003)
        return _mix(key[:, None] + torch.arange(1, count + 1, device=key.device) * _GAMMA)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform on (0, 1), float32 (B, *shape)."""
        bits = (self._bits(math.prod(shape)) >> 40) & ((1 << 24) - 1)
        return ((bits.to(torch.float32) + 0.5) * 2.0**-24).view(-1, *shape)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal (Box-Muller), float32 (B, *shape)."""
        count = math.prod(shape)
        half = (count + 1) // 2
        u, v = self.uniform(2, half).unbind(1)
        radius = torch.sqrt(-2 * torch.log(u))
        z = torch.stack([radius * torch.cos(2 * math.pi * v), radius * torch.sin(2 * math.pi * v)], -1)
        return z.flatten(1)[:, :count].reshape(-1, *shape)

    def integers(self, high: int, *shape: int) -> Tensor:
        """Uniform on 0..high-1, int64 (B, *shape)."""
        return (self.uniform(*shape).double() * high).long().clamp_(max=high - 1)
