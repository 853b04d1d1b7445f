"""What is kept of a cell: `cell.json` beside what the cell left, committed whole or not at all; sealed, with a hash.

The hash covers the code that the cell can reach, its settings, the versions below it, and the hashes of the cells that
it needs: a cell with another hash is stale. Knows the files of a cell; does not perform one.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from steersman.core.errors import RunError, UsageError
from steersman.evidence.cell import Cell, File, Found, Kept
from steersman.evidence.sources import source_hash
from steersman.runs import manifest as manifests
from steersman.runs.files import files_in, parse_json, pretty, read_capped, refusals, sha256, sha256_file, write_new
from steersman.runs.folders import whole, writing
from steersman.runs.seals import seal, seal_holds

NAME = "cell.json"
State = Literal["kept", "stale", "damaged", "missing"]
"""kept: with the hash that it would have today. stale: with another. damaged: not as it was kept."""
_LOCK = "writer.lock"
_SMALL = 1 << 20
"""Files up to so many bytes are held against their hash when a cell is read, larger ones against their size."""


class Hashes:
    """Hashes of cells by the code as it is now: each module is looked at once, when it is first asked for."""

    def __init__(self) -> None:
        self._sources: dict[str, str] = {}

    def of(self, cell: Cell, needs: Iterable[str]) -> str:
        """The hash of a cell whose needed cells have the hashes `needs`."""
        module, settings = cell.perform.__module__, cell.settings
        if module not in self._sources:
            self._sources[module] = source_hash(module)
        identity = {
            "function": f"{module}:{cell.perform.__qualname__}", "source": self._sources[module],
            "settings": [type(settings).__qualname__, msgspec.to_builtins(settings)], "row": cell.row,
            "seed": cell.seed, "versions": _versions(), "needs": list(needs),
        }
        return sha256(msgspec.json.encode(identity, order="sorted"))


@contextmanager
def keeping(folder: Path) -> Iterator[Path]:
    """A temporary folder for a cell to work in, which takes the place of what is kept at `folder` when the block ends
    well; `write` must have been called on it by then. Otherwise what was kept stands.

    Raises:
        StorageError: the file system refused.
    """
    with writing(folder, "a cell") as place:
        yield place


def write(place: Path, cell: Cell, found: Found, seconds: float, mark: str) -> Kept:
    """Write `cell.json` into the folder that a cell worked in; mark: its hash. See `Kept`.

    Raises:
        UsageError: figures that are not {row: {key: number}}, or something that JSON cannot hold.
    """
    if not all(isinstance(keys, Mapping) for keys in found.figures.values()):
        fix = 'the row of a table with one row is ""'
        raise UsageError(f"figures of {cell.name} as {{row: {{key: number}}}}", f"{dict(found.figures)}", fix)
    kept = Kept(
        row=cell.row, seed=cell.seed, settings=msgspec.to_builtins(cell.settings), figures=plain(found.figures),
        record=plain(found.record), seconds=seconds, date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=_machine(), versions=_versions(), hash=mark,
        files={p.relative_to(place).as_posix(): File(p.stat().st_size, sha256_file(p))
               for p in files_in(place) if p.name != _LOCK},
    )
    write_new(place / NAME, seal(pretty(kept)))
    return kept


def read(folder: Path) -> Kept | None:
    """What is kept at `folder`; None: nothing.

    Raises:
        RunError: it is not as it was kept.
    """
    with refusals("a kept cell", folder.parent):
        path = whole(folder) / NAME
        if not folder.exists():
            return None
    try:
        content = read_capped(path)
        kept = parse_json(content, Kept)
        sound = seal_holds(content) and all(_stands(folder / name, file) for name, file in kept.files.items())
    except (OSError, RunError, msgspec.MsgspecError) as error:
        raise RunError(f"a kept cell in {folder}", f"{error}", "perform it again") from error
    if not sound:
        raise RunError(f"a kept cell in {folder}", "files that were changed since", "perform it again")
    return kept


def _stands(path: Path, file: File) -> bool:
    size = path.stat().st_size
    return size == file.size and (size > _SMALL or sha256_file(path) == file.sha256)


def plain(value: Any) -> Any:
    """Plain JSON values of Structs and of numbers of numpy and torch; what is not finite, which JSON has not, is None.

    Raises:
        UsageError: something else.
    """
    def numbers(value: Any) -> Any:
        if not hasattr(value, "tolist"):
            raise UsageError("numbers, words, lists and frozen Structs in what a cell found", f"{type(value).__name__}",
                             "leave it as a file in the cell's folder")
        return value.tolist()

    return parse_json(msgspec.json.encode(value, enc_hook=numbers))


@cache
def _versions() -> dict[str, str]:
    found = manifests.versions(("torch", "numpy"))
    return found | {"python": ".".join(platform.python_version_tuple()[:2])}


def _machine() -> dict[str, str]:
    return manifests.machine() | {"name": _processor()}


def _processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")
