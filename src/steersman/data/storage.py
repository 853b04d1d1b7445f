"""A file that a library fills and that appears whole or not at all; hashes of whatever a log consists of.

Knows nothing about episodes. `runs.files` does the same for folders, and for files whose bytes are at hand.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from steersman.core.errors import DataError
from steersman.runs.files import commit, files_in, refusals, sweep, temporary

JOURNAL = "journal.jsonl"
"""In a folder in the making: how far its writer got."""


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, or of a folder (names and contents of all files in it, sorted), as hex.

    Raises:
        DataError: nothing there, or not readable.
    """
    root = Path(path)
    try:
        if not root.is_dir():
            with root.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        total = hashlib.sha256()
        for item in files_in(root):
            total.update(f"{item.relative_to(root).as_posix()}\0{sha256(item)}\n".encode())
        return total.hexdigest()
    except OSError as error:
        raise DataError(f"a readable file or folder at {path}", f"{error.strerror}", "check the path") from error


def stamp(path: str | os.PathLike[str]) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of change of a file or of all files in a folder: did anything change meanwhile?"""
    root = Path(path)
    files = files_in(root) if root.is_dir() else [root]
    return tuple((str(p), (s := p.stat()).st_size, s.st_mtime_ns) for p in files)


@contextmanager
def replace_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A file that appears whole or not at all: `with replace_file(path) as temporary: …write temporary…`.

    Raises:
        StorageError: the file system refused; nothing half-written is left.
    """
    target = Path(path).absolute()
    with refusals(f"{target.name} written", target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target.parent, target.name)
        making = temporary(target)
        try:
            yield making
            with making.open("rb") as file:
                os.fsync(file.fileno())
            commit(making, target)
        finally:
            making.unlink(missing_ok=True)
