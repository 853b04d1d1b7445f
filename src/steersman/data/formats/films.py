"""Films without a table: a film, or a folder of them, each an episode in which nobody acts. Needs the extra `video`.

Times are the film's own time stamps; where it has none that increase, the frame's place over its rate. A film beside a
table of what was done is read by `steersman.data.formats.folder`.

Shapes: T steps, H height, W width, C channels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from steersman.core.errors import DataError, UsageError
from steersman.core.recording import Array, Recording
from steersman.core.signature import ActionSpec, ObservationSpec, Signature
from steersman.data.formats import kinds
from steersman.data.formats.unsound import reading
from steersman.data.formats.video import LARGEST, VideoWriter, library
from steersman.data.source import Draft, Format, ReadOptions, Source, fingerprint
from steersman.data.storage import sha256

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mp4", ".avi": "avi", ".webm": "webm", ".mkv": "matroska",
              ".gif": "gif"}
"""Suffix -> how the file is read, whatever it claims to be."""
_FPS = 10.0
"""Frames a second of a film that is written from moments without times."""
_MOST = 8 << 30
"""Most bytes of the frames of one film."""


@dataclass(frozen=True)
class Film:
    """What a film says of itself: its size, its rate (0: unknown)."""

    file: Path
    height: int
    width: int
    rate: float


class Films(Format):
    """Films alone: mp4, avi, mov, webm, mkv, gif, a file or a folder of them, an episode each. Written as H.264."""

    name = "films"
    lossy = "images are kept as H.264 video, which is lossy; times become those of an even rate, from 0"

    def matches(self, path: str) -> bool:
        return kinds.looks_like(path, self.name)

    def asks(self, path: str) -> bool:
        return False

    def open(self, path: str, options: ReadOptions) -> Source:
        options.only({"resize"}, self.name)
        notes: list[str] = []
        files = kinds.files_of(path, self.name, options, notes)
        said = kinds.description(path, "image")
        films = kinds.headers(files, header)
        _alike(films, options, notes if said is None else [])
        size = options.resize or (films[0].height, films[0].width)
        channels = said[2].shape[2] if said else 3
        if said and (channels not in (1, 3) or (not options.resize and size != said[2].shape[:2])):
            raise kinds.unlike(files[0], f"frames of {said[2].shape}", f"{size}")
        name, timed = (said[1], said[0].times) if said else ("image", True)
        signature = Signature({name: ObservationSpec("image", (*size, channels))}, ActionSpec("none"))

        def stream() -> Iterator[Recording]:
            for film in films:
                frames, times = decoded(film, size)
                yield Recording({name: frames[..., :channels]}, kinds.still(len(frames) - 1),
                                times=times if timed else None, info=kinds.about(film.file, path))

        content = fingerprint(self.name, sha256(path), options)
        return Source(self.name, path, signature, content, stream, None, tuple(notes))

    def put(self, path: Path, draft: Draft) -> None:
        for name, spec in draft.signature.observations.items():
            if spec.kind == "image" and spec.shape[2] not in (1, 3):
                raise UsageError("images of 1 or 3 channels in a film", f"{spec.shape[2]} in {name!r}",
                                 "write .parquet or .h5 instead")
        kinds.put(path, draft, self.name, "image", ".mp4", _store)


def _store(file: Path, recording: Recording) -> None:
    (frames,), times = recording.observations.values(), recording.times
    known = times is not None and len(times) > 1
    fps = float(np.clip(1 / np.median(np.diff(times)), 0.01, 10_000.0)) if known and times is not None else _FPS
    with closing(VideoWriter(file, frames.shape[1:], fps)) as writer:
        writer.append(frames)


# Reading ----------------------------------------------------------------------------------------------------------


def _opened(file: Path) -> Any:
    return library().open(str(file), "r", format=CONTAINERS[file.suffix.lower()])


def header(file: Path) -> Film:
    """Size and rate; no frame is decoded.

    Raises:
        DataError: no film, none with pictures, frames that are too large.
    """
    if file.suffix.lower() not in CONTAINERS:
        raise DataError(f"a film ({', '.join(CONTAINERS)})", f"{file}", "give it the suffix of its container")
    with reading(f"a sound film at {file}", library().FFmpegError), closing(_opened(file)) as container:
        if not container.streams.video:
            raise ValueError("no pictures in it")
        stream = container.streams.video[0]
        context = stream.codec_context
        if context is None or not 0 < context.width * context.height <= LARGEST:
            raise ValueError("frames of no size, or too large")
        return Film(file, context.height, context.width, float(stream.average_rate or stream.base_rate or 0))


def decoded(film: Film, size: tuple[int, int]) -> tuple[Array, Array]:
    """All frames, (T+1, H, W, 3) uint8, brought to `size` (H, W), and their times (T+1,) in seconds from the first.

    Raises:
        DataError: no frame, a damaged file, frames that change their size, more than memory is meant to hold.
    """
    height, width = size
    pixels, stamps, place = bytearray(), list[float](), film.file
    try:
        with reading(f"a sound film at {place}", library().FFmpegError), closing(_opened(place)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1  # a thread's stack may not fit the parser's limit of memory
            for frame in container.decode(stream):
                if (frame.height, frame.width) != (film.height, film.width):
                    raise ValueError(f"a frame of {frame.height}×{frame.width} among {film.height}×{film.width}")
                pixels += frame.to_ndarray(format="rgb24", width=width, height=height).tobytes()
                stamps.append(np.nan if frame.pts is None else float(frame.pts * frame.time_base))
                if len(pixels) > _MOST:
                    raise _too_long(place, len(stamps))
            if not stamps:
                raise ValueError("no frame")
    except DataError as error:
        if "MemoryError" in error.got:
            raise _too_long(place, len(stamps)) from error
        raise
    times = np.array(stamps) - stamps[0]
    if not (np.diff(times) > 0).all():
        times = np.arange(len(stamps)) / (film.rate or _FPS)
    return np.frombuffer(pixels, np.uint8).reshape(len(stamps), height, width, 3), times


def _too_long(file: Path, frames: int) -> DataError:
    return DataError(f"a film whose frames fit into memory at {file}", f"{frames:,} frames and more",
                     "bring them to a smaller size (--resize HEIGHT WIDTH), or cut the film")


def _alike(films: list[Film], options: ReadOptions, notes: list[str]) -> None:
    """Refuse films of several sizes, unless they are brought to one; say where rates differ."""
    first = films[0]
    for film in films:
        if options.resize is None and (film.height, film.width) != (first.height, first.width):
            raise DataError(f"films of one size, {first.height}×{first.width} as {first.file}",
                            f"{film.height}×{film.width} in {film.file}",
                            "remove it, or bring all to one size (--resize HEIGHT WIDTH)")
    sizes = {(film.height, film.width) for film in films} - {options.resize}
    if options.resize is not None and sizes:
        among = ", ".join(f"{height}×{width}" for height, width in sorted(sizes)[:3])
        notes.append(f"resized to {options.resize[0]}×{options.resize[1]} from {among}{' …' if len(sizes) > 3 else ''}")
    rates = Counter(round(film.rate, 2) for film in films)
    if len(rates) > 1:
        said = ", ".join(f"{rate:g} ({count} films)" for rate, count in rates.most_common(4))
        notes.append(f"frames a second differ: {said}; a step is not equally long in all of them")
