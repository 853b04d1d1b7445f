"""The training cache on disk: one raw array per field and a JSON index, written whole or not at all.

Row r of every field is the same moment; an episode of T steps has T+1 rows. Knows files; what is in them is told by
`data.stored`, windows and splits are the dataset's business.

Shapes: R rows, E episodes.
"""

from __future__ import annotations

import math
import mmap
import os
import re
import shutil
import time
import warnings
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec
import numpy as np
import torch
from torch import Tensor

from steersman.core.errors import ConfigError, DataError, SteersmanError, StorageError
from steersman.core.signature import Signature
from steersman.core.types import Episode
from steersman.data.schema import Schema
from steersman.data.source import Saved
from steersman.data.storage import JOURNAL, sha256
from steersman.data.stored import DTYPES, Field, field_bytes, field_shapes
from steersman.runs.folders import FolderInTheMaking, is_free, steady, whole

VERSION = 1
INDEX = "index.json"
_BUFFER = 1 << 20
_NOTE_BYTES, _NOTE_SECONDS = 64 << 20, 2.0
_OURS = re.compile(r"index\.json|offsets\.bin|(observation|action|exogenous|measured)-\d+\.bin")


class Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the arrays of a cache mean. `fingerprint` is that of the source they were made from."""

    format: Literal["steersman cache"]
    version: int
    fingerprint: str
    signature: Signature
    episodes: int
    rows: int
    fields: dict[str, Field]
    origin: str = ""
    notes: tuple[str, ...] = ()
    schema: Schema | None = None


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of a cache in the making: offsets of the episodes since the line before (the first line's begin with 0),
    and the CRC-32 of each field's bytes so far."""

    offsets: list[int]
    crc32: dict[str, int]


class CacheWriter:
    """Streams episodes into a new cache that appears at `path` when `finish` is called, or never.

    >>> with CacheWriter(path, signature) as writer:       # doctest: +SKIP
    ...     for episode in recording:
    ...         writer.append(episode)
    ...     dataset = writer.finish(fingerprint)

    Leaving the block without `finish`, by an error or Ctrl-C, leaves nothing behind and an older cache untouched.
    Everything is on disk (fsync) before the cache appears.

    Raises:
        DataError, ActionError: an episode that does not fit the signature (see `Episode.validate`).
        StorageError: the file system refused.
    """

    def __init__(
        self, path: str | os.PathLike[str], signature: Signature, *, origin: str = "", schema: Schema | None = None
    ) -> None:
        self.path, self.signature, self.origin, self.schema = Path(path), signature, origin, schema
        self.notes: list[str] = []
        self.episodes = self.steps = self.bytes = 0
        refuse_foreign_folder(self.path)
        self._folder = FolderInTheMaking(self.path)
        self._closed = False
        self._offsets = [0]
        self._shapes = field_shapes(signature)
        self._names = {name: f"{name.split('.')[0]}-{i}.bin" for i, name in enumerate(self._shapes)}
        self._crc = dict.fromkeys(self._shapes, 0)
        self._files: dict[str, BinaryIO] = {}
        self._noted, self._noted_bytes, self._noted_at = 0, 0, time.monotonic()
        try:
            with self._folder.refusals():
                for name, file in self._names.items():
                    self._files[name] = (self._folder.path / file).open("wb", buffering=_BUFFER)
        except BaseException:
            self.close()
            raise

    def append(self, episodes: Episode | Iterable[Episode]) -> None:
        """Add one or many episodes."""
        if not isinstance(episodes, Episode):
            for episode in episodes:
                self.append(episode)
            return
        episode = episodes
        episode.validate(self.signature, f"episode {self.episodes}")
        with self._folder.refusals():
            for name, data in field_bytes(episode, self.signature).items():
                self._files[name].write(data)
                self._crc[name] = zlib.crc32(data, self._crc[name])
                self.bytes += len(data)
        self.episodes += 1
        self.steps += len(episode)
        self._offsets.append(self._offsets[-1] + len(episode) + 1)
        if self.bytes - self._noted_bytes > _NOTE_BYTES or time.monotonic() > self._noted_at + _NOTE_SECONDS:
            self._note()

    def _note(self) -> None:
        """Hand over to the system what is written so far, and note how far that is, so that it can be saved after a
        crash (`salvage`)."""
        with self._folder.refusals():
            for file in self._files.values():
                file.flush()
            with (self._folder.path / JOURNAL).open("ab") as journal:
                if not self._noted:
                    journal.write(msgspec.json.encode(self.signature) + b"\n")
                rows = self._offsets[self._noted + (self._noted > 0) :]
                journal.write(msgspec.json.encode(Note(rows, self._crc)) + b"\n")
        self._noted, self._noted_bytes, self._noted_at = self.episodes, self.bytes, time.monotonic()

    def finish(self, source_fingerprint: str | None = None) -> Index:
        """Make the cache durable and put it in its place.

        source_fingerprint  SHA-256 that identifies where the episodes came from (default: that of the arrays)
        """
        if not self.episodes:
            raise DataError("at least one episode", f"none for {self.path}", "check the source")
        offsets = np.array(self._offsets, "<i8").tobytes()
        fields = {
            name: Field(self._names[name], dtype, shape, self._offsets[-1], self._crc[name])
            for name, (dtype, shape) in self._shapes.items()
        }
        fields["offsets"] = Field("offsets.bin", "int64", (1,), len(self._offsets), zlib.crc32(offsets))
        with self._folder.refusals():
            (self._folder.path / JOURNAL).unlink(missing_ok=True)
            for file in self._files.values():
                file.flush()
            source_fingerprint = source_fingerprint or sha256(self._folder.path)
        index = Index(
            "steersman cache", VERSION, source_fingerprint, self.signature, self.episodes, self._offsets[-1], fields,
            self.origin, tuple(self.notes), self.schema,
        )
        text = msgspec.json.format(msgspec.json.encode(index))
        with self._folder.refusals():
            for name, content in (("offsets.bin", offsets), (INDEX, text)):
                self._files[name] = (self._folder.path / name).open("wb")
                self._files[name].write(content)
            for file in self._files.values():
                file.close()
        self._folder.commit()
        self._closed = True
        return index

    def close(self) -> None:
        """Give up: nothing is left behind. Does nothing after `finish`."""
        if self._closed:
            return
        self._closed = True
        self._folder.discard()
        for file in self._files.values():
            try:
                file.close()
            except OSError:  # a full disk refuses the last buffer, too; the file is gone anyway
                continue

    def __enter__(self) -> CacheWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def refuse_foreign_folder(path: Path) -> None:
    """A cache may replace a cache, sound or damaged, and nothing else.

    Raises:
        StorageError: something that is no cache stands at `path`.
    """
    if not is_free(whole(path)) and (not path.is_dir() or any(not _OURS.fullmatch(p.name) for p in path.iterdir())):
        raise StorageError(f"a place for a cache at {path}", "something else there", "choose another path")


def open_cache(path: str | os.PathLike[str]) -> tuple[Index, dict[str, Tensor]]:
    """The index of the cache at `path` and its mapped fields, both of one writing of it.

    Raises:
        DataError: no cache, foreign, of a future version, altered, truncated.
    """
    def read() -> tuple[Index, dict[str, Tensor]]:
        index = read_index(path)
        return index, map_fields(path, index)

    return steady(Path(path), read)


def read_index(path: str | os.PathLike[str]) -> Index:
    """The index of the cache at `path`, checked against the sizes of its files before anything is mapped.

    Raises:
        DataError: no cache, foreign, of a future version, altered, truncated.
    """
    root = Path(path)
    try:
        text = (root / INDEX).read_bytes()
    except OSError as error:
        raise DataError(f"a cache with {INDEX} at {root}", f"{error.strerror}", "build it from its source") from error
    index = _decode(text, root)
    _check(index, root)
    return index


def _decode(text: bytes, root: Path) -> Index:
    fix = "delete the folder and build it again from its source"
    try:
        head = msgspec.json.decode(text, type=dict[str, Any])
        if head.get("format") != "steersman cache" or not isinstance(head.get("version"), int):
            raise DataError(f"a steersman cache at {root}", f"another format in {INDEX}", "check the path")
        if head["version"] != VERSION:
            got = f"format {head['version']}"
            raise DataError(f"cache format {VERSION} at {root}", got, f"update steersman, or {fix}")
        return msgspec.convert(head, Index)
    except (msgspec.MsgspecError, ValueError, RecursionError, ConfigError) as error:
        raise DataError(f"a valid {INDEX} at {root}", f"{error}", fix) from error


def _check(index: Index, root: Path) -> None:
    fix = "delete the folder and build it again from its source"
    shapes = {**field_shapes(index.signature), "offsets": ("int64", (1,))}
    if {name: (field.dtype, field.shape) for name, field in index.fields.items()} != shapes:
        raise DataError(f"the fields of its signature in {root}", f"{sorted(index.fields)}", fix)
    for name, field in index.fields.items():
        rows = index.episodes + 1 if name == "offsets" else index.rows
        if field.rows != rows or field.rows < 1 or Path(field.file).name != field.file:
            raise DataError(f"{rows} rows of {name} in {root}", f"{field.rows} in {field.file!r}", fix)
        try:
            size = (root / field.file).stat().st_size
        except OSError as error:
            raise DataError(f"file {field.file} in {root}", f"{error.strerror}", fix) from error
        if size != field.size:
            raise DataError(f"{field.size} bytes in {root / field.file}", f"{size} (truncated or altered)", fix)


def map_fields(path: str | os.PathLike[str], index: Index) -> dict[str, Tensor]:
    """Field -> (R, n) tensor over a read-only mapping of its file. Sizes have been checked by `read_index`."""
    return {name: _map(Path(path) / field.file, field) for name, field in index.fields.items()}


def _map(path: Path, field: Field) -> Tensor:
    dtype, _ = DTYPES[field.dtype]
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != field.size:
                raise DataError(f"{field.size} bytes in {path}", "another size", "open the cache again")
            mapped = mmap.mmap(file.fileno(), field.size, access=mmap.ACCESS_READ)
    except OSError as error:
        raise DataError(f"a readable file {path}", f"{error.strerror}", "build the cache again") from error
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        return torch.frombuffer(mapped, dtype=dtype).view(field.rows, math.prod(field.shape))


def checksums(path: str | os.PathLike[str], index: Index) -> Mapping[str, bool]:
    """Field -> do its bytes still have the checksum that they were written with? Reads everything."""
    return {name: _crc32(Path(path) / field.file) == field.crc32 for name, field in index.fields.items()}


def _crc32(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            crc = zlib.crc32(block, crc)
    return crc


# Repair ----------------------------------------------------------------------------------------------------------


def salvage(path: str, folder: Path) -> Saved:
    """Of a cache whose writer was killed, the episodes up to the last line of its journal that the arrays bear out: see
    `Format.salvage`.

    Raises:
        DataError: no journal, or no line of it that the arrays bear out.
    """
    root, copy = Path(path), folder / "cache"
    signature, notes = _journal(root)
    copy.mkdir()
    while notes:
        index = _sound(root, copy, signature, notes)
        if index is not None:
            (copy / INDEX).write_bytes(msgspec.json.encode(index))
            return Saved(copy, f"kept {index.episodes:,} episodes; lost: those that were being written")
        notes.pop()
    raise DataError(f"a whole episode in {root}", "none", "record it again")


def _journal(root: Path) -> tuple[Signature, list[Note]]:
    first, *lines = (root / JOURNAL).read_bytes().split(b"\n") or [b""]
    notes: list[Note] = []
    try:
        signature = msgspec.json.decode(first, type=Signature)
    except (msgspec.MsgspecError, SteersmanError) as error:
        raise DataError(f"a signature in the journal of {root}", f"{error}", "record it again") from error
    for line in lines:
        try:
            notes.append(msgspec.json.decode(line, type=Note))
        except msgspec.MsgspecError:
            break  # cut off
    return signature, notes


def _sound(root: Path, copy: Path, signature: Signature, notes: list[Note]) -> Index | None:
    """The index up to the last of `notes`, if every array has the bytes that it speaks of."""
    offsets = np.array([n for note in notes for n in note.offsets], "<i8")
    shortest = 1 if signature.action.kind == "none" else 2
    if len(offsets) < 2 or offsets[0] != 0 or (np.diff(offsets) < shortest).any():
        return None
    rows, fields = int(offsets[-1]), dict[str, Field]()
    for number, (name, (dtype, shape)) in enumerate(field_shapes(signature).items()):
        file = f"{name.split('.')[0]}-{number}.bin"
        crc = _copy(root / file, copy / file, rows * math.prod(shape) * DTYPES[dtype][1])
        if crc is None or crc != notes[-1].crc32.get(name):
            return None
        fields[name] = Field(file, dtype, shape, rows, crc)
    (copy / "offsets.bin").write_bytes(offsets.tobytes())
    fields["offsets"] = Field("offsets.bin", "int64", (1,), len(offsets), zlib.crc32(offsets.tobytes()))
    text = f"{zlib.crc32(offsets.tobytes()):08x}{''.join(f'{f.crc32:08x}' for f in fields.values())}"
    return Index("steersman cache", VERSION, f"repaired {text}", signature, len(offsets) - 1, rows, fields)


def _copy(source: Path, target: Path, size: int) -> int | None:
    """The first `size` bytes of a file; their CRC-32, None if there are fewer."""
    if not source.is_file() or source.stat().st_size < size:
        return None
    shutil.copyfile(source, target)
    os.truncate(target, size)
    return _crc32(target)
