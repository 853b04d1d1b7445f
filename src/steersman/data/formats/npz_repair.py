"""An npz file that was cut off or damaged: its members from the front, as long as their checksums hold.

The zip directory at the end is not needed: each member has a header of its own.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from steersman.core.errors import DataError
from steersman.data.source import Saved

_HEADER = struct.Struct("<4s5H3I2H")
_STORED, _DEFLATED = 0, 8
_SMALL = 4096


def salvage(path: str, folder: Path) -> Saved:
    """See `Format.salvage`. Of a file with a group per episode, the whole episodes are kept.

    Raises:
        DataError: not even one sound member.
    """
    copy = folder / Path(path).name
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"a readable file {path}", f"{error.strerror}", "check the path") from error
    members = dict(_members(content))
    episodes: dict[str, set[str]] = {}
    for name in members:
        head, slash, rest = name.partition("/")
        if slash and head.startswith("episode_"):
            episodes.setdefault(head, set()).add(rest)
    whole = episodes.get("episode_0", set())
    number = next((i for i in range(len(episodes) + 1) if episodes.get(f"episode_{i}") != whole), 0)
    kept = {f"episode_{i}" for i in range(number)}
    members = {n: data for n, data in members.items() if not n.startswith("episode_") or n.partition("/")[0] in kept}
    if not members or (episodes and not number):
        raise DataError(f"a sound array in {path}", "none", "record it again")
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    what = f"{number:,} episodes; lost: what follows them" if episodes else f"{len(members)} arrays; lost: the others"
    return Saved(copy, f"kept {what}")


def _members(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each member from the front, up to the first that is not sound."""
    at = 0
    while at + _HEADER.size <= len(content):
        magic, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _HEADER.unpack_from(content, at)
        start = at + _HEADER.size + name_length + extra_length
        if magic != b"PK\x03\x04" or start > len(content):
            return
        name = content[at + _HEADER.size : at + _HEADER.size + name_length].decode("utf-8", "replace")
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
