"""What formats of episodes share: they know their arrays' roles; a schema that is given says more, and is used here.

The log is looked at as the table that it would be written as (`table.tabulate`): a column per entry, named as
`steersman data schema` shows it. So units, ranges, periods, slow columns and gaps mean what they mean in a table.
Images and whatever else is no vector stay where they are, and follow the rows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import msgspec
import pyarrow as pa

from steersman.core.errors import UsageError
from steersman.core.recording import Array, Recording
from steersman.core.signature import ObservationSpec, Signature
from steersman.data.formats.arrays import Layout, Tree, describe, lay_out
from steersman.data.formats.field_arrays import OPTIONS, FieldLog, field_in
from steersman.data.formats.layouts import ALLOWED, understand
from steersman.data.formats.table import Table, interpret, tabulate
from steersman.data.schema import Schema
from steersman.data.source import Draft, Format, ReadOptions, Source, fingerprint
from steersman.data.storage import sha256
from steersman.runs.files import replace_file

StoreArrays = Callable[[int, dict[str, Array], bytes], None]
"""Stores an episode in a new file: its number, its arrays by path, the file's description (empty but for the first)."""


class Recorded(Format):
    """A format whose files hold episodes."""

    @abstractmethod
    def opened(self, path: str, options: ReadOptions) -> Source:
        """`open`, without a schema; its own has the names that `tabulate` gives."""

    def open(self, path: str, options: ReadOptions) -> Source:
        if options.schema is None:
            return self.opened(path, options)
        return described(self.opened(path, msgspec.structs.replace(options, schema=None)), options.schema)


class ArrayFile(Recorded):
    """A format whose files are trees of arrays, ours or others'. See `arrays` and `layouts` for what they mean."""

    @abstractmethod
    def arrays(self, path: str) -> AbstractContextManager[tuple[Tree, bytes | None]]:
        """The arrays of a file, none of them read, and the file's description, if it was written here.

        Raises:
            DataError: the file is unsound; so does reading an array of it.
        """

    @abstractmethod
    def storing(self, path: Path) -> AbstractContextManager[StoreArrays]:
        """Around the making of a new file, episode after episode."""

    def opened(self, path: str, options: ReadOptions) -> Source:
        options.only(ALLOWED | OPTIONS, self.name)
        content = sha256(path)
        with self.arrays(path) as (arrays, description):
            field = field_in(arrays, options, path) if description is None else None
            layout: FieldLog | Layout = field or understand(arrays, description, options, path)

        def stream() -> Iterator[Recording]:
            with self.arrays(path) as (arrays, _):
                yield from layout.recordings(arrays, path)

        return Source(
            self.name, path, layout.signature, fingerprint(self.name, content, options), stream, layout.steps,
            layout.notes, layout.schema,
        )

    def put(self, path: Path, draft: Draft) -> None:
        with replace_file(path) as temporary, self.storing(temporary) as store:
            for number, recording in draft.checked():
                described = b"" if number else describe(draft.signature, recording.times is not None, draft.schema)
                store(number, dict(lay_out(recording, number)), described)


def described(source: Source, schema: Schema) -> Source:
    """The log with the roles that `schema` gives to its columns.

    Raises:
        DataError: a column that is not there; what `interpret` raises.
        UsageError: rows to be sorted, an image with another role than to be observed.
    """
    cameras = {f"observation.{name}": name for name, s in source.signature.observations.items() if s.kind != "vector"}
    schema, renamed = images_apart(schema, cameras, source.path)
    table = _table(source, schema, bool(renamed))
    observations = {new: source.signature.observations[old] for old, new in renamed.items()}
    signature = with_images(table.signature, observations, source.path)
    images = {
        f"observation.{old}": msgspec.structs.replace(source.schema.columns[f"observation.{old}"], observation=new)
        for old, new in renamed.items() if source.schema is not None
    }
    whole = msgspec.structs.replace(table.schema, columns=table.schema.columns | images)

    def stream() -> Iterator[Recording]:
        return _with_frames(table, source, renamed) if renamed else table.recordings()

    content = fingerprint(source.format, source.fingerprint, ReadOptions(schema=schema))
    return replace(
        source, signature=signature, fingerprint=content, stream=stream, steps=table.steps,
        notes=table.notes, schema=whole,
    )


def images_apart(schema: Schema, cameras: dict[str, str], where: str) -> tuple[Schema, dict[str, str]]:
    """The schema without its images, and the cameras that it uses: name -> the observation that it becomes. Cameras
    that it does not speak of are ignored, as columns are.

    Raises:
        UsageError: rows to be sorted, an image with another role than to be observed.
    """
    if schema.sort:
        raise UsageError(f"rows in their order in {where}", "sort = true", "leave it out: frames would not follow")
    renamed = {}
    for column, name in cameras.items():
        said = schema.columns.get(column)
        if said is None or said.role == "ignored":
            continue
        if said.role != "observation":
            raise UsageError(f"images to be observed in {where}", f"{column} as {said.role}", "correct its role")
        renamed[name] = said.observation or said.label or name
    rest = {name: column for name, column in schema.columns.items() if name not in cameras}
    return msgspec.structs.replace(schema, columns=rest), renamed


def with_images(signature: Signature, images: dict[str, ObservationSpec], where: str) -> Signature:
    """A table's signature with the cameras beside it.

    Raises:
        UsageError: a camera that is called like an observation of the table.
    """
    if taken := sorted(set(images) & set(signature.observations)):
        raise UsageError(f"another name for the images than those of columns in {where}", f"{taken}", "rename them")
    return msgspec.structs.replace(signature, observations={**signature.observations, **images})


def _table(source: Source, schema: Schema, filmed: bool) -> Table:
    """The log's numbers as a table with roles."""
    vectors = {name: s for name, s in source.signature.observations.items() if s.kind == "vector"}
    plain = msgspec.structs.replace(source.signature, observations=vectors)
    numbers = (
        replace(r, observations={name: r.observations[name] for name in vectors}) for r in source.recordings()
    )
    return interpret(pa.concat_tables(tabulate(Draft(plain, numbers))), ReadOptions(schema=schema), source.path, filmed)


def _with_frames(table: Table, source: Source, cameras: dict[str, str]) -> Iterator[Recording]:
    """The table's episodes with the images of the rows that they are made of."""
    whole = zip(source.recordings(), table.recorded, strict=True)
    recording, (first, end) = next(whole)
    for part, (start, stop) in zip(table.recordings(), table.bounds, strict=True):
        while start >= end:
            recording, (first, end) = next(whole)
        frames = {new: recording.observations[old][start - first : stop - first] for old, new in cameras.items()}
        yield replace(part, observations={**part.observations, **frames})
