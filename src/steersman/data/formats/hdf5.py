"""HDF5: groups of arrays; see `steersman.data.formats.arrays` for the layouts. Needs the extra `hdf5`.

Refused: object types, links into other files, virtual datasets and external storage. What is written here has a
checksum per chunk (Fletcher-32), so that after a crash the sound episodes can be told from the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from steersman.core.errors import DataError
from steersman.core.extras import require
from steersman.core.recording import Array, Recording
from steersman.core.signature import Signature
from steersman.data.formats.arrays import DESCRIPTION, Leaf, checked, describe, lay_out
from steersman.data.formats.hdf5_notes import CHUNKS, attach
from steersman.data.formats.hdf5_repair import FILLING, is_filled, salvage
from steersman.data.formats.layouts import ALLOWED, natural, understand
from steersman.data.formats.recorded import Recorded
from steersman.data.schema import Schema
from steersman.data.source import ReadOptions, Saved, Source, fingerprint, unsound
from steersman.data.storage import sha256
from steersman.runs.files import replace_file

_MAGIC = b"\x89HDF\r\n\x1a\n"
_DEEP, _MANY = 8, 200_000
UNSOUND = (OSError, ValueError, KeyError, TypeError, RuntimeError, MemoryError, OverflowError)
"""What h5py raises on files that are damaged."""


class Hdf5(Recorded):
    """HDF5: ours, robomimic's groups per episode, D4RL's flat arrays, stable-worldmodel's columns."""

    name = "hdf5"
    extra = "hdf5"

    def matches(self, path: str) -> bool:
        try:
            with open(path, "rb") as file:
                return file.read(8) == _MAGIC
        except OSError:
            return False

    def asks(self, path: str) -> bool:
        return path.lower().endswith((".h5", ".hdf5", ".hdf"))

    def opened(self, path: str, options: ReadOptions) -> Source:
        options.only(ALLOWED, self.name)
        content = sha256(path)
        with opened(path) as file:
            layout = understand(_arrays(file, path), _description(file, path), options, path)

        def stream() -> Iterator[Recording]:
            with opened(path) as file:
                yield from layout.recordings(_arrays(file, path), path)

        return Source(
            self.name, path, layout.signature, fingerprint(self.name, content, options), stream, layout.steps,
            layout.notes, layout.schema,
        )

    def claims(self, path: str) -> bool:
        return self.matches(path)

    def salvage(self, path: str, folder: Path, error: DataError) -> Saved:
        return salvage(path, folder)

    def write(
        self, path: str | os.PathLike[str], signature: Signature, recordings: Iterable[Recording],
        schema: Schema | None = None,
    ) -> Path:
        h5py = require("h5py", "hdf5")
        with replace_file(path) as temporary, h5py.File(temporary, "w") as file:
            text = b""
            for number, recording in checked(recordings, signature):
                if not number:
                    text = describe(signature, recording.times is not None, schema)
                    file.attrs[DESCRIPTION] = np.frombuffer(text, np.uint8)
                values = dict(lay_out(recording, number))
                for name, value in values.items():
                    store(file, name, value)
                file.flush()
                attach(file, number, {name: (name, value) for name, value in values.items()}, text)
                file.flush()
        return Path(path)


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """An HDF5 file to read; whatever the library makes of a damaged one becomes a DataError."""
    h5py = require("h5py", "hdf5")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except UNSOUND as error:
        raise unsound(f"a sound HDF5 file at {path}", error) from error


def _arrays(file: Any, path: str) -> dict[str, Leaf]:
    """All arrays; of a file that was filled up after it had been cut off, those of the episodes that are whole."""
    return sound(file, path) if is_filled(path) else tree(file, path)


def tree(file: Any, where: str, inside: str = "") -> dict[str, Leaf]:
    """Every array of a file (or of one of its groups), none of them read. What reaches outside the file is refused."""
    leaves: dict[str, Leaf] = {}
    if inside and not isinstance(file.get(inside, getlink=True), require("h5py", "hdf5").HardLink):
        raise DataError(f"a group {inside} in {where}", "none, or a link", "record the dataset again")
    _walk(file[inside] if inside else file, f"{inside}/" if inside else "", leaves, where, 0)
    return leaves


def sound(file: Any, where: str) -> dict[str, Leaf]:
    """Arrays of the episodes (groups with a number) before the first that cannot be read whole."""
    leaves: dict[str, Leaf] = {}
    members: set[str] = set()
    home = "data/" if "data" in file and "actions" not in file else ""
    for name in sorted((n for n in file[home or "/"] if any(c.isdigit() for c in n)), key=natural):
        try:
            found = tree(file, where, f"{home}{name}")
            for leaf in found.values():
                if not leaf.whole()[-1:].tobytes().strip(FILLING):
                    raise ValueError("lost")
        except (*UNSOUND, DataError):
            break
        members = members or {p.removeprefix(f"{home}{name}/") for p in found}
        if {p.removeprefix(f"{home}{name}/") for p in found} != members:
            break
        leaves |= found
    return leaves


def _walk(group: Any, prefix: str, leaves: dict[str, Leaf], where: str, depth: int) -> None:
    h5py = require("h5py", "hdf5")
    if depth > _DEEP or len(leaves) > _MANY:
        raise DataError(f"at most {_DEEP} levels and {_MANY} arrays in {where}", "more", "write fewer")
    for name in group:
        path = f"{prefix}{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise DataError(f"arrays inside {where}", f"a link at {path}", "copy the arrays into the file")
        kind = group.get(name, getclass=True)
        if kind is h5py.Group:
            _walk(group[name], f"{path}/", leaves, where, depth + 1)
        elif kind is h5py.Dataset:
            leaves.update(_leaf(group[name], path, where))


def _leaf(dataset: Any, path: str, where: str) -> dict[str, Leaf]:
    """The array as a leaf; nothing for texts and single numbers, which are no data of an episode."""
    if dataset.is_virtual or dataset.external:
        raise DataError(f"arrays inside {where}", f"{path} in other files", "copy the arrays into the file")
    if dataset.shape is None or not dataset.shape or dataset.dtype.kind not in "biuf":
        return {}

    def read(start: int, stop: int) -> Array:
        rows: Array = dataset[start:stop]
        return rows

    return {path: Leaf(tuple(dataset.shape), dataset.dtype, read)}


def _description(file: Any, where: str) -> bytes | None:
    if DESCRIPTION not in file.attrs:
        return None
    value = file.attrs[DESCRIPTION]
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8 or value.ndim != 1:
        raise DataError(f"a description of bytes in {where}", f"{type(value).__name__}", "write the file again")
    return value.tobytes()


def store(file: Any, path: str, value: Array) -> None:
    """One array, in chunks of about 256 KiB with a checksum each, larger ones where they would be many."""
    row = max(1, int(np.prod(value.shape[1:])) * value.dtype.itemsize)
    chunk = (max(1, min(len(value), (1 << 18) // row), -(-len(value) // CHUNKS)), *value.shape[1:])
    file.create_dataset(path, data=value, chunks=chunk, fletcher32=True)
