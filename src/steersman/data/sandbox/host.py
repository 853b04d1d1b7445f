"""Logs that nobody vouches for are parsed in a process of its own, with limits on memory and time.

The process lives on from log to log, and is replaced when it dies or takes too long. What it hands over are raw arrays
(`data.wire`), which are checked here like any other input. Knows no format.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import msgspec

from steersman.core import errors
from steersman.core.errors import DataError, SteersmanError
from steersman.core.recording import Array, Recording
from steersman.data.sandbox.shared_memory import POSSIBLE as SEGMENTS
from steersman.data.sandbox.shared_memory import Segments
from steersman.data.sandbox.wire import Channel, Reply, Request, recording
from steersman.data.source import ReadOptions, Source
from steersman.runs.files import size_of

POSSIBLE = os.name == "posix"
"""Elsewhere logs are parsed in this process."""
_LOGS_EACH = 200
_EXAMINE = 10  # times as long as reading may take
_WALL = 4.0
"""Times the limit of processor time that may pass on the clock."""
_ENVIRONMENT = {
    "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
}
_ERRORS = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What parsing one log may take, and how much more for each of its bytes.

    memory, memory_per_byte    bytes of address space beyond those of the idle parser
    seconds, seconds_per_byte  of processor time, to open a log, and again for each of its episodes
    """

    memory: int = 1 << 30
    memory_per_byte: float = 16.0
    seconds: float = 30.0
    seconds_per_byte: float = 1e-6

    def of(self, size: int) -> tuple[int, float]:
        """Bytes and seconds for a log of `size` bytes."""
        return int(self.memory + self.memory_per_byte * size), self.seconds + self.seconds_per_byte * size


@dataclass
class Usage:
    """What parsers took: processor seconds, and bytes of memory at the most (resident, the idle parser included)."""

    seconds: float = 0.0
    peak_bytes: int = 0


class Worker:
    """One parser process and the line to it."""

    def __init__(self) -> None:
        here, there = socket.socketpair()
        with there:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "steersman.data.parser", str(there.fileno())], pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env=os.environ | _ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
            )
        self.channel = Channel(here)
        self.holding: Request | None = None
        self.logs = 0
        self.used: Usage | None = None

    def open(self, request: Request, seconds: float) -> Reply:
        """Make the parser hold a log."""
        self.holding, self.logs = None, self.logs + 1
        reply, _ = self._ask(request, request.path, seconds)
        self.holding = request
        return reply

    def recordings(self, path: str, seconds: float) -> Iterator[Recording]:
        """The episodes of the log that the parser holds."""
        self.channel.deadline = self.channel.patience = None
        self.channel.send(Request(do="start"))
        segments = Segments()
        try:
            while True:
                reply, arrays = self._next(segments, path, seconds)
                if reply.kind == "end":
                    return
                yield recording(arrays, reply.info)
        finally:
            segments.close()

    def _next(self, segments: Segments, path: str, seconds: float) -> tuple[Reply, dict[str, Array]]:
        """The next episode; if it has large images, they come in a segment."""
        reply, arrays = self._ask(Request(do="next", segments=SEGMENTS), path, seconds)
        if reply.kind != "segment":
            return reply, arrays
        if self.holding is None or not 0 < reply.wanted <= self.holding.memory:
            self.kill()
            raise DataError(f"an episode that fits into memory at {path}", f"{reply.wanted} bytes", "split the log")
        segment = segments.take(reply.wanted)
        if segment is None:
            return self._ask(Request(do="next"), path, seconds)
        try:
            request = Request(do="next", segment=segments.number(segment), size=segment.size)
            reply, arrays = self._ask(request, path, seconds, None if segment.told else segment.fd)
            segment.told = True
        except BaseException:
            segments.give(segment)
            raise
        places = {part.name: (part.at, part.shape) for part in reply.parts if part.at >= 0}
        if any(p.at >= 0 and (p.dtype != "uint8" or p.at + p.size > segment.size) for p in reply.parts):
            self.kill()
            raise DataError(f"a sound log at {path}", "one at which the parser broke the rules", "do not trust it")
        if not places:
            segments.give(segment)
            return reply, arrays
        return reply, arrays | segments.look(segment, places)

    def _ask(
        self, request: Request, path: str, seconds: float, segment: int | None = None
    ) -> tuple[Reply, dict[str, Array]]:
        began, spent = time.monotonic(), self.processor_seconds()

        def patience() -> float:
            """A parser that waits for a busy machine is not to blame: its own time counts, up to a limit."""
            if time.monotonic() > began + _WALL * seconds:
                return 0.0
            return seconds - (self.processor_seconds() - spent)

        self.channel.patience, self.channel.deadline = patience, began + seconds
        try:
            self.channel.send(request, segment=segment)
            reply, arrays = self.channel.reply()
        except TimeoutError as error:
            self.kill()
            raise DataError(
                f"a log that can be parsed within {seconds:.3g} s at {path}", "one that takes longer",
                "split it, or read it with limits=None if you trust it",
            ) from error
        except (EOFError, OSError, ValueError, msgspec.MsgspecError) as error:
            self.kill()
            raise DataError(
                f"a sound log at {path}", f"one at which the parser died ({_how(self.process.returncode)})",
                "repair or re-export the file",
            ) from error
        if reply.kind == "error" and reply.error is not None:
            _raise(reply.error)
        return reply, arrays

    def processor_seconds(self) -> float:
        """Processor time of the parser; where the system does not tell, the time that passes."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError):
            return time.monotonic()

    def peak_bytes(self) -> int:
        """Most memory since `forget_peak`; 0 where the system does not tell."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
            return int(status.partition("VmHWM:")[2].split()[0]) << 10
        except (OSError, ValueError, IndexError):
            return 0

    def forget_peak(self) -> None:
        """Measure the peak of memory from now on, where the system can."""
        with suppress(OSError):
            Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def kill(self) -> None:
        """End the process and note what it took in its life; the worker is of no use any more."""
        self.channel.line.close()
        self.used = Usage()
        if self.process.returncode is None:
            os.kill(self.process.pid, signal.SIGKILL)  # Popen.kill may reap it, and what it took were lost
            _, status, used = os.wait4(self.process.pid, 0)
            self.process.returncode = os.waitstatus_to_exitcode(status)
            unit = 1 if sys.platform == "darwin" else 1 << 10
            self.used = Usage(used.ru_utime + used.ru_stime, used.ru_maxrss * unit)


def _raise(error: tuple[str, str, str, str]) -> None:
    name, *words = error
    kind = _ERRORS.get(name, RuntimeError)
    if issubclass(kind, SteersmanError):
        raise kind(*words)
    raise RuntimeError(f"the parser failed: {words[0]}")


def _how(code: int | None) -> str:
    return f"signal {-code}" if code and code < 0 else f"status {code}"


class Pool:
    """Idle workers. One is borrowed for as long as a log is opened or read; the next borrower gets it afterwards."""

    def __init__(self) -> None:
        self.idle: list[Worker] = []
        self.ended = Usage()
        self.lock = threading.Lock()
        atexit.register(self.close)

    @contextmanager
    def borrow(self, wanted: Request | None = None) -> Iterator[Worker]:
        """A worker, if possible one that holds the log `wanted` already."""
        with self.lock:
            self.idle = [worker for worker in self.idle if worker.process.poll() is None]
            self.idle.sort(key=lambda worker: worker.holding == wanted)
            worker = self.idle.pop() if self.idle else None
        if worker is not None and worker.logs >= _LOGS_EACH and (wanted is None or worker.holding != wanted):
            worker.kill()
            self._give(worker)
            worker = None
        worker = worker or Worker()
        try:
            yield worker
        finally:
            self._give(worker)

    def _give(self, worker: Worker) -> None:
        with self.lock:
            if worker.used is None:
                self.idle.append(worker)
            else:
                self.ended.seconds += worker.used.seconds
                self.ended.peak_bytes = max(self.ended.peak_bytes, worker.used.peak_bytes)

    def close(self) -> None:
        while self.idle:
            self.idle.pop().kill()


@lru_cache(maxsize=1)
def _pool(process: int) -> Pool:
    return Pool()


def idle() -> int:
    """Parsers that wait for work and will take another log."""
    return sum(worker.process.poll() is None and worker.logs < _LOGS_EACH for worker in _pool(os.getpid()).idle)


@contextmanager
def measured() -> Iterator[Usage]:
    """What the parsers of this process take inside the block; whole at its end, when none of them is busy."""
    pool, usage = _pool(os.getpid()), Usage()
    before = pool.ended.seconds + sum(worker.processor_seconds() for worker in pool.idle)
    pool.ended.peak_bytes = 0
    for worker in pool.idle:
        worker.forget_peak()
    try:
        yield usage
    finally:
        after = pool.ended.seconds + sum(worker.processor_seconds() for worker in pool.idle)
        usage.seconds = max(after - before, 0.0)
        usage.peak_bytes = max([pool.ended.peak_bytes, *(worker.peak_bytes() for worker in pool.idle)])


def open_isolated(format: str, path: str, options: ReadOptions, limits: Limits) -> Source:
    """`Format.open` in another process; the episodes come from there, too.

    Raises:
        DataError: what the format raises; too much memory or time; a parser that died.
    """
    request, seconds = _request("open", format, path, options, limits)
    with _pool(os.getpid()).borrow() as worker:
        opened = worker.open(request, seconds)
    if opened.signature is None:
        raise DataError(f"a sound log at {path}", "an answer without a signature", "report it")

    def stream() -> Iterator[Recording]:
        with _pool(os.getpid()).borrow(request) as worker:
            if worker.holding != request and worker.open(request, seconds).fingerprint != opened.fingerprint:
                raise DataError(f"{path} to stay as it is while read", "a change", "try again once it is written")
            yield from worker.recordings(path, seconds)

    return Source(format, path, opened.signature, opened.fingerprint, stream, opened.steps, opened.notes, opened.schema)


def examine_isolated(format: str, path: str, options: ReadOptions, limits: Limits) -> bytes:
    """What the doctor says about a log, as JSON; it looks at it in another process.

    Raises:
        DataError: nothing that could be looked at; too much memory or time; a parser that died.
    """
    request, seconds = _request("examine", format, path, options, limits)
    with _pool(os.getpid()).borrow() as worker:
        return bytes(worker.open(request, _EXAMINE * seconds).report)


def _request(
    do: Literal["open", "examine"], format: str, path: str, options: ReadOptions, limits: Limits
) -> tuple[Request, float]:
    """What a parser is asked, and the seconds that it has."""
    size = 0
    with suppress(OSError):
        size = size_of(Path(path))
    memory, seconds = limits.of(size)
    return Request(
        do=do, format=format, path=path, options=options, cwd=os.getcwd(),
        minari=os.environ.get("MINARI_DATASETS_PATH"), memory=memory,
    ), seconds
