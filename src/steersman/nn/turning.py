"""Rotary positions of published vision transformers: queries and keys turned by where their patches lie.

Shapes: n tokens, E numbers of a head. Knows grids of patches, no pictures.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn


class Turning(nn.Module):
    """x ↦ x · cos + swap(x) · sin, with a cosine and a sine for every token and number: (…, n, E) -> (…, n, E).

    pairs  "halves": number i turns with i + E/2, swap(x) = [-x₂, x₁]; "neighbours": 2i with 2i + 1,
           swap(x) = (-x₁, x₀, -x₃, x₂, …)
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, angles: Tensor, pairs: Literal["halves", "neighbours"]) -> None:
        """angles (n, E): 0 where nothing turns."""
        super().__init__()
        self.pairs = pairs
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.pairs == "halves":
            first, second = x.chunk(2, -1)
            swapped = torch.cat([-second, first], -1)
        else:
            first, second = x[..., ::2], x[..., 1::2]
            swapped = torch.stack([-second, first], -1).flatten(-2)
        return x * self.cos.to(x.dtype) + swapped * self.sin.to(x.dtype)


def axial(rows: int, columns: int, head: int, base: float, special: int) -> Turning:
    """DINOv3: coordinates of the patches' centres from -1 to 1 along each axis, whatever their number.

        angle = 2π · coordinate · base^(-4i/E),  i < E/4: first those of the row, then those of the column

    special  tokens before the patches, which are not turned
    """
    frequencies = base ** -(torch.arange(head // 4, dtype=torch.float32) * 4 / head)
    row, column = ((2 * (torch.arange(count, dtype=torch.float32) + 0.5) / count - 1) for count in (rows, columns))
    where = torch.stack(torch.meshgrid(row, column, indexing="ij"), -1).flatten(0, 1)         # (n, 2)
    angles = (2 * math.pi * where[..., None] * frequencies).flatten(1).repeat(1, 2)           # (n, E)
    return Turning(torch.cat([angles.new_zeros(special, head), angles]), "halves")


def spacetime(grid: tuple[int, int, int], head: int, base: float = 10000.0) -> Turning:
    """V-JEPA 2: time, row and column, counted in patches, each turn a third of a head.

        angle of number j of a third (of d = 2⌊E/6⌋ numbers) = count · base^(-2 (j mod d/2) / d)

    The numbers beyond three thirds are not turned. The two numbers of a pair have different frequencies: so the
    published weights were trained.
    """
    ticks = torch.meshgrid(*(torch.arange(count, dtype=torch.float32) for count in grid), indexing="ij")
    return Turning(spacetime_angles(torch.stack([x.flatten() for x in ticks], -1), head, base), "neighbours")


def spacetime_angles(where: Tensor, head: int, base: float = 10000.0) -> Tensor:
    """Time, row and column of tokens, (…, n, 3) -> angles (…, n, E)."""
    third = 2 * (head // 3 // 2)
    frequencies = base ** -(torch.arange(third // 2, dtype=torch.float32, device=where.device) * 2 / third)
    angles = (where[..., None] * frequencies.repeat(2)).flatten(-2)                           # (…, n, 3 d)
    return torch.cat([angles, angles.new_zeros(*angles.shape[:-1], head - 3 * third)], -1)
