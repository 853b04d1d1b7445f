"""One writer a run. The lock file names its holder; a holder that is gone is replaced, a live one is an error.

Liveness is decided by host, boot, process number and the process's start time, so neither a reboot nor a reused
number leaves a run locked. `flock` guards only the moments of reading and changing the file, and is never held.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from steersman.core.errors import LockedError
from steersman.runs.files import exists, parse_json, refusals, write_all

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LIMIT = 4096


class Holder(msgspec.Struct, frozen=True):
    """A process, told apart from every other one.

    boot, namespace, started  "" where the system does not say
    """

    pid: int
    host: str
    boot: str
    namespace: str
    started: str
    command: str

    @classmethod
    def this(cls) -> Holder:
        command = " ".join(sys.argv)[:200]
        return cls(os.getpid(), socket.gethostname(), _boot(), _namespace(), _started(os.getpid()), command)

    def gone(self, me: Holder) -> bool:
        """Whether this holder has certainly ended, as far as `me` can tell."""
        if self.boot == me.boot and self.namespace == me.namespace and (self.boot or self.host == me.host):
            return not exists(self.pid) or (self.started != "" and _started(self.pid) != self.started)
        return self.host == me.host and self.boot != me.boot  # the machine was restarted


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _boot() -> str:
    return _read("/proc/sys/kernel/random/boot_id")


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Start time in clock ticks since boot: field 22 of /proc/PID/stat (the name before it may hold spaces)."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return "" if len(fields) < 20 or fields[0] in "ZX" else fields[19]


class WriterLock:
    """The lock of the run directory that holds `path`."""

    def __init__(self, path: Path) -> None:
        self.path, self._mine = path, None

    _mine: Holder | None

    @property
    def held(self) -> bool:
        """Whether this object took the lock, in this process (not in one that was forked off since)."""
        return self._mine is not None and self._mine.pid == os.getpid()

    def acquire(self) -> None:
        """Take the lock, at once or not at all.

        Raises:
            LockedError: a live process holds it; the message names it.
            StorageError: the folder cannot be written to.
        """
        me = Holder.this()
        with refusals("the writer's lock", self.path.parent), self._guarded() as fd:
            holder = _decode(os.pread(fd, _LIMIT, 0))
            if holder is not None and not holder.gone(me):
                raise LockedError(
                    f"one writer for {self.path.parent}",
                    f"process {holder.pid} on {holder.host} is writing to it ({holder.command})",
                    "wait for it or stop it"
                    + ("" if holder.host == me.host else f"; if {holder.host} is off for good, delete {self.path}"),
                )
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)
            write_all(fd, msgspec.json.encode(me))
            os.fsync(fd)
        self._mine = me

    def release(self) -> None:
        """Give the lock back; harmless if it is not held."""
        if not self.held:
            return
        mine, self._mine = self._mine, None
        try:
            with self._guarded() as fd:
                if _decode(os.pread(fd, _LIMIT, 0)) == mine:
                    os.ftruncate(fd, 0)
        except OSError:
            pass  # the folder is gone or read-only by now; a lock left behind is stale as soon as this process ends

    @contextmanager
    def _guarded(self) -> Iterator[int]:
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        try:
            if fcntl is not None:
                fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            os.close(fd)


def _decode(content: bytes) -> Holder | None:
    """The holder, or None: nobody, or a writer that died while it wrote its name."""
    try:
        return parse_json(content, Holder)
    except msgspec.MsgspecError:
        return None
