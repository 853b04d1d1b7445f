"""Latents to pictures, by a few transposed convolutions. Knows nothing of what is in them.

Shapes: N latents, D latent size, (H, W) pixels, C channels, p pixels along the side of the last patches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class PictureDecoder(nn.Module):
    """A coarse grid of features, doubled stage by stage, and cut into patches of pixels at the end.

        G_0 = Linear(z) on a grid of ⌈H / (p·2^(m-1))⌉ · ⌈W / …⌉ places        z a vector, m = len(widths) stages
        G_0 = Linear(z_n) at each place n                                      z tokens that are a grid of the picture
        G_i = TransposedConv_{4, stride 2}(relu(G_{i-1})),   x = TransposedConv_{p, stride p}(relu(G_{m-1}))

    cropped to (H, W). The last layer begins at a tenth of its usual size, so that the first pictures are nearly 0
    everywhere. Tokens are a grid where their number is that of one with the picture's proportions to within a
    quarter; others are flattened, as a vector.
    """

    def __init__(
        self, latent_shape: tuple[int, ...], picture: tuple[int, int, int], widths: Sequence[int], patch: int = 4
    ) -> None:
        super().__init__()
        self.latent_shape, self.size = tuple(latent_shape), picture[:2]
        height, width, channels = picture
        grid = token_grid(latent_shape[0], height, width) if len(latent_shape) > 1 else None
        self.by_token = grid is not None
        if grid is None:
            patch = max(1, min(patch, height, width))
            coarse = patch * 2 ** (len(widths) - 1)
            grid = (-(-height // coarse), -(-width // coarse))
            self.project = nn.Linear(math.prod(latent_shape), grid[0] * grid[1] * widths[0])
        else:
            doubled = 2 ** (len(widths) - 1)
            patch = max(1, -(-height // (grid[0] * doubled)), -(-width // (grid[1] * doubled)))
            self.project = nn.Linear(latent_shape[-1], widths[0])
        self.grid, self.width = grid, widths[0]
        layers: list[nn.Module] = [nn.ReLU()]
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.ConvTranspose2d(fan_in, fan_out, 4, 2, 1), nn.ReLU()]
        last = nn.ConvTranspose2d(widths[-1], channels, patch, patch)
        last.weight.data.mul_(0.1)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.stages = nn.Sequential(*layers, last)

    def forward(self, latents: Tensor) -> Tensor:
        """(N, [tokens,] D) -> (N, C, H, W)."""
        if not self.by_token:
            latents = latents.flatten(1)
        places = self.project(latents).view(len(latents), *self.grid, self.width)
        pictures: Tensor = self.stages(places.permute(0, 3, 1, 2))
        return pictures[:, :, : self.size[0], : self.size[1]]


def token_grid(tokens: int, height: int, width: int) -> tuple[int, int] | None:
    """(rows, columns) of so many tokens as a grid of the picture's proportions, or None if they are none.

    >>> token_grid(64, 64, 64), token_grid(65, 64, 64), token_grid(32, 48, 96)
    ((8, 8), None, (4, 8))
    """
    fits = [(rows, tokens // rows) for rows in range(1, tokens + 1) if tokens % rows == 0]
    best = min(fits, key=lambda grid: abs(math.log(grid[0] * width / (grid[1] * height))))
    return best if abs(math.log(best[0] * width / (best[1] * height))) <= math.log(1.25) else None
