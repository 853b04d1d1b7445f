"""An HDF5 file that was cut off: the episodes that it has notes on (`hdf5_notes`), if it was written here; another is
filled up to the length that it states, so that the library opens it again, if its index was not in what is lost.

What was lost is filled with bytes that no checksum takes for data (zeros would pass Fletcher-32).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from steersman.core.errors import DataError
from steersman.data.formats.hdf5_notes import rescue
from steersman.data.source import Saved

FILLING = b"\xa5"
_MARK = ".filled.h5"
_BLOCK, _LARGEST = 1 << 20, 1 << 40


def salvage(path: str, folder: Path) -> Saved:
    """See `Format.salvage`.

    Raises:
        DataError: no HDF5 file, or one that states no length.
    """
    try:
        if kept := rescue(path, folder / "episodes.npz"):
            what = f"kept {kept:,} episodes; lost: the first that is not whole, and what follows it"
            return Saved(folder / "episodes.npz", what, "npz")
    except (OSError, ValueError) as error:
        raise DataError(f"a readable file {path}", f"{error}", "check the path") from error
    copy = folder / f"{Path(path).name}{_MARK}"
    return Saved(copy, f"lost: the last {fill(path, copy):,} bytes")


def fill(path: str, copy: Path) -> int:
    """Copy an HDF5 file and fill it up; how many bytes were lost.

    Raises:
        DataError: no HDF5 file, or one that states no length.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(64)
        wanted, have = _stated(head), Path(path).stat().st_size
        if not have < wanted < min(_LARGEST, 64 * have + _BLOCK):
            raise DataError(f"an HDF5 file that was cut off at {path}", f"{have} of {wanted} bytes", "record it again")
        shutil.copyfile(path, copy)
    except OSError as error:
        raise DataError(f"a readable file {path}", f"{error.strerror}", "check the path") from error
    with copy.open("ab") as file:
        for start in range(have, wanted, _BLOCK):
            file.write(FILLING * min(_BLOCK, wanted - start))
    return wanted - have


def is_cut(path: str) -> bool:
    """Is an HDF5 file shorter than it states?"""
    with open(path, "rb") as file:
        return Path(path).stat().st_size < _stated(file.read(64)) < _LARGEST


def _stated(head: bytes) -> int:
    """The length that the superblock states (versions 0 to 3, offsets of 8 bytes)."""
    at = {0: 40, 1: 44, 2: 28, 3: 28}.get(head[8] if len(head) > 8 else -1, 64)
    return int.from_bytes(head[at : at + 8], "little") if len(head) >= at + 8 else 0


def is_filled(path: str) -> bool:
    """Was this file made by `salvage`?"""
    return path.endswith(_MARK)
