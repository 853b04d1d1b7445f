"""From uniform numbers on (0, 1) to choices, row by row. Knows neither views nor masks. Shapes: B rows."""

from __future__ import annotations

from torch import Tensor

from steersman.core.random import Streams

KEY = 2
"""How many uniform numbers name a stream of noise: 48 bits."""


def between(u: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Uniform on (low, high)."""
    low, high = bounds
    return low + (high - low) * u


def whole(u: Tensor, count: int) -> Tensor:
    """Uniform on 0..count-1, int64."""
    return (u.double() * count).long().clamp_(max=count - 1)


def noise(u: Tensor) -> Streams:
    """A stream of noise for each row, which its `KEY` uniform numbers u (B, KEY) name: as much noise as wanted from
    few numbers, and the same on every device."""
    words = (u.double() * 2**24).long().clamp_(0, 2**24 - 1)
    return Streams(words[:, 0] + (words[:, 1] << 24))
