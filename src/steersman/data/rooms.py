"""Shared memory in which a parser puts images, so that they need not go through the line. Linux only.

Images only: each of their bytes is valid, so it does no harm if a parser that was taken over changes one later. The
size is sealed: the parser cannot shrink what is read here.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from steersman.core.recording import Array

POSSIBLE = hasattr(os, "memfd_create")
LARGE = 1 << 20
"""Bytes of images from which an episode is worth a room."""
_KEPT = 4


@dataclass
class Room:
    """Memory of `size` bytes, behind a file descriptor that can be handed over."""

    fd: int
    size: int

    def map(self) -> mmap.mmap:
        """The memory; its pages are there at once, which is faster than one after the other."""
        flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
        return mmap.mmap(self.fd, self.size, flags=flags)


class Rooms:
    """Rooms of one log that is read. One is taken again as soon as nobody looks at what is in it."""

    def __init__(self) -> None:
        self._free: list[Room] = []
        self._seen = 0
        self._closed = False

    def take(self, size: int) -> Room:
        """A room of at least `size` bytes. Give it to `look` or `give` afterwards."""
        while self._free:
            room = self._free.pop()
            if room.size >= size:
                return room
            os.close(room.fd)
        return _make(size + size // 8)

    def look(self, room: Room, places: Mapping[str, tuple[int, tuple[int, ...]]]) -> dict[str, Array]:
        """Name -> (offset, shape) as arrays over the room; copies, where too many rooms are looked at already."""
        memory = room.map()
        arrays = {
            name: np.frombuffer(memory, np.uint8, int(np.prod(shape)), at).reshape(shape)
            for name, (at, shape) in places.items()
        }
        if self._seen >= _KEPT:
            arrays = {name: value.copy() for name, value in arrays.items()}
            self.give(room)
            return arrays
        self._seen += 1
        weakref.finalize(memory, self._left, room).atexit = False
        return arrays

    def _left(self, room: Room) -> None:
        self._seen -= 1
        self.give(room)

    def give(self, room: Room) -> None:
        """Nobody looks at what is in the room."""
        if self._closed:
            os.close(room.fd)
        else:
            self._free.append(room)

    def close(self) -> None:
        """No more episodes. What is still looked at stays until it is not."""
        self._closed = True
        while self._free:
            os.close(self._free.pop().fd)


def _make(size: int) -> Room:
    import fcntl

    fd = os.memfd_create("steersman", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return Room(fd, size)
