"""CSV: one row a moment, a header, an `episode` column. See `steersman.data.roles` for what a row means.

A schema beside the file (`NAME.csv.schema.toml`) is read first; a file that was written here has one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc

from steersman.core.errors import DataError, UsageError
from steersman.core.recording import Recording
from steersman.core.signature import Signature
from steersman.data.formats.csv_repair import delimiter, salvage
from steersman.data.formats.table import canonical, tabulate
from steersman.data.formats.tabular import Tabular
from steersman.data.schema import Schema
from steersman.data.source import Saved
from steersman.data.storage import replace_file

SUFFIX = ".schema.toml"
_ONE_THREAD = pc.ReadOptions(use_threads=False)
"""Arrow's threaded reader now and then waits for ever at a row that it refuses."""
_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


class Csv(Tabular):
    """Comma, semicolon or tab separated values, plain or gzipped."""

    name = "csv"

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
        return salvage(path, folder)

    def write(
        self, path: str | os.PathLike[str], signature: Signature, recordings: Iterable[Recording],
        schema: Schema | None = None,
    ) -> Path:
        if any(spec.kind == "image" for spec in signature.observations.values()):
            raise UsageError("vector observations in a CSV file", "images", "write .parquet instead")
        with replace_file(path) as temporary:
            tables = tabulate(signature, recordings)
            first = next(tables)
            with pc.CSVWriter(str(temporary), first.schema) as writer:
                for table in chain([first], tables):
                    writer.write_table(table)
            described = canonical(signature, "time" in first.column_names, schema)
            with replace_file(f"{path}{SUFFIX}") as description:
                description.write_text(described.toml(), encoding="utf-8")
        return Path(path)


def _delimiter(path: str) -> str:
    with pa.input_stream(path) as stream:
        return delimiter(stream.read(1 << 16).split(b"\n")[0])
