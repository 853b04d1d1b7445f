"""Folders that are written whole: killed anywhere, refused anywhere, read meanwhile, written by several at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import Killed, refusing

from steersman.core import DataError, StorageError
from steersman.runs import folders
from steersman.runs.files import temporary
from steersman.runs.folders import all_whole, is_free, new_folder, steady, take_away, whole, writing

FILES = ("a", "b", "deep/c")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the disk: a test cannot see when it wrote."""
    monkeypatch.setattr("os.fsync", lambda fd: None)


def fill(folder: Path, content: str) -> None:
    (folder / "deep").mkdir()
    for name in FILES:
        (folder / name).write_text(content)


def put(path: Path, content: str) -> None:
    with writing(path) as folder:
        fill(folder, content)


def content(path: Path) -> str:
    """What is in all files of the folder: one content, or the test has found what it looks for."""
    found = {(path / name).read_text() for name in FILES}
    if len(found) != 1:
        raise DataError("one content", f"{found}", "")
    return found.pop()


def child(action: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except BaseException:
            os._exit(70)
        os._exit(0)
    return pid


def join(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_folder_appears_whole_and_takes_the_place_of_another(tmp_path: Path) -> None:
    for words in ("one", "two"):
        put(tmp_path / "parent" / "x", words)
        assert content(tmp_path / "parent" / "x") == words
        assert os.listdir(tmp_path / "parent") == ["x"]


def test_an_error_inside_leaves_what_stood_there_and_nothing_else(tmp_path: Path) -> None:
    put(tmp_path / "x", "old")

    def stopped_by(error: BaseException) -> None:
        with writing(tmp_path / "x", "a thing") as folder:
            (folder / "a").write_text("new")
            raise error

    for error in (ValueError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            stopped_by(error)
    with pytest.raises(StorageError, match=r"expected a thing in .* got disk quota exceeded; free some of your quota"):
        stopped_by(OSError(122, os.strerror(122)))
    assert content(tmp_path / "x") == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_killed_before_any_call_the_next_who_opens_it_finds_the_old_or_the_new(tmp_path: Path) -> None:
    """kill -9, in a process of its own; nobody cleans up. The next write leaves nothing of it behind."""
    path, seen = tmp_path / "x", []
    for number in range(1, 100):
        put(path, "old")

        def die_there(number: int = number) -> None:
            with refusing(tmp_path, number, "killed"):
                try:
                    put(path, "new")
                except Killed:
                    os.kill(os.getpid(), signal.SIGKILL)

        code = join(child(die_there))
        seen.append((path.exists(), content(whole(path))))
        put(path, "after")
        assert os.listdir(tmp_path) == ["x"]
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert number > 15
    assert {words for _, words in seen} == {"old", "new"}
    assert (False, "old") in seen, "no death between the two renames"
    assert [words for _, words in seen] == sorted((words for _, words in seen), reverse=True), "once new, always new"


@pytest.mark.parametrize("healed", [True, False])
def test_a_writer_that_is_refused_puts_the_old_one_back_or_whoever_opens_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, healed: bool
) -> None:
    path = tmp_path / "x"
    put(path, "old")
    real, calls = os.replace, [0]

    def refuse(source: Path, target: Path) -> None:
        calls[0] += 1
        if calls[0] == 2:
            raise OSError(28, "No space left on device")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        if not healed:
            patch.setattr(os, "rename", lambda *names: refuse(*names) if calls.__setitem__(0, 1) else None)
        with pytest.raises(StorageError, match="no space left on device"):
            put(path, "new")
    assert path.exists() == healed
    assert content(whole(path)) == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_readers_see_one_content_while_writers_replace_it_and_no_writer_fails(tmp_path: Path) -> None:
    """Two writers, hundreds of times; each read is of one write, the newest counts."""
    path = tmp_path / "x"
    put(path, "0 0")
    until = time.monotonic() + 1.5

    def write(who: int) -> None:
        n = 0
        while time.monotonic() < until:
            put(path, f"{who} {n}")
            n += 1
        os._exit(0 if n > 5 else 71)

    pids = [child(lambda who=who: write(who)) for who in (1, 2)]  # type: ignore[misc]
    seen = set()
    while time.monotonic() < until:
        seen.add(steady(path, lambda: content(path)))
    assert [join(pid) for pid in pids] == [0, 0]
    assert len(seen) > 5
    put(path, "end")
    assert os.listdir(tmp_path) == ["x"]


def test_a_read_that_was_overtaken_is_read_again_and_a_damaged_folder_is_not(tmp_path: Path) -> None:
    path = tmp_path / "x"
    put(path, "old")
    reads = []

    def overtaken() -> str:
        reads.append((path / "a").read_text())
        if len(reads) == 1:
            put(path, "new")
        return reads[-1] + (path / "b").read_text()

    assert steady(path, overtaken) == "newnew"
    (path / "a").write_text("torn")
    with pytest.raises(DataError, match="one content"):
        steady(path, lambda: content(path))
    with pytest.raises(FileNotFoundError):
        steady(tmp_path / "none", lambda: content(tmp_path / "none"))


def test_what_was_taken_away_never_comes_back(tmp_path: Path) -> None:
    """A writer died after it had put its folder in its place, before it removed the one that stood there."""
    path = tmp_path / "x"
    put(path, "old")
    os.rename(path, tmp_path / ".old-0123abcd-x")
    put(tmp_path / "y", "new")
    os.rename(tmp_path / "y", path)
    take_away(path)
    all_whole(tmp_path)
    assert os.listdir(tmp_path) == []


def test_what_was_replaced_goes_and_what_is_in_the_making_stays(tmp_path: Path) -> None:
    put(tmp_path / "x", "now")
    for name in (".old-0123abcd-x", ".old-of-somebody-else"):
        (tmp_path / name).mkdir()
    mine = temporary(tmp_path / "x")
    mine.mkdir()
    all_whole(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([".old-of-somebody-else", mine.name, "x"])
    assert content(tmp_path / "x") == "now"


def test_a_new_folder_takes_nobodys_place_not_even_one_that_came_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert is_free(path)
    path.mkdir()
    assert is_free(path)

    def log(path: Path, words: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        with new_folder(path, "a log") as folder:
            fill(folder, words)
            meanwhile()

    log(path, "mine")
    with pytest.raises(StorageError, match=r"a new folder for a log at .* one that is in use; choose another name"):
        log(path, "yours")
    with pytest.raises(StorageError, match="in use"):
        log(tmp_path / "y", "mine", lambda: put(tmp_path / "y", "theirs"))
    assert (content(path), content(tmp_path / "y")) == ("mine", "theirs")
    assert sorted(os.listdir(tmp_path)) == ["x", "y"]


def test_a_folder_that_a_link_leads_to_is_written_where_it_is(tmp_path: Path) -> None:
    put(tmp_path / "far" / "x", "old")
    (tmp_path / "x").symlink_to(tmp_path / "far" / "x")
    put(tmp_path / "x", "new")
    assert (tmp_path / "x").is_symlink()
    assert content(tmp_path / "far" / "x") == "new"


def test_files_are_carried_over_with_and_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "x", "old")

    def no_links(*names: object) -> None:
        raise OSError(95, "Operation not supported")

    for linked in (True, False):
        if not linked:
            monkeypatch.setattr(folders.os, "link", no_links)
        with writing(tmp_path / "x", keep=["a"]) as folder:
            (folder / "b").write_text("new")
        assert sorted(os.listdir(tmp_path / "x")) == ["a", "b"]
        assert [(tmp_path / "x" / name).read_text() for name in ("a", "b")] == ["old", "new"]
