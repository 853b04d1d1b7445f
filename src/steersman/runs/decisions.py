"""The flight recorder on disk: every decision of an agent, with all that it was made from. Never imports torch.

    decisions/0001/session.json     who decides: weights, planner, versions, threads
                   000000000.log    records from decision 0 on, each appended whole; the oldest files make room

A record survives the death of the process that wrote it (`kill -9`); a record torn by it is dropped. Sessions follow
one another: one per command, or per `Agent.record`.

Shapes: B problems that were decided together, A action size, H horizon.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from steersman.core.errors import RunError, UsageError
from steersman.runs.files import parse_json, pretty, read_capped, refusals, remove, size_of, write_new
from steersman.runs.folders import FolderInTheMaking
from steersman.runs.frames import FrameFile, frame, frames, segments

FORMAT = 1
FOLDER = "decisions"
RETAINED = 256 << 20
"""Bytes of records that a session keeps, by default; the oldest go first."""
TOGETHER = 64
"""Decisions in a file; each file begins with the agent's whole state, so that a replay starts there."""

_SESSION = re.compile(r"\d{4,9}")
_MARK = b"SDR1"

Numbers = tuple[float, ...]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Frozen, closed, fields by name."""


class Session(_Part, frozen=True, kw_only=True):
    """Who decides.

    checkpoint  optimiser steps of the weights, and `model`, the SHA-256 over weights and read-out
    memory      SHA-256 of the memory at the beginning; "" for an agent without one
    planner     its configuration with its `type`; None for a planner that has none
    world       where the agent acts, for people: an environment's id
    costs       fitted terms that were added to the agent, and the SHA-256 of each
    threads     of the machine's arithmetic: sums depend on how they are divided
    compiled    version of the compiler whose forms of planners decide where there are any; "": the plain forms
    updates     that were learned while acting (`runs.updates`) and stood when the session began, and `learned`, the
                SHA-256 over perception and world model with them; "": those of the checkpoint
    """

    format: int = FORMAT
    started: str
    run: str
    checkpoint: int | None
    model: str
    memory: str = ""
    planner: dict[str, Any] | None
    planner_name: str
    world: str = ""
    costs: dict[str, str] = {}
    threads: int
    compiled: str = ""
    versions: dict[str, str]
    machine: dict[str, Any] = {}
    problems: int = 1
    updates: int = 0
    learned: str = ""


class Candidates(_Part, frozen=True, kw_only=True):
    """What was weighed, for each of B problems; a number is None where nothing was.

    scored    candidates whose energy was computed, and `finite` of them
    energy    least, 5%, 25%, 50%, 75%, 95% and largest total energy of the finite ones
    """

    scored: tuple[int, ...]
    finite: tuple[int, ...]
    energy: tuple[tuple[float | None, ...], ...]


QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Those of `Candidates.energy`."""


class Limits(_Part, frozen=True, kw_only=True):
    """What one guardrail said, for each of B problems.

    looked    candidates that it judged, and `refused` of them
    worst     largest margin among those, None where it judged none
    first     the imagined step, counted from 1, at which most of the refused ones broke it first; 0: none was refused
    chosen    margin of each step of the plan that was chosen (B, H), empty where it was not computed
    """

    looked: tuple[int, ...]
    refused: tuple[int, ...]
    worst: tuple[float | None, ...]
    first: tuple[int, ...]
    chosen: tuple[Numbers, ...] = ()


class Recorded(_Part, frozen=True, kw_only=True):
    """One decision about B problems.

    number     within the session, counted from 0; `decision` within the episode
    when       seconds since 1970; `seconds` it took
    actions    (B, A): what was decided to be done next
    energy     name of a term -> (B, H), weighted, of the chosen plan
    weights    name of a term -> its weight; `goal`, the task's goal in words
    vetoed     guardrail -> (B,) as the planner counted them; `limits` as they were seen
    expected   column -> (B, H+1): what the read-out makes of the imagined course, the present first
    surprise   (B,) mean energy by which the moment differs from what was foreseen; None where nothing was; () unknown
    memory     SHA-256 of the memory that was read; "" where there is none
    whole      the record holds the agent's state from before the decision, and the task
    task       how to make the task again (`agent.flight`); None: as before
    clock      what the planner's clock read, where a limit of seconds held; () otherwise
    updates    that the weights held, and `learned`, which weights those are, both as in `Session`; `through`: moments
               of the experience that there were
    stage      (B,) stage of a task that is carried out in stages, counted from 0; () for other tasks
    levels     what changed since the decision before: name -> its declared level, data points that went by, writes
    tensors    a safetensors file: observations, inputs, the state where `whole`, tensors of the task
    """

    number: int
    decision: int
    when: float
    seconds: float
    seeds: tuple[int, ...]
    actions: tuple[Numbers, ...]
    feasible: tuple[bool, ...]
    energy: dict[str, tuple[Numbers, ...]]
    weights: dict[str, float]
    goal: str
    kept: tuple[int, ...]
    calls: tuple[int, ...]
    vetoed: dict[str, tuple[int, ...]]
    reason: tuple[str, ...]
    candidates: Candidates | None
    limits: dict[str, Limits]
    expected: dict[str, tuple[Numbers, ...]]
    surprise: tuple[float | None, ...] = ()
    memory: str = ""
    whole: bool = False
    task: dict[str, Any] | None = None
    clock: Numbers = ()
    updates: int = 0
    learned: str = ""
    through: int = 0
    levels: dict[str, tuple[Any, int, int]] = {}
    stage: tuple[int, ...] = ()
    tensors: bytes = b""


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Recorded, strict=False)


class DecisionWriter:
    """Appends the decisions of one session.

    A file holds up to `TOGETHER` decisions; `due` says that the next one begins a file and must be whole.
    """

    def __init__(self, run: Path, session: Session, retain: int = RETAINED) -> None:
        """retain: bytes of the session that stay; the oldest files go first, the present one never.

        Raises:
            StorageError: the disk refused.
        """
        if retain < 1:
            raise UsageError("at least 1 byte of decisions to retain", f"{retain}", "raise the limit")
        self.retain, self.number = retain, 0
        self._file: FrameFile | None = None
        self._inside = 0
        folder = FolderInTheMaking(run / FOLDER / "session", "a folder for decisions")
        try:
            with folder.refusals():
                write_new(folder.path / "session.json", pretty(session))
            last = max((int(path.name) for path in sessions(run)), default=0)
            self.path = folder.claim(f"{number:04d}" for number in count(last + 1))
        finally:
            folder.discard()

    @property
    def due(self) -> bool:
        """Whether the next decision begins a file."""
        return self._file is None or self._inside in (0, TOGETHER)

    def append(self, record: Recorded) -> None:
        """Write one decision; it is there when the call returns, whatever becomes of this process.

        Raises:
            StorageError: the disk refused; what was written before stands.
        """
        if record.number != self.number or (self.due and not record.whole):
            raise UsageError(f"decision {self.number}" + (", whole" if self.due else ""), f"{record.number}",
                             "write decisions in order, and a whole one when it is due")
        payload = _encode(record)
        with refusals("a decision written", self.path):
            if self._file is None or self._inside == TOGETHER:
                self._file = self._next_file()
            self._file.append(frame(_MARK, payload))
        self.number, self._inside = self.number + 1, self._inside + 1

    def close(self) -> None:
        """Wait until everything is on disk.

        Raises:
            StorageError: the disk refused.
        """
        file, self._file = self._file, None
        if file is not None:
            with refusals("decisions written", self.path):
                file.close()

    def _next_file(self) -> FrameFile:
        self.close()
        files = segments(self.path)
        sizes = [path.stat().st_size for _, path in files]
        while files and sum(sizes) > self.retain:
            files.pop(0)[1].unlink()
            sizes.pop(0)
        self._inside = 0
        return FrameFile(self.path / f"{self.number:09d}.log")


class DecisionReader:
    """The decisions of one session, oldest first."""

    def __init__(self, path: Path) -> None:
        """Raises RunError: no session there, or one of a later format."""
        self.path = path
        try:
            session = parse_json(read_capped(path / "session.json"), dict[str, Any])
            if session.get("format", 0) > FORMAT:
                raise RunError(f"decisions of format {FORMAT} or earlier", f"{session['format']}", "update steersman")
            self.session = msgspec.convert(session, Session)
        except (OSError, msgspec.MsgspecError, TypeError) as error:
            raise RunError(f"recorded decisions in {path}", f"{error}", "record again") from error

    def span(self) -> range:
        """Numbers of the decisions that are still there."""
        files = segments(self.path)
        if not files:
            return range(0)
        last = files[-1][0] + sum(1 for _ in frames(files[-1][1], _MARK))
        return range(files[0][0], last)

    def read(self, number: int) -> Recorded:
        """One decision.

        Raises:
            RunError: there is none of that number any more, or not yet, or it is damaged.
        """
        for record in self.leading_to(number):
            if record.number == number:
                return record
        raise AssertionError

    def all(self) -> Iterator[Recorded]:
        """Every decision that is there, oldest first.

        Raises:
            RunError: a damaged record.
        """
        for _, file in segments(self.path):
            for _, payload in frames(file, _MARK):
                yield _decoded(payload, file)

    def leading_to(self, number: int) -> list[Recorded]:
        """From the last whole decision up to `number`: what a replay goes through.

        Raises:
            RunError: see `read`.
        """
        span = self.span()
        if number not in span:
            there = f"{span[0]} to {span[-1]}" if span else "none"
            raise RunError(f"decision {number} in {self.path}", f"decisions {there}", "choose one of these")
        file = max((first, path) for first, path in segments(self.path) if first <= number)[1]
        records: list[Recorded] = []
        for _, payload in frames(file, _MARK):
            record = _decoded(payload, file)
            records = [record] if record.whole else [*records, record]
            if record.number == number:
                return records
        raise RunError(f"decision {number} in {file}", "a damaged file", "restore it from a copy")


def sessions(run: Path) -> list[Path]:
    """Folders of a run's sessions, oldest first."""
    root = run / FOLDER
    if not root.is_dir():
        return []
    return sorted((x for x in root.iterdir() if _SESSION.fullmatch(x.name) and x.is_dir()), key=lambda x: int(x.name))


def retire_sessions(run: Path, retain: int = RETAINED) -> int:
    """Remove the oldest sessions, whole, until the others take at most `retain` bytes; the newest stays. How many went.

    Who is begun again and again leaves a session each time, and each keeps to its own limit only.

    Raises:
        StorageError: the disk refused.
    """
    there, gone = sessions(run), 0
    with refusals("old sessions removed", run / FOLDER):
        sizes = [size_of(path) for path in there]
        while len(there) - gone > 1 and sum(sizes[gone:]) > retain:
            remove(there[gone])
            gone += 1
    return gone


def session_at(run: Path, name: str = "latest") -> DecisionReader:
    """One session: "latest", or its number.

    Raises:
        RunError: there is none of that name, or it cannot be read.
    """
    there = sessions(run)
    for path in reversed(there):
        if name == "latest" or (name.isdecimal() and int(path.name) == int(name)):
            return DecisionReader(path)
    fix = "choose one of these" if there else "act first: steersman run RUN --env ID"
    raise RunError(f"recorded decisions {name!r} in {run}", ", ".join(x.name for x in there) or "none", fix)


def _decoded(payload: bytes, file: Path) -> Recorded:
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise RunError(f"decisions in {file}", f"{error}", "restore the file from a copy") from error
