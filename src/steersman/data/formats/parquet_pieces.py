"""A Parquet file that can be saved without its end: whole Parquet files one after the other, and a footer for all.

A Parquet file says only at its end what its columns are and where. So each piece (one row group of whole episodes) is
written as a file of its own, footer included (only its last four bytes differ), and the footer at the very end speaks
of the row groups of all of them: readers see one file and pass over what lies between. When the end is lost, the pieces
before it are still whole. Pages have checksums, so that a piece of which a bit has changed is known.

Knows tables; knows nothing of episodes.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from steersman.data.formats.thrift import Struct, decode, encode
from steersman.data.formats.unsound import UNSOUND

MAGIC, _END = b"PAR1", b"PIEC"
_BYTES, _SECONDS = 8 << 20, 2.0
_TRIES = 10_000
# Field numbers of Parquet's metadata.
_ROWS, _GROUPS = 3, 4
_CHUNKS, _GROUP_AT, _ORDINAL = 1, 5, 7
_CHUNK_META, _PAGE_OFFSETS = 3, (9, 10, 11)


class PiecesWriter:
    """Tables of one schema into one file. A piece ends when it has 8 MiB, or 2 s after the one before: so much is lost
    when the process is killed. Close it.
    """

    def __init__(self, path: Path, schema: pa.Schema, plain: tuple[str, ...] = ()) -> None:
        """plain: columns whose values hardly repeat (images), for which no dictionary is tried."""
        self._schema, self._file = schema, path.open("wb")
        self._dictionary = [name for name in schema.names if name not in plain]
        self._waiting: list[pa.Table] = []
        self._size, self._since = 0, time.monotonic()
        self._footer: Struct = {}
        self._groups: list[Struct] = []

    def write(self, table: pa.Table) -> None:
        self._waiting.append(table.cast(self._schema))
        self._size += table.nbytes
        if self._size >= _BYTES or time.monotonic() > self._since + _SECONDS:
            self._end_piece()

    def size(self) -> int:
        """Bytes in the file so far."""
        return self._file.tell()

    def _end_piece(self) -> None:
        table = pa.concat_tables(self._waiting)
        sink = pa.BufferOutputStream()
        pq.write_table(
            table, sink, row_group_size=max(table.num_rows, 1), use_dictionary=self._dictionary,
            write_page_checksum=True,
        )
        piece = sink.getvalue()
        footer = decode(_footer(piece))
        for group in footer[_GROUPS][1][1]:
            self._groups.append(_moved(group, self._file.tell()))
        self._footer = self._footer or footer
        self._file.write(memoryview(piece)[:-4])
        self._file.write(_END)  # no file cut off here must look like a whole one
        self._file.flush()
        self._waiting, self._size, self._since = [], 0, time.monotonic()

    def close(self) -> None:
        """Write what waits, and the footer of all."""
        if self._file.closed:
            return
        with self._file as file:
            if self._waiting:
                self._end_piece()
            if not self._groups:
                return
            rows = sum(group[_ROWS][1] for group in self._groups)
            kind, (inner, _) = self._footer[_GROUPS]
            whole = self._footer | {_ROWS: (self._footer[_ROWS][0], rows), _GROUPS: (kind, (inner, self._groups))}
            footer = encode(whole)
            file.write(footer + len(footer).to_bytes(4, "little") + MAGIC)


def _footer(piece: pa.Buffer) -> bytes:
    """The footer at the end of a Parquet file."""
    view = memoryview(piece)
    size = int.from_bytes(view[-8:-4], "little")
    return bytes(view[-8 - size : -8])


def _moved(group: Struct, by: int) -> Struct:
    """A row group that lies `by` bytes further on."""
    kind, (inner, chunks) = group[_CHUNKS]
    moved = []
    for chunk in chunks:
        meta = dict(chunk[_CHUNK_META][1])
        for number in _PAGE_OFFSETS:
            if number in meta:
                meta[number] = (meta[number][0], meta[number][1] + by)
        moved.append(chunk | {_CHUNK_META: (chunk[_CHUNK_META][0], meta)})
    placed = group | {_CHUNKS: (kind, (inner, moved))}
    if _GROUP_AT in group:
        placed[_GROUP_AT] = (group[_GROUP_AT][0], group[_GROUP_AT][1] + by)
    placed.pop(_ORDINAL, None)  # of 16 bits, and not needed
    return placed


def sound_groups(path: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Row groups of a damaged file before the first that is not sound: by its footer, or piece by piece without it.

    Raises:
        pa.ArrowException, OSError, ValueError: there is not even one.
    """
    with open(path, "rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    first: pa.Schema | None = None
    for part in _files(content):
        for group in range(part.num_row_groups):
            try:
                table = part.read_row_group(group, columns=columns)
                table.validate(full=True)
            except UNSOUND:
                if first is None:
                    raise
                return
            if first is not None and not table.schema.equals(first):
                return
            first = table.schema
            yield table
    if first is None:
        raise ValueError("no whole row group: what a Parquet file holds is said at its end, and that is lost")


def _files(content: mmap.mmap) -> Iterator[pq.ParquetFile]:
    """The whole file, if it has its footer, else the whole files that it begins with."""
    whole = _opened(content)
    if whole is not None:
        yield whole
        return
    start, end, tries = 0, 0, 0
    while content[start : start + 4] == MAGIC and tries < _TRIES:
        end = content.find(_END, max(end, start + 4)) + 4
        if end < 4:
            return
        size = int.from_bytes(content[end - 8 : end - 4], "little")
        part = _opened(content[start : end - 4] + MAGIC) if start + 4 <= end - 8 - size < end - 8 else None
        if part is not None:
            yield part
            start = end
        else:  # four bytes of data that look like an end
            end, tries = end - 3, tries + 1


def _opened(content: bytes | mmap.mmap) -> pq.ParquetFile | None:
    try:
        return pq.ParquetFile(pa.BufferReader(pa.py_buffer(content)), page_checksum_verification=True)
    except UNSOUND:
        return None
