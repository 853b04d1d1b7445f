"""LeRobot's dataset layout, version 3: `meta/`, `data/` (Parquet), `videos/` (mp4). Our own code, without the package.

Row t of an episode holds observation t and the action taken there, so T+1 rows are T steps; the last row's action leads
nowhere. What LeRobot has no place for (bounds of actions, names of observations) is in `meta/steersman.json`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from steersman.core.errors import ConfigError, DataError
from steersman.core.recording import Array, Recording
from steersman.core.signature import ObservationSpec, Signature
from steersman.data.formats import actions
from steersman.data.formats.arrays import Description
from steersman.data.formats.lerobot_writer import DESCRIPTION, DatasetWriter, list_episodes
from steersman.data.formats.nested import matrix, pictures, whole
from steersman.data.formats.parquet_pieces import sound_groups
from steersman.data.formats.recorded import Recorded
from steersman.data.formats.table import canonical
from steersman.data.formats.unsound import UNSOUND, json_object, reading
from steersman.data.formats.video import VideoReader
from steersman.data.source import Draft, ReadOptions, Saved, Source, fingerprint, listed, matching
from steersman.data.storage import JOURNAL, sha256
from steersman.runs.folders import new_folder

_MARK = ".saved"
"""Of the copy of a damaged dataset."""
_NUMBERS = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
_PICTURES = ("video", "image")
_OWN = ("timestamp", "frame_index", "episode_index", "index", "task_index", "time")


class LeRobot(Recorded):
    """LeRobot v3: Parquet and mp4. Images become video, which is lossy; everything else is exact."""

    name = "lerobot"
    lossy = "images are kept as H.264 video, which is lossy"
    kinds = ("vector", "image")
    actionless = False

    def matches(self, path: str) -> bool:
        return (Path(path) / "meta" / "info.json").is_file()

    def asks(self, path: str) -> bool:
        return path.rstrip("/").lower().endswith(".lerobot")

    def opened(self, path: str, options: ReadOptions) -> Source:
        options.only({"observation", "action", "exogenous", "low", "high", "discrete", "names"}, self.name)
        content = sha256(path)
        log = _Log(path, options)
        return Source(
            self.name, path, log.signature, fingerprint(self.name, content, options), log.recordings, log.steps,
            tuple(log.notes),
            canonical(log.signature, True) if log.description is None else log.description.described,
        )

    def salvage(self, path: str, folder: Path, error: DataError) -> Saved:
        """A copy of which episodes are read as far as they are sound. Where a killed writer left its journal,
        `meta/episodes` is made of it; the tables are read piece by piece."""
        root = Path(path)
        copy = folder / f"{root.name}{_MARK}"
        shutil.copytree(root, copy)
        if (copy / "meta" / JOURNAL).is_file():
            list_episodes(copy, _entries((copy / "meta" / JOURNAL).read_bytes()))
        return Saved(copy, "lost: the first episode that is not whole, and what follows it")

    def put(self, path: Path, draft: Draft) -> None:
        with new_folder(path, "a log") as folder:
            with closing(DatasetWriter(folder, draft.signature, draft.schema)) as writer:
                for number, recording in draft.checked():
                    writer.append(number, recording)
            writer.finish()


class _Log:
    """An opened dataset: its features with their roles, and where its episodes are."""

    def __init__(self, path: str, options: ReadOptions) -> None:
        self.path, self.root, self.notes, self.saved = path, Path(path), list[str](), path.endswith(_MARK)
        with self._reading():
            info = json_object(self.root / "meta" / "info.json")
            version = str(info.get("codebase_version", ""))
            if not version.startswith("v3"):
                raise DataError(
                    f"a LeRobot dataset of version 3 at {path}", f"version {version[:20] or 'unknown'}",
                    "convert it with LeRobot's own script",
                )
            self.features: dict[str, Any] = {str(k): dict(v) for k, v in info["features"].items()}
            self.fps = float(info["fps"])
            if not 0 < self.fps < 1e5:
                raise ValueError(f"{self.fps} frames a second")
            self.files = sorted(self.root.glob("data/chunk-*/file-*.parquet"))
            self.description = self._description() if not options.stated() else None
            self.signature, self.observed, self.action, self.exogenous = self._roles(options)
            videos = any(self.features[key]["dtype"] == "video" for key in self.observed.values())
            self.episodes = self._episodes() if videos else {}
            self.lengths = self._lengths()
            if not self.saved and int(info.get("total_episodes", len(self.lengths))) != len(self.lengths):
                raise ValueError(f"{len(self.lengths)} episodes in data/, {info['total_episodes']} in info.json")

    @property
    def steps(self) -> int:
        return sum(length - 1 for length in self.lengths)

    def _reading(self) -> AbstractContextManager[None]:
        return reading(f"a sound LeRobot dataset at {self.path}", ConfigError)

    def _description(self) -> Description | None:
        file = self.root / "meta" / DESCRIPTION
        return Description.parse(file.read_bytes(), str(file)) if file.is_file() else None

    # Roles -------------------------------------------------------------------------------------------------------

    def _roles(self, options: ReadOptions) -> tuple[Signature, dict[str, str], str, str | None]:
        """Signature, observation name -> feature, the action's feature, the exogenous inputs' feature."""
        action = self._one(options.action, "action", "action")
        exogenous = self._one(options.exogenous, "exogenous", "exogenous")
        if action is None:
            got = listed(self.features, "a feature")
            raise DataError(f"a feature 'action' in {self.path}", got, "name it (--action)")
        keys = self._observed(options)
        observed = {_short(key): key for key in keys}
        if self.description is not None:
            signature = self.description.signature
            places = {"image": "observation.images.", "vector": "observation."}
            observed = {name: places[spec.kind] + name for name, spec in signature.observations.items()}
            for name, wanted in signature.observations.items():
                if self._spec(observed[name], options).shape != wanted.shape:
                    raise ValueError(f"{name} of another shape than {DESCRIPTION} says")
            return signature, observed, action, "exogenous" if signature.exogenous else None
        specs = {name: self._spec(key, options) for name, key in observed.items()}
        values = np.concatenate([matrix(whole(table[action]))[:-1] for table in self._tables([action])])
        dtype = str(self.features[action].get("dtype"))
        acted = actions.infer(
            list(values.T.astype(np.float64)), dtype.startswith(("int", "uint")), self._names(action, values.shape[1]),
            options, self.path, self.notes,
        )
        inputs: tuple[str, ...] = ()
        if exogenous is not None:
            size = int(np.prod(self.features[exogenous]["shape"], dtype=object))
            inputs = self._names(exogenous, size) or tuple(f"{exogenous}.{i}" for i in range(size))
        return Signature(specs, acted, inputs), observed, action, exogenous

    def _one(self, said: tuple[str, ...], usual: str, role: str) -> str | None:
        if len(said) > 1 or any(key not in self.features for key in said):
            there = listed(self.features, "a feature")
            raise DataError(f"one feature as {role} in {self.path}", f"{list(said)}", f"name one of the {there}")
        return said[0] if said else usual if usual in self.features else None

    def _observed(self, options: ReadOptions) -> list[str]:
        known = [k for k, f in self.features.items() if f.get("dtype") in (*_NUMBERS, *_PICTURES) and k not in _OWN]
        if options.observation:
            keys = matching(known, options.observation, "a feature", self.path, "name it (--observation)")
        else:
            keys = [k for k in known if k.startswith("observation")]
            flat = [k for k in keys if self.features[k]["dtype"] in _PICTURES or len(self.features[k]["shape"]) < 2]
            self.notes += [f"ignored feature: {k} of shape {self.features[k]['shape']}" for k in keys if k not in flat]
            keys = flat
        if not keys:
            got = listed(self.features, "a feature")
            raise DataError(f"features observation.… in {self.path}", got, "name them (--observation)")
        return keys

    def _names(self, key: str, size: int) -> tuple[str, ...]:
        """Names of a feature's entries, where it has one for each: a list, or lists under some keys."""
        names = self.features[key].get("names")
        if isinstance(names, dict):
            names = [n for group in names.values() for n in (group if isinstance(group, list) else [group])]
        return tuple(map(str, names)) if isinstance(names, list) and len(names) == size else ()

    def _spec(self, key: str, options: ReadOptions) -> ObservationSpec:
        feature = self.features[key]
        shape = tuple(int(n) for n in feature["shape"])
        if min(shape, default=1) < 1 or int(np.prod(shape, dtype=object)) > 1 << 28:
            raise ValueError(f"{key} of shape {shape}")
        if feature["dtype"] in _PICTURES:
            names = [str(n)[:1] for n in feature.get("names") or ()]
            first = names[:1] == ["c"] if names else shape[0] in (1, 3, 4) and shape[-1] not in (1, 3, 4)
            return ObservationSpec("image", (shape[1], shape[2], shape[0]) if first else shape)
        if len(shape) > 1:
            raise DataError(f"a vector or images in feature {key!r} of {self.path}", f"{shape}", "leave it out")
        size = shape[0] if shape else 1
        return ObservationSpec("vector", (size,), options.names.get(_short(key), ()) or self._names(key, size))

    # Episodes ----------------------------------------------------------------------------------------------------

    def _tables(self, columns: list[str]) -> Iterator[pa.Table]:
        """One table an episode, in order."""
        if not self.files:
            raise FileNotFoundError("no data/chunk-…/file-….parquet")
        rest: pa.Table | None = None
        for table in self._groups(["episode_index", *columns]):
            rest = table if rest is None else pa.concat_tables([rest, table])
            numbers = rest["episode_index"].to_numpy()
            cuts = np.flatnonzero(np.diff(numbers)) + 1
            for start, stop in zip([0, *cuts[:-1]], cuts, strict=False):
                yield rest.slice(start, stop - start)
            rest = rest.slice(cuts[-1]) if len(cuts) else rest
        if rest is not None and rest.num_rows:
            yield rest

    def _groups(self, columns: list[str]) -> Iterator[pa.Table]:
        """Row groups of all files; of a saved dataset, those before the first that is not sound."""
        for number, file in enumerate(self.files):
            if self.saved:
                try:
                    yield from sound_groups(str(file), columns)
                    continue
                except UNSOUND:
                    if not number:
                        raise
                    return
            with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
                for group in range(parquet.num_row_groups):
                    table = parquet.read_row_group(group, columns=columns)
                    table.validate(full=True)
                    yield table

    def _lengths(self) -> list[int]:
        lengths = [table.num_rows for table in self._tables([])]
        if not lengths or min(lengths) < 2:
            raise ValueError(f"episode {int(np.argmin(lengths or [0]))} with fewer than 2 rows")
        return lengths

    def _episodes(self) -> dict[int, Mapping[str, Any]]:
        """Episode number -> its row of `meta/episodes`."""
        rows: dict[int, Mapping[str, Any]] = {}
        for file in sorted(self.root.glob("meta/episodes/chunk-*/file-*.parquet")):
            with pq.ParquetFile(file) as parquet:
                names = [n for n in parquet.schema_arrow.names if n == "episode_index" or n.startswith("videos/")]
                for row in parquet.read(columns=names).to_pylist():
                    rows[int(row["episode_index"])] = row
        return rows

    def recordings(self) -> Iterator[Recording]:
        """One episode after the other."""
        readers: dict[str, VideoReader] = {}
        keys = [k for k in self.observed.values() if self.features[k]["dtype"] != "video"]
        timed = self.description is not None and self.description.times
        columns = [*keys, self.action, *([self.exogenous] if self.exogenous else [])]
        columns += ["time" if timed else "timestamp", *(f"measured.{name}" for name in self.signature.slow)]
        try:
            with self._reading():
                for table in self._tables(columns):
                    yield self._recording(table, int(table["episode_index"][0].as_py()), readers, timed)
        finally:
            for reader in readers.values():
                reader.close()

    def _recording(self, table: pa.Table, number: int, readers: dict[str, VideoReader], timed: bool) -> Recording:
        observed: dict[str, Array] = {}
        for name, key in self.observed.items():
            spec = self.signature.observations[name]
            if self.features[key]["dtype"] == "video":
                observed[name] = self._video(key, number, table.num_rows, readers)[..., : spec.shape[2]]
            elif spec.kind == "image":
                files = (v["bytes"] if isinstance(v, dict) else v for v in table[key].to_pylist())  # or {bytes, path}
                observed[name] = pictures(files, spec.shape)
            else:
                observed[name] = matrix(whole(table[key])).astype(np.float32)
        acted = matrix(whole(table[self.action]))[:-1]
        discrete = self.signature.action.kind == "discrete"
        inputs = matrix(whole(table[self.exogenous]))[:-1].astype(np.float32) if self.exogenous else None
        times: Array | None = None
        if timed or self.description is None:
            times = table["time" if timed else "timestamp"].to_numpy().astype(np.float64)
        return Recording(
            observed, acted.astype(np.int64 if discrete else np.float32), inputs, times,
            {"file": self.path, "episode": str(number)},
            {name: table[f"measured.{name}"].to_numpy() != 0 for name in self.signature.slow},
        )

    def _video(self, key: str, number: int, rows: int, readers: dict[str, VideoReader]) -> Array:
        row = self.episodes[number]
        chunk, file = (int(row[f"videos/{key}/{part}"]) for part in ("chunk_index", "file_index"))
        if "/" in key or ".." in key:
            raise ValueError(f"a feature {key!r}")
        path = self.root / "videos" / key / f"chunk-{chunk:03d}" / f"file-{file:03d}.mp4"
        if key not in readers or readers[key].path != path:
            if key in readers:
                readers.pop(key).close()
            readers[key] = VideoReader(path, self.fps)
        start = float(row[f"videos/{key}/from_timestamp"])
        frames = readers[key].frames(round(start * self.fps), rows)
        spec = self.signature.observations[next(n for n, k in self.observed.items() if k == key)]
        if frames.shape[1:3] != spec.shape[:2]:
            raise ValueError(f"{key}: frames of {frames.shape[1:3]}, not {spec.shape[:2]}")
        return frames


def _short(key: str) -> str:
    """`observation.images.top` -> `top`, `observation.state` -> `state`."""
    return key.removeprefix("observation.").removeprefix("images.")


def _entries(journal: bytes) -> list[dict[str, Any]]:
    """The lines of a journal before the first that is not whole, or unlike the first."""
    entries: list[dict[str, Any]] = []
    for line in journal.split(b"\n"):
        try:
            entry = msgspec.json.decode(line, type=dict[str, int | float | list[str]])
        except msgspec.MsgspecError:
            break
        if entries and {k: type(v) for k, v in entry.items()} != {k: type(v) for k, v in entries[0].items()}:
            break
        entries.append(entry)
    return entries
