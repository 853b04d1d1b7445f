"""What a parser in a process of its own says and hears: a JSON header, then raw arrays. Never pickle.

A frame is 8 bytes (the header's length, little endian), the header, and the bytes of each array that it names. Whoever
receives one trusts nothing in it: lengths, types and shapes are checked before anything is allocated.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec
import numpy as np

from steersman.core.recording import Array, Recording
from steersman.core.signature import Signature
from steersman.data.schema import Schema
from steersman.data.source import ReadOptions

HEADER_LIMIT = 64 << 20
ARRAYS_LIMIT = 64 << 30


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the parser is asked: open a log, start again from its first episode, hand over the next episode;
    or to examine a log as the doctor does.

    cwd, minari   where relative paths and Minari's dataset ids start
    memory        bytes that parsing may take beyond what the process has when it starts
    segment       number of the shared memory for the images of the next episode; the first time, it comes along
    size          its bytes
    segments      whether images may ask for some
    """

    do: Literal["open", "start", "next", "examine"]
    format: str = ""
    path: str = ""
    options: ReadOptions = ReadOptions()
    cwd: str = ""
    minari: str | None = None
    memory: int = 0
    segment: int = -1
    size: int = 0
    segments: bool = False


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """One array that follows a header, or is in the segment, `at` so many bytes from its beginning."""

    name: str
    dtype: Literal["uint8", "int32", "float32", "float64", "int64", "bool"]
    shape: tuple[int, ...]
    at: int = -1

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the parser answers.

    error   name of a SteersmanError with its expected, got, fix; "defect": something else went wrong
    wanted  bytes of a segment for the next episode
    """

    kind: Literal["opened", "recording", "end", "error", "report", "segment"]
    signature: Signature | None = None
    fingerprint: str = ""
    steps: int | None = None
    notes: tuple[str, ...] = ()
    schema: Schema | None = None
    error: tuple[str, str, str, str] | None = None
    info: dict[str, str] = {}
    parts: tuple[Part, ...] = ()
    report: msgspec.Raw = msgspec.Raw(b"null")
    wanted: int = 0


class Channel:
    """One end of the line. `deadline` (of time.monotonic) bounds every wait; None waits for ever. When it has passed,
    `patience` says how many seconds more to wait.

    Raises:
        EOFError: the other end is gone.
        TimeoutError: the deadline passed.
        ValueError: a frame that breaks the rules.
    """

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self.deadline: float | None = None
        self.patience: Callable[[], float] | None = None
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            line.setsockopt(socket.SOL_SOCKET, option, 1 << 20)

    def send(
        self, message: Request | Reply, arrays: Mapping[str, Array] | None = None, segment: int | None = None
    ) -> None:
        """A message, arrays behind it, and the file descriptor of a segment."""
        header = msgspec.json.encode(message)
        self._wait()
        frame = len(header).to_bytes(8, "little") + header
        sent = 0 if segment is None else socket.send_fds(self.line, [frame], [segment])
        self.line.sendall(frame[sent:])
        for array in (arrays or {}).values():
            if array.nbytes:
                self.line.sendall(_bytes(np.ascontiguousarray(array)))

    def request(self) -> tuple[Request, int | None]:
        """What is asked, and the file descriptor of the segment that came along."""
        length, segments = b"", list[int]()
        while len(length) < 8:
            more, found, *_ = socket.recv_fds(self.line, 8 - len(length), 1)
            if not more:
                raise EOFError
            length, segments = length + more, [*segments, *found]
        request = msgspec.json.decode(self._rest(int.from_bytes(length, "little")), type=Request)
        return request, segments[0] if segments else None

    def reply(self) -> tuple[Reply, dict[str, Array]]:
        """What was answered, and the arrays that follow; those in the segment are not among them."""
        length = bytearray(8)
        self._fill(memoryview(length))
        reply = msgspec.json.decode(self._rest(int.from_bytes(length, "little")), type=Reply)
        if any(min(part.shape, default=0) < 0 for part in reply.parts):
            raise ValueError("a negative size")
        if sum(part.size for part in reply.parts) > ARRAYS_LIMIT:
            raise ValueError("more bytes than an episode may have")
        return reply, {part.name: self._array(part) for part in reply.parts if part.at < 0}

    def _array(self, part: Part) -> Array:
        array: Array = np.empty(part.shape, part.dtype)
        if array.nbytes:
            self._fill(_bytes(array))
        return array

    def _rest(self, size: int) -> bytearray:
        if size > HEADER_LIMIT:
            raise ValueError(f"a header of {size} bytes")
        header = bytearray(size)
        self._fill(memoryview(header))
        return header

    def _fill(self, place: memoryview) -> None:
        while place:
            self._wait()
            try:
                count = self.line.recv_into(place)
            except TimeoutError:  # `_wait` decides
                continue
            if not count:
                raise EOFError
            place = place[count:]

    def _wait(self) -> None:
        if self.deadline is None:
            self.line.settimeout(None)
            return
        left = self.deadline - time.monotonic()
        if left <= 0 and self.patience is not None:
            left = self.patience()
            self.deadline = time.monotonic() + left
        if left <= 0:
            raise TimeoutError
        self.line.settimeout(left)


def _bytes(array: Any) -> memoryview:
    return memoryview(array).cast("B")


def parts(recording: Recording) -> tuple[tuple[Part, ...], dict[str, Array]]:
    """A recording as arrays with names."""
    arrays = {f"observation {name}": value for name, value in recording.observations.items()}
    arrays["action"] = recording.actions
    if recording.exogenous is not None:
        arrays["exogenous"] = recording.exogenous
    if recording.times is not None:
        arrays["times"] = recording.times
    arrays |= {f"measured {name}": value for name, value in recording.measured.items()}
    return tuple(Part(name, str(a.dtype), a.shape) for name, a in arrays.items()), arrays  # type: ignore[arg-type]


def recording(arrays: Mapping[str, Array], info: Mapping[str, str]) -> Recording:
    """The other way round."""
    observed, measured = (
        {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
        for prefix in ("observation ", "measured ")
    )
    if "action" not in arrays:
        raise ValueError("a recording without actions")
    return Recording(observed, arrays["action"], arrays.get("exogenous"), arrays.get("times"), info, measured)
