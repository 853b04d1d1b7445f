"""npz: NumPy's zip of arrays; see `steersman.data.formats.arrays` for the layouts.

Arrays of objects are refused: they are pickles. The zip directory is at the end of a file and lost with it, but each
member has its own CRC-32, so that an interrupted file can be repaired.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import IO

import numpy as np

from steersman.core.errors import DataError
from steersman.core.recording import Array
from steersman.data.formats.arrays import DESCRIPTION, Leaf, Tree
from steersman.data.formats.recorded import ArrayFile, StoreArrays
from steersman.data.formats.unsound import reading
from steersman.data.source import Saved

_LONGEST_HEADER = 10_000
_MEMBER = struct.Struct("<4s5H3I2H")
"""What stands before each member of a zip file."""
_STORED, _DEFLATED = 0, 8


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
        """The members from the front, as long as their checksums hold; of a file with a group per episode, the whole
        episodes."""
        copy = folder / Path(path).name
        members = dict(_members(Path(path).read_bytes()))
        episodes: dict[str, set[str]] = {}
        for name in members:
            head, slash, rest = name.partition("/")
            if slash and head.startswith("episode_"):
                episodes.setdefault(head, set()).add(rest)
        whole = episodes.get("episode_0", set())
        number = next((i for i in range(len(episodes) + 1) if episodes.get(f"episode_{i}") != whole), 0)
        kept = {f"episode_{i}" for i in range(number)}
        members = {
            n: data for n, data in members.items() if not n.startswith("episode_") or n.partition("/")[0] in kept
        }
        if not members or (episodes and not number):
            raise DataError(f"a sound array in {path}", "none", "record it again")
        with zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        arrays = f"{len(members)} arrays; lost: the others"
        return Saved(copy, f"kept {f'{number:,} episodes; lost: what follows them' if episodes else arrays}")


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


def array_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Shape, whether columns come first, and type of the array that follows."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file, max_header_size=_LONGEST_HEADER)


def _shape(archive: zipfile.ZipFile, member: str, where: str) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and type of a member, checked against its size before anything is allocated."""
    with archive.open(member) as file:
        shape, _, dtype = array_header(file)
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
        shape, fortran, dtype = array_header(file)
        content = file.read()
    values: Array = np.frombuffer(content, dtype)
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


def _store(archive: zipfile.ZipFile, path: str, value: Array) -> None:
    with archive.open(f"{path}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array(file, np.ascontiguousarray(value), allow_pickle=False)
    if archive.fp is not None:
        archive.fp.flush()


# Repair ----------------------------------------------------------------------------------------------------------


def _members(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each member from the front, up to the first that is not sound."""
    at = 0
    while at + _MEMBER.size <= len(content):
        magic, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _MEMBER.unpack_from(content, at)
        start = at + _MEMBER.size + name_length + extra_length
        if magic != b"PK\x03\x04" or start > len(content):
            return
        name = content[at + _MEMBER.size : at + _MEMBER.size + name_length].decode("utf-8", "replace")
        extra = content[start - extra_length : start]
        if extra[:2] == b"\x01\x00" and len(extra) >= 20:  # zip64: sizes of 8 bytes
            size, packed = struct.unpack_from("<QQ", extra, 4)
        data = content[start : start + packed]
        if method == _DEFLATED:
            try:
                data = zlib.decompressobj(-15).decompress(data, max(size, 1))
            except zlib.error:
                return
        if flags & 8 or method not in (_STORED, _DEFLATED) or len(data) != size or zlib.crc32(data) != crc or not size:
            return
        yield name, data
        at = start + packed
