"""Frames of an mp4 file, in order and by number, and the other way round. Needs the extra `video` (PyAV).

H.264 is lossy: a frame comes back a few grey levels off. Files are written in fragments, so that what was on disk when
a recording was interrupted can still be read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from steersman.core.errors import DataError, UsageError
from steersman.core.extras import require
from steersman.core.recording import Array
from steersman.data.formats.unsound import reading

LARGEST = 1 << 26
"""Most pixels in a frame."""
_CRF, _KEYFRAMES = "18", "10"


def library() -> Any:
    """PyAV, which says nothing by itself."""
    av = require("av", "video")
    av.logging.set_level(None)
    return av


class VideoReader:
    """Frames by number at `fps` frames a second; reading on from where one left is fast, going back seeks."""

    def __init__(self, path: str | os.PathLike[str], fps: float | None = None, counted: bool = False) -> None:
        """A frame's number follows from its time and `fps` (default: the file's), or is its place in the file."""
        self.path, self._counted = Path(path), counted
        with self._reading():
            self._open()
            context = self._stream.codec_context
            if context is None or not 0 < context.width * context.height <= LARGEST:
                raise ValueError("frames of no size, or too large")
            rate = self._stream.average_rate or self._stream.base_rate
            if fps is None and not rate and not counted:
                raise ValueError("no frame rate")
            self.fps = float(fps or rate or 1)
            self.shape = (context.height, context.width, 3)
        self._frames: Iterator[tuple[int, Any]] = self._decoded()
        self._next = 0

    def _open(self) -> None:
        self._container = library().open(str(self.path), "r", format="mp4")
        self._stream = self._container.streams.video[0]
        if self._stream.codec_context is not None:  # a thread's stack may not fit the parser's limit of memory
            self._stream.codec_context.thread_count = 1

    def _reading(self) -> AbstractContextManager[None]:
        return reading(f"a sound mp4 file at {self.path}", library().FFmpegError)

    def _decoded(self) -> Iterator[tuple[int, Any]]:
        for place, frame in enumerate(self._container.decode(self._stream)):
            if self._counted:
                yield place, frame
                continue
            if frame.pts is None:
                raise ValueError("a frame without a time")
            start = self._stream.start_time or 0
            yield round(float((frame.pts - start) * self._stream.time_base) * self.fps), frame

    def frames(self, start: int, count: int) -> Array:
        """Frames start to start + count, (count, H, W, 3) uint8.

        Raises:
            DataError: fewer frames, or a damaged file.
        """
        with self._reading():
            if start != self._next:
                self._seek(start)
            taken: list[Array] = []
            for number, frame in self._frames:
                if number < start:
                    continue
                if (frame.height, frame.width) != self.shape[:2] or number != start + len(taken):
                    raise ValueError(f"frame {start + len(taken)} missing")
                taken.append(frame.to_ndarray(format="rgb24"))
                if len(taken) == count:
                    break
            self._next = start + len(taken)
            if len(taken) < count:
                raise ValueError(f"{start + len(taken)} frames where {start + count} are needed")
        return np.stack(taken)

    def _seek(self, start: int) -> None:
        """Read on at a frame from which `start` can be reached; from the first, where the file has no sound index."""
        if self._counted:
            self._container.close()
            self._open()
            self._frames = self._decoded()
            return
        base = self._stream.time_base
        offset = int(start / self.fps / float(base)) + (self._stream.start_time or 0)
        self._container.seek(max(offset, 0), stream=self._stream, backward=True)
        frames = self._decoded()
        first = next(frames, None)
        if first is None or first[0] > start:
            self._container.close()
            self._open()
            self._frames = self._decoded()
        else:
            self._frames = chain([first], frames)

    def count(self) -> int:
        """How many frames can be decoded, whatever the header says: all are."""
        seen = 0
        with suppress(DataError), self._reading():
            self._container.close()
            self._open()
            for _ in self._decoded():
                seen += 1
        self._next = -1
        return seen

    def close(self) -> None:
        self._container.close()


class VideoWriter:
    """Frames (H, W, 3) or (H, W, 1) uint8 into one mp4 file."""

    def __init__(self, path: str | os.PathLike[str], shape: tuple[int, ...], fps: float) -> None:
        av = library()
        height, width, channels = shape
        if channels not in (1, 3):
            raise UsageError("images of 1 or 3 channels in a video", f"{channels}", "write .parquet or .h5 instead")
        self.path, self.frames = Path(path), 0
        options = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
        self._container = av.open(str(path), "w", format="mp4", options=options)
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        rate = Fraction(fps).limit_denominator(65535)
        self._stream, self._time_base = self._container.add_stream(codec, rate=rate), 1 / rate
        self._stream.width, self._stream.height = width, height
        even = not (width % 2 or height % 2)
        self._stream.pix_fmt = self.pixels = "yuv420p" if even or codec != "libx264" else "yuv444p"
        self._stream.options = {"crf": _CRF, "g": _KEYFRAMES, "preset": "veryfast"}
        self._av, self.codec = av, "h264" if codec == "libx264" else codec

    def append(self, frames: Array) -> None:
        """(N, H, W, C) uint8."""
        for image in frames:
            pixels = np.repeat(image, 3, -1) if image.shape[-1] == 1 else image
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = self.frames
            self.frames += 1
            frame.time_base = self._time_base
            self._container.mux(self._stream.encode(frame))

    def size(self) -> int:
        """Bytes on disk so far."""
        return self.path.stat().st_size if self.path.exists() else 0  # the first packet makes the file

    def close(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()
