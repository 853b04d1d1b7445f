"""An HDF5 file that was cut off: filled up to the length that it states, so that the library opens it again.

What was lost is filled with bytes that no checksum takes for data (zeros would pass Fletcher-32).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from steersman.core.errors import DataError

FILLING = b"\xa5"
_MARK = ".filled.h5"
_BLOCK, _LARGEST = 1 << 20, 1 << 40


def salvage(path: str, folder: Path) -> tuple[Path, str]:
    """See `Format.salvage`.

    Raises:
        DataError: no HDF5 file, or one that states no length.
    """
    copy = folder / f"{Path(path).name}{_MARK}"
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
    return copy, f"lost: the last {wanted - have:,} of {wanted:,} bytes"


def _stated(head: bytes) -> int:
    """The length that the superblock states (versions 0 to 3, offsets of 8 bytes)."""
    at = {0: 40, 1: 44, 2: 28, 3: 28}.get(head[8] if len(head) > 8 else -1, 64)
    return int.from_bytes(head[at : at + 8], "little") if len(head) >= at + 8 else 0


def is_filled(path: str) -> bool:
    """Was this file made by `salvage`?"""
    return path.endswith(_MARK)
