"""Masks of a picture that hold for all moments of a film. Knows nothing of pictures.

Shapes: B rows, (T, R, C) moments, rows and columns of the grid; cell (t, r, c) has the number (t R + r) C + c.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.looking import Masked, Masks
from steersman.core.parts import register
from steersman.core.view_configs import MasksConfig


class Tubes(Masks):
    """Masks of (rows, columns), the same in every moment, so that what is hidden cannot be read off the moment before
    or after (Tong et al. 2022; V-JEPA, Bardes et al. 2024): V and K grow T-fold.

    Raises:
        ConfigError: a grid without moments; what `each` refuses.
    """

    @register(Masks)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="tubes"):
        """each: the masks of a moment. V-JEPA has two sorts side by side, hence two objects: `MultiBlock` with 8
        targets of scale .15, and with 2 of scale .7; aspect .75 to 1.5, context (1, 1)."""

        each: MasksConfig

        def build(self) -> Tubes:
            return Tubes(self.each.build())

    def __init__(self, each: Masks) -> None:
        self.each = each

    def uniform(self, grid: tuple[int, ...]) -> tuple[int, int]:
        return self.each.uniform(_of_a_moment(grid))

    def draw(self, grid: tuple[int, ...], shared: Tensor, u: Tensor) -> Masked:
        rows, columns = _of_a_moment(grid)
        masked = self.each.draw((rows, columns), shared, u)
        starts = torch.arange(grid[0], device=u.device)[:, None] * (rows * columns)
        return masked.map(lambda cells: (cells[..., None, :] + starts).flatten(-2))


def _of_a_moment(grid: tuple[int, ...]) -> tuple[int, int]:
    if len(grid) != 3 or min(grid) < 1:
        raise ConfigError("a grid (moments, rows, columns)", f"{grid}", "use the masks of a moment without `Tubes`")
    return grid[1], grid[2]
