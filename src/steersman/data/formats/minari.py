"""Minari datasets (HDF5, Arrow, Parquet storage), by dataset id or by folder. Downloads and imports nothing.

Reads and writes Minari's layout itself, without the minari package; the spaces are understood by `core.spaces`. What
Minari has no place for (exogenous inputs, times, names) goes into `infos` and a description in `metadata.json`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from steersman.core.errors import DataError, MismatchError, UsageError
from steersman.core.recording import Recording
from steersman.core.signature import Signature
from steersman.core.spaces import Adapter, adapt
from steersman.data.formats import minari_storage as storage
from steersman.data.formats.arrays import DESCRIPTION, Description, describe
from steersman.data.formats.hdf5 import fill, is_cut
from steersman.data.formats.hdf5_notes import rescue
from steersman.data.formats.minari_spaces import RECORD, parse, serialise
from steersman.data.formats.recorded import Recorded
from steersman.data.formats.table import canonical
from steersman.data.formats.unsound import json_object, reading
from steersman.data.source import Draft, ReadOptions, Saved, Source, fingerprint
from steersman.data.storage import sha256
from steersman.runs.folders import new_folder

_ID = re.compile(r"([-\w]+/)*[-\w]+-v\d+")
_MANY = 1 << 32
_VERSION = "0.5.3"
"""The Minari whose layout this is."""


class Minari(Recorded):
    """A dataset of the Minari package: T+1 observations and T actions an episode; written as HDF5."""

    name = "minari"
    stored = "hdf5"
    kinds = ("vector", "image")
    actionless = False

    def matches(self, path: str) -> bool:
        return _folder(path) is not None

    def asks(self, path: str) -> bool:
        return bool(re.search(r"-v\d+$", path))

    def opened(self, path: str, options: ReadOptions) -> Source:
        folder = _folder(path)
        if folder is None:
            raise DataError(f"a Minari dataset at {path}", "no folder with metadata.json", "check the id or the path")
        options.only({"low", "high", "names"}, self.name)
        metadata = _metadata(folder)
        episodes = storage.Episodes(folder, metadata)
        description = None
        if DESCRIPTION in metadata and not options.stated():
            description = Description.parse(str(metadata[DESCRIPTION]).encode(), path)
        adapter, notes = _adapt(episodes, metadata, options, path)
        signature = adapter.signature
        if description is not None:
            described = description.signature
            try:
                plain = msgspec.structs.replace(described, exogenous=())
                plain.require(signature, f"the description of {path}", "its spaces")
            except MismatchError as error:
                raise DataError(error.expected, error.got, "write the dataset again") from error
            signature = described
        content = fingerprint(self.name, sha256(folder), options)

        def stream() -> Iterator[Recording]:
            timed = description is not None and description.times
            return _recordings(episodes, adapter, signature, timed, path)

        return Source(self.name, path, signature, content, stream, int(metadata["total_steps"]), tuple(notes),
                      canonical(signature, False) if description is None else description.described)

    def put(self, path: Path, draft: Draft) -> None:
        signature = draft.signature
        describe(signature, False)  # refuses names that are no part of a path
        observation, action = serialise(signature)
        steps = episodes = 0
        metadata: dict[str, Any] = {
            "total_episodes": 0, "total_steps": 0, "data_format": self.stored, "jpeg_encoding": False,
            "observation_space": observation, "action_space": action, "dataset_id": path.name,
            "minari_version": _VERSION, "algorithm_name": "", "author": [], "author_email": [], "code_permalink": "",
        }
        with new_folder(path, "a log") as folder:
            data = folder / "data"
            data.mkdir()
            with storage.writer(self.stored, data) as store:
                for number, recording in draft.checked():
                    if not number:
                        metadata[DESCRIPTION] = describe(signature, recording.times is not None, draft.schema).decode()
                        _note(data, metadata, 0, 0)  # what `salvage` needs, should this be all
                    store(number, recording, signature, metadata[DESCRIPTION].encode())
                    steps, episodes = steps + len(recording), number + 1
            _note(data, metadata, episodes, steps)

    def claims(self, path: str) -> bool:
        return self.matches(path) or _main(path) is not None

    def salvage(self, path: str, folder: Path, error: DataError) -> Saved:
        main, root = _main(path), _folder(path)
        if main is not None and (kept := rescue(str(main), folder / "episodes.npz")):
            what = f"kept {kept:,} episodes; lost: the first that is not whole, and what follows it"
            return Saved(folder / "episodes.npz", what, "npz")
        if root is None:
            raise error
        copy = folder / f"{root.name}.saved"
        shutil.copytree(root, copy)
        if main is not None and is_cut(str(main)):
            fill(str(main), copy / storage.MAIN)
        numbered = sum(p.name.isdigit() for p in copy.iterdir())
        _note(copy, _parsed(copy), numbered or _MANY, _MANY)
        return Saved(copy, "lost: the first episode that is not whole, and what follows it")


class MinariArrow(Minari):
    """A dataset of the Minari package, written in its Arrow storage."""

    name = "minari-arrow"
    stored = "arrow"

    def matches(self, path: str) -> bool:
        return False  # read as "minari"

    def asks(self, path: str) -> bool:
        return False


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


def _main(path: str) -> Path | None:
    """The HDF5 file of a dataset, with or without its metadata."""
    return next((p for p in (Path(path) / storage.MAIN, Path(path) / "data" / storage.MAIN) if p.is_file()), None)


def _note(folder: Path, metadata: dict[str, Any], episodes: int, steps: int) -> None:
    metadata |= {"total_episodes": episodes, "total_steps": steps}
    (folder / "metadata.json").write_text(json.dumps(metadata, indent=1))


def _parsed(folder: Path) -> dict[str, Any]:
    """What metadata.json says, unchecked.

    Raises:
        DataError: not even JSON.
    """
    with reading(f"a metadata.json in {folder}"):
        return json_object(folder / "metadata.json")


def _metadata(folder: Path) -> dict[str, Any]:
    """Refuse a dataset without spaces: Minari would import and build the environment named in the file."""
    metadata = _parsed(folder)
    wanted = f"a metadata.json with observation_space, action_space and data_format in {folder}"
    with reading(wanted, fix=RECORD):
        if not all(isinstance(metadata[key], str) for key in ("observation_space", "action_space", "data_format")):
            raise KeyError("observation_space")
        if metadata["data_format"] not in storage.STORED:
            raise ValueError(f"data_format {metadata['data_format']!r}")
        counts = [metadata[key] for key in ("total_episodes", "total_steps")]
        if not all(isinstance(n, int) and 0 < n < 1 << 40 for n in counts) or counts[1] < counts[0]:
            raise ValueError(f"{counts[0]} episodes of {counts[1]} steps")
    return metadata


def _adapt(
    episodes: storage.Episodes, metadata: dict[str, Any], options: ReadOptions, path: str
) -> tuple[Adapter, list[str]]:
    notes: list[str] = []
    low, high = options.low, options.high
    observed, space = (parse(metadata[key], path) for key in ("observation_space", "action_space"))
    episodes.observation_space, episodes.action_space = observed, space
    if hasattr(space, "low") and not np.isfinite([space.low, space.high]).all() and not (low and high):
        actions = np.concatenate([np.asarray(raw["actions"]) for raw in episodes.read(observations=False)])
        low, high = low or tuple(actions.min(0).tolist()), high or tuple(actions.max(0).tolist())
        notes.append(f"bounds of actions taken from the log: low {list(low)}, high {list(high)}")
    try:
        adapter = adapt(
            observed, space, low=low, high=high, names=options.names, env_id=_env_id(metadata), where=path
        )
    except (MismatchError, UsageError) as error:
        raise DataError(error.expected, error.got, "record the dataset with a wrapper that makes it so") from error
    if not adapter.leaves or sum(int(np.prod(leaf.spec.shape, dtype=object)) for leaf in adapter.leaves) > 1 << 26:
        raise DataError(f"observations of at most {1 << 26} numbers in {path}", "more, or none", "record fewer")
    return adapter, notes


def _env_id(metadata: dict[str, Any]) -> str | None:
    try:
        return str(json.loads(metadata["env_spec"])["id"])
    except (KeyError, ValueError, TypeError, RecursionError):
        return None


def _recordings(
    episodes: storage.Episodes, adapter: Adapter, signature: Signature, timed: bool, path: str
) -> Iterator[Recording]:
    for number, raw in enumerate(episodes.read()):
        with reading(f"episode {number} of {path} as its spaces say", fix="record it again"):
            actions, infos = adapter.action_array(raw["actions"]), raw["infos"]
            observations = adapter.arrays(raw["observations"])
            exogenous = times = None
            if signature.exogenous:
                exogenous = np.asarray(infos["exogenous"], np.float32)[: len(actions)].reshape(len(actions), -1)
            if timed:
                times = np.asarray(infos["times"], np.float64).reshape(-1)
            measured = {
                name: np.asarray(infos[f"{storage.MEASURED}{name}"]).reshape(-1) != 0 for name in signature.slow
            }
        yield Recording(observations, actions, exogenous, times, {"file": path, "episode": str(number)}, measured)
