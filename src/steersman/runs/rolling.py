"""A log of frames over several files of which the oldest make room: appended whole, bounded in size and age.

    000000000000.log  frames of records from number 0 on; the next file begins where this one ends

Records are numbered from 0 for as long as the log lives. What `append` returned from survives the death of the process
(`kill -9`); it survives a loss of power if it was asked to be `durable`, after `flush`, and when its file is full.
Knows no record and no index: its owner says what a frame holds, and notes what went. Whoever appends holds a lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from steersman.core.errors import UsageError
from steersman.runs.files import sync_folder
from steersman.runs.frames import FrameFile, frames, segments

SEGMENT = 8 << 20
"""Bytes of a file."""


class Held(NamedTuple):
    """What a frame holds: the number of its first record, that of the next frame's, and seconds since 1970."""

    first: int
    after: int
    when: float


class Gone(NamedTuple):
    """What has to make room: the number of the oldest record that stays, how many go to stay within either limit, and
    their bytes."""

    first: int
    by_size: int
    by_age: int
    bytes: int


@dataclass
class _Segment:
    """A file: number and time of its first record, and its size."""

    start: int
    path: Path
    when: float
    size: int


class RollingLog:
    """The files of one log, open for appending. `count` records were ever appended."""

    def __init__(
        self, folder: Path, mark: bytes, held: Callable[[bytes], Held], *, first: int, retain: int, age: float,
        note: Callable[[Gone], None], largest: int = SEGMENT, clock: Callable[[], float] = time.time,
    ) -> None:
        """Go on with what is there; a frame that its writer was killed in is cut off.

        mark    of the frames; held  what a payload holds
        first   number of the oldest record that is still there, as noted
        retain  bytes that stay; age  seconds that records stay. The oldest files go first, the newest never
        note    called before files go, so that whoever is stopped in between leaves what the next writer removes
        largest  bytes of a file, and at most an eighth of what stays

        Raises OSError: the disk refused.
        """
        if retain < 1 or not age > 0:
            raise UsageError("at least 1 byte and some time to retain", f"{retain} bytes, {age:g} s", "raise the limit")
        self.folder, self.retain, self.age = folder, retain, age
        self._largest = max(1, min(largest, retain // 8))
        self._mark, self._held, self._note, self._clock = mark, held, note, clock
        self._file: FrameFile | None = None
        self._dirty = False
        there = segments(folder)
        for start, path in there:  # a writer was stopped between noting that they go and removing them
            if start < first:
                path.unlink()
        there = [(start, path) for start, path in there if start >= first]
        self._segments = [_Segment(start, path, self._begun(path), path.stat().st_size) for start, path in there]
        self.count = first
        if there:
            last, end = self._segments[-1], 0
            self.count = last.start
            for place, payload in frames(last.path, mark, beyond=True):
                self.count, end = held(payload).after, place
            self._file, last.size = FrameFile(last.path, end), end
        self.make_room()

    def append(self, content: bytes, records: int, when: float, *, durable: bool = False) -> None:
        """Write whole frames with so many records.

        durable  wait until they are on disk, and so everything before them

        Raises OSError: what was written before stands, none of this does.
        """
        if self._full(len(content), when):
            self._next_file(when)
        self.make_room()
        assert self._file is not None
        before = self._file.size
        self._file.append(content)
        if durable:
            try:
                self._file.sync()
            except OSError:
                self._file.undo(before)
                raise
        self._segments[-1].size += len(content)
        self.count, self._dirty = self.count + records, not durable

    def flush(self) -> None:
        """Wait until everything is on disk. Raises OSError."""
        if self._file is not None and self._dirty:
            self._file.sync()
            self._dirty = False

    def close(self) -> None:
        """Wait until everything is on disk; harmless if closed. Raises OSError."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def make_room(self) -> None:
        """Let the oldest files go that are beyond a limit."""
        now, gone = self._clock(), list[_Segment]()
        by_size = by_age = 0
        total = sum(x.size for x in self._segments)
        while len(self._segments) - len(gone) > 1:
            oldest, second = self._segments[len(gone)], self._segments[len(gone) + 1]
            if total > self.retain:
                by_size += second.start - oldest.start
            elif now - second.when > self.age:
                by_age += second.start - oldest.start
            else:
                break
            gone.append(oldest)
            total -= oldest.size
        if not gone:
            return
        self._note(Gone(self._segments[len(gone)].start, by_size, by_age, sum(x.size for x in gone)))
        self._segments = self._segments[len(gone):]
        for one in gone:
            one.path.unlink(missing_ok=True)

    def _full(self, more: int, when: float) -> bool:
        if self._file is None:
            return True
        last = self._segments[-1]
        return last.size > 0 and (last.size + more > self._largest or when - last.when > self.age / 8)

    def _next_file(self, when: float) -> None:
        """The old file is on disk, and the new one's name, before anything stands in the new one."""
        old, path = self._file, self.folder / f"{self.count:012d}.log"
        if old is not None:
            old.sync()
        new = FrameFile(path)
        try:
            sync_folder(self.folder)
        except BaseException:
            new.drop()
            raise
        self._file = new
        self._segments = [x for x in self._segments if x.path != path] + [_Segment(self.count, path, when, 0)]
        if old is not None:
            old.drop()

    def _begun(self, path: Path) -> float:
        """When the first record of a file was written; that of the file where it holds none."""
        for _, payload in frames(path, self._mark, beyond=True):
            return self._held(payload).when
        return path.stat().st_mtime
