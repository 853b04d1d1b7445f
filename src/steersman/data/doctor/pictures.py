"""What is kept of the images of a log, so that all of it can be looked at in little memory: of each frame a checksum
and a picture of 8×8 cells; of some stretches of frames, one of 32×32.

Shapes: R rows, n frames kept, C channels.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from steersman.core.recording import Array

CELLS = 8
_FRAMES = 50_000
_BYTES = 600_000_000
_FINE = 32
_FINELY = 20_000
"""Frames that are kept in finer cells, at most."""
_STRETCH = 64
"""Rows that are looked at one after the other where not all can be."""


@dataclass(frozen=True)
class Album:
    """Frames of one image observation.

    index  (R,) where each row's frame is kept, -1: not looked at
    code   (n,) checksum
    flat   (n,) bool: one colour all over
    small  (n, 8, 8, C) float32 mean of each cell, 0 to 255
    place  (n,) where a frame is kept in finer cells, -1: it is not. Stretches of rows, evenly over the log
    fine   (m, 32, 32, C) uint8 mean of each finer cell
    """

    index: Array
    code: Array
    flat: Array
    small: Array
    place: Array
    fine: Array

    def ordered(self, order: Array) -> Album:
        """The same frames for rows in another order."""
        return replace(self, index=self.index[order])

    @property
    def finely(self) -> Array:
        """(R,) where each row's frame is kept in finer cells, -1: it is not."""
        found: Array = np.where(self.index >= 0, self.place[self.index.clip(0)], -1) if len(self.place) else self.index
        return found

    @classmethod
    def of(cls, column: pa.Array, shape: Sequence[int]) -> Album:
        """Of a column of fixed-size binary values; long ones by stretches of 64 rows, evenly over the column."""
        rows, size = len(column), int(np.prod(shape))
        raw = np.frombuffer(column.buffers()[1], np.uint8)[column.offset * size :][: rows * size]
        frames = raw.reshape(rows, *shape)
        taken = Keeping()
        most = max(1, min(_FRAMES, _BYTES // size) // _STRETCH)
        starts = np.arange(0, rows, _STRETCH)
        chosen = set(starts[np.linspace(0, len(starts) - 1, min(most, len(starts))).astype(int)].tolist())
        for start in starts.tolist():
            stop = min(start + _STRETCH, rows)
            taken.add(frames[start:stop], stop - start if start in chosen else 0)
        return taken.album()


class Keeping:
    """Takes frames in the order of rows; looks at all of them until there were many, then at the first of each batch.
    """

    def __init__(self) -> None:
        self.index: list[Array] = []
        self.code: list[int] = []
        self.flat: list[Array] = []
        self.small: list[Array] = []
        self.bytes = 0
        self.fine: list[tuple[int, Array]] = []
        self.finely, self.every, self.batches = 0, 1, 0

    def add(self, frames: Array, most: int | None = None) -> None:
        """frames (n, H, W, C) uint8, of which at most `most` are looked at (None: as many as there is room for)."""
        if most is None:
            full = len(self.code) >= _FRAMES or self.bytes >= _BYTES
            most = _STRETCH // 2 if full else len(frames)
        count = min(most, len(frames))
        index = np.full(len(frames), -1)
        index[:count] = len(self.code) + np.arange(count)
        self.index.append(index)
        for start in range(0, count, _STRETCH):
            part = np.ascontiguousarray(frames[start : min(start + _STRETCH, count)])
            self.code += [zlib.crc32(memoryview(frame).cast("B")) for frame in part]
            ends = part.reshape(len(part), -1)
            self.flat.append(ends.max(1) == ends.min(1))
            self.small.append(_cells(part, CELLS))
            self.bytes += part.nbytes
            self._look_closely(part, len(self.code) - len(part))

    def skip(self, count: int) -> None:
        """Frames that are not looked at."""
        self.index.append(np.full(count, -1))

    def _look_closely(self, part: Array, first: int) -> None:
        """Keep a batch in finer cells; when there are too many, drop every other one, and go on taking half as many."""
        if self.batches % self.every == 0:
            self.fine.append((first, np.rint(_cells(part, _FINE)).astype(np.uint8)))
            self.finely += len(part)
            if self.finely > _FINELY and len(self.fine) > 1:
                self.fine, self.every = self.fine[::2], 2 * self.every
                self.finely = sum(len(kept) for _, kept in self.fine)
        self.batches += 1

    def album(self) -> Album:
        place, count = np.full(len(self.code), -1), 0
        for first, kept in self.fine:
            place[first : first + len(kept)] = count + np.arange(len(kept))
            count += len(kept)
        return Album(np.concatenate(self.index), np.array(self.code, np.uint32), np.concatenate(self.flat),
                     np.concatenate(self.small), place, np.concatenate([kept for _, kept in self.fine]))


def _cells(frames: Array, count: int) -> Array:
    """(n, H, W, C) -> (n, count, count, C) means; smaller images repeat their pixels."""
    for axis in (1, 2):
        size = frames.shape[axis]
        edges = np.linspace(0, size, count + 1).astype(int)
        if size < count:
            frames = np.take(frames, edges[:-1], axis)
            continue
        total = np.add.reduceat(frames, edges[:-1], axis, dtype=np.float32)
        shape = [1] * frames.ndim
        shape[axis] = count
        frames = total / np.diff(edges).reshape(shape)
    return np.asarray(frames, np.float32)
