"""What the axes of an array of fields are: said by letters, or inferred from their lengths. Reads no array.

n episodes, t moments, x, y, z the grid, c the quantities at each point. An episode is brought to (T, X, [Y, [Z,]] C).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from steersman.core.errors import DataError, UsageError
from steersman.core.recording import Array

LETTERS = {"n": "episodes", "t": "moments", "x": "x", "y": "y", "z": "z", "c": "quantities"}
_GRIDS = {"x", "xy", "xyz"}
FEW = 8
"""An axis of at most so many entries, where the others (but for the first) are longer, is that of the quantities."""


@dataclass(frozen=True)
class Axes:
    """The axes of an array, in its order, and how long each is."""

    letters: str
    shape: tuple[int, ...]

    @property
    def lengths(self) -> Mapping[str, int]:
        return dict(zip(self.letters, self.shape, strict=True))

    @property
    def episodes(self) -> int:
        return self.lengths.get("n", 1)

    @property
    def moments(self) -> int:
        return self.lengths.get("t", 1)

    @property
    def grid(self) -> tuple[int, ...]:
        return tuple(self.lengths[letter] for letter in "xyz" if letter in self.letters)

    @property
    def quantities(self) -> int:
        return self.lengths.get("c", 1)

    def arrange(self, values: Array) -> Array:
        """One episode, with all of the array's axes but n, -> (T, X, [Y, [Z,]] C)."""
        letters = self.letters.replace("n", "")
        values = values.transpose([letters.index(letter) for letter in "txyzc" if letter in letters])
        values = values if "t" in letters else values[None]
        return values if "c" in letters else values[..., None]

    def words(self) -> str:
        """For people: `n (10 episodes), t (201 moments), x (1024)`."""
        long = {letter: name for letter, name in LETTERS.items() if letter not in "xyz"}
        return ", ".join(f"{a} ({n} {long[a]})" if a in long else f"{a} ({n})" for a, n in self.lengths.items())


def said(letters: str, shape: tuple[int, ...], where: str) -> Axes:
    """The axes that a person names.

    Raises:
        UsageError: letters that mean nothing, or twice the same, or no grid.
        DataError: an array with another number of axes, or without entries.
    """
    grid = "".join(sorted(set(letters) & set("xyz")))
    if set(letters) - set(LETTERS) or len(set(letters)) != len(letters) or grid not in _GRIDS:
        meaning = ", ".join(f"{a} {words}" if a not in words else a for a, words in LETTERS.items())
        raise UsageError(f"axes of a field, a letter each ({meaning}), with x at least", f"{letters!r}",
                         "say txy, ntxyc or the like")
    if len(letters) != len(shape) or 0 in shape:
        raise DataError(f"an array with {len(letters)} axes ({letters}) in {where}", f"shape {shape}",
                        "say its axes (--axes)")
    return Axes(letters, shape)


def infer(shape: tuple[int, ...], where: str, grid: int = 0) -> Axes:
    """The axes, from their lengths. The first is n or t; a short one after it is c (see `FEW`); the rest, but for t
    after n, is the grid. A grid of several axes has equal ones more often than an episode is as long as its grid.

    grid  how many axes it has, if that is known

    Raises:
        DataError: an array that can be no field.
    """
    if len(shape) < 2 or len(shape) > 6 or 0 in shape:
        raise DataError(f"a field (T, X, [Y, [Z,]] [C]) or (N, T, X, …) in {where}", f"shape {shape}",
                        "reshape it, or say its axes (--axes)")
    rest = list(range(1, len(shape)))
    short = [i for i in rest if shape[i] <= FEW]
    channel = short[0] if len(short) == 1 and len(rest) > 1 else None
    inner = [shape[i] for i in rest if i != channel]
    if len(inner) > 4:
        raise DataError(f"a field of up to 3 axes in {where}", f"shape {shape}", "say its axes (--axes)")
    many = len(inner) == 4 or (len(inner) in (2, 3) and len(set(inner)) > 1)
    many = len(inner) == grid + 1 if grid and grid in (len(inner), len(inner) - 1) else many
    letters = iter(("nt" if many else "t") + "xyz"[: len(inner) - many])
    return Axes("".join("c" if i == channel else next(letters) for i in range(len(shape))), shape)


def as_floats(values: Array, axes: Axes, where: str) -> Array:
    """One episode (T, X, …, C) as float32.

    Raises:
        DataError: NaN, infinity, or beyond what float32 holds; says where.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        found: Array = np.ascontiguousarray(values, np.float32)
    bad = ~np.isfinite(found)
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        names = [*("txyz"[: 1 + len(axes.grid)]), "c"]
        spot = ", ".join(f"{name} = {i}" for name, i in zip(names, place, strict=True) if name in axes.letters)
        raise DataError(f"finite numbers of float32 in {where}", f"{values[place]} at {spot} ({int(bad.sum()):,} such)",
                        "repair it, or leave that episode out")
    return found
