"""A walker on a grid whose walls stand elsewhere in each episode, drawn in tiles of a few pixels; its logs, and the
fewest steps to a goal by counting."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import torch
from torch import Tensor

from steersman.core import ActionSpec, Episode, ObservationSpec, Signature
from steersman.data import CacheWriter, Dataset

SIDE, TILE, OFFSET = 6, 5, 2
"""Tiles along a side, pixels of one, and the margin before the first."""
PIXELS = SIDE * TILE + 2 * OFFSET
MOVES = torch.tensor([[0, 1], [1, 0], [0, -1], [-1, 0]])
SIGNATURE = Signature({"image": ObservationSpec("image", (PIXELS, PIXELS, 3))}, ActionSpec("discrete", choices=4))


def walls(count: int, seed: int, share: float = 0.25) -> Tensor:
    """(n, SIDE, SIDE) bool: walled in all around, and here and there inside."""
    found = torch.rand(count, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) < share
    found[:, [0, -1]] = True
    found[:, :, [0, -1]] = True
    found[:, 1, 1:3] = False
    return found


def free(layout: Tensor) -> Tensor:
    """(m, 2) places that can be reached from the corner of a layout (SIDE, SIDE)."""
    return torch.tensor(sorted(distances(layout, (1, 1))))


def distances(layout: Tensor, goal: tuple[int, int]) -> dict[tuple[int, int], int]:
    """Fewest steps from each place to the goal; there and back are alike here."""
    found, queue = {goal: 0}, deque([goal])
    while queue:
        row, column = queue.popleft()
        for down, right in MOVES.tolist():
            there = row + down, column + right
            if not layout[there] and there not in found:
                found[there] = found[row, column] + 1
                queue.append(there)
    return found


def moved(layout: Tensor, place: Tensor, choice: Tensor) -> Tensor:
    """Layouts (n, SIDE, SIDE), places (n, 2), choices (n,) -> places (n, 2)."""
    there = place + MOVES[choice]
    stopped = layout[torch.arange(len(place)), there[:, 0], there[:, 1]]
    return torch.where(stopped[:, None], place, there)


def pictures(layout: Tensor, place: Tensor) -> Tensor:
    """(n, PIXELS, PIXELS, 3) uint8: grey walls with a bevel, dark floor with a rim, a red walker with an eye."""
    n = len(place)
    wall, floor, walker = (torch.zeros(TILE, TILE, 3, dtype=torch.uint8) for _ in range(3))
    wall[:], wall[0] = 110, 160
    floor[0], floor[:, 0] = 60, 60
    walker[1:4, 1:4, 0] = 255
    walker[2, 3] = 255
    tiles = torch.where(layout[:, :, :, None, None, None], wall, floor)
    tiles[torch.arange(n), place[:, 0], place[:, 1]] = walker
    drawn = torch.zeros(n, PIXELS, PIXELS, 3, dtype=torch.uint8)
    inside = slice(OFFSET, OFFSET + SIDE * TILE)
    drawn[:, inside, inside] = tiles.permute(0, 1, 3, 2, 4, 5).reshape(n, SIDE * TILE, SIDE * TILE, 3)
    return drawn


def record(folder: Path, episodes: int = 40, steps: int = 20, seed: int = 0) -> Dataset:
    """A log of random steps in layouts of their own."""
    g, layout = torch.Generator().manual_seed(seed), walls(episodes, seed)
    place = torch.stack([spots[torch.randint(len(spots), (1,), generator=g)][0] for spots in map(free, layout)])
    choice = torch.randint(4, (steps, episodes), generator=g)
    shown = [pictures(layout, place)]
    for t in range(steps):
        place = moved(layout, place, choice[t])
        shown.append(pictures(layout, place))
    film = torch.stack(shown, 1)
    with CacheWriter(folder, SIGNATURE, origin="tiles") as writer:
        for i in range(episodes):
            writer.append([Episode({"image": film[i]}, choice[:, i, None])])
        writer.finish()
    return Dataset.open(folder)
