"""npz: NumPy's zip of arrays; see `steersman.data.formats.arrays` for the layouts.

Arrays of objects are refused: they are pickles. The zip directory is at the end of a file and lost with it, but each
member has its own CRC-32, so that an interrupted file can be repaired.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import IO

import numpy as np

from steersman.core.errors import DataError
from steersman.core.recording import Array
from steersman.data.formats.arrays import DESCRIPTION, Leaf, Tree
from steersman.data.formats.npz_repair import salvage
from steersman.data.formats.recorded import ArrayFile, StoreArrays
from steersman.data.formats.unsound import reading
from steersman.data.source import Saved

_LONGEST_HEADER = 10_000


class Npz(ArrayFile):
    """NumPy's npz: ours, a group per episode, or flat arrays with their ends."""

    name = "npz"

    def matches(self, path: str) -> bool:
        return path.lower().endswith(".npz")

    @contextmanager
    def arrays(self, path: str) -> Iterator[tuple[Tree, bytes | None]]:
        with reading(f"a sound npz file at {path}"), zipfile.ZipFile(path) as archive:
            yield _tree(archive, path)

    @contextmanager
    def storing(self, path: Path) -> Iterator[StoreArrays]:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:

            def store_episode(number: int, arrays: dict[str, Array], description: bytes) -> None:
                if not number:
                    _store(archive, DESCRIPTION, np.frombuffer(description, np.uint8))
                for name, value in arrays.items():
                    _store(archive, name, value)

            yield store_episode

    def salvage(self, path: str, folder: Path, error: DataError) -> Saved:
        return salvage(path, folder)


def _tree(archive: zipfile.ZipFile, where: str) -> tuple[Tree, bytes | None]:
    description: bytes | None = None
    leaves: dict[str, Leaf] = {}
    once = partial(_whole, archive)  # an episode's own array is read once: not worth keeping
    kept = lru_cache(maxsize=None)(once)
    for member in archive.namelist():
        path = member.removesuffix(".npy")
        shape, dtype = _shape(archive, member, where)
        if path == DESCRIPTION:
            description = once(member).astype(np.uint8).tobytes()
        elif shape and dtype.kind in "biuf":
            whole = partial(once if path.startswith("episode_") else kept, member)
            leaves[path] = Leaf(shape, dtype, partial(_rows, whole))
    return leaves, description


def _rows(whole: Callable[[], Array], start: int, stop: int) -> Array:
    return whole()[start:stop]


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Shape, whether columns come first, and type of the array that follows."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file, max_header_size=_LONGEST_HEADER)


def _shape(archive: zipfile.ZipFile, member: str, where: str) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and type of a member, checked against its size before anything is allocated."""
    with archive.open(member) as file:
        shape, _, dtype = _header(file)
        start = file.tell()
    if dtype.hasobject or dtype.names is not None:
        raise DataError(
            f"arrays of numbers in {where}", f"{dtype} in {member}", "save numbers: objects are pickles, which run code"
        )
    size = archive.getinfo(member).file_size - start
    if min(shape, default=0) < 0 or int(np.prod(shape, dtype=object)) * dtype.itemsize != size:
        raise DataError(f"{size} bytes of {member} in {where}", f"shape {shape} of {dtype}", "write the file again")
    return tuple(int(n) for n in shape), dtype


def _whole(archive: zipfile.ZipFile, member: str) -> Array:
    with archive.open(member) as file:
        shape, fortran, dtype = _header(file)
        content = file.read()
    values: Array = np.frombuffer(content, dtype)
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


def _store(archive: zipfile.ZipFile, path: str, value: Array) -> None:
    with archive.open(f"{path}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array(file, np.ascontiguousarray(value), allow_pickle=False)
    if archive.fp is not None:
        archive.fp.flush()
