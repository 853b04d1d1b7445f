"""Records appended to files so that what was written stays: each a frame of a mark, a length, a checksum and its bytes.

A frame is whole or it is none: one that its writer was killed in is told by its checksum. Knows no record. Whoever
appends holds a lock, or has a folder of its own.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from steersman.runs.files import sync_folder, write_all

_SEGMENT = re.compile(r"(\d{9,15})\.log")
_HEAD = struct.Struct("<4sII")  # mark, length, CRC-32 of what follows
_LARGEST = 1 << 30


def frame(mark: bytes, payload: bytes) -> bytes:
    """The bytes of one frame; mark: 4 bytes that say what kind of record it holds."""
    return _HEAD.pack(mark, len(payload), zlib.crc32(payload)) + payload


def frames(path: Path, mark: bytes, *, beyond: bool = False) -> Iterator[tuple[int, bytes]]:
    """(place just behind it, payload) of each whole frame, up to the first that is torn or altered.

    beyond  go on with the next whole frame after one that is altered
    """
    with path.open("rb") as file:
        at = 0
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            payload = _payload(head, mark, file.read)
            if payload is None:
                break
            at += _HEAD.size + len(payload)
            yield at, payload
        if beyond:
            file.seek(at)
            yield from _after(file.read(), at, mark)


def frame_at(path: Path, mark: bytes, end: int, size: int) -> bytes | None:
    """The payload of `size` bytes that ends at `end`; None: it is not there any more as it was."""
    with path.open("rb") as file:
        file.seek(end - size - _HEAD.size)
        return _payload(file.read(_HEAD.size), mark, file.read)


def _after(content: bytes, offset: int, mark: bytes) -> Iterator[tuple[int, bytes]]:
    """Whole frames of a content that begins with something else."""
    at = content.find(mark)
    while at >= 0:
        start = at + _HEAD.size
        payload = _payload(content[at:start], mark, partial(_piece, content, start))
        if payload is None:
            at = content.find(mark, at + 1)
        else:
            yield offset + start + len(payload), payload
            at = content.find(mark, start + len(payload))


def _piece(content: bytes, start: int, size: int) -> bytes:
    return content[start : start + size]


def _payload(head: bytes, mark: bytes, read: Callable[[int], bytes]) -> bytes | None:
    if len(head) < _HEAD.size:
        return None
    found, length, crc = _HEAD.unpack(head)
    if found != mark or length > _LARGEST:
        return None
    payload = read(length)
    return payload if len(payload) == length and zlib.crc32(payload) == crc else None


def segments(folder: Path) -> list[tuple[int, Path]]:
    """Files NUMBER.log of a folder with the number of the first record of each, in order."""
    found = ((_SEGMENT.fullmatch(x.name), x) for x in folder.iterdir())
    return sorted((int(match[1]), x) for match, x in found if match)


class FrameFile:
    """A file that is appended to, whole frames at a time; `size` bytes of it are sound.

    What was appended survives the death of this process at once, and a loss of power from the next `sync` on.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        """size: of what is to be kept of a file that is there; the rest is cut off."""
        self.path, self.size = path, size
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        self._torn = True  # until it is known to end with a whole frame
        try:
            self._cut()
        except BaseException:
            os.close(self._fd)
            raise

    def append(self, data: bytes) -> None:
        """Raises OSError; then the file is as it was, or will be before anything else is appended."""
        self._cut()
        self._torn = True
        try:
            os.lseek(self._fd, self.size, os.SEEK_SET)
            write_all(self._fd, data)
        except BaseException:
            self.undo(self.size)
            raise
        self._torn = False
        self.size += len(data)

    def undo(self, size: int) -> None:
        """Take back what was appended behind `size`; where the disk refuses, before anything else is appended."""
        self.size, self._torn = size, True
        with suppress(OSError):
            self._cut()

    def sync(self) -> None:
        """Wait until everything is on disk."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Wait until everything is on disk, and close; the name is on disk, too."""
        try:
            self.sync()
        finally:
            os.close(self._fd)
        sync_folder(self.path.parent)

    def drop(self) -> None:
        """Close without waiting."""
        os.close(self._fd)

    def _cut(self) -> None:
        if self._torn:
            os.ftruncate(self._fd, self.size)
            self._torn = False
