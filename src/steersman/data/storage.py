"""Hashes and time stamps of whatever a log consists of. Knows nothing about episodes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from steersman.core.errors import DataError
from steersman.runs.files import files_in

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
