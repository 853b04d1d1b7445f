"""One writer a run: live holders are named, dead ones are replaced, and of many at once exactly one wins."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import msgspec
import pytest

from steersman.core import LockedError
from steersman.runs.lock import Holder, WriterLock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "writer.lock"


def holder_in_a_child(path: Path) -> int:
    """A child process that takes the lock and waits to be killed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        WriterLock(path).acquire()
        os.write(writing, b"x")
        time.sleep(60)
        os._exit(0)
    assert os.read(reading, 1) == b"x"
    return pid


def write(path: Path, **changes: object) -> None:
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(Holder.this(), **changes)))


def test_a_second_writer_is_refused_and_told_who_holds_it(path: Path) -> None:
    pid = holder_in_a_child(path)
    try:
        with pytest.raises(LockedError, match=rf"process {pid} on \S+ is writing to it .*; wait for it or stop it"):
            WriterLock(path).acquire()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    lock = WriterLock(path)
    lock.acquire()  # the killed holder's lock is stale
    assert lock.held


def test_a_killed_holder_that_was_not_yet_buried_is_gone(path: Path) -> None:
    pid = holder_in_a_child(path)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # dead, and still there: a zombie has its number
    WriterLock(path).acquire()
    os.waitpid(pid, 0)


def test_a_second_lock_in_the_same_process_is_refused(path: Path) -> None:
    first = WriterLock(path)
    first.acquire()
    with pytest.raises(LockedError):
        WriterLock(path).acquire()
    first.release()
    WriterLock(path).acquire()


def test_a_reused_process_number_does_not_keep_the_lock(path: Path) -> None:
    write(path, started="1")
    WriterLock(path).acquire()


def test_a_reboot_frees_the_lock(path: Path) -> None:
    write(path, boot="another")
    WriterLock(path).acquire()


def test_a_holder_on_another_machine_cannot_be_judged(path: Path) -> None:
    write(path, host="elsewhere", boot="another")
    with pytest.raises(LockedError, match=r"on elsewhere .*if elsewhere is off for good, delete .*writer\.lock"):
        WriterLock(path).acquire()


@pytest.mark.parametrize("content", [b"", b"{", b'{"pid": 1}', b"\x00" * 100, b"null"])
def test_a_torn_lock_file_is_nobodys(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    WriterLock(path).acquire()


def test_release_is_the_holders_alone(path: Path) -> None:
    lock = WriterLock(path)
    lock.acquire()
    pid = os.fork()
    if pid == 0:  # a forked child neither holds nor releases its parent's lock
        held = lock.held
        lock.release()
        os._exit(held)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with pytest.raises(LockedError):
        WriterLock(path).acquire()
    lock.release()
    lock.release()
    assert path.read_bytes() == b""


def test_of_many_that_find_a_stale_lock_one_wins(path: Path) -> None:
    for _ in range(5):
        write(path, boot="another")
        reading, writing = os.pipe()
        children = []
        for _ in range(8):
            pid = os.fork()
            if pid == 0:
                os.close(writing)
                os.read(reading, 1)  # wait until everybody is there
                try:
                    WriterLock(path).acquire()
                except LockedError:
                    os._exit(1)
                time.sleep(0.3)
                os._exit(0)
            children.append(pid)
        os.close(reading)
        os.close(writing)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        assert codes.count(0) == 1, codes
