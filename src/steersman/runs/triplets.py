"""What an agent's states cost, on disk: triplets of time, state and intrinsic costs, bounded. Never imports torch.

    triplets/triplets.json     what a row holds, whose states these are, limits, and what had to go
             writer.lock       who is writing, if anyone
             000000000000.log  rows from number 0 on, see `runs.rolling`, which says what outlives what

A row whose `append` has returned survives the death of the process. One that its writer was killed in is dropped. What
was altered or cut afterwards is told when it is read, costs the rows that it hit, and is never written over.

Shapes: B episodes side by side, n rows, D numbers of one state, C intrinsic costs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from steersman.core.errors import DataError, MismatchError, RunError, UsageError
from steersman.core.recording import Array, check_array
from steersman.runs.files import atomic_write, parse_json, pretty, read_capped, refusals, write_new
from steersman.runs.folders import new_folder
from steersman.runs.frames import frame, frames, segments
from steersman.runs.lock import WriterLock
from steersman.runs.rolling import SEGMENT, Gone, Held, RollingLog

FORMAT, FOLDER, INDEX = 1, "triplets", "triplets.json"
MARK = b"STM1"
FIRST, TERMINAL = 1, 2
"""Bits of `marks`."""
RETAINED = 1 << 28
"""Bytes of rows that stay, by default, some 850,000 states of 64 numbers; the oldest go first."""


class TripletIndex(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`triplets.json`.

    run      id of the run that it belongs to
    weights  whose states these are: a hash; states of other weights mean something else
    size     D; costs  names of the C intrinsic costs
    first    number of the oldest row that is still there: that many are gone
    by_size, by_age   how many of those went to stay within either limit, and `bytes` in all
    closed   rows that there were when a writer last closed it: fewer than that were cut off afterwards
    """

    format: int = FORMAT
    run: str
    weights: str
    size: int
    costs: tuple[str, ...]
    first: int = 0
    by_size: int = 0
    by_age: int = 0
    bytes: int = 0
    closed: int = 0


@dataclass(frozen=True)
class Rows:
    """n rows as arrays, in the order in which they were appended.

    number   (n,) int64 in the log, counted from 0
    episode  (n,) int64 number of the row that this one's uninterrupted episode began with
    row      (n,) int64 rows of that episode before this one; time  (n,) int64 actions since it began
    when     (n,) float64 seconds since 1970
    marks    (n,) uint8: 1 an episode of the world begins here, 2 the world ended it here
    updates  (n,) int64 updates of the weights that stood when the state was made
    costs    (n, C) float32; states  (n, D) float32
    """

    number: Array
    episode: Array
    row: Array
    time: Array
    when: Array
    marks: Array
    updates: Array
    costs: Array
    states: Array

    def __len__(self) -> int:
        return len(self.number)


def form(size: int, costs: int) -> np.dtype[Any]:
    """How one row lies in the file: little-endian, packed."""
    return np.dtype([
        ("number", "<i8"), ("episode", "<i8"), ("row", "<i8"), ("time", "<i8"), ("when", "<f8"), ("marks", "u1"),
        ("updates", "<i8"), ("costs", "<f4", (costs,)), ("states", "<f4", (size,)),
    ])


def read_index(folder: Path) -> TripletIndex:
    """What `triplets.json` says.

    Raises:
        RunError: missing, damaged or of a later format.
    """
    try:
        content = parse_json(read_capped(folder / INDEX), dict[str, Any])
        if content.get("format", 0) > FORMAT:
            raise RunError(f"triplets of format {FORMAT} or earlier", f"{content['format']}", "update steersman")
        return msgspec.convert(content, TripletIndex)
    except (OSError, msgspec.MsgspecError, TypeError) as error:
        raise RunError(f"triplets in {folder}", f"{error}", "restore it from a copy, or remember some first") from error


class TripletReader:
    """The log in `folder`, which may be growing meanwhile."""

    def __init__(self, folder: Path) -> None:
        """Raises RunError: there is none, or it is damaged or of a later format."""
        self.folder, self.index = folder, read_index(folder)
        self._form = form(self.index.size, len(self.index.costs))

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self._form.itemsize

    def read(self, since: int = 0, through: int | None = None, *, skip_damaged: bool = False) -> Rows:
        """Rows `since` to before `through`, in order.

        skip_damaged  without those that were altered or cut; else they are an error

        Raises:
            RunError: rows are missing; it says which, and where.
        """
        content, told = self._scanned(since, through)
        if told and not skip_damaged:
            raise RunError(f"triplets in {self.folder}, all of them", "; ".join(told),
                           "restore the file from a copy, or read the others with skip_damaged=True")
        found = np.frombuffer(content, self._form)
        chosen = found["number"] >= since
        if through is not None:
            chosen &= found["number"] < through
        return Rows(*(np.ascontiguousarray(found[name][chosen]) for name in Rows.__dataclass_fields__))

    def damage(self) -> str:
        """Which rows cannot be read, in one line; "": every row that was ever appended and has not made room is there.
        A row that its writer was killed in was never appended."""
        return "; ".join(self._scanned(0, None)[1])

    def _scanned(self, since: int, through: int | None) -> tuple[bytes, list[str]]:
        """The rows of all files that hold some of these, and what is missing in or between them."""
        there = [(start, path) for start, path in segments(self.folder) if start >= self.index.first]
        pieces, gaps, expected = list[bytes](), list[tuple[int, str]](), self.index.first
        for i, (start, path) in enumerate(there):
            if i + 1 < len(there) and there[i + 1][0] <= since:
                expected = there[i + 1][0]
                continue
            if through is not None and start >= through:
                break
            if start > expected:
                gaps.append((start, f"none of {expected} to {start - 1} before {path.name}"))
            expected = start
            for payload in self._payloads(path):
                first = int(np.frombuffer(payload, self._form, 1)["number"][0])
                if first > expected:
                    gaps.append((first, f"none of {expected} to {first - 1} in {path.name}, which was altered"))
                expected = first + len(payload) // self._form.itemsize
                pieces.append(payload)
        now = read_index(self.folder)  # what made room meanwhile is not missing
        told = [words for end, words in gaps if end > now.first]
        if through is None or expected < through:
            if there and there[-1][1].exists() and altered_end(there[-1][1], MARK):
                told.append(f"an altered end behind {expected - 1} in {there[-1][1].name}")
            elif expected < self.index.closed:
                told.append(f"none of {expected} to {self.index.closed - 1}, which were cut off")
        return b"".join(pieces), told

    def _payloads(self, path: Path) -> Iterator[bytes]:
        try:
            for _, payload in frames(path, MARK, beyond=True):
                if not payload or len(payload) % self._form.itemsize:
                    raise RunError(f"rows of {self._form.itemsize} bytes in {path}", f"{len(payload)} bytes",
                                   f"restore it and {INDEX} from one copy")
                yield payload
        except FileNotFoundError:
            return  # it made room meanwhile


def altered_end(path: Path, mark: bytes) -> bool:
    """Whether a file ends with a frame that is whole in length and altered: no killed writer leaves one."""
    end = max((place for place, _ in frames(path, mark, beyond=True)), default=0)
    with path.open("rb") as file:
        file.seek(end)
        rest = file.read()
    return len(rest) >= 12 and (rest[:4] != mark or int.from_bytes(rest[4:8], "little") <= len(rest) - 12)


class TripletWriter:
    """Appends rows to the log in `folder`, which one process at a time may do."""

    def __init__(
        self, folder: Path, size: int, costs: tuple[str, ...], *, run: str = "", weights: str = "",
        retain: int = RETAINED, age: float = float("inf"), segment: int = SEGMENT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Go on with the log that is there, or begin one.

        size     D; costs  names of the C intrinsic costs
        run, weights  of whom, as `TripletIndex` says
        retain   bytes that stay; age  seconds that rows stay; segment  bytes of a file. The oldest files go first

        Raises:
            LockedError: another process is writing. StorageError: the disk refused. UsageError: limits below 1.
            MismatchError: what is there holds states of other weights or size, or other costs. RunError: it is damaged.
        """
        if size < 1 or not costs or len(set(costs)) != len(costs):
            raise UsageError("states of at least 1 number and costs of different names", f"{size} and {list(costs)}",
                             "remember the states of an agent that has intrinsic costs")
        self.folder, self._clock = folder, clock
        self._streams: dict[int, tuple[int, int, int]] = {}  # stream -> its episode, next row, time of the last one
        if not (folder / INDEX).exists():
            with new_folder(folder, "triplets") as made:
                write_new(made / INDEX, pretty(TripletIndex(run=run, weights=weights, size=size, costs=costs)))
        self._lock = WriterLock(folder / "writer.lock")
        self._lock.acquire()
        try:
            with refusals("triplets written", folder):
                self.index = read_index(folder)
                self._require(size, costs, weights)
                self._form = form(size, len(costs))
                self._keep_altered_end()
                self._log = RollingLog(folder, MARK, self._held, first=self.index.first, retain=retain, age=age,
                                       note=self._note, largest=segment, clock=clock)
        except BaseException:
            self._lock.release()
            raise

    @property
    def count(self) -> int:
        """Rows that were ever appended."""
        return self._log.count

    def append(
        self, states: Array, costs: Array, *, first: Array | None = None, terminal: Array | None = None,
        stream: Array | None = None, steps: int = 1, updates: int = 0, durable: bool = False,
    ) -> range:
        """Write B rows together, whole or not at all; their numbers.

        states   (B, D) float32; costs  (B, C) float32: of each intrinsic cost, unweighted
        first    (B,) bool: an episode of the world begins here; terminal  (B,) bool: the world ended it here
        stream   (B,) int64, each another one: which of the episodes side by side a row belongs to; None: 0, 1, …
        steps    actions since the rows before; updates  of the weights that stand
        durable  wait until they are on disk, and so everything before them

        An episode that goes on after the log was opened again begins anew at time 0, without the mark of a beginning:
        what lay between is not known.

        Raises:
            DataError: other shapes, NaN or infinity. StorageError: the disk refused. None of the rows is written.
        """
        if not self._lock.held:
            raise UsageError("triplets that are open", "ones that were closed", "open them again")
        b = len(states)
        check_array("triplets", "states", states, (b, self.index.size), np.float32)
        check_array("triplets", "costs", costs, (b, len(self.index.costs)), np.float32)
        flags = {name: np.zeros(b, bool) if x is None else x for name, x in (("first", first), ("terminal", terminal))}
        for name, flag in flags.items():
            check_array("triplets", f"marks {name!r}", flag, (b,), np.bool_)
        names = (np.arange(b) if stream is None else stream).tolist()
        if len(names) != b or len(set(names)) != b:
            raise DataError(f"{b} different streams", f"{names}", "give each episode a number of its own")
        rows, streams, when = np.zeros(b, self._form), dict(self._streams), self._clock()
        for i, name in enumerate(names):
            begins = flags["first"][i] or name not in streams
            episode, row, passed = (self.count + i, 0, -steps) if begins else streams[name]
            rows[i]["episode"], rows[i]["row"], rows[i]["time"] = episode, row, passed + steps
            if flags["terminal"][i]:
                streams.pop(name, None)
            else:
                streams[name] = (episode, row + 1, passed + steps)
        numbers = range(self.count, self.count + b)
        rows["number"], rows["when"], rows["updates"] = np.arange(numbers.start, numbers.stop), when, updates
        rows["marks"] = flags["first"] * FIRST + flags["terminal"] * TERMINAL
        rows["states"], rows["costs"] = states, costs
        with refusals("triplets written", self.folder):
            self._log.append(frame(MARK, rows.tobytes()), b, when, durable=durable)
        self._streams = streams
        return numbers

    def flush(self) -> None:
        """Wait until everything is on disk.

        Raises:
            StorageError: the disk refused.
        """
        with refusals("triplets written", self.folder):
            self._log.flush()

    def close(self) -> None:
        """Wait until everything is on disk, note how many there are, and let others write; harmless if closed.

        Raises:
            StorageError: the disk refused.
        """
        try:
            if self._lock.held:
                with refusals("triplets written", self.folder):
                    self._log.close()
                    self._save(closed=self.count)
        finally:
            self._lock.release()

    def _require(self, size: int, costs: tuple[str, ...], weights: str) -> None:
        there, asked = self.index, {"size": size, "costs": costs, "weights": weights}
        for name, wanted in asked.items():
            if (got := getattr(there, name)) != wanted:
                raise MismatchError(f"triplets of {name} {got!r} for {self.folder}", f"{wanted!r}",
                                    "go on with the agent that they are of, or move the folder away to begin anew")

    def _keep_altered_end(self) -> None:
        """An altered end is kept: what comes goes into a file of its own, with numbers behind what may be lost there;
        so it does behind rows that were cut off."""
        there = [(start, path) for start, path in segments(self.folder) if start >= self.index.first]
        number, lost = self.index.first, 0
        if there:
            number, path = there[-1]
            end = 0
            for place, payload in frames(path, MARK, beyond=True):
                end, number = place, self._held(payload).after
            if altered_end(path, MARK):
                lost = -(-(path.stat().st_size - end) // self._form.itemsize)
        behind = max(number + lost, self.index.closed)
        if behind > number:
            write_new(self.folder / f"{behind:012d}.log", b"")

    def _held(self, payload: bytes) -> Held:
        rows = np.frombuffer(payload, self._form)
        return Held(int(rows["number"][0]), int(rows["number"][-1]) + 1, float(rows["when"][0]))

    def _note(self, gone: Gone) -> None:
        self._save(first=gone.first, by_size=self.index.by_size + gone.by_size,
                   by_age=self.index.by_age + gone.by_age, bytes=self.index.bytes + gone.bytes)

    def _save(self, **changes: int) -> None:
        self.index = msgspec.structs.replace(self.index, **changes)
        atomic_write(self.folder / INDEX, pretty(self.index))
