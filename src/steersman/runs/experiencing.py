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
from steersman.runs import rolling
from steersman.runs.experience import FIRST, INDEX, MARK, TERMINAL, ExperienceIndex, Moment, head_of, read_index
from steersman.runs.files import atomic_write, pretty, refusals, write_new
from steersman.runs.folders import new_folder
from steersman.runs.frames import frame
from steersman.runs.lock import WriterLock
from steersman.runs.rolling import Gone, Held, RollingLog

RETAINED = 1 << 30
"""Bytes of moments that stay, by default; the oldest go first."""
SEGMENT = rolling.SEGMENT
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
        self.folder, self.signature, self._clock = folder, signature, clock
        self._streams: dict[int, tuple[int, int]] = {}  # stream -> its episode, and the step that comes next
        if not (folder / INDEX).exists():
            with new_folder(folder, "experience") as made:
                write_new(made / INDEX, pretty(ExperienceIndex(run=run, signature=signature)))
        self._lock = WriterLock(folder / "writer.lock")
        self._lock.acquire()
        try:
            with refusals("experience written", folder):
                self.index = read_index(folder)
                self.index.signature.require(signature, f"the experience in {folder}", "what is to be added")
                self.signature = self.index.signature
                self._log = RollingLog(folder, MARK, _held, first=self.index.first, retain=retain, age=age,
                                       note=self._note, largest=SEGMENT, clock=clock)
        except BaseException:
            self._lock.release()
            raise

    @property
    def count(self) -> int:
        """Moments that were ever appended."""
        return self._log.count

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
            self._log.append(content, len(moments), when, durable=durable)
        self._streams = streams
        return numbers

    def flush(self) -> None:
        """Wait until everything is on disk.

        Raises:
            StorageError: the disk refused.
        """
        with refusals("experience written", self.folder):
            self._log.flush()

    def close(self) -> None:
        """Wait until everything is on disk, and let others write; harmless if closed.

        Raises:
            StorageError: the disk refused.
        """
        try:
            with refusals("experience written", self.folder):
                self._log.close()
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

    def _note(self, gone: Gone) -> None:
        self.index = msgspec.structs.replace(
            self.index, first=gone.first, by_size=self.index.by_size + gone.by_size,
            by_age=self.index.by_age + gone.by_age, bytes=self.index.bytes + gone.bytes,
        )
        atomic_write(self.folder / INDEX, pretty(self.index))


def _held(payload: bytes) -> Held:
    head = head_of(payload)
    return Held(head.number, head.number + 1, head.when)
