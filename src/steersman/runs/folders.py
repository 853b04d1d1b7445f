"""Folders that are written whole: whoever opens one finds the old content or the new, never a part, never none.

    .tmp-PID-xxxxxxxx-NAME   in the making; nobody reads it
    .old-xxxxxxxx-NAME       the content before, whole, while the new one takes its place

Writing: fill `.tmp-…`, fsync its files and folders, rename NAME to `.old-…` and `.tmp-…` to NAME, fsync the parent,
remove `.old-…`. No system renames a folder over one that holds something, so that for a moment there is no NAME: a
writer that is refused then puts the old one back; where it was killed, whoever opens NAME next does (`whole`).
What writers that are gone left behind otherwise is removed by the next one. Knows nothing of what is inside a folder.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from steersman.core.errors import SteersmanError, StorageError
from steersman.runs.files import files_in, refusals, remove, sweep, sync_folder, temporary

T = TypeVar("T")
_PATIENCE, _PAUSE = 5, 0.005  # times that a file may be missing from a folder that looks the same, and s between them

_OLD = re.compile(r"\.old-[0-9a-f]{8}-(.+)")
_IN_USE = (errno.ENOTEMPTY, errno.EEXIST)
_TRIES = 100
"""Two writers, or a writer and a reader, that are in each other's way go again so often."""


class FolderInTheMaking:
    """A folder that is filled beside its place and takes it, whole, at the end.

    Left unfinished (an error, Ctrl-C) it is removed at once; after kill -9, by the next that is made for this place.
    """

    def __init__(self, target: str | os.PathLike[str], what: str = "") -> None:
        """what: named in errors, e.g. "a checkpoint"."""
        self.target = _place(target)
        self._what = what or f"{self.target.name} written"
        with self.refusals():
            self.target.parent.mkdir(parents=True, exist_ok=True)
            sweep(self.target.parent, self.target.name)
            all_whole(self.target.parent, self.target.name)
            self.path = temporary(self.target)
            self.path.mkdir()

    def refusals(self) -> AbstractContextManager[None]:
        """Around whatever is written inside."""
        return refusals(self._what, self.target.parent)

    def carry(self, names: Iterable[str]) -> None:
        """Take these files over from the folder that stands, as they are."""
        with self.refusals():
            for name in names:
                try:
                    os.link(self.target / name, self.path / name)
                except OSError:  # a file system without hard links
                    shutil.copyfile(self.target / name, self.path / name)

    def commit(self) -> None:
        """Take the place of whatever stands there.

        Raises:
            StorageError: the file system refused; the old content stands there, or the new one.
        """
        with self.refusals():
            _sync(self.path)
            old = _exchanged(self.path, self.target)
            try:
                sync_folder(self.target.parent)
            finally:
                _retire(old)

    def claim(self, names: Iterable[str]) -> Path:
        """Take the first of these names beside the target that nobody has, instead of anybody's place; the path.

        Raises:
            FileExistsError: each of them is in use. StorageError: the file system refused.
        """
        with self.refusals():
            _sync(self.path)
            for name in names:
                path = self.target.with_name(name)
                try:
                    os.replace(self.path, path)
                except OSError as error:
                    if error.errno in (*_IN_USE, errno.ENOTDIR):
                        continue
                    raise
                try:
                    sync_folder(path.parent)
                except OSError:
                    os.replace(path, self.path)
                    raise
                return path
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.target))

    def discard(self) -> None:
        """Leave nothing behind; harmless after `commit` and `claim`."""
        remove(self.path)


@contextmanager
def writing(path: str | os.PathLike[str], what: str = "", keep: Iterable[str] = ()) -> Iterator[Path]:
    """A temporary folder to fill, which becomes `path` when the block ends well and leaves nothing behind otherwise.
    Whatever is in it is on disk by then.

    what  named in errors: "a checkpoint"
    keep  files of the folder that stands, which the new one holds too

    Raises:
        StorageError: the file system refused, in the block or after it; what stood at `path` stands there still.
    """
    folder = FolderInTheMaking(path, what)
    try:
        folder.carry(keep)
        with folder.refusals():
            yield folder.path
        folder.commit()
    finally:
        folder.discard()


@contextmanager
def new_folder(path: str | os.PathLike[str], what: str) -> Iterator[Path]:
    """The same for a folder that takes nobody's place.

    Raises:
        StorageError: there is something at `path` already (but an empty folder), or the file system refused.
    """
    in_use = StorageError(f"a new folder for {what} at {path}", "one that is in use", "choose another name")
    if not is_free(Path(path)):
        raise in_use
    folder = FolderInTheMaking(path, what)
    try:
        with folder.refusals():
            yield folder.path
        try:
            folder.claim([folder.target.name])
        except FileExistsError:
            raise in_use from None
    finally:
        folder.discard()


def is_free(path: Path) -> bool:
    """Whether there is nothing at `path`, or an empty folder."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def whole(path: Path) -> Path:
    """The same path, after the folder was put back there if its writer was stopped between two renames.

    Raises:
        StorageError: it cannot be put back.
    """
    if not path.exists():
        place = _place(path)
        all_whole(place.parent, place.name)
    return path


def all_whole(parent: Path, name: str = "") -> None:
    """`whole` for every folder in `parent`, or for that of `name`. What another took the place of is removed.

    Raises:
        StorageError: one cannot be put back.
    """
    for old in _asides(parent, name):
        match = _OLD.fullmatch(old.name)
        assert match is not None
        path = parent / match[1]
        if path.exists():
            _retire(old)
            continue
        with refusals(f"{path.name} put back", parent):
            try:
                os.rename(old, path)
            except OSError as error:
                if error.errno not in (*_IN_USE, errno.ENOENT):  # else somebody else has just done it
                    raise


def steady(path: Path, read: Callable[[], T]) -> T:
    """What `read` finds in the folder `path`, all of it in one content: again, if another took its place meanwhile.

    Raises:
        StorageError: it is written without a pause. Whatever `read` raises.
    """
    missed = 0
    for _ in range(_TRIES):
        before = _identity(whole(path))
        try:
            found = read()
        except (SteersmanError, OSError) as error:
            if _identity(path) == before:
                missed += 1  # it may have been moved aside and put back meanwhile, the same as before
                if missed == _PATIENCE or not isinstance(error, FileNotFoundError):
                    raise
                time.sleep(_PAUSE)
            continue
        if _identity(path) == before:
            return found
    raise StorageError(f"a pause in which to read {path}", "a folder that is written all the time", "try again later")


def take_away(path: Path) -> None:
    """Remove a folder: gone in one step, then deleted at leisure.

    Raises:
        OSError: the file system refused; the folder stands.
    """
    for old in _asides(path.parent, path.name):  # or it would be put back
        os.replace(old, hidden := temporary(path))
        remove(hidden)
    os.replace(path, hidden := temporary(path))
    remove(hidden)


def _place(path: str | os.PathLike[str]) -> Path:
    """Where a folder really is: a link to it stays a link."""
    return Path(path).resolve() if Path(path).is_symlink() else Path(path).absolute()


def _sync(folder: Path) -> None:
    for file in files_in(folder):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    for place in [*(p for p in folder.rglob("*") if p.is_dir()), folder]:
        sync_folder(place)


def _exchanged(new: Path, path: Path) -> Path:
    """Put `new` at `path`; where what stood there is now, if anything did."""
    for _ in range(_TRIES):
        old = path.with_name(f".old-{secrets.token_hex(4)}-{path.name}")
        with suppress(FileNotFoundError):
            os.replace(path, old)
        try:
            os.replace(new, path)
            return old
        except OSError as error:
            with suppress(OSError):
                all_whole(path.parent, path.name)
            if error.errno not in _IN_USE:  # else another process has put something there in this very moment
                raise
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def _asides(parent: Path, name: str = "") -> list[Path]:
    """`.old-…` folders in `parent` (of `name`, if given), the one that was moved there last first."""
    found = []
    with suppress(FileNotFoundError, NotADirectoryError):
        for entry in os.scandir(parent):
            match = _OLD.fullmatch(entry.name)
            if match and name in ("", match[1]):
                with suppress(FileNotFoundError):
                    found.append((-entry.stat(follow_symlinks=False).st_ctime_ns, Path(entry.path)))
    return [path for _, path in sorted(found)]


def _retire(old: Path) -> None:
    """Remove a folder that another took the place of. It is hidden first: no part of it must pass for a whole one."""
    match = _OLD.fullmatch(old.name)
    assert match is not None
    hidden = temporary(old.with_name(match[1]))
    with suppress(OSError):
        os.replace(old, hidden)
    remove(hidden)


def _identity(path: Path) -> tuple[int, int, int] | None:
    """What tells a folder from one that takes its place."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_ctime_ns
