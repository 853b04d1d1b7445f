"""A disk that refuses: from one call on, whatever would change a file below a folder fails, or the process is as dead.

A test hits the n-th call for n = 1, 2, … until the write gets through: every boundary of it (runs/test_every_write.py).
What a library in C does to a file is not seen; how this package gives it a name, syncs it and renames it is.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

Mode = Literal["once", "full", "killed"]
"""once: one call is refused. full: that and every later call that writes, names or moves something; what is there can
be deleted still. killed: nothing whatever happens from there on, as after kill -9."""

_PATHS = ("mkdir", "rmdir", "unlink", "remove", "rename", "replace", "link", "symlink", "truncate")
_TO = ("rename", "replace", "link", "symlink")  # of these the second path counts
_DESCRIPTORS = ("write", "fsync", "ftruncate", "pwrite")
_FREES = ("rmdir", "unlink", "remove", "look")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Killed(BaseException):
    """Stands for the end of the process."""


class Disk:
    """Counts the calls below `root`; the `at`-th is hit. `calls`: their names; `hit`: the name of the first refused."""

    def __init__(self, root: Path, at: int, mode: Mode) -> None:
        self.root, self.at, self.mode = str(root), at, mode
        self.calls: list[str] = []
        self.hit = ""

    def call(self, name: str, place: Any, dir_fd: int | None = None) -> None:
        """One call; raises where it is refused."""
        if not self._below(place, dir_fd):
            return
        self.calls.append(name)
        n = len(self.calls)
        if n == self.at or (n > self.at and (self.mode == "killed" or (self.mode == "full" and name not in _FREES))):
            self.hit = self.hit or name
            if self.mode == "killed":
                raise Killed
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _below(self, place: Any, dir_fd: int | None) -> bool:
        if isinstance(place, int):
            with suppress(OSError):
                place = os.readlink(f"/proc/self/fd/{place}")
        elif dir_fd is not None:
            place = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), os.fspath(place))
        return isinstance(place, int) or f"{os.path.abspath(place)}/".startswith(f"{self.root}/")


@contextmanager
def refusing(root: Path, at: int, mode: Mode) -> Iterator[Disk]:
    """Inside, the `at`-th call that changes something below `root` is refused."""
    disk, real_open, real_io = Disk(root, at, mode), os.open, io.open

    def on_path(name: str) -> Any:
        real = getattr(os, name)

        def call(path: Any, *rest: Any, **named: Any) -> Any:
            disk.call(name, rest[0] if name in _TO else path, named.get("dir_fd"))
            return real(path, *rest, **named)

        return call

    def on_descriptor(name: str) -> Any:
        real = getattr(os, name)

        def call(fd: int, *rest: Any) -> Any:
            disk.call(name, fd)
            return real(fd, *rest)

        return call

    def open_descriptor(path: Any, flags: int, *rest: Any, dir_fd: int | None = None, **named: Any) -> int:
        disk.call("open" if flags & _WRITES else "look", path, dir_fd)
        return real_open(path, flags, *rest, dir_fd=dir_fd, **named)

    class Raw(io.FileIO):
        def write(self, data: Any) -> int | None:
            disk.call("write", self.fileno())
            return super().write(data)

    def open_file(
        file: Any, mode: str = "r", buffering: int = -1, encoding: str | None = None, errors: str | None = None,
        newline: str | None = None, closefd: bool = True, opener: Any = None,
    ) -> Any:
        if not set(mode) & set("wax+") or not disk._below(file, None):
            return real_io(file, mode, buffering, encoding, errors, newline, closefd, opener)
        disk.call("open", file)
        raw = Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw
        kind: Any = io.BufferedRandom if "+" in mode else io.BufferedWriter
        buffer = kind(raw, buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE)
        return buffer if "b" in mode else io.TextIOWrapper(buffer, encoding, errors, newline)

    patches = [patch.object(os, name, on_path(name)) for name in _PATHS]
    patches += [patch.object(os, name, on_descriptor(name)) for name in _DESCRIPTORS]
    patches += [patch.object(os, "open", open_descriptor), patch.object(io, "open", open_file),
                patch.object(builtins, "open", open_file)]
    with _all(patches):
        try:
            yield disk
        finally:
            disk.at = 1 << 30


@contextmanager
def _all(patches: list[Any]) -> Iterator[None]:
    for one in patches:
        one.start()
    try:
        yield
    finally:
        for one in reversed(patches):
            one.stop()
