"""npz: NumPy's zip of arrays; see `steersman.data.formats.arrays` for the layouts.

Arrays of objects are refused: they are pickles. The zip directory is at the end of a file and lost with it, but each
member has its own CRC-32, so that an interrupted file can be repaired.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np

from steersman.core.errors import DataError
from steersman.core.recording import Array, Recording
from steersman.core.signature import Signature
from steersman.data.formats.arrays import DESCRIPTION, Leaf, Tree, checked, describe, lay_out
from steersman.data.formats.layouts import ALLOWED, understand
from steersman.data.formats.npz_repair import salvage
from steersman.data.formats.recorded import Recorded
from steersman.data.schema import Schema
from steersman.data.source import ReadOptions, Saved, Source, fingerprint, unsound
from steersman.data.storage import sha256
from steersman.runs.files import replace_file

_HEADER = 10_000
UNSOUND = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError, TypeError, NotImplementedError,
    RuntimeError, MemoryError, OverflowError, SyntaxError,
)
"""What zipfile and numpy raise on files that are damaged."""


class Npz(Recorded):
    """NumPy's npz: ours, a group per episode, or flat arrays with their ends."""

    name = "npz"

    def matches(self, path: str) -> bool:
        return path.lower().endswith(".npz")

    def opened(self, path: str, options: ReadOptions) -> Source:
        options.only(ALLOWED, self.name)
        content = sha256(path)
        with opened(path) as archive:
            arrays, description = _tree(archive, path)
            layout = understand(arrays, description, options, path)

        def stream() -> Iterator[Recording]:
            with opened(path) as archive:
                yield from layout.recordings(_tree(archive, path)[0], path)

        return Source(
            self.name, path, layout.signature, fingerprint(self.name, content, options), stream, layout.steps,
            layout.notes, layout.schema,
        )

    def claims(self, path: str) -> bool:
        return path.lower().endswith(".npz")

    def salvage(self, path: str, folder: Path, error: DataError) -> Saved:
        return salvage(path, folder)

    def write(
        self, path: str | os.PathLike[str], signature: Signature, recordings: Iterable[Recording],
        schema: Schema | None = None,
    ) -> Path:
        with replace_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for number, recording in checked(recordings, signature):
                if not number:
                    text = describe(signature, recording.times is not None, schema)
                    _store(archive, DESCRIPTION, np.frombuffer(text, np.uint8))
                for name, value in lay_out(recording, number):
                    _store(archive, name, value)
        return Path(path)


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
    """An npz file to read; whatever the libraries make of a damaged one becomes a DataError."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except UNSOUND as error:
        raise unsound(f"a sound npz file at {path}", error) from error


def _tree(archive: zipfile.ZipFile, where: str) -> tuple[Tree, bytes | None]:
    description: bytes | None = None
    leaves: dict[str, Leaf] = {}
    whole = lru_cache(maxsize=None)(lambda member: _whole(archive, member, where))
    for member in archive.namelist():
        path = member.removesuffix(".npy")
        shape, dtype = _shape(archive, member, where)
        if path == DESCRIPTION:
            description = whole(member).astype(np.uint8).tobytes()
        elif shape and dtype.kind in "biuf":
            one = path.startswith("episode_")  # an episode's own array is read once: not worth keeping
            leaves[path] = Leaf(shape, dtype, _reader(archive, member, where) if one else _slicer(whole, member))
    return leaves, description


def _reader(archive: zipfile.ZipFile, member: str, where: str):  # type: ignore[no-untyped-def]
    return lambda start, stop: _whole(archive, member, where)[start:stop]


def _slicer(whole, member: str):  # type: ignore[no-untyped-def]
    return lambda start, stop: whole(member)[start:stop]


def _shape(archive: zipfile.ZipFile, member: str, where: str) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and type of a member, checked against its size before anything is allocated."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file, max_header_size=_HEADER)
        start = file.tell()
    if dtype.hasobject or dtype.names is not None:
        raise DataError(
            f"arrays of numbers in {where}", f"{dtype} in {member}", "save numbers: objects are pickles, which run code"
        )
    size = archive.getinfo(member).file_size - start
    if min(shape, default=0) < 0 or int(np.prod(shape, dtype=object)) * dtype.itemsize != size:
        raise DataError(f"{size} bytes of {member} in {where}", f"shape {shape} of {dtype}", "write the file again")
    return tuple(int(n) for n in shape), dtype


def _whole(archive: zipfile.ZipFile, member: str, where: str) -> Array:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file, max_header_size=_HEADER)
        content = file.read()
    values: Array = np.frombuffer(content, dtype)
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


def _store(archive: zipfile.ZipFile, path: str, value: Array) -> None:
    with archive.open(f"{path}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array(file, np.ascontiguousarray(value), allow_pickle=False)
    if archive.fp is not None:
        archive.fp.flush()
