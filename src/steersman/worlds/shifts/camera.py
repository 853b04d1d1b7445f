"""A camera that was moved, nearer or sideways. Knows nothing of what is shown.

Shapes: N pictures, (H, W) pixels, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.worlds.shifts.shift import Shift, require, to_bytes


class Moved(Shift, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="moved"):
    """Everything lies elsewhere in the picture; what comes in at the sides repeats the edge.

    right, down  px, whole, up to 32 either way; 4 to the right by default, 6% of a picture of 64 px

    Raises:
        ConfigError: pixels out of range.
    """

    right: int = 4
    down: int = 0

    def __post_init__(self) -> None:
        require(max(abs(self.right), abs(self.down)) <= 32, "right and down from -32 to 32 px", self)

    def apply(self, pictures: Tensor, seeds: Tensor, moments: Tensor) -> Tensor:
        height, width = pictures.shape[1:3]
        rows = (torch.arange(height) - self.down).clamp(0, height - 1)
        columns = (torch.arange(width) - self.right).clamp(0, width - 1)
        return pictures[:, rows][:, :, columns]


class Zoom(Shift, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="zoom"):
    """Everything is `factor` times as large, seen from the picture's middle; bilinear, and beyond the old picture's
    edge the edge repeats.

    factor  from 0.25 to 4; 1.15 by default. Below 1 everything is smaller

    Raises:
        ConfigError: a factor out of range.
    """

    factor: float = 1.15

    def __post_init__(self) -> None:
        require(0.25 <= self.factor <= 4, "a factor from 0.25 to 4", self)

    def apply(self, pictures: Tensor, seeds: Tensor, moments: Tensor) -> Tensor:
        x = pictures.float()
        for axis in (1, 2):
            size = x.shape[axis]
            place = ((torch.arange(size) - (size - 1) / 2) / self.factor + (size - 1) / 2).clamp(0, size - 1)
            first = place.floor().clamp(max=max(size - 2, 0)).long()
            share = (place - first).view(-1, *[1] * (3 - axis))
            x = torch.lerp(x.index_select(axis, first), x.index_select(axis, (first + 1).clamp(max=size - 1)), share)
        return to_bytes(x)
