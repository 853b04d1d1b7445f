"""The process that parses logs which nobody vouches for: `python -m steersman.data.parser FD`. See `data.sandbox.host`.

It limits its own memory, cannot write files, and answers requests on the socket FD until the other end closes. Loads no
torch.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from steersman.core.errors import DataError, SteersmanError
from steersman.core.recording import Array, Recording
from steersman.data.formats import named
from steersman.data.sandbox.shared_memory import LARGE, Segment
from steersman.data.sandbox.wire import Channel, Part, Reply, Request, parts
from steersman.data.source import Source

Answer = tuple[Reply, dict[str, Array]]


class Parser:
    """Answers requests about one log at a time."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.base = _address_space()
        self.source: Source | None = None
        self.stream: Iterator[Recording] = iter(())
        self.segments: dict[int, Segment] = {}

    def serve(self) -> None:
        """Until the other end closes. An episode is read ahead while the one before is worked on elsewhere."""
        ahead: Answer | None = None
        while True:
            request, segment = self.channel.request()
            if request.do != "next":
                ahead = None
            if request.do == "start":
                while self.segments:
                    self.segments.popitem()[1].close()
                self.stream = self.source.stream() if self.source else iter(())
                continue
            if request.do in ("open", "examine"):
                act = self._open if request.do == "open" else self._examine
                self.channel.send(*self._attempt(partial(act, request)))
                continue
            reply, arrays = ahead or self._attempt(self._next)
            if request.segment >= 0:
                if segment is not None:
                    self._enter(request, segment)
                if request.segment in self.segments:
                    reply, arrays = _furnish(self.segments[request.segment], reply, arrays)
            elif request.segments and (wanted := sum(arrays[p.name].nbytes for p in _images(reply))) >= LARGE:
                ahead = reply, arrays
                self.channel.send(Reply(kind="segment", wanted=wanted))
                continue
            self.channel.send(reply, arrays)
            ahead = self._attempt(self._next) if reply.kind == "recording" else None

    def _enter(self, request: Request, segment: int) -> None:
        """Map a segment, if the limit of memory allows it; without it, images go through the line."""
        try:
            self.segments[request.segment] = Segment(segment, request.size)
        except OSError:
            os.close(segment)

    def _examine(self, request: Request) -> Answer:
        from steersman.data.doctor.examination import examined

        self._prepare(request)
        report = examined(named(request.format), request.path, request.options)
        return Reply(kind="report", report=msgspec.Raw(msgspec.json.encode(report))), {}

    def _open(self, request: Request) -> Answer:
        self._prepare(request)
        s = self.source = named(request.format).open(request.path, request.options)
        return Reply(
            kind="opened", signature=s.signature, fingerprint=s.fingerprint, steps=s.steps, notes=s.notes,
            schema=s.schema,
        ), {}

    def _prepare(self, request: Request) -> None:
        """Forget the log before; memory, folder and environment as this request has them."""
        self.source, self.stream = None, iter(())
        _limit_memory(self.base + request.memory)
        os.chdir(request.cwd)
        os.environ.pop("MINARI_DATASETS_PATH", None)
        if request.minari is not None:
            os.environ["MINARI_DATASETS_PATH"] = request.minari

    def _next(self) -> Answer:
        recording = next(self.stream, None)
        if recording is None:
            return Reply(kind="end"), {}
        names, arrays = parts(recording)
        return Reply(kind="recording", info=dict(recording.info), parts=names), arrays

    def _attempt(self, act: Callable[[], Answer]) -> Answer:
        """What `act` returns, or its error as a reply."""
        try:
            return act()
        except SteersmanError as error:
            said = (type(error).__name__, error.expected, error.got, error.fix)
        except MemoryError:
            said = (DataError.__name__, "a log that can be parsed in the memory allowed", "one that asks for more",
                    "split it, or read it with limits=None if you trust it")
        except Exception:
            said = ("defect", traceback.format_exc(limit=-4), "", "")
        self.stream = iter(())
        return Reply(kind="error", error=said), {}


def _images(reply: Reply) -> list[Part]:
    return [part for part in reply.parts if part.dtype == "uint8" and part.name.startswith("observation ")]


def _furnish(segment: Segment, reply: Reply, arrays: dict[str, Array]) -> Answer:
    """Put the images into the segment, so that the rest is left to send."""
    at, places = 0, dict[str, int]()
    for part in _images(reply):
        if at + part.size <= segment.size:
            np.frombuffer(segment.memory, np.uint8, part.size, at)[:] = arrays[part.name].reshape(-1)
            places[part.name] = at
            at += part.size
    parts = tuple(msgspec.structs.replace(p, at=places.get(p.name, -1)) for p in reply.parts)
    rest = {name: value for name, value in arrays.items() if name not in places}
    return msgspec.structs.replace(reply, parts=parts), rest


def _address_space() -> int:
    """Bytes of address space that this process has now."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 1 << 30


def _limit_memory(size: int) -> None:
    import resource

    try:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (size if hard < 0 else min(size, hard), hard))
    except (OSError, ValueError):  # a system that cannot limit it: time is still limited
        return


def main() -> None:
    """Serve on the socket whose number is the first argument."""
    import resource
    import signal

    for name in ("RLIMIT_FSIZE", "RLIMIT_CORE"):
        resource.setrlimit(getattr(resource, name), (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        Parser(Channel(socket.socket(fileno=int(sys.argv[1])))).serve()
    except (EOFError, OSError):
        return


if __name__ == "__main__":
    main()
