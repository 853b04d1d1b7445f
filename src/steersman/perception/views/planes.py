"""Pictures as planes of numbers, and pictures sampled elsewhere: what views of pictures share. Knows no view.

Shapes: B rows, T moments, (H, W) pixels, C channels.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Fill = Literal["border", "reflection", "grey"]
"""What lies beyond the edge of a picture: the nearest pixel, its mirror image, or mid-grey."""


def planes(images: Tensor) -> Tensor:
    """(B, T, H, W, C) uint8 -> (B, T, C, H, W) float32 from 0 to 255."""
    return torch.stack(images.unbind(-1), 2).float()  # a third of the time of permuting


def images(planes: Tensor) -> Tensor:
    """(B, T, C, H, W) -> (B, T, H, W, C) uint8, rounded and cut off at 0 and 255. Overwrites its input."""
    whole = planes.add_(0.5).clamp_(0, 255).to(torch.int16).to(torch.uint8)  # by way of int16 in half the time
    return torch.stack(whole.unbind(2), -1)


def sampled(pictures: Tensor, x: Tensor, y: Tensor, fill: Fill = "border") -> Tensor:
    """Pictures (B, T, H, W, C) uint8 read bilinearly at x and y (B, H', W') -> (B, T, H', W', C) uint8.

    Coordinates run from -1 at the outer edge of the first pixel to 1 at the outer edge of the last.
    """
    b, t, h, w, c = pictures.shape
    source = planes(pictures).view(b, t * c, h, w)
    if fill == "grey":
        source.sub_(128)
    padding = "zeros" if fill == "grey" else fill
    found = F.grid_sample(source, torch.stack([x, y], -1), "bilinear", padding, align_corners=False)
    if fill == "grey":
        found.add_(128)
    return images(found.view(b, t, c, *found.shape[2:]))


def centres(count: int, like: Tensor) -> Tensor:
    """Centres of `count` pixels from -1 to 1."""
    return (torch.arange(count, device=like.device, dtype=torch.float32) + 0.5) * (2 / count) - 1
