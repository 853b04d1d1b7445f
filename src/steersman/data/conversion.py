"""A log of one format -> a log of another, episode by episode. Knows the formats only through their interface."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import msgspec

from steersman.core.recording import Recording
from steersman.data.formats import writer_for
from steersman.data.source import Progress, Source
from steersman.runs.files import size_of


class Conversion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a conversion left: the log that was written, how much is in it, and what people should know."""

    path: str
    format: str
    episodes: int
    steps: int
    bytes: int
    seconds: float
    notes: tuple[str, ...] = ()


def convert(
    source: Source, path: str | os.PathLike[str], format: str | None = None, progress: Progress | None = None
) -> Conversion:
    """Write `source` to `path`; the format follows from the name, or is given. Whole or not at all.

    Raises:
        DataError, ActionError: the source is unsound.
        UsageError: a format that is unknown, cannot be written, or cannot hold these observations.
        StorageError: the file system refused; nothing half-written is left.
    """
    started = time.perf_counter()
    writer = writer_for(path, format)
    counts = [0, 0]

    def counted() -> Iterator[Recording]:
        for recording in source.recordings():
            counts[0] += 1
            counts[1] += len(recording)
            yield recording
            if progress is not None:
                progress(counts[1], source.steps)

    written = writer.write(path, source.signature, counted(), source.schema)
    return Conversion(
        str(path), writer.name, counts[0], counts[1], size_of(written), time.perf_counter() - started,
        (*source.notes, *writer.losses(source.signature)),
    )
