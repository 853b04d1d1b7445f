"""Files: what the operating system's refusals mean to a person, hashes, a folder that appears whole or not at all.

Knows nothing about episodes.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from steersman.core.errors import DataError, StorageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM}
_LOCK = "building.lock"
_GRACE = 60.0  # seconds for which a folder without a lock may be about to get one


@contextmanager
def storage_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an `OSError` of writing under `path` into a `StorageError` with a fix."""
    try:
        yield
    except OSError as error:
        reason = f"{error.strerror or error}"
        if error.errno in _FULL:
            fix = "free some space, or choose another folder"
        elif error.errno in _REFUSED:
            fix = "make the folder writable, or choose another one"
        else:
            fix = "check the folder, or choose another one"
        raise StorageError(f"to write {path}", reason, fix) from error


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
        for item in sorted(p for p in root.rglob("*") if p.is_file()):
            total.update(f"{item.relative_to(root).as_posix()}\0{sha256(item)}\n".encode())
        return total.hexdigest()
    except OSError as error:
        raise DataError(f"a readable file or folder at {path}", f"{error.strerror}", "check the path") from error


def stamp(path: str | os.PathLike[str]) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of change of a file or of all files in a folder: did anything change meanwhile?"""
    root = Path(path)
    files = [root] if not root.is_dir() else sorted(p for p in root.rglob("*") if p.is_file())
    return tuple((str(p), (s := p.stat()).st_size, s.st_mtime_ns) for p in files)


class FolderInTheMaking:
    """A folder that is built beside its place and renamed into it, whole, at the end.

    Left unfinished (an error, Ctrl-C) it is removed at once; after kill -9 the next build of the same folder
    removes it: the dead builder's lock is free.
    """

    def __init__(self, target: str | os.PathLike[str]) -> None:
        self.target = Path(target).absolute()
        with storage_errors(self.target):
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self._sweep()
            self.path = Path(tempfile.mkdtemp(prefix=self._prefix, dir=self.target.parent))
            self._lock = os.open(self.path / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    @property
    def _prefix(self) -> str:
        return f".{self.target.name}.building-"

    def _sweep(self) -> None:
        for left in self.target.parent.glob(f"{glob.escape(self._prefix)}*"):
            with suppress(OSError):
                if not (left / _LOCK).exists():
                    if time.time() - left.stat().st_mtime > _GRACE:
                        shutil.rmtree(left, ignore_errors=True)
                    continue
                lock = os.open(left / _LOCK, os.O_RDWR)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left, ignore_errors=True)
                finally:
                    os.close(lock)

    def commit(self) -> Path:
        """Everything inside is on disk already (fsync by whoever wrote it): put the folder in its place."""
        with storage_errors(self.target):
            sync_folder(self.path)
            os.chmod(self.path, 0o755)
            old = self.path.with_name(f"{self.path.name}-old")
            if self.target.exists():
                self.target.rename(old)
            try:
                self.path.rename(self.target)
            except OSError:
                if old.exists():
                    old.rename(self.target)
                raise
            (self.target / _LOCK).unlink()
            sync_folder(self.target.parent)
        os.close(self._lock)
        shutil.rmtree(old, ignore_errors=True)
        return self.target

    def discard(self) -> None:
        """Leave nothing behind."""
        with suppress(OSError):
            os.close(self._lock)
        shutil.rmtree(self.path, ignore_errors=True)


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replace_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A file that appears whole or not at all: `with replace_file(path) as temporary: …write temporary…`."""
    target = Path(path).absolute()
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent)
        os.close(handle)
        try:
            yield Path(name)
            with open(name, "rb") as file:
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.rename(name, target)
            sync_folder(target.parent)
        finally:
            Path(name).unlink(missing_ok=True)
