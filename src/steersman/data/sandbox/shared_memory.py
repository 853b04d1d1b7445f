"""Shared memory in which a parser puts images, so that they need not go through the line. Linux only.

Images only: each of their bytes is valid, so it does no harm if a parser that was taken over changes one later. The
size is sealed: the parser cannot shrink what is read here.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Mapping

import numpy as np

from steersman.core.recording import Array

POSSIBLE = hasattr(os, "memfd_create")
LARGE = 1 << 20
"""Bytes of images from which an episode is worth a segment."""
_MOST = 8


class Segment:
    """Memory of `size` bytes behind a file descriptor, mapped once; `told`: the parser has it already."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd, self.size, self.told = fd, size, False
        self.memory = mmap.mmap(fd, size, flags=mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0))

    def close(self) -> None:
        """No more is handed over; the memory goes with the last array over it."""
        os.close(self.fd)


class Segments:
    """Segments of one log that is read. One is taken again as soon as nobody looks at what is in it."""

    def __init__(self) -> None:
        self._all: list[Segment] = []
        self._free: list[Segment] = []

    def take(self, size: int) -> Segment | None:
        """A segment of at least `size` bytes; None if too many are looked at. Give it to `look` or `give` then."""
        fitting = [segment for segment in self._free if segment.size >= size]
        if fitting:
            self._free.remove(fitting[0])
            return fitting[0]
        if len(self._all) >= _MOST:
            return None
        self._all.append(_make(size + size // 8))
        return self._all[-1]

    def number(self, segment: Segment) -> int:
        return self._all.index(segment)

    def look(self, segment: Segment, places: Mapping[str, tuple[int, tuple[int, ...]]]) -> dict[str, Array]:
        """Name -> (offset, shape) as arrays over the segment."""
        view = _View(segment)
        weakref.finalize(view, self.give, segment).atexit = False
        whole = np.asarray(view)
        return {name: whole[at : at + int(np.prod(shape))].reshape(shape) for name, (at, shape) in places.items()}

    def give(self, segment: Segment) -> None:
        """Nobody looks at what is in the segment."""
        self._free.append(segment)

    def close(self) -> None:
        """No more episodes. What is still looked at stays until it is not."""
        for segment in self._all:
            segment.close()


class _View:
    """What all arrays over a segment have as their base, so that the last of them can be waited for."""

    def __init__(self, segment: Segment) -> None:
        self.memory = segment.memory
        address = np.frombuffer(self.memory, np.uint8).ctypes.data
        self.__array_interface__ = {"shape": (segment.size,), "typestr": "|u1", "data": (address, False), "version": 3}


def _make(size: int) -> Segment:
    import fcntl

    fd = os.memfd_create("steersman", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return Segment(fd, size)
