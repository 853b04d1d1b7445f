"""The cache on disk: whole or not at all, sound or refused, built again when its source changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from logs import MIXED, VECTORS, assert_equal, make_dataset, make_episode, make_log

from steersman.core import ActionError, DataError, Episode, StorageError
from steersman.data import CacheWriter, Dataset, ReadOptions, build, load, read, write


def siblings(path: Path) -> set[str]:
    return {p.name for p in path.parent.iterdir()}


def test_nothing_stands_at_the_path_before_finish_and_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "cache"

    def interrupted() -> None:
        with CacheWriter(path, VECTORS) as writer:
            writer.append(make_episode(VECTORS, 4))
            assert not path.exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert siblings(path) == set()


def test_an_unsound_episode_is_refused_before_anything_of_it_is_written(tmp_path: Path) -> None:
    good, bad = make_episode(VECTORS, 4, 1), make_episode(VECTORS, 4, 2)
    bad.actions[2, 0] = 1.5
    with CacheWriter(tmp_path / "cache", VECTORS) as writer:
        writer.append(good)
        with pytest.raises(ActionError, match=r"episode 1.*1\.5 at row 2"):
            writer.append(bad)
        writer.append(good)
        writer.finish("x")
    dataset = Dataset.open(tmp_path / "cache")
    for episode in dataset.episodes():
        assert_equal(episode, good)


def test_an_empty_cache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one episode"), CacheWriter(tmp_path / "cache", VECTORS) as writer:
        writer.finish("x")
    assert siblings(tmp_path / "cache") == set()


def test_a_new_cache_replaces_an_old_one_and_readers_of_the_old_go_on(tmp_path: Path) -> None:
    old, before = make_dataset(tmp_path / "cache", VECTORS, [4, 5])
    new, _ = make_dataset(tmp_path / "cache", VECTORS, [9])
    assert_equal(old.episode(1), before[1])
    assert new.lengths.tolist() == [9]
    assert siblings(tmp_path / "cache") == {"cache"}


def test_a_folder_that_is_no_cache_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.bin").write_text("years of work")
    (tmp_path / "file").write_text("more")
    for name in ("thesis", "file"):
        with pytest.raises(StorageError, match="something else there"):
            CacheWriter(tmp_path / name, VECTORS)
    assert (tmp_path / "thesis" / "chapter.bin").read_text() == "years of work"


def test_without_a_given_fingerprint_the_content_is_the_fingerprint(tmp_path: Path) -> None:
    prints = []
    for name, lengths in (("a", [4]), ("b", [4]), ("c", [5])):
        with CacheWriter(tmp_path / name, VECTORS) as writer:
            writer.append(make_log(VECTORS, lengths))
            prints.append(writer.finish().fingerprint)
    assert prints[0] == prints[1] != prints[2]
    assert len(prints[0]) == 64


# Damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [-1, 1, -(10**9)])
def test_a_file_of_another_size_is_refused_before_it_is_mapped(tmp_path: Path, change: int) -> None:
    make_dataset(tmp_path / "cache", MIXED, [5, 3])
    for file in (tmp_path / "cache").glob("*.bin"):
        content = file.read_bytes()
        os.truncate(file, max(len(content) + change, 0))
        with pytest.raises(DataError, match=r"bytes in .*truncated or altered"):
            Dataset.open(tmp_path / "cache")
        file.write_bytes(content)
    Dataset.open(tmp_path / "cache")


def test_a_flipped_bit_is_found_by_verify(tmp_path: Path) -> None:
    dataset, _ = make_dataset(tmp_path / "cache", MIXED, [5, 3])
    dataset.verify()
    file = next((tmp_path / "cache").glob("observation-0.bin"))
    data = bytearray(file.read_bytes())
    data[100] ^= 4
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"altered: observation\.image"):
        Dataset.open(tmp_path / "cache").verify()


def test_offsets_that_do_not_fill_the_rows_are_refused(tmp_path: Path) -> None:
    make_dataset(tmp_path / "cache", VECTORS, [5, 3])
    for offsets in ([0, 1, 10], [0, 6, 11], [1, 6, 10], [0, 12, 10]):
        (tmp_path / "cache" / "offsets.bin").write_bytes(torch.tensor(offsets).numpy().tobytes())
        with pytest.raises(DataError, match="other offsets"):
            Dataset.open(tmp_path / "cache")


# Sources -----------------------------------------------------------------------------------------------------------


def test_a_cache_is_used_while_its_source_is_the_same_and_built_again_when_it_changes(tmp_path: Path) -> None:
    log, cache = tmp_path / "log.csv", tmp_path / "cache"
    write(log, VECTORS, make_log(VECTORS, [4, 5]))
    first = load(log, cache)
    stamp = (cache / "index.json").stat().st_mtime_ns
    assert load(log, cache).fingerprint == first.fingerprint
    assert (cache / "index.json").stat().st_mtime_ns == stamp
    write(log, VECTORS, make_log(VECTORS, [4, 6]))
    second = load(log, cache)
    assert second.fingerprint != first.fingerprint
    assert second.lengths.tolist() == [4, 6]
    assert load(log, cache, ReadOptions(low=(-9.0,), high=(9.0,))).signature.action.low == (-9.0, -9.0)


def test_a_damaged_cache_is_built_again_when_the_source_is_known(tmp_path: Path) -> None:
    log, cache = tmp_path / "log.parquet", tmp_path / "cache"
    write(log, MIXED, make_log(MIXED, [4, 5]))
    for damage in ("truncate", "index", "missing", "future"):
        load(log, cache)
        if damage == "truncate":
            os.truncate(cache / "observation-0.bin", 7)
        elif damage == "index":
            (cache / "index.json").write_text('{"format": "steersman cache", "version": 1')
        elif damage == "missing":
            (cache / "action-2.bin").unlink()
        else:
            index = json.loads((cache / "index.json").read_text())
            (cache / "index.json").write_text(json.dumps(index | {"version": 99}))
        with pytest.raises(DataError):
            Dataset.open(cache)
        assert load(log, cache).lengths.tolist() == [4, 5]


def test_moving_a_log_does_not_change_its_fingerprint(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", VECTORS, make_log(VECTORS, [4]))
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes())
    assert read(tmp_path / "a.parquet").fingerprint == read(tmp_path / "b.parquet").fingerprint


def test_a_source_that_changes_while_it_is_read_leaves_no_cache(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    write(log, VECTORS, make_log(VECTORS, [4, 5]))
    source = read(log)
    with pytest.raises(DataError, match="stay as it is"):
        build(source, tmp_path / "cache", progress=lambda done, total: log.write_text("other"))
    assert not (tmp_path / "cache").exists()


def test_progress_counts_steps(tmp_path: Path) -> None:
    write(tmp_path / "log.csv", VECTORS, make_log(VECTORS, [4, 5]))
    seen: list[tuple[int, int | None]] = []
    build(read(tmp_path / "log.csv"), tmp_path / "cache", progress=lambda *step: seen.append(step))
    assert seen == [(4, 9), (9, 9)]


def test_a_cache_is_a_log_that_can_be_read_and_written_in_other_formats(tmp_path: Path) -> None:
    _, episodes = make_dataset(tmp_path / "cache", MIXED, [4, 5])
    source = read(tmp_path / "cache")
    assert source.format == "cache"
    write(tmp_path / "log.parquet", source.signature, source.episodes())
    for back, original in zip(read(tmp_path / "log.parquet").episodes(), episodes, strict=True):
        assert_equal(back, original)


# Refusals of the file system -----------------------------------------------------------------------------------------

CHILD = """
import resource, signal, sys, os
from pathlib import Path
sys.path.insert(0, {tests!r})
from logs import MIXED, make_log, make_dataset
from steersman.core import StorageError
from steersman.data import CacheWriter, write
root = Path({root!r})

resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
log = make_log(MIXED, [40, 50])
saves = {{"cache": lambda p: make_dataset(p, MIXED, [40, 50]), "log.parquet": lambda p: write(p, MIXED, log)}}
for name, save in saves.items():
    try:
        save(root / name)
    except StorageError as error:
        print(name, "|", error)
print(sorted(os.listdir(root)), flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer = CacheWriter(root / "killed", MIXED)
writer.append(log)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_full_disk_leaves_nothing_and_a_killed_builder_is_swept_up(tmp_path: Path) -> None:
    code = textwrap.dedent(CHILD).format(tests=str(Path(__file__).parent), root=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(" | ")[0] for line in lines[:2]] == ["cache", "log.parquet"]
    assert all("file too large" in line and "raise the limit" in line for line in lines[:2])
    assert lines[2] == "[]"
    left = [p.name for p in tmp_path.iterdir()]
    assert len(left) == 1
    assert left[0].endswith("-killed")
    make_dataset(tmp_path / "killed", MIXED, [3])
    assert [p.name for p in tmp_path.iterdir()] == ["killed"]


def test_a_builder_at_work_is_not_swept_up(tmp_path: Path) -> None:
    with CacheWriter(tmp_path / "cache", VECTORS) as slow:
        slow.append(make_episode(VECTORS, 4))
        make_dataset(tmp_path / "cache", VECTORS, [3])
        slow.finish("slow")
    assert Dataset.open(tmp_path / "cache").fingerprint == "slow"


@pytest.mark.parametrize("where", ["mkdir", "open", "fsync", "rename"])
def test_a_refusal_at_any_step_of_a_build_leaves_the_old_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    _, before = make_dataset(tmp_path / "cache", VECTORS, [4])

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(30, "Read-only file system")

    target = {
        "mkdir": "pathlib.Path.mkdir", "open": "pathlib.Path.open", "fsync": "os.fsync", "rename": "os.replace"
    }
    with monkeypatch.context() as patch:
        patch.setattr(target[where], refuse)
        with pytest.raises(StorageError, match=r"read-only file system; choose a folder that can be written to"):
            make_dataset(tmp_path / "cache", VECTORS, [9])
    assert siblings(tmp_path / "cache") == {"cache"}
    assert_equal(Dataset.open(tmp_path / "cache").episode(0), before[0])


@pytest.mark.parametrize("name", ["cache", "log.csv", "log.parquet"])
def test_every_file_is_on_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    synced, unsynced, fsync, replace = set(), [], os.fsync, os.replace

    def note(handle: int) -> None:
        fsync(handle)
        synced.add((os.fstat(handle).st_ino, os.fstat(handle).st_size))

    def check(source: Path, target: Path) -> None:
        files = [source, *Path(source).rglob("*")]
        unsynced.extend(f for f in files if (f.stat().st_ino, f.stat().st_size) not in synced)
        replace(source, target)

    monkeypatch.setattr("os.fsync", note)
    monkeypatch.setattr("os.replace", check)
    if name == "cache":
        make_dataset(tmp_path / name, MIXED, [4, 5])
    else:
        write(tmp_path / name, VECTORS, make_log(VECTORS, [4, 5]))
    assert unsynced == []
    assert (tmp_path.stat().st_ino, tmp_path.stat().st_size) in synced, "the new name is not on disk"


def test_a_log_is_a_whole_file_or_none(tmp_path: Path) -> None:
    def breaks() -> object:
        yield make_episode(VECTORS, 4)
        raise RuntimeError

    for name in ("log.csv", "log.parquet"):
        with pytest.raises(RuntimeError):
            write(tmp_path / name, VECTORS, breaks())  # type: ignore[arg-type]
        with pytest.raises(DataError, match="at least one episode"):
            write(tmp_path / name, VECTORS, [])
        with pytest.raises(DataError, match="NaN"):
            write(tmp_path / name, VECTORS, [Episode({"vector": torch.full((3, 2), torch.nan)}, torch.zeros(2, 2))])
    assert list(tmp_path.iterdir()) == []
