"""What an agent went through while it acted, as it lies in its run: RUN/experience. Its episodes are in the order in
which they began.

A log that is growing is read up to where it was when it was opened. What made room, or was altered on disk, ends one
episode and lets another begin. See `runs.experience`; written by agents only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from steersman.core.errors import DataError, RunError
from steersman.core.recording import Recording
from steersman.data.formats.recorded import Recorded
from steersman.data.formats.table import canonical
from steersman.data.source import ReadOptions, Source, fingerprint
from steersman.runs.experience import INDEX, ExperienceReader
from steersman.runs.files import refusals


class Experience(Recorded):
    """The log of moments that `agent.experience` appends to."""

    name = "experience"
    isolated = False  # numbers behind lengths that are checked, nothing is parsed

    def matches(self, path: str) -> bool:
        return (Path(path) / INDEX).is_file()

    def asks(self, path: str) -> bool:
        return False

    def opened(self, path: str, options: ReadOptions) -> Source:
        options.only(set(), self.name)
        with _unsound(path):
            reader = ExperienceReader(Path(path))
            span, steps, timed, digest = reader.span(), 0, True, hashlib.sha256()
            for recording in reader.recordings(span.start, span.stop):
                steps, timed = steps + len(recording), timed and recording.times is not None
                _feed(digest, recording)
            notes = _notes(reader, span)

        def stream() -> Iterator[Recording]:
            with _unsound(path):
                for recording in reader.recordings(span.start, span.stop):
                    yield recording if timed else replace(recording, times=None)

        return Source(
            self.name, path, reader.signature, fingerprint(self.name, digest.hexdigest(), options), stream, steps,
            notes, canonical(reader.signature, timed and steps > 0),
        )


@contextmanager
def _unsound(path: str) -> Iterator[None]:
    """A damaged run is a damaged log."""
    try:
        with refusals("experience read", path):
            yield
    except RunError as error:
        raise DataError(error.expected, error.got, error.fix) from error


def _feed(digest: hashlib._Hash, recording: Recording) -> None:
    named = {**recording.observations, **{f"measured {name}": value for name, value in recording.measured.items()}}
    single = {"actions": recording.actions, "exogenous": recording.exogenous, "times": recording.times}
    for name, values in (*sorted(named.items()), *single.items()):
        if values is not None:
            digest.update(f"{name} {values.shape}\n".encode() + values.tobytes())


def _notes(reader: ExperienceReader, span: range) -> tuple[str, ...]:
    index, there = reader.index, sum(1 for _ in reader.moments(span.start, span.stop))
    said = [f"moments {span.start} to {span.stop - 1} of what an agent went through"] if span else []
    if index.first:
        said.append(f"{index.first} earlier ones made room: {index.by_size} for size, {index.by_age} for age")
    if there < len(span):
        said.append(f"{len(span) - there} were altered on disk and are left out")
    return tuple(said)
