"""Pictures of capsules (lines with round ends) by signed distances: what an arm, a rod or a disc looks like.

Knows nothing of what is drawn. Shapes: B pictures, N capsules, later ones in front; (H, W) pixels, H = W.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Colour = tuple[int, int, int]
_PIECE = 64  # pictures at a time: what is worked on stays in cache


def draw(start: Tensor, end: Tensor, radius: Tensor, colours: Sequence[Colour], floor: Colour, half: float,
         size: int) -> Tensor:
    """Capsules from `start` to `end` (B, N, 2), `radius` (B, N) or (N,) -> pictures (B, size, size, 3) uint8; x to the
    right, y up, both from -half to half, the origin in the middle.

        cover = clamp(size / (2 half) (r - d) + ½, 0, 1),   d² = (u - clamp(u, 0, l))² + v²

    u along the capsule from its start, v across it, l its length: edges are blended over one pixel. A capsule that ends
    where it begins is a disc. Each picture is the same alone as among others.
    """
    wide = radius.expand(start.shape[:2])
    pieces = [_draw(*piece, colours, floor, half, size)
              for piece in zip(start.split(_PIECE), end.split(_PIECE), wide.split(_PIECE), strict=True)]
    return torch.cat(pieces)


def _draw(start: Tensor, end: Tensor, radius: Tensor, colours: Sequence[Colour], floor: Colour, half: float,
          size: int) -> Tensor:
    scale = size / (2 * half)
    axis = (torch.arange(size) + 0.5) - size / 2  # px from the middle
    a, along, wide = start * scale, (end - start) * scale, (radius * scale + 0.5)[:, :, None, None]
    length = along.norm(dim=-1)
    disc = length < 1e-6  # any direction is along it
    way = torch.where(disc[..., None], torch.tensor([1.0, 0.0]), along / length.clamp_min(1e-6)[..., None])
    left = torch.ones(len(start), size, size)  # what no nearer capsule covers
    picture = torch.zeros(len(start), 3, size, size)
    for n in reversed(range(start.shape[1])):
        x, y = axis - a[:, n, :1], -axis - a[:, n, 1:]  # (B, size) of columns and of rows
        (cos, sin), long = way[:, n, :, None].unbind(1), length[:, n, None, None]
        u = (x * cos)[:, None] + (y * sin)[:, :, None]
        v = (y * cos)[:, :, None] - (x * sin)[:, None]
        past = u - torch.minimum(u.clamp_min(0), long)
        apart = torch.addcmul(v.mul_(v), past, past).sqrt_()
        cover = torch.sub(wide[:, n], apart, out=apart).clamp_(0, 1).mul_(left)
        left -= cover
        for c in range(3):
            picture[:, c].add_(cover, alpha=colours[n][c])
    for c in range(3):
        picture[:, c].add_(left, alpha=floor[c])
    return picture.add_(0.5).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
