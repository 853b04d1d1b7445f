"""One file per format, behind one interface; the first that recognises a path reads it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from steersman.core.errors import DataError, UsageError
from steersman.core.recording import Recording
from steersman.core.signature import Signature
from steersman.data.formats.cache import Cache
from steersman.data.formats.csv import Csv
from steersman.data.formats.hdf5 import Hdf5
from steersman.data.formats.minari import Minari
from steersman.data.formats.npz import Npz
from steersman.data.formats.parquet import Parquet
from steersman.data.source import Format, ReadOptions, Source

if TYPE_CHECKING:
    from steersman.core.types import Episode

FORMATS: tuple[Format, ...] = (Cache(), Minari(), Csv(), Parquet(), Hdf5(), Npz())

__all__ = ["FORMATS", "Cache", "Csv", "Hdf5", "Minari", "Npz", "Parquet", "read", "write", "writer_for"]


def read(path: str | os.PathLike[str], options: ReadOptions | None = None) -> Source:
    """Open a log of any known format: a file, a folder, or a Minari dataset id.

    Raises:
        DataError: nothing there, an unknown format, an unsound file.
        UsageError: an unknown format name; a package that is not installed.
    """
    options = options or ReadOptions()
    text = os.fspath(path)
    if options.format is not None:
        return _by_name(options.format).open(text, options)
    for candidate in FORMATS:
        if candidate.matches(text):
            if candidate.name != "minari" and not Path(text).exists():
                break
            return candidate.open(text, options)
    names = ", ".join(f.name for f in FORMATS)
    if not Path(text).exists():
        raise DataError("a log to read", f"nothing at {text}", "check the path or the Minari dataset id")
    what = "a folder of another kind" if Path(text).is_dir() else f"{Path(text).suffix or 'no suffix'}"
    fix = "convert it, or name its format (--format)"
    raise DataError(f"a log of a known format ({names})", f"{what} at {text}", fix)


def write(
    path: str | os.PathLike[str], signature: Signature, episodes: Iterable[Episode | Recording],
    format: str | None = None,
) -> Path:
    """Write episodes in the format that the name asks for, so that `read` gives them back.

    Raises:
        UsageError: a format that is unknown or cannot hold these observations.
        StorageError: the file system refused.
    """
    recordings = (e if isinstance(e, Recording) else e.recording() for e in episodes)
    return writer_for(path, format).write(path, signature, recordings)


def writer_for(path: str | os.PathLike[str], format: str | None = None) -> Format:
    """The format that is called `format`, or else that the name of `path` asks for.

    Raises:
        UsageError: no such format, or a name that asks for none.
    """
    text = os.fspath(path)
    chosen = _by_name(format) if format else next((f for f in FORMATS if f.asks(text)), None)
    if chosen is None:
        names = ", ".join(f.name for f in FORMATS)
        raise UsageError("a file name that asks for a format", text, f"name the format: one of {names}")
    return chosen


def _by_name(name: str) -> Format:
    for candidate in FORMATS:
        if candidate.name == name:
            return candidate
    raise UsageError(f"a format among {', '.join(f.name for f in FORMATS)}", name, "choose one of them")
