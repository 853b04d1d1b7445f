"""Whether the pictures of a log are put together from tiles, and how large these are. Knows no encoder.

Shapes: n pictures, (S, S') pixels, C channels, p pixels along the side of a tile.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from steersman.core.signature import Signature
from steersman.data.dataset import Dataset

_EPISODES = 100  # looked at, evenly over the log; of each its first moment and one in the middle
_SMALLEST, _TIMES = 4, 4  # pixels of a tile, and tiles along a side, at least
_JUMP = 8  # of 255: what makes an edge between two neighbouring pixels
_CLEAR = 3.0  # times as many edges on the lattice as off it
_FEW = 0.02  # different tiles as a share of all that are not plain, at most


class Lattice(NamedTuple):
    """Tiles of `patch` pixels that begin `offset` pixels from the top and from the left."""

    patch: int
    offset: tuple[int, int]


def lattice_for(dataset: Dataset, image: str = "") -> Lattice | None:
    """The lattice that the pictures of a log are drawn on, or None: they are not made of tiles.

    image  which pictures ("": the only ones)

    Two things must hold, of some pictures spread over the log:

    1. Edges between neighbouring pixels stand on the lattice: at least 3 times as often as elsewhere, along both axes
       with the same p. Of all (p, offset) the clearest is taken.
    2. The pictures are put together from few tiles: cut there, at most 2% of the tiles that are not of one colour are
       different. Straight lines that stand still, of a rail or a frame, pass the first test and fail this one as soon
       as anything moves across them.

    Measured on logs of 64 × 64 pixels: MiniGrid 7, 8 and 10 pixels, as drawn; nothing on two rooms, Push-T, pendulum,
    cart pole, acrobot and an arm (tests/data/test_lattice.py has such pictures).
    """
    signature: Signature = dataset.signature
    images = [name for name, spec in signature.observations.items() if spec.kind == "image"]
    if image not in signature.observations and (image or len(images) != 1):
        return None
    shown = _pictures(dataset, image or images[0])
    return lattice_of(shown)


def lattice_of(pictures: NDArray[Any]) -> Lattice | None:
    """The same of pictures (n, S, S', C) uint8."""
    if len(pictures) < 2 or min(pictures.shape[1:3]) < _SMALLEST * _TIMES:
        return None
    down, across = (_edges(pictures, axis) for axis in (1, 2))
    ranked = sorted(_candidates(down, across), reverse=True)
    return next((found for clear, found in ranked if clear >= _CLEAR and _few(pictures, found)), None)


def _pictures(dataset: Dataset, name: str) -> NDArray[Any]:
    spec, count = dataset.signature.observations[name], len(dataset.lengths)
    chosen = np.unique(np.linspace(0, count - 1, min(count, _EPISODES)).round().astype(int))
    found = []
    for episode in chosen.tolist():
        film = dataset.field(f"observation.{name}", episode)
        for row in {0, len(film) // 2}:
            found.append(film[row].view(torch.uint8).reshape(spec.shape).numpy())
    return np.stack(found)


def _edges(pictures: NDArray[Any], axis: int) -> NDArray[Any]:
    """(S - 1,): how often neighbouring rows (axis 1) or columns (axis 2) of pixels differ."""
    grey = pictures.astype(np.int16).mean(-1)
    jumps = np.abs(np.diff(grey, axis=axis)) > _JUMP
    share: NDArray[Any] = jumps.mean((0, 3 - axis))
    return share


def _candidates(down: NDArray[Any], across: NDArray[Any]) -> list[tuple[float, Lattice]]:
    """How clearly edges stand on each lattice: the less clear of the two axes."""
    found = []
    for p in range(_SMALLEST, min(len(down), len(across)) // _TIMES + 1):
        (first, top), (second, left) = (_clearest(edges, p) for edges in (down, across))
        found.append((min(first, second), Lattice(p, (top, left))))
    return found


def _clearest(edges: NDArray[Any], p: int) -> tuple[float, int]:
    """The offset of tiles of p pixels at which edges stand out most, and how many times as frequent they are there."""
    place = np.arange(1, len(edges) + 1) % p
    best = max(range(p), key=lambda offset: (edges[place == offset].mean(), -offset))
    return float(edges[place == best].mean() / max(edges[place != best].mean(), 1e-6)), best


def _few(pictures: NDArray[Any], lattice: Lattice) -> bool:
    """Whether the pictures, cut there, are put together from few tiles."""
    p, (top, left) = lattice
    high, wide = (pictures.shape[1] - top) // p, (pictures.shape[2] - left) // p
    inside = pictures[:, top : top + high * p, left : left + wide * p]
    tiles = inside.reshape(len(pictures), high, p, wide, p, -1).transpose(0, 1, 3, 2, 4, 5).reshape(-1, p * p * 3)
    tiles = tiles[tiles.reshape(len(tiles), p * p, -1).std(1).max(-1) > 1]
    return len(tiles) > 1 and len(np.unique(tiles, axis=0)) <= max(2, _FEW * len(tiles))
