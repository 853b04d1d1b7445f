"""What formats with columns share: they read rows, here columns get roles and rows become episodes."""

from __future__ import annotations

from abc import abstractmethod

import msgspec
import pyarrow as pa

from steersman.data.formats.table import Table, interpret
from steersman.data.schema import Schema
from steersman.data.source import Format, ReadOptions, Source, fingerprint
from steersman.data.storage import sha256


class Tabular(Format):
    """A format whose files are tables, one row a moment. See `steersman.data.roles` for what a row means."""

    @abstractmethod
    def table(self, path: str, schema: Schema | None) -> pa.Table:
        """The rows as they are, unchecked: a column each for numbers, times, text; an image is a fixed-size binary
        column whose field metadata states `shape`. With a schema: in the types that it implies.

        Raises:
            DataError: the file is unsound.
        """

    def described(self, path: str) -> Schema | None:
        """What the file says about itself, if it was written here.

        Raises:
            DataError: a description that cannot be used.
        """
        return None

    def interpreted(self, path: str, options: ReadOptions, filmed: bool = False) -> tuple[Table, Schema | None]:
        """The table with its columns' roles, and the schema of `described`, where it was used; `filmed`: see `settle`.

        Raises:
            DataError, ActionError: see `interpret`.
        """
        schema = None if options.stated() - {"sort"} else self.described(path)
        if schema is not None:
            options = msgspec.structs.replace(options, schema=schema)
        return interpret(self.table(path, schema), options, path, filmed), schema

    def open(self, path: str, options: ReadOptions) -> Source:
        content = sha256(path)
        table, described = self.interpreted(path, options)
        if described is not None:
            content += described.toml()
        return Source(
            self.name, path, table.signature,
            fingerprint(self.name, content, options), table.recordings, table.steps, table.notes, table.schema,
        )
