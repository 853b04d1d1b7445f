"""Latents to pictures, by a few transposed convolutions. Knows nothing of what is in them.

Shapes: N latents, D latent size, (H, W) pixels, C channels, p pixels along the side of the last patches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Patches(nn.Module):
    """(N, h, w, a) -> (N, h·k, w·k, b): each place becomes k × k places of its own. A matrix product, where a
    transposed convolution of stride k and width k, which this is, took three times as long on a CPU."""

    def __init__(self, fan_in: int, fan_out: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.linear = nn.Linear(fan_in, fan_out * side * side)

    def forward(self, x: Tensor) -> Tensor:
        n, height, width, _ = x.shape
        fine = self.linear(x).view(n, height, width, self.side, self.side, -1).transpose(2, 3)
        return fine.reshape(n, height * self.side, width * self.side, -1)


class Stage(nn.Module):
    """(N, h, w, a) -> (N, 2h, 2w, b): patches_2(relu(conv_3×3(relu(x))))."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(fan_in, fan_out, 3, padding=1).to(memory_format=torch.channels_last)
        self.up = Patches(fan_out, fan_out, 2)

    def forward(self, x: Tensor) -> Tensor:
        fine: Tensor = self.up(F.relu(self.mix(F.relu(x).permute(0, 3, 1, 2))).permute(0, 2, 3, 1))
        return fine


class PictureDecoder(nn.Module):
    """A coarse grid of features, doubled stage by stage, and cut into patches of pixels at the end.

        G_0 = Linear(z) on a grid of ⌈H / (p·2^(m-1))⌉ · ⌈W / …⌉ places        z a vector, m = len(widths) stages
        G_0 = Linear(z_n) at each place n                                      z tokens that are a grid of the picture
        G_i = patches_2(relu(conv_{3×3}(relu(G_{i-1})))),   x = patches_p(relu(G_{m-1}))

    with patches_k a transposed convolution of width and stride k; cropped to (H, W). The last layer begins at a tenth
    of its usual size, so that the first pictures are nearly 0 everywhere. Tokens are a grid where their number is that
    of one with the picture's proportions to within a quarter; others are flattened, as a vector.
    """

    def __init__(
        self, latent_shape: tuple[int, ...], picture: tuple[int, int, int], widths: Sequence[int], patch: int = 4
    ) -> None:
        super().__init__()
        self.latent_shape, self.size = tuple(latent_shape), picture[:2]
        height, width, channels = picture
        doubled = 2 ** (len(widths) - 1)
        grid = token_grid(latent_shape[0], height, width) if len(latent_shape) > 1 else None
        self.by_token = grid is not None
        if grid is None:
            patch = max(1, min(patch, height, width))
            grid = (-(-height // (patch * doubled)), -(-width // (patch * doubled)))
            self.project = nn.Linear(math.prod(latent_shape), grid[0] * grid[1] * widths[0])
        else:
            patch = max(1, -(-height // (grid[0] * doubled)), -(-width // (grid[1] * doubled)))
            self.project = nn.Linear(latent_shape[-1], widths[0])
        self.grid, self.width = grid, widths[0]
        self.stages = nn.Sequential(*(Stage(a, b) for a, b in pairwise(widths)))
        self.pixels = Patches(widths[-1], channels, patch)
        with torch.no_grad():
            self.pixels.linear.weight.mul_(0.1)
            self.pixels.linear.bias.zero_()

    def forward(self, latents: Tensor) -> Tensor:
        """(N, [tokens,] D) -> (N, H, W, C)."""
        if not self.by_token:
            latents = latents.flatten(1)
        places = self.project(latents).view(len(latents), *self.grid, self.width)
        pictures: Tensor = self.pixels(F.relu(self.stages(places)))
        return pictures[:, : self.size[0], : self.size[1]]


def token_grid(tokens: int, height: int, width: int) -> tuple[int, int] | None:
    """(rows, columns) of so many tokens as a grid of the picture's proportions, or None if they are none.

    >>> token_grid(64, 64, 64), token_grid(65, 64, 64), token_grid(32, 48, 96)
    ((8, 8), None, (4, 8))
    """
    fits = [(rows, tokens // rows) for rows in range(1, tokens + 1) if tokens % rows == 0]
    best = min(fits, key=lambda grid: abs(math.log(grid[0] * width / (grid[1] * height))))
    return best if abs(math.log(best[0] * width / (best[1] * height))) <= math.log(1.25) else None
