"""A log and a place -> a dataset: the cache there is used if it is sound and made from this source, else built anew."""

from __future__ import annotations

import os
from pathlib import Path

from steersman.core.errors import DataError, StorageError
from steersman.data.cache import CacheWriter
from steersman.data.dataset import Dataset
from steersman.data.formats import read
from steersman.data.source import Progress, ReadOptions, Source
from steersman.data.storage import stamp


def build(source: Source, path: str | os.PathLike[str], progress: Progress | None = None) -> Dataset:
    """The dataset of `source`, cached at `path`.

    A cache there with the same fingerprint is opened as it is; another, damaged or of another version is replaced
    when the new one is whole; something that is no cache is never touched.

    Raises:
        DataError, ActionError: the source is unsound, or changed while it was read.
        StorageError: the file system refused; nothing half-written is left.
    """
    try:
        dataset = Dataset.open(path)
        if dataset.fingerprint == source.fingerprint:
            return dataset
    except DataError:
        pass  # no cache, or none that can be used: it is built below
    before = _stamp(source)
    origin = f"{source.format}: {source.path}"
    with CacheWriter(path, source.signature, origin=origin, schema=source.schema) as writer:
        writer.notes.extend(source.notes)
        for episode in source.episodes():
            writer.append(episode)
            if progress is not None:
                progress(writer.steps, source.steps)
        if _stamp(source) != before:
            raise DataError(f"{source.path} to stay as it is while read", "a change", "try again once it is written")
        writer.finish(source.fingerprint)
    return Dataset.open(path)


def load(
    path: str | os.PathLike[str], cache: str | os.PathLike[str], options: ReadOptions | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """`read` and `build` in one call. A log that is a cache already is opened where it is."""
    source = read(path, options)
    return Dataset.open(source.path) if source.format == "cache" else build(source, cache, progress)


def _stamp(source: Source) -> object:
    if not Path(source.path).exists():
        return None
    try:
        return stamp(source.path)
    except OSError as error:
        raise StorageError(f"{source.path} to stay where it is", f"{error}", "try again") from error
