"""A folder or a file that a library fills and that appears whole or not at all; hashes of whatever a log consists of.

Knows nothing about episodes. `runs.files` does the same for files whose bytes are at hand.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from steersman.core.errors import DataError, StorageError
from steersman.runs.files import commit, refusals, remove, sweep, sync_folder, temporary


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
        for item in _files(root):
            total.update(f"{item.relative_to(root).as_posix()}\0{sha256(item)}\n".encode())
        return total.hexdigest()
    except OSError as error:
        raise DataError(f"a readable file or folder at {path}", f"{error.strerror}", "check the path") from error


def stamp(path: str | os.PathLike[str]) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of change of a file or of all files in a folder: did anything change meanwhile?"""
    root = Path(path)
    files = _files(root) if root.is_dir() else [root]
    return tuple((str(p), (s := p.stat()).st_size, s.st_mtime_ns) for p in files)


def _files(root: Path) -> list[Path]:
    return sorted(p for p in root.rglob("*") if p.is_file())


class FolderInTheMaking:
    """A folder that is filled beside its place and renamed into it, whole, at the end.

    Left unfinished (an error, Ctrl-C) it is removed at once; after kill -9, by the next that is made beside it.
    """

    def __init__(self, target: str | os.PathLike[str]) -> None:
        self.target = Path(target).absolute()
        with self.refusals():
            self.target.parent.mkdir(parents=True, exist_ok=True)
            sweep(self.target.parent)
            self.path = temporary(self.target)
            self.path.mkdir()

    def refusals(self) -> AbstractContextManager[None]:
        """Around whatever is written inside."""
        return refusals(f"{self.target.name} written", self.target.parent)

    def commit(self) -> None:
        """All files inside are on disk already (fsync by whoever wrote them): put the folder in its place.

        Raises:
            StorageError: the file system refused; what stood in the place stands there still.
        """
        old = temporary(self.target)
        with self.refusals():
            sync_folder(self.path)
            if self.target.exists():
                os.replace(self.target, old)
            try:
                commit(self.path, self.target)
            except OSError:
                if old.exists():
                    os.replace(old, self.target)
                raise
        remove(old)

    def discard(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.path, ignore_errors=True)


@contextmanager
def replace_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A file that appears whole or not at all: `with replace_file(path) as temporary: …write temporary…`.

    Raises:
        StorageError: the file system refused; nothing half-written is left.
    """
    target = Path(path).absolute()
    with refusals(f"{target.name} written", target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target.parent)
        making = temporary(target)
        try:
            yield making
            with making.open("rb") as file:
                os.fsync(file.fileno())
            commit(making, target)
        finally:
            making.unlink(missing_ok=True)


@contextmanager
def replace_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new folder that appears whole or not at all: `with replace_folder(path) as making: …fill making…`.

    Raises:
        StorageError: there is something of this name already, or the file system refused.
    """
    if Path(path).exists():
        raise StorageError(f"a new name for the folder {path}", "one that is in use", "choose another name")
    folder = FolderInTheMaking(path)
    try:
        with folder.refusals():
            yield folder.path
            for file in _files(folder.path):
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
        folder.commit()
    finally:
        folder.discard()
