"""A cache whose writer was killed: the episodes up to the last line of its journal that the arrays bear out."""

from __future__ import annotations

import math
import shutil
import zlib
from pathlib import Path

import msgspec
import numpy as np

from steersman.core.errors import DataError, SteersmanError
from steersman.core.signature import Signature
from steersman.data.cache import INDEX, VERSION, Field, Index, Note, field_shapes
from steersman.data.source import Saved
from steersman.data.storage import JOURNAL

_ITEM = {"uint8": 1, "float32": 4, "int64": 8}


def salvage(path: str, folder: Path) -> Saved:
    """See `Format.salvage`.

    Raises:
        DataError: no journal, or no line of it that the arrays bear out.
    """
    root = Path(path)
    try:
        signature, notes = _journal(root)
        copy = folder / "cache"
        copy.mkdir()
        while notes:
            index = _sound(root, copy, signature, notes)
            if index is not None:
                (copy / INDEX).write_bytes(msgspec.json.encode(index))
                return Saved(copy, f"kept {index.episodes:,} episodes; lost: those that were being written")
            notes.pop()
    except OSError as error:
        raise DataError(f"readable files in {root}", f"{error.strerror}", "check the disk") from error
    raise DataError(f"a whole episode in {root}", "none", "record it again")


def _journal(root: Path) -> tuple[Signature, list[Note]]:
    first, *lines = (root / JOURNAL).read_bytes().split(b"\n") or [b""]
    notes: list[Note] = []
    try:
        signature = msgspec.json.decode(first, type=Signature)
    except (msgspec.MsgspecError, SteersmanError) as error:
        raise DataError(f"a signature in the journal of {root}", f"{error}", "record it again") from error
    for line in lines:
        try:
            notes.append(msgspec.json.decode(line, type=Note))
        except msgspec.MsgspecError:
            break  # cut off
    return signature, notes


def _sound(root: Path, copy: Path, signature: Signature, notes: list[Note]) -> Index | None:
    """The index up to the last of `notes`, if every array has the bytes that it speaks of."""
    offsets = np.array([n for note in notes for n in note.offsets], "<i8")
    if len(offsets) < 2 or offsets[0] != 0 or (np.diff(offsets) < 2).any():
        return None
    rows, fields = int(offsets[-1]), {}
    for number, (name, (dtype, shape)) in enumerate(field_shapes(signature).items()):
        file = f"{name.split('.')[0]}-{number}.bin"
        crc = _copy(root / file, copy / file, rows * math.prod(shape) * _ITEM[dtype])
        if crc is None or crc != notes[-1].crc32.get(name):
            return None
        fields[name] = Field(file, dtype, shape, rows, crc)  # type: ignore[arg-type]
    (copy / "offsets.bin").write_bytes(offsets.tobytes())
    fields["offsets"] = Field("offsets.bin", "int64", (1,), len(offsets), zlib.crc32(offsets.tobytes()))
    text = f"{zlib.crc32(offsets.tobytes()):08x}{''.join(f'{f.crc32:08x}' for f in fields.values())}"
    return Index("steersman cache", VERSION, f"repaired {text}", signature, len(offsets) - 1, rows, fields)


def _copy(source: Path, target: Path, size: int) -> int | None:
    """The first `size` bytes of a file; their CRC-32, None if there are fewer."""
    if not source.is_file() or source.stat().st_size < size:
        return None
    shutil.copyfile(source, target)
    with target.open("r+b") as file:
        file.truncate(size)
        crc = 0
        while block := file.read(1 << 22):
            crc = zlib.crc32(block, crc)
    return crc
