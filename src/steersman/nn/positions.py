"""Positions: fixed sine-cosine codes and rotary rotation. Shapes: T positions, W width of a head."""

from __future__ import annotations

import torch
from torch import Tensor


def sincos(positions: Tensor, width: int, longest: float = 10000.0) -> Tensor:
    """Sine-cosine codes (Vaswani et al. 2017): positions (…,) -> (…, width), half sines, half cosines."""
    assert width % 2 == 0, width
    angles = positions[..., None] * rotary_frequencies(width, longest, positions.device)
    return torch.cat([angles.sin(), angles.cos()], -1)


def rotary_frequencies(width: int, longest: float = 10000.0, device: torch.device | None = None) -> Tensor:
    """longest^(-2i / width) for i < width / 2."""
    return longest ** -(torch.arange(0, width, 2, dtype=torch.float32, device=device) / width)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021): turn pair (x_i, x_{i + W/2}) by angle i; x (…, W), angles (…, W/2).

    <rotate(q, a), rotate(k, b)> depends on a - b only, so positions may be counted from anywhere.
    """
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, -1)
    return torch.cat([torch.addcmul(first * cos, second, -sin), torch.addcmul(second * cos, first, sin)], -1)


def rotate_rows(weight: Tensor, angles: Tensor) -> Tensor:
    """The linear map `rotate(weight @ x)` as a weight: (heads * W, in) and angles (W/2,) -> (heads * W, in).

    When every row of a product stands at the same position, turning the weight once spares turning each result.
    """
    heads = weight.unflatten(0, (-1, 2 * len(angles)))
    return rotate(heads.mT, angles).mT.flatten(0, 1)
