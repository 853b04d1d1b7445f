"""A folder that is a training cache already: its own format, so that a recording can be trained on as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from steersman.core.errors import DataError
from steersman.core.recording import Recording
from steersman.core.signature import Signature
from steersman.data.formats.recorded import Recorded
from steersman.data.formats.table import canonical
from steersman.data.source import Draft, ReadOptions, Saved, Source
from steersman.data.storage import JOURNAL


class Cache(Recorded):
    """What `CacheWriter` makes."""

    name = "cache"
    isolated = False  # mapped, not parsed

    def matches(self, path: str) -> bool:
        return (Path(path) / "index.json").is_file()

    def claims(self, path: str) -> bool:
        return (Path(path) / JOURNAL).is_file()

    def salvage(self, path: str, folder: Path, error: DataError) -> Saved:
        from steersman.data.cache import salvage

        return salvage(path, folder)

    def losses(self, signature: Signature) -> tuple[str, ...]:
        return ("a cache keeps no times of its rows",)

    def opened(self, path: str, options: ReadOptions) -> Source:
        from steersman.data.dataset import Dataset

        options.only(set(), self.name)
        dataset = Dataset.open(path)

        def stream() -> Iterator[Recording]:
            return (episode.recording() for episode in dataset.episodes())

        return Source(self.name, path, dataset.signature, dataset.fingerprint, stream, dataset.steps, dataset.notes,
                      dataset.schema or canonical(dataset.signature, False))

    def put(self, path: Path, draft: Draft) -> None:
        from steersman.core.types import Episode
        from steersman.data.cache import CacheWriter

        with CacheWriter(path, draft.signature, schema=draft.schema) as writer:
            writer.append(map(Episode.of, draft.recordings))
            writer.finish()
