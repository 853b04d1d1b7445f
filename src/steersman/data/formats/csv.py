"""CSV: one row a moment, a header, an `episode` column. See `steersman.data.roles` for what a row means.

A file that was written here has a description beside it (`NAME.roles.json`: roles, shapes, bounds) that is read first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.csv as pc

from steersman.core.errors import DataError, UsageError
from steersman.core.recording import Recording
from steersman.core.signature import Signature
from steersman.data.formats.table import Table, interpret, tabulate
from steersman.data.roles import Roles, Sidecar, settle
from steersman.data.source import Format, ReadOptions, Source, fingerprint
from steersman.data.storage import replace_file, sha256

_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


class Csv(Format):
    """Comma, semicolon or tab separated values, plain or gzipped."""

    name = "csv"

    def matches(self, path: str) -> bool:
        return path.lower().endswith(_SUFFIXES)

    def open(self, path: str, options: ReadOptions) -> Source:
        content, sidecar = sha256(path), _sidecar(path, options)
        if sidecar is not None:
            content += sha256(f"{path}.roles.json")
        table, notes = _interpreted(path, options, sidecar)
        return Source(
            self.name, path, table.signature, fingerprint(self.name, content, options), table.recordings, table.steps,
            (*notes, *table.notes),
        )

    def write(self, path: str | os.PathLike[str], signature: Signature, recordings: Iterable[Recording]) -> Path:
        if any(spec.kind == "image" for spec in signature.observations.values()):
            raise UsageError("vector observations in a CSV file", "images", "write .parquet instead")
        with replace_file(path) as temporary:
            tables = tabulate(signature, recordings)
            table, roles = next(tables, (None, None))
            if table is None or roles is None:
                raise DataError("at least one episode to write", "none", "check the source")
            with pc.CSVWriter(str(temporary), table.schema) as writer:
                writer.write_table(table)
                for table, _ in tables:
                    writer.write_table(table)
            with replace_file(f"{path}.roles.json") as description:
                description.write_bytes(msgspec.json.format(msgspec.json.encode(Sidecar(roles, signature))))
        return Path(path)


def read_table(path: str, options: ReadOptions) -> tuple[Table, list[str]]:
    """The table in a CSV file with its columns' roles, and notes on what was inferred.

    Raises:
        DataError, ActionError: see `interpret`.
    """
    return _interpreted(path, options, _sidecar(path, options))


def _interpreted(path: str, options: ReadOptions, sidecar: Sidecar | None) -> tuple[Table, list[str]]:
    data = _read(path, sidecar)
    roles, notes = (sidecar.roles, []) if sidecar else settle(data.column_names, (), options, path)
    _require_columns(data, roles, path)
    return interpret(data, roles, options, path, sidecar), notes


def _sidecar(path: str, options: ReadOptions) -> Sidecar | None:
    file = Path(f"{path}.roles.json")
    return _read_sidecar(file) if file.exists() and not options.stated() - {"sort"} else None


def _read(path: str, sidecar: Sidecar | None) -> pa.Table:
    types = {}
    if sidecar:
        whole = sidecar.signature.action.kind == "discrete"
        types = dict.fromkeys(sidecar.roles.numeric, pa.float32())
        types |= dict.fromkeys(sidecar.roles.action, pa.int64()) if whole else {}
    try:
        data = pc.read_csv(
            path, parse_options=pc.ParseOptions(delimiter=_delimiter(path)),
            convert_options=pc.ConvertOptions(column_types=types),
        )
        str(data.column_names)  # a header that is no UTF-8 fails here
        return data
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise DataError(
            f"a table with a header and equally many values a row in {path}", f"{error}".splitlines()[0],
            "repair or re-export the file",
        ) from error


def _delimiter(path: str) -> str:
    with pa.input_stream(path) as stream:
        head = stream.read(1 << 16).split(b"\n")[0].decode("utf-8", errors="replace")
    return max(",;\t", key=head.count)


def _read_sidecar(path: Path) -> Sidecar:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise DataError(f"a readable description {path}", f"{error.strerror}", "check the file") from error
    return Sidecar.parse(text, str(path), "correct it, or delete it to infer the roles anew")


def _require_columns(data: pa.Table, roles: Roles, path: str) -> None:
    wanted = [c for c in (roles.episode, roles.time) if c] + list(roles.numeric)
    missing = [c for c in wanted if c not in data.column_names]
    if missing:
        raise DataError(
            f"columns {', '.join(missing)} in {path}", f"columns {', '.join(data.column_names)}",
            f"correct or delete {path}.roles.json",
        )
