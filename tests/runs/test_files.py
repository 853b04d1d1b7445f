"""Atomic writes: whatever happens, the file is the old one or the new one, and nothing is left beside it."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from steersman.core import RunError, StorageError
from steersman.runs import files
from steersman.runs.files import atomic_write, pretty, read_capped, sha256, sha256_file, sweep, temporary

CALLS = ("open", "write", "fsync", "replace", "close")


def after(path: Path, action: Callable[[], None]) -> None:
    """Run `action` in a child process and wait for it."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def fail_at(monkeypatch: pytest.MonkeyPatch, name: str, count: int, what: Callable[[], None]) -> list[int]:
    """Make the `count`-th call of os.`name` do `what` first; returns a list that grows with every call."""
    real, calls = getattr(os, name), [0]

    def call(*args: object, **kwargs: object) -> object:
        calls[0] += 1
        if calls[0] == count:
            what()
        return real(*args, **kwargs)

    monkeypatch.setattr(files.os, name, call)
    return calls


def refuse(number: int) -> Callable[[], None]:
    def act() -> None:
        raise OSError(number, os.strerror(number))

    return act


def test_writes_and_replaces(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    for content in (b"one", b"", b"three" * 100_000):
        atomic_write(target, content)
        assert target.read_bytes() == content
        assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize(("name", "count"), [("open", 1), ("write", 1), ("fsync", 1), ("replace", 1)])
def test_a_refusal_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, count: int, number: int
) -> None:
    target = tmp_path / "a.json"
    atomic_write(target, b"old")
    with monkeypatch.context() as patch:
        calls = fail_at(patch, name, count, refuse(number))
        with pytest.raises(StorageError, match=r"expected a\.json written in .* got .*; \w+"):
            atomic_write(target, b"new")
        assert calls[0] >= count
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_killed_at_every_system_call_the_file_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, seen = tmp_path / "a.json", set()
    for name in CALLS:
        for count in (1, 2):
            atomic_write(target, b"old")

            def die_there(name: str = name, count: int = count) -> None:
                fail_at(monkeypatch, name, count, lambda: os.kill(os.getpid(), signal.SIGKILL))
                atomic_write(target, b"new")

            after(tmp_path, die_there)
            seen.add(target.read_bytes())
            sweep(tmp_path)
            assert os.listdir(tmp_path) == ["a.json"]
    assert seen == {b"old", b"new"}


def test_a_file_size_limit_is_a_storage_error(tmp_path: Path) -> None:
    target = tmp_path / "a"
    atomic_write(target, b"old")

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            atomic_write(target, b"x" * 5000)
        except StorageError as error:
            os._exit(7 if "too large" in str(error) else 8)

    pid = os.fork()
    if pid == 0:
        limited()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_a_folder_of_somebody_else_is_a_storage_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(StorageError, match="choose a folder"):
            atomic_write(tmp_path / "a", b"x")
    finally:
        os.seteuid(0)
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    atomic_write(tmp_path / "missing" / "a", b"x")
    assert (tmp_path / "missing" / "a").read_bytes() == b"x"


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(files.os, "write", lambda fd, data: real(fd, bytes(data[:7])))
    atomic_write(tmp_path / "a", bytes(range(256)))
    assert (tmp_path / "a").read_bytes() == bytes(range(256))


def test_sweep_spares_writers_that_live(tmp_path: Path) -> None:
    mine = temporary(tmp_path / "a")
    mine.write_bytes(b"in the making")
    gone = tmp_path / f".tmp-{2**22 + 1}-00000000-b"  # beyond the largest process number
    gone.mkdir()
    (gone / "inside").write_bytes(b"x")
    (tmp_path / ".tmp-of-somebody-else").write_bytes(b"x")
    sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([mine.name, ".tmp-of-somebody-else"])


def test_hash_and_capped_reading(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc" * 1000)
    assert sha256_file(path) == sha256(b"abc" * 1000)
    assert read_capped(path, 3000) == b"abc" * 1000
    with pytest.raises(RunError, match="at most 2999 bytes"):
        read_capped(path, 2999)


def test_pretty_is_canonical() -> None:
    assert pretty({"b": 1, "a": [1.5, None]}) == pretty({"b": 1, "a": [1.5, None]})
    assert pretty({"a": 1}).count(b"\n") == 3
