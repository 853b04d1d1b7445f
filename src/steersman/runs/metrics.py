"""`metrics.jsonl`: one JSON object a line, only ever appended to; a line torn by a crash is dropped.

Knows nothing of what the numbers mean. A line costs about 7 microseconds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from steersman.core.errors import RunError
from steersman.runs.files import refusals, sync_folder, write_all


class Metrics:
    """The metrics of one run. Reading needs nothing; appending is for the run's one writer (`Run.writer`)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None
        self._encoder = msgspec.json.Encoder()

    def append(self, step: int, values: Mapping[str, Any] | None = None, /, **named: Any) -> None:
        """Add one line. NaN and infinity are written as null.

        Raises:
            RunError: this run is not open for writing.
            StorageError: the disk refused; the file ends with the line before.
        """
        if self._fd is None:
            raise RunError(f"{self.path.parent} open for writing", "it is open for reading", "use `with run.writer():`")
        line = self._encoder.encode({"step": step, **(values or {}), **named}) + b"\n"
        end = self.position
        with refusals("a line of metrics", self.path.parent):
            try:
                write_all(self._fd, line)
            except OSError:
                os.ftruncate(self._fd, end)
                raise

    def read(self) -> list[dict[str, Any]]:
        """All complete lines, oldest first.

        Raises:
            RunError: a line that is not a JSON object.
        """
        try:
            lines = self.path.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        decoder = msgspec.json.Decoder(dict[str, Any])
        try:
            return [decoder.decode(line) for line in lines]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            bad = next(i for i, line in enumerate(lines, 1) if not _decodes(decoder, line))
            raise RunError(
                f"a JSON object on line {bad} of {self.path}", f"{lines[bad - 1][:40]!r}", "remove that line"
            ) from None

    @property
    def position(self) -> int:
        """Bytes written so far: a checkpoint keeps it, `rewind` goes back to it."""
        return os.fstat(self._fd).st_size if self._fd is not None else self.path.stat().st_size

    def flush(self) -> None:
        """Wait until everything appended is on disk."""
        assert self._fd is not None
        with refusals("metrics", self.path.parent):
            os.fsync(self._fd)

    def rewind(self, position: int) -> None:
        """Forget every line after `position`, so that a resumed run does not report a step twice."""
        assert self._fd is not None
        with refusals("metrics", self.path.parent):
            os.ftruncate(self._fd, _line_end(self._fd, min(position, self.position)))

    def begin(self) -> None:
        """Open for appending; called by the holder of the writer's lock. Drops a torn last line."""
        with refusals("metrics", self.path.parent):
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o644)
            try:
                sync_folder(self.path.parent)
                whole = _line_end(self._fd, self.position)
                if whole != self.position:
                    os.ftruncate(self._fd, whole)
            except BaseException:
                self.end()
                raise

    def end(self) -> None:
        """Close; harmless if not open."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def _line_end(fd: int, position: int, piece: int = 65536) -> int:
    """The end of the last complete line at or before `position`."""
    while position > 0:
        start = max(0, position - piece)
        newline = os.pread(fd, position - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        position = start
    return 0


def _decodes(decoder: msgspec.json.Decoder[dict[str, Any]], line: bytes) -> bool:
    try:
        decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True
