"""Minari datasets (HDF5 and Arrow), by dataset id or by folder. Needs the extra `minari`; never downloads.

Knows Minari's layout only through the minari package, and the spaces through `core.spaces`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from steersman.core.errors import DataError, MismatchError, UsageError
from steersman.core.recording import Recording
from steersman.core.spaces import Adapter, adapt
from steersman.data.source import Format, ReadOptions, Source, fingerprint
from steersman.data.storage import sha256

_ID = re.compile(r"([-\w]+/)*[-\w]+-v\d+")


class Minari(Format):
    """A dataset of the Minari package: T+1 observations and T actions an episode."""

    name = "minari"
    extra = "minari"

    def matches(self, path: str) -> bool:
        return _folder(path) is not None

    def open(self, path: str, options: ReadOptions) -> Source:
        folder = _folder(path)
        if folder is None:
            raise DataError(f"a Minari dataset at {path}", "no folder with metadata.json", "check the id or the path")
        options.only({"low", "high", "names"}, self.name)
        metadata = _metadata(folder)
        dataset = _load(folder)
        adapter, notes = _adapt(dataset, metadata, options, path)
        return Source(
            self.name, path, adapter.signature, fingerprint(self.name, sha256(folder), options),
            lambda: _episodes(dataset, adapter, path), int(dataset.total_steps), tuple(notes),
        )


def _folder(path: str) -> Path | None:
    """The folder with the data: `path` itself, `path/data`, or that of a local dataset of this id."""
    roots = [Path(path)]
    if _ID.fullmatch(path):
        home = os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets"
        roots.append(Path(home) / path)
    for root in roots:
        for folder in (root, root / "data"):
            if (folder / "metadata.json").is_file():
                return folder
    return None


def _metadata(folder: Path) -> dict[str, Any]:
    """Refuse a dataset without spaces: Minari would import and build the environment named in the file."""
    try:
        metadata = json.loads((folder / "metadata.json").read_bytes())
        if not all(isinstance(metadata[key], str) for key in ("observation_space", "action_space", "data_format")):
            raise KeyError("observation_space")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"a metadata.json with observation_space, action_space and data_format in {folder}", f"{error!r}",
            "record the dataset with Minari 0.5 or later",
        ) from error
    return dict(metadata)


def _load(folder: Path) -> Any:
    try:
        import minari
    except ImportError as error:
        raise UsageError(
            "the package minari to read a Minari dataset", f"{error}", 'install it: pip install "steersman[minari]"'
        ) from error
    try:
        return minari.MinariDataset(folder)
    except Exception as error:  # whatever Minari, h5py or pyarrow make of a damaged file
        raise DataError(f"a sound Minari dataset in {folder}", f"{error!r}", "record or download it again") from error


def _adapt(dataset: Any, metadata: dict[str, Any], options: ReadOptions, path: str) -> tuple[Adapter, list[str]]:
    notes: list[str] = []
    low, high = options.low, options.high
    space = dataset.action_space
    if hasattr(space, "low") and not np.isfinite([space.low, space.high]).all() and not (low and high):
        actions = np.concatenate([np.asarray(e.actions) for e in _raw(dataset, path)])
        low, high = low or tuple(actions.min(0).tolist()), high or tuple(actions.max(0).tolist())
        notes.append(f"bounds of actions taken from the log: low {list(low)}, high {list(high)}")
    try:
        adapter = adapt(
            dataset.observation_space, space, low=low, high=high, names=options.names, env_id=_env_id(metadata),
            where=path,
        )
    except MismatchError as error:
        raise DataError(error.expected, error.got, "record the dataset with a wrapper that makes it so") from error
    return adapter, notes


def _env_id(metadata: dict[str, Any]) -> str | None:
    try:
        return str(json.loads(metadata["env_spec"])["id"])
    except (KeyError, ValueError, TypeError):
        return None


def _raw(dataset: Any, path: str) -> Iterator[Any]:
    try:
        yield from dataset.iterate_episodes()
    except Exception as error:  # see _load
        raise DataError(f"readable episodes in {path}", f"{error!r}", "record or download the dataset again") from error


def _episodes(dataset: Any, adapter: Adapter, path: str) -> Iterator[Recording]:
    for raw in _raw(dataset, path):
        try:
            observations, actions = adapter.arrays(raw.observations), adapter.action_array(raw.actions)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise DataError(f"episode {raw.id} of {path} as its spaces say", f"{error!r}", "record it again") from error
        yield Recording(observations, actions, info={"file": path, "episode": str(raw.id)})
