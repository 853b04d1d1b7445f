"""Convolutions on regular grids of one to three axes, each of which may close on itself. Knows nothing of fields.

Shapes: N grids, C channels, (X, [Y, [Z]]) points, p points along the side of a patch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

Edge = Literal["replicate", "zero"]
"""What lies beyond the end of an axis that does not close on itself: the nearest value, or 0."""
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def extended(x: Tensor, before: int, after: Sequence[int], periodic: Sequence[bool], edge: Edge) -> Tensor:
    """(N, C, X, …) with points added along each axis, from the other end where it is periodic: `before` at its
    beginning, `after` at its end."""
    for closed, mode in ((True, "circular"), (False, "replicate" if edge == "replicate" else "constant")):
        sides: list[int] = []
        for more, wraps in zip(reversed(after), reversed(periodic), strict=True):  # `pad` counts from the last axis
            sides += [before, more] if wraps is closed else [0, 0]
        if any(sides):
            x = F.pad(x, sides, mode=mode)
    return x


class GridConv(nn.Module):
    """A 3-point convolution of stride 1 or 2 along axes that are `periodic` or not."""

    def __init__(self, fan_in: int, fan_out: int, periodic: Sequence[bool], edge: Edge, stride: int = 1) -> None:
        super().__init__()
        self.periodic, self.edge = tuple(periodic), edge
        self.convolution: nn.Module = _CONVOLUTIONS[len(periodic) - 1](fan_in, fan_out, 3, stride)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.convolution(extended(x, 1, [1] * len(self.periodic), self.periodic, self.edge))
        return y


class GridPatches(nn.Module):
    """A convolution of patches that do not overlap; sides are extended at their end to multiples of p."""

    def __init__(self, fan_in: int, fan_out: int, patch: int, periodic: Sequence[bool], edge: Edge) -> None:
        super().__init__()
        self.patch, self.periodic, self.edge = patch, tuple(periodic), edge
        self.convolution: nn.Module = _CONVOLUTIONS[len(periodic) - 1](fan_in, fan_out, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        more = [-side % self.patch for side in x.shape[2:]]
        while any(more):  # an axis shorter than what is missing of a patch goes round more than once
            now = [min(m, side) for m, side in zip(more, x.shape[2:], strict=True)]
            x = extended(x, 0, now, self.periodic, self.edge)
            more = [m - n for m, n in zip(more, now, strict=True)]
        y: Tensor = self.convolution(x)
        return y


class GridResidual(nn.Module):
    """x + conv₂(gelu(conv₁(gelu(x)))); conv₂ starts at zero, in place of normalisation (De & Smith 2020)."""

    def __init__(self, width: int, periodic: Sequence[bool], edge: Edge) -> None:
        super().__init__()
        self.first, self.second = (GridConv(width, width, periodic, edge) for _ in range(2))
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.second(F.gelu(self.first(F.gelu(x))))
        return y


def grid_stack(
    channels: int, patch: int, widths: Sequence[int], blocks: int, periodic: Sequence[bool], edge: Edge
) -> nn.Sequential:
    """A patch convolution, then stages of `blocks` residual blocks; each further stage halves the grid (rounded up)."""
    layers: list[nn.Module] = [GridPatches(channels, widths[0], patch, periodic, edge)]
    for i, width in enumerate(widths):
        if i:
            layers += [nn.GELU(), GridConv(widths[i - 1], width, periodic, edge, stride=2)]
        layers += [GridResidual(width, periodic, edge) for _ in range(blocks)]
    return nn.Sequential(*layers, nn.GELU())


def coarse(points: Sequence[int], patch: int, stages: int) -> tuple[int, ...]:
    """Points along each axis after `grid_stack` of so many stages."""
    return tuple(math.ceil(math.ceil(side / patch) / 2 ** (stages - 1)) for side in points)
