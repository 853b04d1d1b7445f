"""Notes in an HDF5 file on where each episode's bytes are, so that episodes outlive the file's index.

HDF5 keeps the index of a group wherever there was room when it last grew: often at the end, and with the end of the
file goes every episode. So each episode that was written here carries an attribute `note` with the places, shapes and
checksums of its arrays, which is found in the bytes of the file by its first letters. What a note says is checked
before it is believed.
"""

from __future__ import annotations

import math
import mmap
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from steersman.core.recording import Array
from steersman.data.formats.arrays import DESCRIPTION

ATTRIBUTE = "note"
CHUNKS = 500
"""Most chunks of an array: an attribute has at most 64 KiB."""
_MAGIC = b"steersman note 1:"
_HEAD = len(_MAGIC) + 8


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """Where an array is: its chunks of `rows` rows each, in order, and the CRC-32 of its bytes."""

    dtype: Literal["|u1", "<i4", "<f4", "<f8", "<i8"]
    shape: tuple[int, ...]
    rows: int
    chunks: tuple[int, ...]
    crc32: int

    @property
    def size(self) -> int:
        """Bytes; 0 of a place that cannot be."""
        whole = self.rows > 0 and bool(self.shape) and min(self.shape) > 0
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize if whole else 0


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One episode: its number, path -> place; the description of the file in the first."""

    episode: int
    arrays: dict[str, Place]
    description: str = ""


def attach(file: Any, number: int, values: Mapping[str, tuple[str, Array]], description: bytes) -> None:
    """Note on group `episode_NUMBER` where the arrays of that episode are: path in our own layout -> path in the file,
    and what stands there, or in its first rows. They must have been flushed.
    """
    arrays = {}
    for path, (there, value) in values.items():
        dataset = file[there]
        chunks = (dataset.id.get_chunk_info(i) for i in range(dataset.id.get_num_chunks()))
        offsets = [c.byte_offset for c in sorted(chunks, key=lambda c: c.chunk_offset)]
        crc = zlib.crc32(np.ascontiguousarray(value).data)
        arrays[path] = Place(value.dtype.str, value.shape, dataset.chunks[0], tuple(offsets), crc)
    text = msgspec.json.encode(Note(number, arrays, "" if number else description.decode()))
    head = _MAGIC + len(text).to_bytes(4, "little") + zlib.crc32(text).to_bytes(4, "little")
    file[f"episode_{number}"].attrs[ATTRIBUTE] = np.frombuffer(head + text, np.uint8)


def rescue(path: str, copy: Path) -> int:
    """Write the episodes whose notes and bytes are sound, from the first on, as npz; how many there are."""
    if not Path(path).stat().st_size:
        return 0
    with open(path, "rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    notes = {note.episode: note for note in _notes(content)}
    number, left = 0, len(content)
    with content, zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as archive:
        while (note := notes.get(number)) is not None:
            left -= sum(place.size for place in note.arrays.values())
            if left < 0 or min((place.size for place in note.arrays.values()), default=0) < 1:
                break  # no two arrays are in one place: more bytes than there are is no honest note
            arrays = {name: a for name, p in note.arrays.items() if (a := _array(content, p)) is not None}
            if len(arrays) < len(note.arrays):
                break
            if not number:
                arrays[DESCRIPTION] = np.frombuffer(note.description.encode(), np.uint8)
            for name, value in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, value, allow_pickle=False)
            number += 1
    return number


def _notes(content: mmap.mmap) -> Iterator[Note]:
    at = content.find(_MAGIC)
    while at >= 0:
        size, crc = (int.from_bytes(content[at + _HEAD - n : at + _HEAD - n + 4], "little") for n in (8, 4))
        text = content[at + _HEAD : at + _HEAD + size]
        if zlib.crc32(text) == crc:
            with suppress(msgspec.MsgspecError):
                yield msgspec.json.decode(text, type=Note)
        at = content.find(_MAGIC, at + 1)


def _array(content: mmap.mmap, place: Place) -> Array | None:
    """The array at a place; None if it is not there, or not as it was."""
    chunk = place.size // place.shape[0] * place.rows
    wanted = place.chunks[: -(-place.size // chunk)]
    data = b"".join(content[at : at + chunk] for at in wanted if at >= 0)[: place.size]
    if len(data) != place.size or zlib.crc32(data) != place.crc32:
        return None
    return np.frombuffer(data, place.dtype).reshape(place.shape)
