"""A CSV file that was cut off: the rows before the first that is not whole. Looks at bytes, knows no roles."""

from __future__ import annotations

import csv
import gzip
import shutil
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from steersman.core.errors import DataError
from steersman.data.roles import EPISODE
from steersman.data.source import Saved


def salvage(path: str, folder: Path) -> Saved:
    """See `Format.salvage`. The last line needs its line feed: without one, its last number may be cut.

    Raises:
        DataError: not even a header and three rows.
    """
    copy = folder / Path(path).name.removesuffix(".gz")
    rows = episode_rows = 0
    last: str | None = None
    lines = _whole_lines(path)
    with copy.open("wb") as file:
        header = next(lines, b"")
        split = delimiter(header)
        names = _cells(header.removeprefix(b"\xef\xbb\xbf"), split)
        episode = next((i for i, name in enumerate(names) if name.strip().lower() in EPISODE), None)
        file.write(header)
        for line in lines:
            values = _cells(line, split)
            if len(values) != len(names):
                break
            key = values[episode] if episode is not None else ""
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


def delimiter(header: bytes) -> str:
    """Comma, semicolon or tab: what the first line has most of."""
    return max(",;\t", key=header.decode("utf-8", "replace").count)


def _cells(line: bytes, split: str) -> list[str]:
    with suppress(csv.Error):
        return next(csv.reader([line.decode("utf-8", "replace")], delimiter=split), [])
    return []


def _whole_lines(path: str) -> Iterator[bytes]:
    """Lines that end in a line feed, unpacked as far as that goes."""
    try:
        with gzip.open(path) if path.lower().endswith(".gz") else open(path, "rb") as file:
            yield from (line for line in file if line.endswith(b"\n"))
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return
    except OSError as error:
        raise DataError(f"a readable file {path}", f"{error.strerror}", "check the path") from error
