"""What pictures, films, sounds, fields and text share: a log is a file or a folder of files of one kind, an episode is
a file, with one observation and mostly without an action. Which files are meant, how such a folder is written, and
what it then says about itself. Opens no file of any kind.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np

from steersman.core.errors import DataError, UsageError
from steersman.core.recording import Array, Recording
from steersman.core.signature import ObservationSpec, Signature
from steersman.data.formats.arrays import Description, describe
from steersman.data.formats.layouts import natural
from steersman.data.formats.unsound import reading
from steersman.data.source import Draft, ReadOptions
from steersman.runs.folders import new_folder

T = TypeVar("T")
SUFFIXES: dict[str, tuple[str, ...]] = {
    "pictures": (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"),
    "films": (".mp4", ".m4v", ".mov", ".avi", ".webm", ".mkv", ".gif"),
    "wav": (".wav", ".wave"),
    "fields": (".npy",),
    "text": (
        ".txt", ".text", ".md", ".rst", ".tex", ".org", ".py", ".pyi", ".c", ".h", ".cc", ".cpp", ".hpp", ".java",
        ".js", ".ts", ".go", ".rs", ".rb", ".sh", ".sql", ".html", ".css", ".lua", ".jl", ".r", ".m", ".hs", ".ml",
    ),
}
"""Format -> how its files are called. In a folder, less text than files of another kind is a word about these."""
TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", ".pq", ".h5", ".hdf5", ".hdf", ".npz", ".arrow")
"""A folder with one of these is none of ours, unless somebody names the format."""
DESCRIPTION = "steersman.json"
_GLANCE = 2000
"""Files that are looked at to tell what a folder holds."""
_LONGEST_DESCRIPTION = 1 << 20


def looks_like(path: str, format: str) -> bool:
    """Is `path` a file of this format's kind, or a folder of which this is the first kind? Looks at names only."""
    try:
        if os.path.isfile(path):
            return path.lower().endswith(SUFFIXES[format])
        return os.path.isdir(path) and next(iter(_kinds(list(islice(_files(Path(path)), _GLANCE)))), "") == format
    except (OSError, ValueError):
        return False


def files_of(path: str, format: str, options: ReadOptions, notes: list[str]) -> list[Path]:
    """The files that are the episodes of a log, in natural order; what else is in the folder is noted.

    Raises:
        DataError: nothing of this kind, several kinds and no format that was named, a name that is no UTF-8.
    """
    root = Path(path)
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise DataError(f"a file or folder of {format} to read", f"nothing at {path}", "check the path")
    every = list(_files(root))
    kinds = _kinds(every)
    if options.format is None and len(kinds) > 1:
        found = ", ".join(f"{count} of {name}" for name, count in kinds.items())
        raise DataError(f"a folder of files of one kind at {path}", found,
                        f"name the kind that is meant (--format {' or '.join(kinds)})")
    chosen = [file for file in every if file.name.lower().endswith(SUFFIXES[format])]
    if not chosen and format == "text":  # somebody named the format: text may have any suffix
        chosen = every
    if not chosen:
        raise DataError(f"a file of {format} ({', '.join(SUFFIXES[format][:7])}) in {path}",
                        f"{len(every)} other files" if every else "an empty folder", "check the path, or --format")
    for file in chosen:
        try:
            str(file).encode()
        except UnicodeEncodeError as error:
            raise DataError(f"names in UTF-8 in {path}", f"{os.fsencode(file.name)!r}", "rename the file") from error
    if left := sorted({file.suffix or file.name for file in every} - {file.suffix or file.name for file in chosen}):
        notes.append(f"left out: {len(every) - len(chosen)} files that are no {format} ({', '.join(left[:6])})")
    numbered = (root / DESCRIPTION).is_file()  # written here: the names are numbers, whatever folder they are in
    return sorted(chosen, key=lambda file: natural(file.name if numbered else file.relative_to(root).as_posix()))


def headers(files: Iterable[Path], header: Callable[[Path], T]) -> list[T]:
    """What each file says of itself.

    Raises:
        DataError: that of the first unsound file; it names others, so that they can be removed together.
    """
    found, errors = list[T](), dict[Path, DataError]()
    for file in files:
        try:
            found.append(header(file))
        except DataError as error:
            errors[file] = error
    if not errors:
        return found
    first, *more = errors.values()
    if not more:
        raise first
    names = ", ".join(file.name for file in list(errors)[1:9]) + (" …" if len(more) > 8 else "")
    raise DataError(first.expected, f"{first.got}; {len(more):,} more are unsound: {names}", first.fix)


def about(file: Path, path: str) -> dict[str, str]:
    """`Recording.info` of an episode: its file, and the folder of the log that it is in as its label."""
    root = Path(path)
    if file == root:
        return {"file": str(file)}
    name = file.relative_to(root)
    label = name.parent.as_posix()
    return {"file": name.as_posix(), **({} if label == "." else {"label": label})}


def still(steps: int) -> Array:
    """The actions of an episode in which nobody acts, (T, 0) float32."""
    return np.zeros((steps, 0), np.float32)


# What a folder that was written here says about itself ------------------------------------------------------------


def description(path: str, kind: str) -> tuple[Description, str, ObservationSpec] | None:
    """What the folder says, and its one observation with its name; None where it says nothing.

    Raises:
        DataError: a description of something else than one observation of this kind.
    """
    file = Path(path) / DESCRIPTION
    if not file.is_file():
        return None
    fix = "correct it, or delete it: then its files are read as they are"
    with reading(f"a readable description {file}", fix=fix):
        if file.stat().st_size > _LONGEST_DESCRIPTION:
            raise ValueError(f"more than {_LONGEST_DESCRIPTION} bytes")
        text = file.read_bytes()
    said = Description.parse(text, str(file))
    (name, spec), *more = said.signature.observations.items() or [("", None)]
    if spec is None or more or spec.kind != kind or said.signature.exogenous or spec.rows_per_update > 1:
        raise DataError(f"one observation of kind {kind} in {file}", f"{said.signature.observations}", fix)
    return said, name, spec


def unlike(file: Path, expected: str, got: str) -> DataError:
    """What is said where a file does not fit the description beside it."""
    return DataError(f"{expected} in {file}, as {DESCRIPTION} says", got, f"remove the file, or delete {DESCRIPTION}")


def put(path: Path, draft: Draft, format: str, kind: str, suffix: str, store: Callable[[Path, Recording], None],
        acts: bool = False) -> None:
    """Write a folder: a file an episode, in a folder of its label where it has one, and a description.

    store  writes one episode into a file
    acts   the format holds actions, too

    Raises:
        UsageError: what such a folder cannot hold. What `Draft.checked` and `store` raise.
        StorageError: the file system refused.
    """
    _require_sole(draft.signature, format, kind, acts)
    described = describe(draft.signature, False)
    with new_folder(path, "a log") as folder:
        for number, recording in draft.checked():
            file = folder / _folder_of(recording) / f"episode_{number:06d}{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            store(file, recording)
            described = describe(draft.signature, recording.times is not None)
        (folder / DESCRIPTION).write_bytes(described)


def _require_sole(signature: Signature, format: str, kind: str, acts: bool) -> None:
    specs = signature.observations
    odd = [f"{name} ({spec.kind})" for name, spec in specs.items() if spec.kind != kind or spec.rows_per_update > 1]
    if len(specs) != 1 or odd:
        what = ", ".join(odd) or f"{', '.join(specs) or 'none'}"
        raise UsageError(f"one observation of kind {kind} for a log of {format}", what, "write .npz or .h5 instead")
    if signature.exogenous or (signature.action.kind != "none" and not acts):
        what = "exogenous inputs" if signature.exogenous else f"{signature.action.kind} actions"
        raise UsageError(f"nothing beside the observation in a log of {format}", what, "write .npz or .h5 instead")


def _folder_of(recording: Recording) -> str:
    """Where in the log an episode belongs: its label, if that is a path inside."""
    label = PurePosixPath(recording.info.get("label", "."))
    sound = not label.is_absolute() and all(part[0] != "." and "\0" not in part for part in label.parts)
    return str(label) if sound else "."


# What is in a folder ----------------------------------------------------------------------------------------------


def _files(root: Path) -> Iterator[Path]:
    """Files of a folder and its folders, hidden ones and descriptions aside."""
    for place, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__")))
        for name in sorted(names):
            file = Path(place) / name
            if not name.startswith(".") and name != DESCRIPTION and file.is_file():
                yield file


def _kinds(files: list[Path]) -> dict[str, int]:
    """Format -> how many files of its kind; none where there is a table, and text only where it is the most."""
    names = [file.name.lower() for file in files]
    if any(name.endswith(TABLES) for name in names):
        return {}
    counts = {kind: sum(name.endswith(suffixes) for name in names) for kind, suffixes in SUFFIXES.items()}
    found = {kind: count for kind, count in counts.items() if count}
    text = found.pop("text", 0)
    return found | ({"text": text} if text > sum(found.values()) else {})
