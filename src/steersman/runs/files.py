"""Files that survive: written whole or not at all, on disk when the call returns, checked by hash before use.

Knows the file system and its refusals; knows nothing of what is inside a file. Folders: `runs.folders`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, overload

import msgspec

from steersman.core.errors import RunError, StorageError

T = TypeVar("T")

JSON_LIMIT = 64 << 20
"""Largest JSON file that is read, in bytes."""

_TEMP = re.compile(r"\.tmp-(\d+)-[0-9a-f]{8}-(.+)")

_FIXES = {
    errno.ENOSPC: "free some space or choose another disk",
    errno.EDQUOT: "free some of your quota or choose another disk",
    errno.EFBIG: "raise the limit on file size or choose another disk",
    errno.EROFS: "choose a folder that can be written to",
    errno.EACCES: "choose a folder that you may use, or ask for the permission",
    errno.EPERM: "choose a folder that you may use, or ask for the permission",
    errno.ENOENT: "create the folder or correct the path",
    errno.ENOTDIR: "correct the path: a part of it is a file",
    errno.EIO: "check the disk",
}


@contextmanager
def refusals(what: str, path: Path | str) -> Iterator[None]:
    """Turn the file system's refusals into one sentence about `what`, e.g. "a checkpoint written"."""
    try:
        yield
    except OSError as error:
        fix = _FIXES.get(error.errno or 0, "check the disk and the path")
        raise StorageError(f"{what} in {path}", f"{error.strerror or error}".lower(), fix) from error


def temporary(path: Path) -> Path:
    """A hidden name beside `path` that `sweep` recognises once this process is gone."""
    return path.with_name(f".tmp-{os.getpid()}-{secrets.token_hex(4)}-{path.name}")


@contextmanager
def replace_file(path: Path | str | os.PathLike[str]) -> Iterator[Path]:
    """A file that appears whole or not at all: `with replace_file(path) as temporary: …fill temporary…`. After a crash
    at any moment `path` is the old file or the new one, never a part.

    Temporary name in the same folder, fsync, rename, fsync of the folder.

    Raises:
        StorageError: the disk is full or read-only, no permission. Nothing half-written is left.
    """
    target = Path(path).absolute()
    with refusals(f"{target.name} written", target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target.parent, target.name)
        temp = temporary(target)
        try:
            yield temp
            with temp.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temp, target)
            sync_folder(target.parent)
        finally:
            remove(temp)


def atomic_write(path: Path | str, data: bytes) -> None:
    """Replace `path` by `data`, see `replace_file`."""
    with replace_file(path) as temp:
        write_new(temp, data)


def write_new(path: Path, data: bytes) -> None:
    """Create `path` with `data` and wait until it is on disk. The name itself is not yet durable."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """`os.write` until everything is written."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(p.stat().st_size for p in (files_in(path) if path.is_dir() else [path]))


def files_in(root: Path) -> list[Path]:
    """All files in a folder and its folders, sorted."""
    return sorted(p for p in root.rglob("*") if p.is_file())


def sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sweep(folder: Path, name: str = "") -> None:
    """Remove what writers that are gone left behind in `folder`: temporary files and folders (of `name`, if given)."""
    with suppress(OSError):
        for entry in os.scandir(folder):
            match = _TEMP.fullmatch(entry.name)
            if match and name in ("", match[2]) and not exists(int(match[1])):
                remove(Path(entry.path))


def leftovers(path: Path) -> list[Path]:
    """What writers of `path` that are gone left behind, before `sweep` has removed it; the newest first."""
    found = []
    with suppress(OSError):
        for entry in os.scandir(path.absolute().parent):
            match = _TEMP.fullmatch(entry.name)
            if match and match[2] == path.name and not exists(int(match[1])):
                found.append(Path(entry.path))
    return sorted(found, key=lambda p: -p.stat().st_mtime)


def remove(path: Path) -> None:
    """Delete a file or a whole folder; one that cannot be deleted stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def exists(pid: int) -> bool:
    """Whether some process has this number now. Where that cannot be asked: yes."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path | str) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    with refusals("a file to read", path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_capped(path: Path, limit: int = JSON_LIMIT) -> bytes:
    """The whole file, never mapped (a mapped file that is truncated later kills the process).

    Raises:
        RunError: longer than `limit`, which is found out before anything is allocated.
        OSError: missing or unreadable.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise RunError(f"at most {limit} bytes in {path}", f"{size} bytes", "this is not a file of a run")
        return file.read(limit)


def pretty(value: Any) -> bytes:
    """Canonical JSON for files that people read: the same value gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"


@overload
def parse_json(content: bytes | str, kind: type[T]) -> T: ...
@overload
def parse_json(content: bytes | str) -> Any: ...
def parse_json(content: bytes | str, kind: Any = Any) -> Any:
    """JSON from a file that may be foreign.

    Raises:
        msgspec.MsgspecError: no JSON, not of `kind`, not UTF-8, or nested deeper than the interpreter can follow.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except RecursionError:
        raise msgspec.DecodeError("JSON is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"JSON is not UTF-8: {error.reason}") from None
