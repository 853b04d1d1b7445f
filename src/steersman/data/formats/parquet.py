"""Parquet: one row a moment, an `episode` column. See `steersman.data.roles` for what a row means.

A list column (`observation.state` as LeRobot writes it) is a whole vector; an image is a fixed-size binary column
whose field metadata states `shape`. A file that was written here holds its own description, and can be saved without
its end (`steersman.data.formats.parquet_pieces`).
"""

from __future__ import annotations

import shutil
from contextlib import closing
from itertools import chain
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from steersman.core.errors import DataError, SteersmanError
from steersman.data.formats.parquet_pieces import PiecesWriter, sound_groups
from steersman.data.formats.table import canonical, shape_metadata, tabulate
from steersman.data.formats.tabular import Tabular
from steersman.data.formats.unsound import UNSOUND, reading
from steersman.data.schema import Schema, bad
from steersman.data.source import Draft, Saved
from steersman.runs.files import replace_file

_KEY = b"steersman"
_SAVED = ".saved.parquet"
"""How the copy of a damaged file is called, of which row groups are read as far as they are sound."""


class Parquet(Tabular):
    """Apache Parquet, one file."""

    name = "parquet"
    kinds = ("vector", "image")

    def matches(self, path: str) -> bool:
        if path.lower().endswith((".parquet", ".pq")):
            return True
        try:
            with open(path, "rb") as file:
                return file.read(4) == b"PAR1"
        except OSError:
            return False

    def table(self, path: str, schema: Schema | None) -> pa.Table:
        data = _read(path)
        return _spread(data, path) if schema is None else data

    def described(self, path: str) -> Schema | None:
        try:
            schema = next(sound_groups(path)).schema if path.endswith(_SAVED) else pq.read_schema(path)
            text = (schema.metadata or {}).get(_KEY)
        except UNSOUND:
            return None  # `table` says what is wrong with the file
        try:
            return None if text is None else msgspec.json.decode(text, type=Schema)
        except (msgspec.MsgspecError, ValueError, RecursionError, SteersmanError) as error:
            raise bad(path, error) from error

    def salvage(self, path: str, folder: Path, error: DataError) -> Saved:
        copy = folder / f"{Path(path).name}{_SAVED}"
        shutil.copyfile(path, copy)
        return Saved(copy, "lost: the first row group that is not whole, and what follows it")

    def put(self, path: Path, draft: Draft) -> None:
        metadata = shape_metadata(draft.signature)
        with replace_file(path) as temporary:
            tables = tabulate(draft)
            first = next(tables)
            described = canonical(draft.signature, "time" in first.column_names, draft.schema)
            columns = pa.schema(
                [f.with_metadata(metadata.get(f.name)) for f in first.schema], {_KEY: msgspec.json.encode(described)}
            )
            with closing(PiecesWriter(temporary, columns, plain=tuple(metadata))) as writer:
                for table in chain([first], tables):
                    writer.write(table)


def _read(path: str) -> pa.Table:
    with reading(f"a sound Parquet file at {path}"):
        if path.endswith(_SAVED):
            data = pa.concat_tables(sound_groups(path))
        else:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                data = file.read()
            data.validate(full=True)
        str(data.column_names)
        return data


def _spread(data: pa.Table, path: str) -> pa.Table:
    """Columns of lists -> one column for each entry, `name.0`, `name.1`, …"""
    for name in list(data.column_names):
        kind = data.schema.field(name).type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
            continue
        values = data[name].combine_chunks()
        fixed = pa.types.is_fixed_size_list(kind)
        lengths = np.array([kind.list_size]) if fixed else np.diff(values.offsets.to_numpy())
        if values.null_count or len(set(lengths.tolist())) != 1 or not lengths[0]:
            raise DataError(
                f"lists of one length in column {name!r} of {path}", f"lengths {sorted(set(lengths.tolist()))[:5]}",
                "pad or drop the odd rows",
            )
        size, flat = int(lengths[0]), values.flatten()
        index = data.schema.get_field_index(name)
        data = data.remove_column(index)
        for entry in reversed(range(size)):
            column = flat.take(pa.array(np.arange(entry, len(flat), size)))
            data = data.add_column(index, f"{name}.{entry}", column)
    return data
