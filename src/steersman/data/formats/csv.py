"""CSV: one row a moment, a header, an `episode` column. See `steersman.data.roles` for what a row means.

A schema beside the file (`NAME.csv.schema.toml`) is read first; a file that was written here has one.
"""

from __future__ import annotations

import csv
import gzip
import shutil
import zlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc

from steersman.core.errors import DataError, StorageError
from steersman.data.formats.table import canonical, tabulate
from steersman.data.formats.tabular import Tabular
from steersman.data.roles import EPISODE
from steersman.data.schema import Schema
from steersman.data.source import Draft, Saved
from steersman.runs.files import atomic_write, replace_file

SUFFIX = ".schema.toml"
_ONE_THREAD = pc.ReadOptions(use_threads=False)
"""Arrow's threaded reader now and then waits for ever at a row that it refuses."""
_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


class Csv(Tabular):
    """Comma, semicolon or tab separated values, plain or gzipped."""

    name = "csv"
    kinds = ("vector",)

    def matches(self, path: str) -> bool:
        return path.lower().endswith(_SUFFIXES)

    def table(self, path: str, schema: Schema | None) -> pa.Table:
        types = {}
        if schema is not None:
            types = {c: pa.float32() for c in schema.numeric}
            types |= {c: pa.int64() for c in schema.action if schema.columns[c].choices}
        try:
            data = pc.read_csv(
                path, read_options=_ONE_THREAD, parse_options=pc.ParseOptions(delimiter=_delimiter(path)),
                convert_options=pc.ConvertOptions(column_types=types),
            )
            str(data.column_names)  # a header that is no UTF-8 fails here
            return data
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            raise DataError(
                f"a table with a header and equally many values a row in {path}", f"{error}".splitlines()[0],
                "repair or re-export the file",
            ) from error

    def described(self, path: str) -> Schema | None:
        beside = Path(f"{path}{SUFFIX}")
        return Schema.load(beside) if beside.exists() else None

    def salvage(self, path: str, folder: Path, error: DataError) -> Saved:
        """The rows before the first that is not whole. The last line needs its line feed: without one, its last number
        may be cut."""
        copy = folder / Path(path).name.removesuffix(".gz")
        rows = episode_rows = 0
        last: str | None = None
        lines = _whole_lines(path)
        with copy.open("wb") as file:
            header = next(lines, b"")
            split = _separator(header)
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
        described = Path(f"{path}{SUFFIX}")
        if described.exists():
            shutil.copy(described, f"{copy}{SUFFIX}")
        return Saved(copy, f"kept {rows:,} rows; lost: what follows row {rows:,}")

    def put(self, path: Path, draft: Draft) -> None:
        beside, ours = Path(f"{path}{SUFFIX}"), False
        try:
            with replace_file(path) as temporary:
                tables = tabulate(draft)
                first = next(tables)
                described = canonical(draft.signature, "time" in first.column_names, draft.schema)
                text = described.toml().encode()
                same = beside.exists() and beside.read_bytes() == text
                if path.exists() and not same:  # two files cannot take the place of two others at one moment
                    raise StorageError(f"a new name for the log at {path}", "one that holds other columns",
                                       "choose another name")
                with pc.CSVWriter(str(temporary), first.schema) as writer:
                    for table in chain([first], tables):
                        writer.write_table(table)
                if not same:
                    atomic_write(beside, text)
                    ours = True
        except BaseException:
            if ours and not path.exists():
                with suppress(OSError):
                    beside.unlink()
            raise


def _delimiter(path: str) -> str:
    with pa.input_stream(path) as stream:
        return _separator(stream.read(1 << 16).split(b"\n")[0])


def _separator(header: bytes) -> str:
    """Comma, semicolon or tab, whichever a header has most of."""
    return max(",;\t", key=header.decode("utf-8", "replace").count)


# Repair ----------------------------------------------------------------------------------------------------------


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
