"""Minari's files: one HDF5 file with a group per episode, or a folder of Arrow or Parquet files per episode.

Knows spaces as trees of arrays; knows nothing of signatures beyond what it writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from steersman.core.extras import require
from steersman.core.recording import Array, Recording
from steersman.core.signature import Signature
from steersman.data.formats import hdf5
from steersman.data.formats.arrays import lay_out
from steersman.data.formats.hdf5_notes import attach
from steersman.data.formats.nested import matrix, pictures, whole
from steersman.data.formats.unsound import reading

STORED = ("hdf5", "arrow", "parquet")
MAIN = "main_data.hdf5"
MEASURED = "measured."


def is_ours(info: str) -> bool:
    """Did this package put it into `infos`?"""
    return info in ("exogenous", "times") or info.startswith(MEASURED)


Store = Callable[[int, Recording, Signature, bytes], None]


class Episodes:
    """The episodes of a dataset, read one after the other as trees of arrays."""

    def __init__(self, folder: Path, metadata: dict[str, Any]) -> None:
        self.folder, self.stored = folder, str(metadata["data_format"])
        self.count = int(metadata["total_episodes"])
        self.jpeg = bool(metadata.get("jpeg_encoding", True))
        self.observation_space: Any = None
        self.action_space: Any = None

    def read(self, observations: bool = True) -> Iterator[dict[str, Any]]:
        """`observations` (unless unwanted), `actions` and `infos` of each episode.

        Raises:
            DataError: files that are missing or unsound.
        """
        return self._hdf5(observations) if self.stored == "hdf5" else self._tables(observations)

    # HDF5 --------------------------------------------------------------------------------------------------------

    def _hdf5(self, observations: bool) -> Iterator[dict[str, Any]]:
        path = self.folder / MAIN
        with hdf5.opened(path) as file:
            for number in range(self.count):
                name = f"episode_{number}"
                hdf5.tree(file, f"{path}", name)  # refuses links and what reaches outside
                group = file[name]
                actions = self._hdf5_value(group["actions"], self.action_space)
                infos = {key: group[f"infos/{key}"][()] for key in group.get("infos", ()) if is_ours(key)}
                raw = {"actions": actions, "infos": infos}
                if observations:
                    raw["observations"] = self._hdf5_value(group["observations"], self.observation_space)
                yield raw

    def _hdf5_value(self, node: Any, space: Any) -> Any:
        from gymnasium import spaces

        if isinstance(space, spaces.Dict):
            return {key: self._hdf5_value(node[key], inner) for key, inner in space.spaces.items()}
        if isinstance(space, spaces.Tuple):
            return tuple(self._hdf5_value(node[f"_index_{i}"], inner) for i, inner in enumerate(space.spaces))
        if self.jpeg and is_encoded_image(space):
            return pictures((row.tobytes() for row in node[()]), space.shape)
        values = node[()]
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
            raise ValueError(f"numbers expected at {node.name}")
        return values

    # Arrow and Parquet -------------------------------------------------------------------------------------------

    def _tables(self, observations: bool) -> Iterator[dict[str, Any]]:
        for number in range(self.count):
            folder = self.folder / str(number)
            with reading(f"a sound episode in {folder}"):
                table = self._table(folder)
                raw = {"actions": self._arrow_value(table["actions"].slice(0, table.num_rows - 1), self.action_space)}
                raw["infos"] = _infos(table)
                if observations:
                    raw["observations"] = self._arrow_value(table["observations"], self.observation_space)
            yield raw

    def _table(self, folder: Path) -> pa.Table:
        files = sorted(p for p in folder.iterdir() if p.suffix == f".{self.stored}")
        if not files:
            raise FileNotFoundError(f"no .{self.stored} file")
        tables = []
        for file in files:
            if self.stored == "parquet":
                import pyarrow.parquet as pq

                tables.append(pq.ParquetFile(file).read())
            else:
                with pa.OSFile(str(file)) as source:
                    tables.append(pa.ipc.open_file(source).read_all())
        table = pa.concat_tables(tables).combine_chunks()
        table.validate(full=True)
        return table

    def _arrow_value(self, values: pa.ChunkedArray, space: Any) -> Any:
        from gymnasium import spaces

        array = whole(values)
        if isinstance(space, spaces.Dict):
            return {key: self._arrow_value(_field(array, key), inner) for key, inner in space.spaces.items()}
        if isinstance(space, spaces.Tuple):
            return tuple(self._arrow_value(_field(array, str(i)), inner) for i, inner in enumerate(space.spaces))
        if self.jpeg and is_encoded_image(space):
            return pictures((bytes(value.as_py() or b"") for value in array), space.shape)
        return matrix(array).reshape(-1, *space.shape)


def _field(array: pa.StructArray, name: str) -> pa.ChunkedArray:
    return pa.chunked_array([array.field(name)])


def _infos(table: pa.Table) -> dict[str, Array]:
    """What was put there by this package: plain numbers per row."""
    if "infos" not in table.column_names or not pa.types.is_struct(table["infos"].type):
        return {}
    column = whole(table["infos"])
    found = {}
    for i, part in enumerate(column.type):
        kind = part.type.value_type if pa.types.is_fixed_size_list(part.type) else part.type
        if is_ours(part.name) and (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            found[part.name] = matrix(column.field(i))
    return found


def is_encoded_image(space: Any) -> bool:
    """Does Minari keep such observations as JPEG? Bytes from 0 to 255, at least 32 by 32."""
    return (
        getattr(space, "dtype", None) == np.uint8 and len(space.shape) in (2, 3) and min(space.shape[:2]) >= 32
        and bool((space.low == 0).all()) and bool((space.high == 255).all())
    )


# Writing ---------------------------------------------------------------------------------------------------------


@contextmanager
def writer(stored: str, folder: Path) -> Iterator[Store]:
    """A function that stores one recording after the other in `folder`."""
    if stored == "arrow":
        yield lambda number, recording, signature, _: _store_arrow(folder, number, recording, signature)
        return
    h5py = require("h5py", "hdf5")
    with h5py.File(folder / MAIN, "w", libver="v110") as file:

        def store(number: int, recording: Recording, signature: Signature, description: bytes) -> None:
            group = file.create_group(f"episode_{number}")
            group.attrs["id"], group.attrs["total_steps"] = number, len(recording)
            for path, value in _flattened(recording, signature, len(recording)):
                hdf5.store(group, path, value)
            file.flush()
            _attach(file, number, recording, signature, description)
            file.flush()

        yield store


def _attach(file: Any, number: int, recording: Recording, signature: Signature, description: bytes) -> None:
    """Note where the arrays are that our own layout has."""
    here = f"episode_{number}/"
    moved = {f"{here}{name}": f"{here}infos/{name}" for name in ("exogenous", "times")}
    moved |= {f"{here}measured/{name}": f"{here}infos/{MEASURED}{name}" for name in recording.measured}
    if _is_plain(signature):
        moved[f"{here}observations/{next(iter(signature.observations))}"] = f"{here}observations"
    places = {name: (moved.get(name, name), value) for name, value in lay_out(recording, number)}
    attach(file, number, places, description)


def _flattened(recording: Recording, signature: Signature, rows: int) -> Iterator[tuple[str, Array]]:
    """Paths and arrays of an episode; `rows` of actions, the last repeated if that is one too many."""
    steps = len(recording)
    plain = _is_plain(signature)
    for name, value in recording.observations.items():
        yield ("observations" if plain else f"observations/{name}"), value
    actions = recording.actions[:, 0] if signature.action.kind == "discrete" else recording.actions
    yield "actions", _padded(actions, rows)
    yield "rewards", np.zeros(rows)
    yield "terminations", np.zeros(rows, bool)
    yield "truncations", np.arange(rows) == steps - 1
    for name, extra in (("exogenous", recording.exogenous), ("times", recording.times)):
        if extra is not None:
            yield f"infos/{name}", _padded(extra, steps + 1)
    for name, fresh in recording.measured.items():
        yield f"infos/{MEASURED}{name}", fresh.astype(np.uint8)


def _padded(values: Array, rows: int) -> Array:
    return values if len(values) == rows else np.concatenate([values, values[-1:]])


def _is_plain(signature: Signature) -> bool:
    name, spec = next(iter(signature.observations.items()))
    return len(signature.observations) == 1 and name == spec.kind


def _store_arrow(folder: Path, number: int, recording: Recording, signature: Signature) -> None:
    columns: dict[str, Any] = {}
    for path, value in _flattened(recording, signature, len(recording) + 1):
        flat = value.reshape(len(value), -1)
        array = pa.array(np.ascontiguousarray(flat).reshape(-1))
        single = value.ndim == 1 and not path.startswith("infos/")
        head, _, name = path.partition("/")
        array = array if single else pa.FixedSizeListArray.from_arrays(array, flat.shape[1])
        if name:
            columns.setdefault(head, {})[name] = array
        else:
            columns[head] = array
    arrays = {
        name: pa.StructArray.from_arrays(list(value.values()), names=list(value)) if isinstance(value, dict) else value
        for name, value in columns.items()
    }
    place = folder / str(number)
    place.mkdir()
    batch = pa.RecordBatch.from_pydict(arrays)
    with pa.OSFile(str(place / "part-0.arrow"), "wb") as file, pa.ipc.new_file(file, batch.schema) as sink:
        sink.write_batch(batch)
    (place / "metadata.json").write_text(json.dumps({"id": number, "total_steps": len(recording)}))
