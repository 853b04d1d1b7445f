"""The longest verified prefix of an interrupted or damaged log, and a line on what was lost.

Two steps. A format may `salvage` a file that cannot even be opened into a sound copy (of bytes only: nothing is parsed
here that a parser could choke on). Then episodes are read until the first that is unsound. Of a writer that was killed
there is what it left under a temporary name.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from steersman.core.errors import DataError, SteersmanError
from steersman.core.recording import Recording
from steersman.data.formats import FORMATS, LIMITS, read
from steersman.data.sandbox.host import Limits
from steersman.data.source import ReadOptions, Saved, Source, fingerprint
from steersman.runs.files import leftovers, refusals


@dataclass
class Repaired:
    """A source of the sound episodes; `lost` says what is missing, and is final once the source has been read."""

    source: Source
    lost: tuple[str, ...] = ()


def repair(path: str, options: ReadOptions | None = None, *, limits: Limits | None = LIMITS) -> Repaired:
    """Open a log of which only the beginning is sound, or what a killed writer of `path` left.

    Raises:
        DataError: not even one episode can be saved.
    """
    options = options or ReadOptions()
    left = [] if Path(path).exists() else leftovers(Path(path))
    folder = Path(tempfile.mkdtemp(prefix="steersman-repair-"))
    place, lost = path, ""
    try:
        if left:  # the next writer in that folder sweeps it away: so it is copied first
            (folder / "left").mkdir()
            place, lost = str(folder / "left" / Path(path).name), "lost: what was being written"
            with refusals("a log to repair", left[0]):
                (shutil.copytree if left[0].is_dir() else shutil.copyfile)(left[0], place)
        try:
            found = _begun(place, options, limits)
        except DataError as error:
            found, lost = _saved(place, folder, options, limits, error)
        content = fingerprint("repaired", found.fingerprint, options) if lost else found.fingerprint
        kept = replace(found, path=path, fingerprint=content)
        weakref.finalize(kept, shutil.rmtree, folder, True)  # `kept` lives as long as what is made of it below
        return _prefix(kept, (lost,) if lost else ())
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _begun(path: str, options: ReadOptions, limits: Limits | None) -> Source:
    """A log that opens and of which the first episode is sound."""
    source = read(path, options, limits=limits)
    next(source.recordings(), None)
    return source


def _saved(
    path: str, folder: Path, options: ReadOptions, limits: Limits | None, error: DataError
) -> tuple[Source, str]:
    """What the format of an unsound log saves of it, opened, and a line on what is lost."""
    found = next((f for f in FORMATS if f.name == options.format or f.claims(path)), None)
    if found is None or not Path(path).exists():
        raise error
    try:
        with refusals("a log to repair", path):
            saved: Saved = found.salvage(path, folder, error)
        options = msgspec.structs.replace(options, format=saved.format or found.name)
        return read(saved.copy, options, limits=limits), saved.lost
    except SteersmanError as again:
        raise DataError(f"at least one whole episode to save in {path}", f"{again.got}", "record it again") from error


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

    done.source = replace(source, stream=stream, steps=None)
    return done
