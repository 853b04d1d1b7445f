"""One block is hidden, everything else is seen. Knows nothing of pictures.

Shapes: B rows, K cells of the block, (R, C) rows and columns of the grid, n = R · C.
"""

from __future__ import annotations

import msgspec
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.looking import Masked, Masks
from steersman.core.parts import register
from steersman.perception.drawn import whole
from steersman.perception.masks.torus import block, flat_grid, moved, part, require_fits, rest


class SingleBlock(Masks):
    """One target block of area ~ U(scale) n and aspect ~ U(aspect), shared by a batch, at a place of each row's own on
    the torus: every cell is equally often target, and context otherwise. A block as large as the grid loses a row.

    Raises:
        ConfigError: a block longer than the grid, a grid of a single row or column.
    """

    @register(Masks)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="single-block"):
        """scale: share of the grid, about half by default (our choice); aspect: height / width, in units of the
        grid's own, I-JEPA's."""

        scale: tuple[float, float] = (0.4, 0.6)
        aspect: tuple[float, float] = (0.75, 1.5)

        def __post_init__(self) -> None:
            if not 0 < self.scale[0] <= self.scale[1] < 1 or not 0 < self.aspect[0] <= self.aspect[1]:
                raise ConfigError("a scale (low, high) within (0, 1) and aspects above 0", f"{self}",
                                  "correct the masks' configuration")

        def build(self) -> SingleBlock:
            return SingleBlock(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def uniform(self, grid: tuple[int, ...]) -> tuple[int, int]:
        flat = flat_grid(grid)
        if min(flat) < 2:
            raise ConfigError("at least 2 rows and columns", f"{flat[0]} × {flat[1]}", "use smaller patches")
        (_, scale), (low, high) = self.config.scale, self.config.aspect
        require_fits(part(scale, high, flat)[0], part(scale, low, flat)[1], flat)
        return 2, 2

    def draw(self, grid: tuple[int, ...], shared: Tensor, u: Tensor) -> Masked:
        flat = flat_grid(grid)
        area, aspect = (low + (high - low) * share for (low, high), share in zip(
            (self.config.scale, self.config.aspect), shared.tolist(), strict=True))
        height, width = part(area, aspect, flat)
        height -= (height, width) == flat
        target = moved(block(height, width, flat, u.device), flat, whole(u[:, 0], flat[0]), whole(u[:, 1], flat[1]))
        return Masked(rest(target, flat[0] * flat[1]), target[:, None])
