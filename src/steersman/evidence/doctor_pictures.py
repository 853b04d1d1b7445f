"""Filmed logs without a fault, and what can go wrong with a camera: frames frozen, black, late, of other colours.

Shapes: R rows; frames (R, 24, 24, 3) uint8.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from steersman.evidence.doctor_faults import Fault, begins, some_episodes, some_rows
from steersman.evidence.doctor_worlds import Array, Columns, Generator, pendulum, walls

CAMERA = "camera"
_SIZE = 24


def filmed_pendulum(g: Generator) -> Columns:
    """A red rod before a wall that is lit from above."""
    c = pendulum(g, 30, 80)
    rows, columns = (np.mgrid[:_SIZE, :_SIZE] - (_SIZE - 1) / 2) / (_SIZE / 2)
    along = columns * c["sin"][:, None, None] - rows * c["cos"][:, None, None]
    across = columns * c["cos"][:, None, None] + rows * c["sin"][:, None, None]
    rod = np.exp(-((across / 0.12) ** 2) - np.clip(along - 0.8, 0, None) ** 2 * 40 - np.clip(-along, 0, None) ** 2 * 40)
    return c | {CAMERA: _painted(g, rod, 120 - 40 * rows)}


def filmed_walls(g: Generator) -> Columns:
    """A red disk in two grey rooms."""
    c = walls(g, 60, 40)
    rows, columns = (np.mgrid[:_SIZE, :_SIZE] + 0.5) / _SIZE
    disk = np.exp(-((columns - c["x"][:, None, None]) ** 2 + (rows - c["y"][:, None, None]) ** 2) / 0.006)
    wall = (np.abs(columns - 0.5) < 0.03) & (np.abs(rows - 0.5) > 0.12)
    return c | {CAMERA: _painted(g, disk, np.where(wall, 20.0, 150.0))}


def _painted(g: Generator, shape: Array, ground: Array) -> Array:
    """(R, H, W) from 0 to 1 in red over a ground, with noise of one grey level."""
    red = np.array([230.0, 40.0, 30.0])
    picture = ground[None, ..., None] * (1 - shape[..., None]) + red * shape[..., None]
    found: Array = np.clip(picture + g.normal(size=picture.shape), 0, 255).astype(np.uint8)
    return found


FILMED: dict[str, Callable[[Generator], Columns]] = {
    "filmed pendulum": filmed_pendulum, "filmed walls": filmed_walls,
}


def _a_share(c: Columns, g: Generator, share: float) -> Array:
    """(R,) whether a row is of a share of the episodes."""
    return some_episodes(c, g, max(1, int(share * len(np.unique(c["episode"])))))


def _replaced(c: Columns, at: Array, frames: Array) -> Columns:
    changed = c[CAMERA].copy()
    changed[at] = frames
    return c | {CAMERA: changed}


def frozen(c: Columns, g: Generator, strength: float) -> Columns:
    changed = c[CAMERA].copy()
    starts = np.flatnonzero(begins(c))[:-1]
    for start in g.choice(starts, 4, replace=False) + 5:
        changed[start : start + int(strength)] = changed[start]
    return c | {CAMERA: changed}


def black(c: Columns, g: Generator, strength: float) -> Columns:
    return _replaced(c, np.sort(some_rows(c, g, max(2, strength * len(c["t"])))), np.zeros((), np.uint8))


def repeated(c: Columns, g: Generator, strength: float) -> Columns:
    at = np.sort(some_rows(c, g, max(2, strength * len(c["t"]))))
    at = at[~begins(c)[at]]
    return _replaced(c, at, c[CAMERA][at - 1])


def swapped(c: Columns, g: Generator, strength: float) -> Columns:
    odd = _a_share(c, g, strength)
    return _replaced(c, odd, c[CAMERA][odd][..., ::-1])


def slipped(c: Columns, g: Generator, strength: float) -> Columns:
    return c | {CAMERA: np.roll(c[CAMERA], int(strength), 0)}


def brighter(c: Columns, g: Generator, strength: float) -> Columns:
    odd = _a_share(c, g, 0.3)
    return _replaced(c, odd, np.clip(c[CAMERA][odd] * strength, 0, 255).astype(np.uint8))


def flickering(c: Columns, g: Generator, strength: float) -> Columns:
    at = np.sort(some_rows(c, g, max(2, 0.005 * len(c["t"]))))
    return _replaced(c, at, np.clip(c[CAMERA][at] * strength, 0, 255).astype(np.uint8))


def upside_down(c: Columns, g: Generator, strength: float) -> Columns:
    odd = _a_share(c, g, strength)
    return _replaced(c, odd, c[CAMERA][odd][:, ::-1])


def still(c: Columns, g: Generator, strength: float) -> Columns:
    return _replaced(c, slice(None), c[CAMERA][0])  # type: ignore[arg-type]


_ALL = tuple(FILMED)
CAMERA_FAULTS: dict[str, Fault] = {
    "a frozen camera": Fault(frozen, ("frozen-images",), (10, 25), _ALL),
    "black frames": Fault(black, ("blank-images",), (0.001, 0.05), _ALL),
    "frames that repeat": Fault(repeated, ("repeated-images",), (0.01, 0.2), _ALL),
    "swapped colour channels": Fault(swapped, ("swapped-channels",), (0.1, 0.5), _ALL),
    "frames beside their rows": Fault(slipped, ("slipped-images",), (-1, 1, 3), _ALL),
    "another brightness in some episodes": Fault(brighter, ("brightness-change",), (0.6, 1.4), _ALL),
    "frames that flicker": Fault(flickering, ("brightness-change",), (0.5, 1.6), _ALL),
    "frames upside down": Fault(upside_down, ("turned-images",), (0.1, 0.4), ("filmed pendulum",)),
    "one picture only": Fault(still, ("constant-image",), (1,), _ALL),
}
