"""What an agent went through, on disk: a log that grows while it acts, bounded in size and age. Never imports torch.

    experience/experience.json   signature, limits, and what had to go
               writer.lock       who is writing, if anyone
               000000000000.log  moments from number 0 on, each appended whole; the oldest files make room
               updates.log       see `runs.updates`

A moment is what an episode begins with, or what an action led to. Moments are numbered from 0 for as long as the log
lives. One whose `append` has returned survives the death of the process (`kill -9`); it survives a loss of power if
`append` was asked for `durable`, after `flush`, and as soon as its file is full. A moment that its writer was killed in
is dropped. An episode whose beginning made room goes on as an episode of what is left.

Shapes: B episodes side by side, A action size, E exogenous size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from steersman.core.errors import DataError, RunError, UsageError
from steersman.core.recording import Array, Recording, check_actions, check_array, check_tokens
from steersman.core.signature import Signature
from steersman.runs.files import atomic_write, parse_json, pretty, read_capped, refusals, sync_folder
from steersman.runs.frames import FrameFile, frame, frame_at, frames, segments
from steersman.runs.lock import WriterLock

FORMAT, FOLDER, INDEX = 1, "experience", "experience.json"
RETAINED = 1 << 30
"""Bytes of moments that stay, by default; the oldest go first."""
SEGMENT = 8 << 20
"""Bytes of a file, by default, and at most an eighth of what stays."""
_MARK = b"SXP1"
_FIRST, _TERMINAL = 1, 2
_RESTORE = "restore the file from a copy"


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


class Moment(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One moment as it is stored.

    number   in the log, counted from 0
    episode  number of the moment that this one's episode began with; step  actions since then
    when     seconds since 1970
    marks    1: an episode begins here; 2: the world ended it here
    time     of the world's clock, or None
    action, exogenous  bytes of (A,) and (E,); empty in the first moment of an episode
    measured, observations  one for each observation of the signature, in the order of their names
    """

    number: int
    episode: int
    step: int
    when: float
    marks: int
    time: float | None
    action: bytes
    exogenous: bytes
    measured: tuple[bool, ...]
    observations: tuple[bytes, ...]


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """The beginning of a `Moment`."""

    number: int
    episode: int
    step: int
    when: float


class ExperienceIndex(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`experience.json`.

    run     id of the run that it belongs to
    first   number of the oldest moment that is still there: that many are gone
    by_size, by_age   how many of those went to stay within either limit, and `bytes` in all
    """

    format: int = FORMAT
    run: str
    signature: Signature
    first: int = 0
    by_size: int = 0
    by_age: int = 0
    bytes: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decoder, _head = msgspec.msgpack.Decoder(Moment), msgspec.msgpack.Decoder(_Head)


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
        with refusals("experience written", folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = WriterLock(folder / "writer.lock")
        self._lock.acquire()
        try:
            with refusals("experience written", folder):
                self._open(run)
        except BaseException:
            self._lock.release()
            raise

    _file: FrameFile | None

    def _open(self, run: str) -> None:
        there = segments(self.folder)
        if (self.folder / INDEX).exists():
            self.index = read_index(self.folder)
            self.index.signature.require(self.signature, f"the experience in {self.folder}", "what is to be added")
            self.signature = self.index.signature
        elif there:
            raise RunError(f"{INDEX} beside the experience in {self.folder}", "none", _RESTORE)
        else:
            self.index = ExperienceIndex(run=run, signature=self.signature)
            self._save()
        for start, path in there:  # a writer was stopped between noting that they go and removing them
            if start < self.index.first:
                path.unlink()
        there = [(start, path) for start, path in there if start >= self.index.first]
        self._segments = [_Segment(start, path, _begun(path), path.stat().st_size) for start, path in there]
        self.count = self.index.first
        if there:
            last, end = self._segments[-1], 0
            self.count = last.start
            for place, payload in frames(last.path, _MARK, beyond=True):
                self.count, end = _head.decode(payload).number + 1, place
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
            content += frame(_MARK, _encode(self._moment(moments, row, number, episode, step, when, ends)))
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
        if stream.shape != (b,) or stream.dtype.kind != "i" or len(np.unique(stream)) != b:
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
            marks=(_FIRST if begins else 0) | (_TERMINAL if ends else 0),
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
        file, path = self._file, self.folder / f"{self.count:012d}.log"
        if file is not None:
            file.sync()
        new = FrameFile(path)
        sync_folder(self.folder)
        if file is not None:
            file.close()
        self._file = new
        self._segments = [x for x in self._segments if x.path != path] + [_Segment(self.count, path, when, 0)]

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


def read_index(folder: Path) -> ExperienceIndex:
    """What `experience.json` says.

    Raises:
        RunError: missing, damaged or of a later format.
    """
    try:
        content = parse_json(read_capped(folder / INDEX), dict[str, Any])
        if content.get("format", 0) > FORMAT:
            raise RunError(f"experience of format {FORMAT} or earlier", f"{content['format']}", "update steersman")
        return msgspec.convert(content, ExperienceIndex)
    except (OSError, msgspec.MsgspecError, TypeError) as error:
        raise RunError(f"experience in {folder}", f"{error}", "record some: steersman run RUN --env ID --experience"
                       ) from error


class ExperienceReader:
    """The log in `folder`, which may be growing meanwhile. damaged  moments that were altered on disk, so far read."""

    def __init__(self, folder: Path) -> None:
        """Raises RunError: there is none, or it is damaged or of a later format."""
        self.folder, self.index = folder, read_index(folder)
        self.signature = self.index.signature

    def span(self) -> range:
        """Numbers of the moments that are still there, whole or not."""
        there = self._there()
        if not there:
            return range(self.index.first, self.index.first)
        end = there[-1][0]
        for _, payload in frames(there[-1][1], _MARK, beyond=True):
            end = _head.decode(payload).number + 1
        return range(there[0][0], end)

    def moments(self, since: int = 0, through: int | None = None) -> Iterator[Moment]:
        """Moments `since` to before `through`, in order.

        Raises:
            RunError: one that is none of this log.
        """
        for path in self._files(since, through):
            for payload in _payloads(path):
                moment = _decoded(payload, path)
                if moment.number >= since and (through is None or moment.number < through):
                    yield moment

    def recordings(self, since: int = 0, through: int | None = None) -> Iterator[Recording]:
        """The episodes that moments `since` to before `through` make up, in the order in which they began.

        What is missing, because it made room or was altered, ends one recording and lets another begin. A single moment
        is none, unless nobody acts in this world.
        """
        alone = self.signature.action.kind == "none"
        for part in self._parts(since, through):
            if len(part) > 1 or alone:
                yield self._recording([self._read(path, end, size) for path, end, size in part])

    def _parts(self, since: int, through: int | None) -> list[list[tuple[Path, int, int]]]:
        """Where the moments of each uninterrupted piece of an episode stand."""
        parts: dict[int, list[list[tuple[Path, int, int]]]] = {}
        latest: dict[int, int] = {}
        for path in self._files(since, through):
            for end, payload in _placed(path):
                head = _head.decode(payload)
                if head.number < since or (through is not None and head.number >= through):
                    continue
                pieces = parts.setdefault(head.episode, [])
                if latest.get(head.episode) != head.step - 1 or not pieces:
                    pieces.append([])
                latest[head.episode] = head.step
                pieces[-1].append((path, end, len(payload)))
        return [piece for episode in sorted(parts) for piece in parts[episode]]

    def _recording(self, moments: list[Moment]) -> Recording:
        spec, names = self.signature, sorted(self.signature.observations)
        where = f"moment {moments[0].number} of {self.folder}"
        observations = {
            name: _stacked([m.observations[i] for m in moments], spec.observations[name].dtype,
                           spec.observations[name].shape, where)
            for i, name in enumerate(names)
        }
        kind = "int64" if spec.action.kind == "discrete" else "float32"
        actions = _stacked([m.action for m in moments[1:]], kind, (spec.action.size,), where)
        outside = [m.exogenous for m in moments[1:]]
        times = [m.time for m in moments]
        measured = {name: np.array([True, *(m.measured[names.index(name)] for m in moments[1:])]) for name in spec.slow}
        return Recording(
            observations, actions,
            _stacked(outside, "float32", (len(spec.exogenous),), where) if spec.exogenous else None,
            None if None in times else np.array(times, np.float64), self._info(moments), measured,
        )

    def _info(self, moments: list[Moment]) -> dict[str, str]:
        ended = "terminal" if moments[-1].marks & _TERMINAL else "open"
        cut = "" if moments[0].marks & _FIRST else f", from step {moments[0].step} on"
        return {"episode": f"{moments[0].episode}{cut}", "end": ended}

    def _read(self, path: Path, end: int, size: int) -> Moment:
        payload = frame_at(path, _MARK, end, size)
        if payload is None:
            raise RunError(f"a moment at byte {end} of {path}", "another content", "read the log again")
        return _decoded(payload, path)

    def _there(self) -> list[tuple[int, Path]]:
        return [(start, path) for start, path in segments(self.folder) if start >= self.index.first]

    def _files(self, since: int, through: int | None) -> Iterator[Path]:
        there = self._there()
        ends = [start for start, _ in there[1:]] + [None]
        for (start, path), end in zip(there, ends, strict=True):
            if (through is None or start < through) and (end is None or end > since):
                yield path


def _begun(path: Path) -> float:
    """When the first moment of a file was written; that of the file where it holds none."""
    for _, payload in frames(path, _MARK, beyond=True):
        return _head.decode(payload).when
    return path.stat().st_mtime


def _placed(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        yield from frames(path, _MARK, beyond=True)
    except FileNotFoundError:
        return  # it made room meanwhile


def _payloads(path: Path) -> Iterator[bytes]:
    return (payload for _, payload in _placed(path))


def _decoded(payload: bytes, where: Path) -> Moment:
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise RunError(f"moments in {where}", f"{error}", _RESTORE) from error


def _stacked(rows: list[bytes], dtype: str, shape: tuple[int, ...], where: str) -> Array:
    """(T, *shape), in memory of its own."""
    kind = np.dtype(dtype)
    size = int(np.prod(shape)) * kind.itemsize
    if any(len(row) != size for row in rows):
        raise RunError(f"{size} bytes of numbers in {where}", "another length", _RESTORE)
    return np.frombuffer(bytearray(b"".join(rows)), kind).reshape(len(rows), *shape)
