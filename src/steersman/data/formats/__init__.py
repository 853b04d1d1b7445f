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
from steersman.data.formats.experience import Experience
from steersman.data.formats.fields import Fields
from steersman.data.formats.films import Films
from steersman.data.formats.folder import Folder
from steersman.data.formats.hdf5 import Hdf5
from steersman.data.formats.lerobot import LeRobot
from steersman.data.formats.minari import Minari, MinariArrow
from steersman.data.formats.npz import Npz
from steersman.data.formats.parquet import Parquet
from steersman.data.formats.pictures import Pictures
from steersman.data.formats.text import Text
from steersman.data.formats.wav import Wav
from steersman.data.sandbox.host import POSSIBLE, Limits, open_isolated
from steersman.data.schema import Schema
from steersman.data.source import Format, ReadOptions, Source

if TYPE_CHECKING:
    from steersman.core.types import Episode

LIMITS = Limits()
FORMATS: tuple[Format, ...] = (
    Cache(), Experience(), Minari(), Csv(), Parquet(), Hdf5(), Npz(), LeRobot(), Folder(), MinariArrow(), Pictures(),
    Films(), Wav(), Fields(), Text(),
)

__all__ = [
    "FORMATS", "Cache", "Csv", "Experience", "Fields", "Films", "Folder", "Hdf5", "LeRobot", "Minari", "MinariArrow",
    "Npz", "Parquet", "Pictures", "Text", "Wav", "named", "read", "recognised", "write", "writer_for",
]


def read(
    path: str | os.PathLike[str], options: ReadOptions | None = None, *, limits: Limits | None = LIMITS
) -> Source:
    """Open a log of any known format: a file, a folder, or a Minari dataset id.

    limits  what parsing may take: it is done in a process of its own (`data.sandbox.host`); None parses in this one,
            for logs that you trust

    Raises:
        DataError: nothing there, an unknown format, an unsound file.
        UsageError: an unknown format name; a package that is not installed.
    """
    options, text = options or ReadOptions(), os.fspath(path)
    format = recognised(text, options)
    if limits is None or not format.isolated or not POSSIBLE:
        return format.open(text, options)
    return open_isolated(format.name, text, options, limits)


def recognised(text: str, options: ReadOptions) -> Format:
    """The format of the log at the path `text`, as the options say or as it looks.

    Raises:
        DataError: nothing there, an unknown format.
        UsageError: an unknown format name.
    """
    if options.format is not None:
        return named(options.format)
    for candidate in FORMATS:
        if candidate.matches(text):
            if candidate.name != "minari" and not Path(text).exists():
                break
            return candidate
    names = ", ".join(f.name for f in FORMATS)
    if not Path(text).exists():
        raise DataError("a log to read", f"nothing at {text}", "check the path or the Minari dataset id")
    what = "a folder of another kind" if Path(text).is_dir() else f"{Path(text).suffix or 'no suffix'}"
    fix = "convert it, or name its format (--format)"
    raise DataError(f"a log of a known format ({names})", f"{what} at {text}", fix)


def write(
    path: str | os.PathLike[str], signature: Signature, episodes: Iterable[Episode | Recording],
    format: str | None = None, schema: Schema | None = None,
) -> Path:
    """Write episodes in the format that the name asks for, so that `read` gives them back; units and periods of columns
    as `schema` has them.

    Raises:
        UsageError: a format that is unknown or cannot hold these observations.
        StorageError: the file system refused.
    """
    recordings = (e if isinstance(e, Recording) else e.recording() for e in episodes)
    return writer_for(path, format).write(path, signature, recordings, schema)


def writer_for(path: str | os.PathLike[str], format: str | None = None) -> Format:
    """The format that is called `format`, or else that the name of `path` asks for.

    Raises:
        UsageError: no such format, or a name that asks for none.
    """
    text = os.fspath(path)
    chosen = named(format) if format else next((f for f in FORMATS if f.asks(text)), None)
    if chosen is None:
        names = ", ".join(f.name for f in FORMATS)
        raise UsageError("a file name that asks for a format", text, f"name the format: one of {names}")
    return chosen


def named(name: str) -> Format:
    """The format of this name.

    Raises:
        UsageError: there is none.
    """
    for candidate in FORMATS:
        if candidate.name == name:
            return candidate
    raise UsageError(f"a format among {', '.join(f.name for f in FORMATS)}", name, "choose one of them")
