"""Interrupted logs: the longest verified prefix comes back to the bit, and what is lost is said."""

from __future__ import annotations

import gzip
import os
import random
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from logs import MIXED, VECTORS, make_log

from steersman.core import DataError, Episode, Recording, Signature
from steersman.data import convert, read, repair, write
from steersman.data.formats import parquet_pieces
from steersman.data.formats.hdf5_notes import Note, Place, rescue

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


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parquet in pieces of one episode."""
    monkeypatch.setattr(parquet_pieces, "_BYTES", 1)


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.npz", "log.parquet", "log.h5"])
@pytest.mark.parametrize("share", [0.5, 0.8, 0.97])
def test_a_file_that_was_cut_off(tmp_path: Path, name: str, share: float) -> None:
    if name.endswith("h5"):
        pytest.importorskip("h5py")
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
from logs import MIXED, VECTORS, make_log
from steersman.data import write
from steersman.data.formats import parquet_pieces
parquet_pieces._BYTES = 1
def episodes(signature):
    for number, episode in enumerate(make_log(signature, {lengths})):
        if number == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        yield episode
for name, format in {formats!r}.items():
    signature = VECTORS if format == "lerobot" else MIXED
    if os.fork():
        os.wait()
    else:
        write({folder!r} + "/" + name, signature, episodes(signature), format)
"""
WRITTEN = {
    "log.h5": "hdf5", "log.npz": "npz", "log.parquet": "parquet", "log-v0": "minari", "arrow-v0": "minari-arrow",
    "log.lerobot": "lerobot",
}


def test_what_a_killed_writer_left_of_every_format(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    pytest.importorskip("av")
    code = WRITING.format(tests=str(Path(__file__).parent), folder=str(tmp_path), lengths=LENGTHS, formats=WRITTEN)
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, format in WRITTEN.items():
        assert not (tmp_path / name).exists()
        assert list(tmp_path.glob(f".tmp-*-{name}"))
        signature = VECTORS if format == "lerobot" else MIXED
        assert sound_prefix(tmp_path / name, make_log(signature, LENGTHS)[:5], signature) == 5, name
        repaired = repair(str(tmp_path / name))
        back = convert(repaired.source, tmp_path / f"whole-{name}", format)  # which sweeps the leftovers away
        assert back.episodes == 5


@pytest.mark.parametrize("name", ["log.parquet", "log.h5", "log.npz", "log-v0"])
def test_cuts_anywhere_lose_no_more_than_what_is_behind_them(tmp_path: Path, name: str) -> None:
    pytest.importorskip("h5py")
    log = make_log(MIXED, [6] * 20)
    written = write(tmp_path / name, MIXED, log)
    path = written / "data" / "main_data.hdf5" if written.is_dir() else written
    content = path.read_bytes()
    for cut in random.Random(name).sample(range(len(content) // 5, len(content)), 6):
        path.write_bytes(content[:cut])
        kept = sound_prefix(written, log, MIXED)
        assert kept >= 20 * cut / len(content) - 5, (cut, len(content))


def test_a_parquet_file_cut_off_between_two_pieces_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    log = make_log(VECTORS, LENGTHS)
    path = write(tmp_path / "log.parquet", VECTORS, log)
    content = path.read_bytes()
    end = content.index(b"PIEC", content.index(b"PIEC") + 4) + 4
    path.write_bytes(content[:end])
    with pytest.raises(DataError, match="sound Parquet"):
        read(path)
    assert sound_prefix(path, log, VECTORS) == 2


def test_a_flipped_bit_in_a_parquet_page_is_found(tmp_path: Path) -> None:
    log = make_log(MIXED, LENGTHS)
    path = write(tmp_path / "log.parquet", MIXED, log)
    content = bytearray(path.read_bytes())
    content[content.index(log[3].observations["image"][0].numpy().tobytes()) + 7] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="CRC"):
        read(path)
    assert sound_prefix(path, log, MIXED) == 3


def test_a_parquet_file_of_another_program_without_its_footer_is_refused_with_the_reason(tmp_path: Path) -> None:
    table = pa.table({"observation.x": [0.0, 1.0, 2.0], "action": [0.5, -0.5, 0.0]})
    pq.write_table(table, tmp_path / "log.parquet")
    content = (tmp_path / "log.parquet").read_bytes()
    (tmp_path / "log.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="said at its end"):
        repair(str(tmp_path / "log.parquet"))


def test_an_hdf5_file_of_another_program_keeps_the_episodes_that_its_index_still_reaches(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "log.h5"
    with h5py.File(path, "w") as file:
        for number in range(20):
            file[f"data/demo_{number}/actions"] = np.linspace(-1, 1, 100, dtype=np.float32).reshape(50, 2) + number
            file[f"data/demo_{number}/obs/state"] = np.full((51, 8), number, np.float32)
    content = path.read_bytes()
    path.write_bytes(content[: int(0.99 * len(content))])
    repaired = repair(str(path))
    back = list(repaired.source.recordings())
    assert len(back) == 19
    assert [r.observations["state"][0, 0] for r in back] == list(range(19))
    assert "bytes" in repaired.lost[0]
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="one whole episode to save"):
        list(repair(str(path)).source.recordings())


def test_a_csv_file_ends_before_an_episode_of_one_row_and_before_a_row_of_another_width(tmp_path: Path) -> None:
    rows = "".join(f"{episode},{step},{step / 2},{step % 3}.5\n" for episode in range(3) for step in range(4))
    for tail in ("3,0,0.0,0.5\n", "2,4,1.0\n", '2,4,"' + "x" * 200_000 + '",0.5\n'):
        (tmp_path / "log.csv").write_text(f"episode,step,obs_x,action\n{rows}{tail}")
        recordings = list(repair(str(tmp_path / "log.csv")).source.recordings())
        assert [len(r) for r in recordings] == [3, 3, 3]


def test_notes_that_lie_are_not_believed(tmp_path: Path) -> None:
    place = Place("|u1", (1 << 40,), 1 << 40, (0,), 0)
    note = msgspec.json.encode(Note(0, {"episode_0/actions": place}))
    head = b"steersman note 1:" + len(note).to_bytes(4, "little") + zlib.crc32(note).to_bytes(4, "little")
    (tmp_path / "log.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + head + note)
    assert rescue(str(tmp_path / "log.h5"), tmp_path / "copy.npz") == 0
    for shape, rows in (((0,), 1), ((), 1), ((4,), 0), ((-4,), 1), ((4,), -1)):
        assert Place("|u1", shape, rows, (0,), 0).size == 0


def test_lerobot_whose_tables_or_videos_were_cut(tmp_path: Path) -> None:
    pytest.importorskip("av")
    log = make_log(VECTORS, LENGTHS)
    path = write(tmp_path / "log", VECTORS, log, "lerobot")
    file = next(path.glob("data/*/*.parquet"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    assert 2 <= sound_prefix(path, log, VECTORS) < 6


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
