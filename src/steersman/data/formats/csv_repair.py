"""A CSV file that was cut off: the rows before the first that is not whole. Looks at bytes, knows no roles."""

from __future__ import annotations

import csv
import io
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

from steersman.core.errors import DataError
from steersman.data.source import Saved

_BLOCK = 1 << 20


def salvage(path: str, folder: Path) -> Saved:
    """See `Format.salvage`. The last line needs its line feed: without one, its last number may be cut.

    Raises:
        DataError: not even a header and three rows.
    """
    copy = folder / Path(path).name.removesuffix(".gz")
    rows = episode_rows = 0
    last: bytes | None = None
    lines = _whole_lines(path)
    with copy.open("wb") as file:
        header = next(lines, b"")
        delimiter = max(",;\t", key=header.decode("utf-8", "replace").count)
        fields = _fields(header, delimiter)
        episode = _episode_column(header, delimiter)
        file.write(header)
        for line in lines:
            values = next(csv.reader(io.StringIO(line.decode("utf-8", "replace")), delimiter=delimiter), [])
            if len(values) != fields:
                break
            key = values[episode].encode() if episode is not None else b""
            episode_rows = episode_rows + 1 if key == last else 1
            if episode_rows == 1:
                start = file.tell()
            last = key
            file.write(line)
            rows += 1
        if episode_rows == 1 and rows > 1:  # an episode of which one row is left
            file.truncate(start)
            rows -= 1
    if rows < 2:
        raise DataError(f"at least two whole rows in {path}", f"{rows}", "record it again")
    described = Path(f"{path}.schema.toml")
    if described.exists():
        shutil.copy(described, f"{copy}.schema.toml")
    return Saved(copy, f"kept {rows:,} rows; lost: what follows row {rows:,}")


def _fields(line: bytes, delimiter: str) -> int:
    return len(next(csv.reader(io.StringIO(line.decode("utf-8", "replace")), delimiter=delimiter), []))


def _episode_column(header: bytes, delimiter: str) -> int | None:
    """Where the column is that tells episodes apart; none: the whole file is one."""
    text = header.decode("utf-8-sig", "replace").strip().lower()
    names = next(csv.reader(io.StringIO(text), delimiter=delimiter), [])
    usual = ("episode", "episode_id", "episode_index", "trajectory", "trajectory_id", "traj")
    return next((i for i, name in enumerate(names) if name in usual), None)


def _whole_lines(path: str) -> Iterator[bytes]:
    """Lines that end in a line feed."""
    rest = b""
    for block in _blocks(path):
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            yield line + b"\n"


def _blocks(path: str) -> Iterator[bytes]:
    """The file's content, unpacked as far as it goes."""
    unpack = zlib.decompressobj(31) if path.lower().endswith(".gz") else None
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                if unpack is None:
                    yield block
                    continue
                yield unpack.decompress(block, _BLOCK << 4)
                while unpack.unconsumed_tail:
                    yield unpack.decompress(unpack.unconsumed_tail, _BLOCK << 4)
    except zlib.error:
        return
    except OSError as error:
        raise DataError(f"a readable file {path}", f"{error.strerror}", "check the path") from error
