"""Adding to what an agent went through: see `runs.experience`, which says what is where and what outlives what.

Shapes: B episodes side by side, A action size, E exogenous size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from steersman.core.errors import DataError, UsageError
from steersman.core.recording import Array, check_actions, check_array, check_tokens
from steersman.core.signature import Signature
from steersman.runs.experience import FIRST, INDEX, MARK, TERMINAL, ExperienceIndex, Moment, head_of, read_index
from steersman.runs.files import atomic_write, pretty, refusals, sync_folder, write_new
from steersman.runs.folders import new_folder
from steersman.runs.frames import FrameFile, frame, frames, segments
from steersman.runs.lock import WriterLock

RETAINED = 1 << 30
"""Bytes of moments that stay, by default; the oldest go first."""
SEGMENT = 8 << 20
"""Bytes of a file, and at most an eighth of what stays."""
_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True)
class Moments:
    """B moments that are appended together.

    observations  name -> (B, …) of the shape and type that `ObservationSpec` says: what was observed
    actions       (B, A) as in `Recording`: what led there; None where every row begins an episode
    stream        (B,) int64, each another one: which of the episodes side by side a row belongs to; None: 0, 1, …
    first         (B,) bool: an episode begins with this moment, and its action is not read
    terminal      (B,) bool: the world ended the episode here; None: nowhere
    exogenous     (B, E) float32: what came from outside while the action acted, not read where an episode begins
    measured      name -> (B,) bool, as in `Recording`; of slow observations that are not named every row is measured
    times         (B,) float64 seconds of the world's own clock, or None
    """

    observations: Mapping[str, Array]
    actions: Array | None
    stream: Array | None = None
    first: Array | None = None
    terminal: Array | None = None
    exogenous: Array | None = None
    measured: Mapping[str, Array] = field(default_factory=dict)
    times: Array | None = None

    def __len__(self) -> int:
        return len(next(iter(self.observations.values())))


@dataclass
class _Segment:
    """A file: number and time of its first moment, and its size."""

    start: int
    path: Path
    when: float
    size: int


class ExperienceWriter:
    """Appends moments to the log in `folder`, which one process at a time may do."""

    def __init__(
        self, folder: Path, signature: Signature, run: str = "", *, retain: int = RETAINED,
        age: float = float("inf"), clock: Callable[[], float] = time.time,
    ) -> None:
        """Go on with the log that is there, or begin one.

        retain  bytes of moments that stay; age  seconds that moments stay. The oldest files go first, the newest never

        Raises:
            LockedError: another process is writing; the message names it.
            MismatchError: the log is of another world. RunError: it is damaged, or of a later format.
            StorageError: the disk refused. UsageError: limits below 1.
        """
        if retain < 1 or not age > 0:
            raise UsageError("at least 1 byte and some time of experience to retain", f"{retain} bytes, {age:g} s",
                             "raise the limit")
        self.folder, self.signature, self.retain, self.age = folder, signature, retain, age
        self._clock, self._file, self._dirty = clock, None, False
        self._streams: dict[int, tuple[int, int]] = {}  # stream -> its episode, and the step that comes next
        if not (folder / INDEX).exists():
            with new_folder(folder, "experience") as made:
                write_new(made / INDEX, pretty(ExperienceIndex(run=run, signature=signature)))
        self._lock = WriterLock(folder / "writer.lock")
        self._lock.acquire()
        try:
            with refusals("experience written", folder):
                self._open()
        except BaseException:
            self._lock.release()
            raise

    _file: FrameFile | None

    def _open(self) -> None:
        there, self.index = segments(self.folder), read_index(self.folder)
        self.index.signature.require(self.signature, f"the experience in {self.folder}", "what is to be added")
        self.signature = self.index.signature
        for start, path in there:  # a writer was stopped between noting that they go and removing them
            if start < self.index.first:
                path.unlink()
        there = [(start, path) for start, path in there if start >= self.index.first]
        self._segments = [_Segment(start, path, _begun(path), path.stat().st_size) for start, path in there]
        self.count = self.index.first
        if there:
            last, end = self._segments[-1], 0
            self.count = last.start
            for place, payload in frames(last.path, MARK, beyond=True):
                self.count, end = head_of(payload).number + 1, place
            self._file, last.size = FrameFile(last.path, end), end
        self._make_room()

    def append(self, moments: Moments, *, durable: bool = False) -> range:
        """Write B moments; their numbers. They outlive this process when the call returns, see the head of this file.

        durable  wait until they are on disk, and so everything before them

        Raises:
            DataError, ActionError: they do not fit the signature, or an episode that did not begin goes on. None of
                them is written.
            StorageError: the disk refused; what was written before stands, none of them does.
        """
        stream, first = self._checked(moments)
        when, numbers = self._clock(), range(self.count, self.count + len(moments))
        streams, content = dict(self._streams), b""
        for row, number in enumerate(numbers):
            name, begins = int(stream[row]), bool(first[row])
            episode, step = (number, 0) if begins else streams[name]
            ends = moments.terminal is not None and bool(moments.terminal[row])
            content += frame(MARK, _encode(self._moment(moments, row, number, episode, step, when, ends)))
            if ends:
                streams.pop(name, None)
            else:
                streams[name] = (episode, step + 1)
        with refusals("experience written", self.folder):
            if self._full(len(content), when):
                self._next_file(when)
            self._make_room()
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
        self._streams, self.count, self._dirty = streams, numbers.stop, not durable
        return numbers

    def flush(self) -> None:
        """Wait until everything is on disk.

        Raises:
            StorageError: the disk refused.
        """
        if self._file is not None and self._dirty:
            with refusals("experience written", self.folder):
                self._file.sync()
            self._dirty = False

    def close(self) -> None:
        """Wait until everything is on disk, and let others write; harmless if closed.

        Raises:
            StorageError: the disk refused.
        """
        file, self._file = self._file, None
        try:
            if file is not None:
                with refusals("experience written", self.folder):
                    file.close()
        finally:
            self._lock.release()

    # Checking ------------------------------------------------------------------------------------------------------

    def _checked(self, moments: Moments) -> tuple[Array, Array]:
        """stream (B,), first (B,)."""
        where, spec, b = "experience", self.signature, len(moments)
        if not self._lock.held:
            raise UsageError("experience that is open", "one that was closed", "open it again")
        if set(moments.observations) != set(spec.observations):
            raise DataError(f"observations {', '.join(spec.observations)}", ", ".join(moments.observations),
                            "give every observation of the signature, and no other")
        for name, one in spec.observations.items():
            value = moments.observations[name]
            check_array(where, f"observation {name!r}", value, (b, *one.shape), np.dtype(one.dtype).type)
            if one.kind == "tokens":
                check_tokens(where, name, value, one.vocabulary)
        stream = np.arange(b) if moments.stream is None else moments.stream
        first = np.zeros(b, bool) if moments.first is None else moments.first
        if moments.actions is None and moments.first is None:
            first = np.ones(b, bool)
        for what, mark in (("first", first), ("terminal", moments.terminal), *moments.measured.items()):
            if mark is not None:
                check_array(where, f"marks {what!r}", mark, (b,), np.bool_)
        if stream.shape != (b,) or stream.dtype.kind != "i" or len(set(stream.tolist())) != b:
            raise DataError(f"{b} different streams", f"{stream.tolist()}", "give each episode a number of its own")
        if moments.times is not None:
            check_array(where, "times", moments.times, (b,), np.float64)
        self._check_going_on(moments, stream, first)
        return stream, first

    def _check_going_on(self, moments: Moments, stream: Array, first: Array) -> None:
        """What is there only where an episode goes on: it has begun, an action, exogenous inputs."""
        lost = [int(s) for s, begins in zip(stream, first, strict=True) if not begins and int(s) not in self._streams]
        if lost:
            raise DataError(f"an episode that has begun in stream {lost[0]}", "none, or one that ended",
                            "mark the moment that it begins with as `first`")
        if first.all():
            return
        if moments.actions is None:
            raise DataError("the actions that led to these moments", "none", "give `actions`, or mark them as `first`")
        check_actions("experience", moments.actions[~first], self.signature.action)
        if self.signature.exogenous:
            got = np.empty(0, np.float32) if moments.exogenous is None else moments.exogenous[~first]
            shape = (int((~first).sum()), len(self.signature.exogenous))
            check_array("experience", "exogenous", got, shape, np.float32)

    def _moment(
        self, moments: Moments, row: int, number: int, episode: int, step: int, when: float, ends: bool
    ) -> Moment:
        begins, names = step == 0, sorted(self.signature.observations)
        outside = moments.exogenous if self.signature.exogenous else None
        return Moment(
            number=number, episode=episode, step=step, when=when,
            marks=(FIRST if begins else 0) | (TERMINAL if ends else 0),
            time=None if moments.times is None else float(moments.times[row]),
            action=b"" if begins or moments.actions is None else moments.actions[row].tobytes(),
            exogenous=b"" if begins or outside is None else outside[row].tobytes(),
            measured=tuple(bool(moments.measured[n][row]) if n in moments.measured else True for n in names),
            observations=tuple(moments.observations[n][row].tobytes() for n in names),
        )

    # Making room ---------------------------------------------------------------------------------------------------

    def _full(self, more: int, when: float) -> bool:
        if self._file is None:
            return True
        last = self._segments[-1]
        largest = max(1, min(SEGMENT, self.retain // 8))
        return last.size > 0 and (last.size + more > largest or when - last.when > self.age / 8)

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

    def _make_room(self) -> None:
        """Note what goes before it goes: whoever is stopped in between leaves files that the next writer removes."""
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
        self.index = msgspec.structs.replace(
            self.index, first=self._segments[len(gone)].start, by_size=self.index.by_size + by_size,
            by_age=self.index.by_age + by_age, bytes=self.index.bytes + sum(x.size for x in gone),
        )
        self._save()
        self._segments = self._segments[len(gone):]
        for one in gone:
            one.path.unlink(missing_ok=True)

    def _save(self) -> None:
        atomic_write(self.folder / INDEX, pretty(self.index))


def _begun(path: Path) -> float:
    """When the first moment of a file was written; that of the file where it holds none."""
    for _, payload in frames(path, MARK, beyond=True):
        return head_of(payload).when
    return path.stat().st_mtime
