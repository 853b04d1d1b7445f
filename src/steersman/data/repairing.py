"""The longest verified prefix of an interrupted or damaged log, and a line on what was lost.

Two steps. A format may `salvage` a file that cannot even be opened into a sound copy (of bytes only: nothing is parsed
here that a parser could choke on). Then episodes are read until the first that is unsound.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from steersman.core.errors import DataError, SteersmanError
from steersman.core.recording import Recording
from steersman.data.formats import FORMATS, LIMITS, read
from steersman.data.isolation import Limits
from steersman.data.source import ReadOptions, Source, fingerprint


@dataclass
class Repaired:
    """A source of the sound episodes; `lost` says what is missing, and is final once the source has been read."""

    source: Source
    lost: tuple[str, ...] = ()


def repair(path: str, options: ReadOptions | None = None, *, limits: Limits | None = LIMITS) -> Repaired:
    """Open a log of which only the beginning is sound.

    Raises:
        DataError: not even one episode can be saved.
    """
    options = options or ReadOptions()
    try:
        return _prefix(read(path, options, limits=limits), ())
    except DataError as error:
        if not Path(path).exists() and not any(f.name == "cache" and f.claims(path) for f in FORMATS):
            raise
        found = next((f for f in FORMATS if f.name == options.format or f.claims(path)), None)
        if found is None:
            raise
        folder = Path(tempfile.mkdtemp(prefix="steersman-repair-"))
        try:
            copy, lost = found.salvage(path, folder, error)
            source = read(copy, replace_format(options, found.name), limits=limits)
        except BaseException as again:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(again, SteersmanError):
                raise DataError(
                    f"at least one whole episode to save in {path}", f"{again.got}", "record it again"
                ) from error
            raise
    content = fingerprint("repaired", source.fingerprint, options)
    kept = replace(source, path=path, fingerprint=content)
    weakref.finalize(kept, shutil.rmtree, folder, True)  # `kept` lives as long as what is made of it below
    return _prefix(kept, (lost,))


def replace_format(options: ReadOptions, format: str) -> ReadOptions:
    """The same options for a copy whose format is known."""
    import msgspec

    return msgspec.structs.replace(options, format=format)


def _prefix(source: Source, lost: tuple[str, ...]) -> Repaired:
    """A source that ends before the first unsound episode instead of refusing it."""
    done = Repaired(source, lost)
    whole = source

    def stream() -> Iterator[Recording]:
        done.lost = lost
        number = 0
        try:
            for recording in whole.recordings():
                yield recording
                number += 1
        except DataError as error:
            if not number:
                raise
            done.lost = (*lost, f"lost: episode {number} and all after it ({error.got})")

    done.source = replace(source, stream=stream, steps=None, notes=source.notes)
    return done
