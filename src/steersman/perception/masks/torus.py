"""Cells of a grid, moved and mirrored: what keeps the counts of a pattern and makes every cell alike. Knows no masks.

Moving a pattern uniformly on the torus (what leaves at one edge enters at the other) gives every cell the same chance
of everything, whatever the pattern is; no placement inside the edges can do that, unless blocks tile the grid.
Shapes: B rows, K cells of a pattern, (R, C) rows and columns of the grid.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.core.errors import ConfigError


def flat_grid(grid: tuple[int, ...]) -> tuple[int, int]:
    """(rows, columns).

    Raises:
        ConfigError: a grid of another number of axes, or without cells.
    """
    if len(grid) != 2 or min(grid) < 1:
        raise ConfigError("a grid (rows, columns)", f"{grid}", "wrap the masks in `Tubes` for (moments, rows, columns)")
    return grid[0], grid[1]


def moved(pattern: Tensor, grid: tuple[int, int], down: Tensor, right: Tensor) -> Tensor:
    """Cells (K,) or (B, K), numbered row by row, moved on the torus by `down` and `right` (B,) -> (B, K)."""
    rows = (pattern // grid[1] + down[:, None]) % grid[0]
    columns = (pattern % grid[1] + right[:, None]) % grid[1]
    return rows * grid[1] + columns


def mirrored(pattern: Tensor, grid: tuple[int, int], vertical: Tensor, horizontal: Tensor) -> Tensor:
    """Cells (K,) or (B, K), top and bottom exchanged where `vertical` (B,), left and right where `horizontal` (B,)."""
    rows, columns = pattern // grid[1], pattern % grid[1]
    rows = torch.where(vertical[:, None], grid[0] - 1 - rows, rows)
    columns = torch.where(horizontal[:, None], grid[1] - 1 - columns, columns)
    return rows * grid[1] + columns


def block(height: int, width: int, grid: tuple[int, int], device: torch.device) -> Tensor:
    """The cells of a block at the upper left corner, (height · width,), row by row."""
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    return (rows[:, None] * grid[1] + columns).flatten()


def rest(cells: Tensor, count: int) -> Tensor:
    """The other cells of 0..count-1, ascending: (B, K) without repeats -> (B, count - K)."""
    hidden = torch.zeros(len(cells), count, dtype=torch.uint8, device=cells.device).scatter_(1, cells, 1)
    return hidden.argsort(stable=True, dim=1)[:, : count - cells.shape[1]]


def sides(area: float, aspect: float) -> tuple[int, int]:
    """Height and width of a block of about `area` cells, aspect = height / width; at least 1."""
    return max(1, round((area * aspect) ** 0.5)), max(1, round((area / aspect) ** 0.5))


def part(share: float, aspect: float, grid: tuple[int, int]) -> tuple[int, int]:
    """Height and width of about `share` of the grid, aspect in units of the grid's own; at least 1."""
    return max(1, round((share * aspect) ** 0.5 * grid[0])), max(1, round((share / aspect) ** 0.5 * grid[1]))


def require_fits(height: int, width: int, grid: tuple[int, int]) -> None:
    """
    Raises:
        ConfigError: a block that is longer than the grid.
    """
    if height > grid[0] or width > grid[1]:
        raise ConfigError(
            f"blocks that fit a grid of {grid[0]} × {grid[1]}", f"up to {height} rows or {width} columns",
            "lower the scale, or choose aspects nearer to the grid's own",
        )
