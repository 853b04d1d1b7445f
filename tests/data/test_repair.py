"""Interrupted logs: the longest verified prefix comes back to the bit, and what is lost is said."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from logs import MIXED, VECTORS, make_log

from steersman.core import DataError, Episode, Recording, Signature
from steersman.data import read, repair, write

LENGTHS = [5, 9, 3, 8, 6, 7]


def sound_prefix(path: Path, log: list[Episode], signature: Signature) -> int:
    """Repair; every episode that comes back is the original; how many there are."""
    repaired = repair(str(path))
    assert repaired.source.signature == signature
    back: list[Recording] = list(repaired.source.recordings())
    for ours, theirs in zip(back, (episode.recording() for episode in log), strict=False):
        steps = len(ours)  # a table's last episode may be cut
        assert np.array_equal(ours.actions, theirs.actions[:steps])
        for name, value in theirs.observations.items():
            assert np.array_equal(ours.observations[name], value[: steps + 1])
    assert len(back) <= len(log)
    assert repaired.lost or len(back) == len(log)
    return len(back)


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.npz"])
@pytest.mark.parametrize("share", [0.5, 0.8, 0.97])
def test_a_file_that_was_cut_off(tmp_path: Path, name: str, share: float) -> None:
    signature = VECTORS if "csv" in name else MIXED
    log = make_log(signature, LENGTHS)
    path = tmp_path / name
    write(path.with_suffix("") if name.endswith("gz") else path, signature, log)
    if name.endswith("gz"):
        path.write_bytes(gzip.compress(path.with_suffix("").read_bytes()))
        (tmp_path / "log.csv.schema.toml").rename(f"{path}.schema.toml")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError):
        list(read(path).recordings())
    kept = sound_prefix(path, log, signature)
    assert kept >= int(share * len(LENGTHS)) - 2
    assert kept > 0


def test_a_flipped_bit_ends_the_prefix_where_it_is(tmp_path: Path) -> None:
    log = make_log(MIXED, LENGTHS)
    write(tmp_path / "log.h5", MIXED, log)
    content = bytearray((tmp_path / "log.h5").read_bytes())
    pixels = log[3].observations["image"].numpy().tobytes()
    content[content.index(pixels) + 7] ^= 1
    (tmp_path / "log.h5").write_bytes(content)
    assert sound_prefix(tmp_path / "log.h5", log, MIXED) == 3


def test_a_sound_log_loses_nothing(tmp_path: Path) -> None:
    log = make_log(VECTORS, LENGTHS)
    write(tmp_path / "log.npz", VECTORS, log)
    assert sound_prefix(tmp_path / "log.npz", log, VECTORS) == len(LENGTHS)
    with pytest.raises(DataError, match="nothing at"):
        repair(str(tmp_path / "nowhere.npz"))
    (tmp_path / "noise.npz").write_bytes(b"noise")
    with pytest.raises(DataError, match=r"to save|a sound array"):
        repair(str(tmp_path / "noise.npz"))


WRITING = """
import sys, os, signal
sys.path.insert(0, {tests!r})
from logs import MIXED, make_log
from steersman.data import write
def episodes():
    for number, episode in enumerate(make_log(MIXED, {lengths})):
        if number == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        yield episode
write({path!r}, MIXED, episodes())
"""


@pytest.mark.parametrize("name", ["log.h5", "log.npz"])
def test_a_file_whose_writer_was_killed(tmp_path: Path, name: str) -> None:
    code = WRITING.format(tests=str(Path(__file__).parent), path=str(tmp_path / name), lengths=LENGTHS)
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / name).exists()
    assert sound_prefix(next(tmp_path.glob(f".tmp-*-{name}")), make_log(MIXED, LENGTHS)[:5], MIXED) == 5


def test_an_hdf5_file_without_its_end(tmp_path: Path) -> None:
    log = make_log(MIXED, LENGTHS)
    write(tmp_path / "log.h5", MIXED, log)
    content = (tmp_path / "log.h5").read_bytes()
    (tmp_path / "log.h5").write_bytes(content[:-2000])
    with pytest.raises(DataError, match="truncated"):
        read(tmp_path / "log.h5")
    assert 0 < sound_prefix(tmp_path / "log.h5", log, MIXED) <= len(LENGTHS)


KILLED = """
import sys, os, signal
sys.path.insert(0, {tests!r})
from logs import MIXED, make_log
import steersman.data.cache as cache
cache._NOTE_BYTES = 1
writer = cache.CacheWriter({path!r}, MIXED)
for number, episode in enumerate(make_log(MIXED, {lengths})):
    writer.append(episode)
for file in writer._files.values():  # a torn write behind the last note
    file.write(b"torn")
    file.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_cache_whose_writer_was_killed(tmp_path: Path) -> None:
    code = KILLED.format(tests=str(Path(__file__).parent), path=str(tmp_path / "cache"), lengths=LENGTHS)
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "cache").exists()
    log = make_log(MIXED, LENGTHS)
    assert sound_prefix(tmp_path / "cache", log, MIXED) == len(LENGTHS)
    leftover = next(tmp_path.glob(".tmp-*-cache"))
    os.truncate(next(leftover.glob("action-*.bin")), 200)  # what had not reached the disk
    assert 0 < sound_prefix(tmp_path / "cache", log, MIXED) < len(LENGTHS)
