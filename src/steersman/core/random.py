"""Randomness that does not depend on neighbours: one counter-based stream per problem.

A draw is a pure function of (seed, decision, number of the draw, position), so problem b gets the same numbers
alone as in a batch, on any device, and a saved seed replays a decision exactly.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15, the golden-ratio increment of SplitMix64
_FIRST, _SECOND = -4658895280553007687, -7723592293110705685
_STRIDE = 1000003
_WORD = 1 << 64


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser (Steele, Lea & Flood 2014) on int64; `& mask` makes the shifts logical."""
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _FIRST
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _SECOND
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def _mixed(x: Any) -> Any:
    """The same on an array of uint64: on a processor a third of the time, for few numbers a quarter."""
    x = x ^ (x >> 30)
    x *= np.uint64(_FIRST % _WORD)
    x ^= x >> 27
    x *= np.uint64(_SECOND % _WORD)
    x ^= x >> 31
    return x


class _Words:
    """Random 64-bit words of B streams, on whatever device."""

    def __init__(self, seeds: Tensor, decision: Tensor | None) -> None:
        key = _mix(seeds.to(torch.int64) * 2 + 1)
        self._key = key if decision is None else _mix(key ^ _mix(decision.to(torch.int64) + _GAMMA))

    def uniform(self, draw: int, count: int) -> Tensor:
        """(B, count) on (0, 1)."""
        key = _mix(self._key + draw * _STRIDE)
        words = _mix(key[:, None] + torch.arange(1, count + 1, device=key.device) * _GAMMA)
        return (((words >> 40) & ((1 << 24) - 1)).to(torch.float32) + 0.5) * 2.0**-24


class _HostWords:
    """The same words on the processor, by arrays."""

    def __init__(self, seeds: Tensor, decision: Tensor | None) -> None:
        key = _mixed(_unsigned(seeds) * np.uint64(2) + np.uint64(1))
        self._key = key if decision is None else _mixed(key ^ _mixed(_unsigned(decision) + np.uint64(_GAMMA % _WORD)))

    def uniform(self, draw: int, count: int) -> Tensor:
        """(B, count) on (0, 1)."""
        words = _mixed(_mixed(self._key + np.uint64(draw * _STRIDE))[:, None] + _increments(count))
        words >>= np.uint64(40)
        numbers = words.astype(np.uint32).view(np.int32).astype(np.float32)
        numbers += np.float32(0.5)
        numbers *= np.float32(2.0**-24)
        return torch.from_numpy(numbers)


@lru_cache(maxsize=4)
def _increments(count: int) -> Any:
    """1, 2, … times the increment."""
    return np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GAMMA % _WORD)


def _unsigned(x: Tensor) -> Any:
    return x.detach().to(torch.int64).contiguous().numpy().view(np.uint64)


class Streams:
    """B independent random streams, drawn from together.

    >>> one = Streams(torch.tensor([7])).uniform(3)
    >>> both = Streams(torch.tensor([5, 7])).uniform(3)
    >>> bool((one[0] == both[1]).all())
    True
    """

    def __init__(self, seeds: Tensor, decision: Tensor | None = None) -> None:
        """seeds (B,) int64; decision (B,) int64 selects an independent sub-stream of each."""
        self._words = _HostWords(seeds, decision) if seeds.device.type == "cpu" else _Words(seeds, decision)
        self._draws = 0

    def uniform(self, *shape: int) -> Tensor:
        """Uniform on (0, 1), float32 (B, *shape)."""
        self._draws += 1
        return self._words.uniform(self._draws, math.prod(shape)).view(-1, *shape)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal (Box-Muller), float32 (B, *shape)."""
        count = math.prod(shape)
        half = (count + 1) // 2
        u, v = self.uniform(2, half).unbind(1)
        radius, angle = u.log().mul_(-2).sqrt_(), v * (2 * math.pi)
        z = radius.new_empty(*radius.shape, 2)
        torch.mul(radius, angle.cos(), out=z[..., 0])
        torch.mul(radius, angle.sin_(), out=z[..., 1])
        return z.flatten(1)[:, :count].reshape(-1, *shape)

    def integers(self, high: int, *shape: int) -> Tensor:
        """Uniform on 0..high-1, int64 (B, *shape)."""
        return (self.uniform(*shape).double() * high).long().clamp_(max=high - 1)
