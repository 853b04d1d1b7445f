"""A folder that is a training cache already: its own format, so that a recording can be trained on as it is."""

from __future__ import annotations

from pathlib import Path

from steersman.data.cache import INDEX
from steersman.data.dataset import Dataset
from steersman.data.source import Format, ReadOptions, Source


class Cache(Format):
    """What `CacheWriter` makes."""

    name = "cache"

    def matches(self, path: str) -> bool:
        return (Path(path) / INDEX).is_file()

    def open(self, path: str, options: ReadOptions) -> Source:
        options.only(set(), self.name)
        dataset = Dataset.open(path)
        return Source(
            self.name, path, dataset.signature, dataset.fingerprint, dataset.episodes, dataset.steps, dataset.notes
        )
