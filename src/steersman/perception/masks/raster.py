"""One quarter of the grid is seen, the other three are hidden. Knows nothing of pictures.

Shapes: B rows, (R, C) rows and columns of the grid, K = ⌊R/2⌋ · ⌊C/2⌋ cells of a quarter.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.looking import Masked, Masks
from steersman.core.parts import register
from steersman.perception.drawn import whole
from steersman.perception.masks.torus import block, flat_grid, moved


class Raster(Masks):
    """The grid in four quarters: one of them, each as often, is the context, the others are the three targets
    ("rasterized" of Assran et al. 2023). Along an axis with an odd number of cells the quarters leave one out, and lie
    anywhere on the torus, so that every cell is equally often target, context and left out.

    Raises:
        ConfigError: fewer than two rows or columns.
    """

    @register(Masks)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="raster"):
        """Nothing to choose."""

        def build(self) -> Raster:
            return Raster()

    def uniform(self, grid: tuple[int, ...]) -> tuple[int, int]:
        flat = flat_grid(grid)
        if min(flat) < 2:
            raise ConfigError("at least 2 rows and columns", f"{flat[0]} × {flat[1]}", "use smaller patches")
        return 0, 2

    def draw(self, grid: tuple[int, ...], shared: Tensor, u: Tensor) -> Masked:
        flat = flat_grid(grid)
        height, width = flat[0] // 2, flat[1] // 2
        down, right = (whole(u[:, axis], side) if side % 2 else whole(u[:, axis], 2) * (side // 2)
                       for axis, side in enumerate(flat))
        quarter = block(height, width, flat, u.device)
        quarters = torch.cat([quarter + y * flat[1] + x for y in (0, height) for x in (0, width)])
        cells = moved(quarters, flat, down, right).unflatten(1, (4, -1))
        return Masked(cells[:, 0], cells[:, 1:])
