"""I-JEPA's masks: several target blocks, and a large context block without them. Knows nothing of pictures.

Shapes: B rows, V visible cells, M targets of K cells, (R, C) rows and columns of the grid, n = R · C.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.looking import Masked, Masks
from steersman.core.parts import register
from steersman.perception.drawn import whole
from steersman.perception.masks.torus import block, flat_grid, mirrored, moved, part, require_fits, sides

_TRIES = 8


class MultiBlock(Masks):
    """M target blocks of one size and a context block, minus every target (Assran et al. 2023).

        target:  area ~ U(scale) n,  height/width ~ U(aspect)        context:  √U(context) of the rows and the columns

    A batch shares the sizes and how the blocks lie to one another; each row mirrors that pattern and moves it to a
    place of its own on the torus. So V and K are the same in all rows, nothing is cut off, and every cell is equally
    often target and context, which no placement inside the edges can give. The price: a block at an edge goes on at
    the other, and rows of one batch differ by place only; the next batch has another pattern. (The published sampler
    draws a pattern for each row and cuts all contexts to the shortest of the batch, so that what a row sees depends on
    its neighbours; the code of it that is most copied never reaches the last row and column.)

    With wrap=False blocks stay inside the edges, and rows of a batch differ by mirroring only. Cells in the middle are
    then targets more often than those in the corners: 12 times as often on 8 × 8 cells, 36 times on 14 × 14.

    A pattern that leaves less than `visible` of the grid to see is drawn again, at most 8 times; then the one that
    leaves most counts, or, where none leaves anything, all targets lie on one another.

    Raises:
        ConfigError: blocks larger than the grid, targets that may cover all of the context.
    """

    @register(Masks)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="multi-block"):
        """targets: M; scale, context: shares of the grid; aspect: height / width of targets; the paper's values.
        visible: the least share of the grid to see, here 10% (the paper: 10 of 256 cells)."""

        targets: int = 4
        scale: tuple[float, float] = (0.15, 0.2)
        aspect: tuple[float, float] = (0.75, 1.5)
        context: tuple[float, float] = (0.85, 1.0)
        visible: float = 0.1
        wrap: bool = True

        def __post_init__(self) -> None:
            shares = [*self.scale, *self.context]
            ordered = all(low <= high for low, high in (self.scale, self.aspect, self.context))
            if self.targets < 1 or not ordered or not all(0 < share <= 1 for share in shares) or (
                not self.aspect[0] > 0 or not 0 <= self.visible < 1
            ):
                raise ConfigError("at least 1 target, shares (low, high) within (0, 1], aspects above 0", f"{self}",
                                  "correct the masks' configuration")

        def build(self) -> MultiBlock:
            return MultiBlock(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def uniform(self, grid: tuple[int, ...]) -> tuple[int, int]:
        rows, columns = flat_grid(grid)
        area, (low, high) = self.config.scale[1] * rows * columns, self.config.aspect
        require_fits(sides(area, high)[0], sides(area, low)[1], (rows, columns))
        height, width = part(self.config.context[0], 1.0, (rows, columns))
        largest = max(h * w for h, w in (sides(area, aspect) for aspect in (low, 1.0, high)))
        if largest >= height * width:
            raise ConfigError(f"targets smaller than the context of {height * width} cells", f"{largest} cells",
                              "lower the scale, or raise the context")
        return 3 + 2 * _TRIES * (self.config.targets + 1), 4 if self.config.wrap else 2

    def draw(self, grid: tuple[int, ...], shared: Tensor, u: Tensor) -> Masked:
        flat = flat_grid(grid)
        seen, hidden = (cells.to(u.device) for cells in self._pattern(flat, shared.cpu()))
        flips = u[:, 0] < 0.5, u[:, 1] < 0.5
        context, targets = (mirrored(cells, flat, *flips) for cells in (seen, hidden.flatten()))
        if self.config.wrap:
            place = whole(u[:, 2], flat[0]), whole(u[:, 3], flat[1])
            context, targets = moved(context, flat, *place), moved(targets, flat, *place)
        return Masked(context, targets.unflatten(1, hidden.shape))

    def _pattern(self, grid: tuple[int, int], shared: Tensor) -> tuple[Tensor, Tensor]:
        """What a batch shares: the cells of the context (V,) and of the targets (M, K)."""
        config, n = self.config, grid[0] * grid[1]
        area, aspect, scale = (low + (high - low) * u for (low, high), u in zip(
            (config.scale, config.aspect, config.context), shared[:3].tolist(), strict=True))
        places = shared[3:].view(_TRIES, config.targets + 1, 2)
        places = torch.cat([places, places[:1, -1:].expand(1, config.targets + 1, 2)])  # at last, all on one another
        found = []
        for size, u in ((sides(area * n, aspect), places[:, :-1]), (part(scale, 1.0, grid), places[:, -1:])):
            room = [side if config.wrap else side - length + 1 for side, length in zip(grid, size, strict=True)]
            down, right = (whole(u[..., axis], room[axis]).flatten() for axis in range(2))
            cells = moved(block(*size, grid, shared.device), grid, down, right)
            found.append(cells.view(_TRIES + 1, u.shape[1], -1))
        targets, context = found
        seen = torch.zeros(_TRIES + 1, n, dtype=torch.bool).scatter_(1, context.flatten(1), True)
        seen.scatter_(1, targets.flatten(1), False)
        counts = seen.sum(1)
        enough = (counts[:_TRIES] >= max(1.0, config.visible * n)).nonzero()
        best = int(enough[0]) if len(enough) else int(counts[:_TRIES].argmax()) if counts[:_TRIES].any() else _TRIES
        return seen[best].nonzero()[:, 0], targets[best]
