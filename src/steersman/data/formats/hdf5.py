"""HDF5: groups of arrays; see `steersman.data.formats.arrays` for the layouts. Needs the extra `hdf5`.

Refused: object types, links into other files, virtual datasets and external storage. What is written here has a
checksum per chunk (Fletcher-32), so that after a crash the sound episodes can be told from the others.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from steersman.core.errors import DataError
from steersman.core.extras import require
from steersman.core.recording import Array
from steersman.data.formats.arrays import DESCRIPTION, Leaf, Tree
from steersman.data.formats.hdf5_notes import CHUNKS, attach, rescue
from steersman.data.formats.layouts import natural
from steersman.data.formats.recorded import ArrayFile, StoreArrays
from steersman.data.formats.unsound import UNSOUND, reading
from steersman.data.source import Saved

_MAGIC = b"\x89HDF\r\n\x1a\n"
_DEEP, _MANY = 8, 200_000
_FILLING, _MARK = b"\xa5", ".filled.h5"
"""What stands for bytes that were lost, since no checksum takes it for data (zeros would pass Fletcher-32); and the
name of a file that was filled up."""
_BLOCK, _LARGEST = 1 << 20, 1 << 40


class Hdf5(ArrayFile):
    """HDF5: ours, robomimic's groups per episode, D4RL's flat arrays, stable-worldmodel's columns."""

    name = "hdf5"

    def matches(self, path: str) -> bool:
        try:
            with open(path, "rb") as file:
                return file.read(8) == _MAGIC
        except OSError:
            return False

    def asks(self, path: str) -> bool:
        return path.lower().endswith((".h5", ".hdf5", ".hdf"))

    @contextmanager
    def arrays(self, path: str) -> Iterator[tuple[Tree, bytes | None]]:
        with opened(path) as file:
            yield sound(file, path) if path.endswith(_MARK) else tree(file, path), _description(file, path)

    @contextmanager
    def storing(self, path: Path) -> Iterator[StoreArrays]:
        with require("h5py", "hdf5").File(path, "w") as file:

            def store_episode(number: int, arrays: dict[str, Array], description: bytes) -> None:
                if not number:
                    file.attrs[DESCRIPTION] = np.frombuffer(description, np.uint8)
                for name, value in arrays.items():
                    store(file, name, value)
                file.flush()
                attach(file, number, {name: (name, value) for name, value in arrays.items()}, description)
                file.flush()

            yield store_episode

    def claims(self, path: str) -> bool:
        return self.matches(path)

    def salvage(self, path: str, folder: Path, error: DataError) -> Saved:
        """The episodes that the file has notes on (`hdf5_notes`), if it was written here; another is filled up to the
        length that it states, so that the library opens it again, if its index was not in what is lost."""
        if kept := rescue(path, folder / "episodes.npz"):
            what = f"kept {kept:,} episodes; lost: the first that is not whole, and what follows it"
            return Saved(folder / "episodes.npz", what, "npz")
        copy = folder / f"{Path(path).name}{_MARK}"
        return Saved(copy, f"lost: the last {fill(path, copy):,} bytes")


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """An HDF5 file to read; whatever the library makes of a damaged one becomes a DataError."""
    h5py = require("h5py", "hdf5")
    with reading(f"a sound HDF5 file at {path}"), h5py.File(path, "r") as file:
        yield file


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
                if not leaf.whole()[-1:].tobytes().strip(_FILLING):
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


# Repair ----------------------------------------------------------------------------------------------------------


def fill(path: str, copy: Path) -> int:
    """Copy an HDF5 file and fill it up; how many bytes were lost.

    Raises:
        DataError: no HDF5 file, or one that states no length.
    """
    wanted, have = _stated(path), Path(path).stat().st_size
    if not have < wanted < min(_LARGEST, 64 * have + _BLOCK):
        raise DataError(f"an HDF5 file that was cut off at {path}", f"{have} of {wanted} bytes", "record it again")
    shutil.copyfile(path, copy)
    with copy.open("ab") as file:
        for start in range(have, wanted, _BLOCK):
            file.write(_FILLING * min(_BLOCK, wanted - start))
    return wanted - have


def is_cut(path: str) -> bool:
    """Is an HDF5 file shorter than it states?"""
    return Path(path).stat().st_size < _stated(path) < _LARGEST


def _stated(path: str) -> int:
    """The length that the superblock states (versions 0 to 3, offsets of 8 bytes)."""
    with open(path, "rb") as file:
        head = file.read(64)
    at = {0: 40, 1: 44, 2: 28, 3: 28}.get(head[8] if len(head) > 8 else -1, 64)
    return int.from_bytes(head[at : at + 8], "little") if len(head) >= at + 8 else 0
