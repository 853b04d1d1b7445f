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

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from steersman.core.errors import RunError
from steersman.core.recording import Array, Recording
from steersman.core.signature import Signature
from steersman.runs.files import parse_json, read_capped
from steersman.runs.frames import frame_at, frames, segments

FORMAT, FOLDER, INDEX = 1, "experience", "experience.json"
MARK = b"SXP1"
"""Of the frames that moments stand in."""
FIRST, TERMINAL = 1, 2
"""Bits of `Moment.marks`."""
_RESTORE = "restore the file from a copy"


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


class Head(msgspec.Struct, frozen=True, array_like=True):
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


_decoder, head_of = msgspec.msgpack.Decoder(Moment), msgspec.msgpack.Decoder(Head).decode


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
    """The log in `folder`, which may be growing meanwhile."""

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
        for _, payload in frames(there[-1][1], MARK, beyond=True):
            end = head_of(payload).number + 1
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
                head = head_of(payload)
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
        ended = "terminal" if moments[-1].marks & TERMINAL else "open"
        cut = "" if moments[0].marks & FIRST else f", from step {moments[0].step} on"
        return {"episode": f"{moments[0].episode}{cut}", "end": ended}

    def _read(self, path: Path, end: int, size: int) -> Moment:
        payload = frame_at(path, MARK, end, size)
        if payload is None:
            raise RunError(f"a moment at byte {end} of {path}", "another content", "read the log again")
        return _decoded(payload, path)

    def _there(self) -> list[tuple[int, Path]]:
        return [(start, path) for start, path in segments(self.folder) if start >= self.index.first]

    def _files(self, since: int, through: int | None) -> Iterator[Path]:
        there = self._there()
        for i, (start, path) in enumerate(there):
            ends = i + 1 < len(there) and there[i + 1][0] <= since
            if not ends and (through is None or start < through):
                yield path


def _placed(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        yield from frames(path, MARK, beyond=True)
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
