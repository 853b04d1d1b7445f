"""The parser in a process of its own: same episodes, limits that hold, replaced when it dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from logs import MIXED, VECTORS, assert_equal, make_log

from steersman.core import ActionSpec, DataError, ObservationSpec, Recording, Signature, UsageError
from steersman.data import Limits, ReadOptions, read, write
from steersman.data.sandbox.host import _pool
from steersman.data.sandbox.shared_memory import Segments
from steersman.data.sandbox.wire import Channel, Reply

pytestmark = pytest.mark.skipif(os.name != "posix", reason="elsewhere logs are parsed in this process")


def workers() -> list[int]:
    return [worker.process.pid for worker in _pool(os.getpid()).idle]


def test_episodes_are_the_same_as_when_parsed_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = make_log(MIXED, [4, 1, 7])
    write(tmp_path / "log.parquet", MIXED, log)
    monkeypatch.chdir(tmp_path)
    isolated, here = read("log.parquet"), read("log.parquet", limits=None)
    for name in ("format", "signature", "fingerprint", "steps", "notes"):
        assert getattr(isolated, name) == getattr(here, name)
    both = [isolated.episodes(), isolated.episodes()]  # two streams at once
    for original in log:
        for stream in both:
            assert_equal(next(stream), original)
    assert next(both[0], None) is None


def test_one_process_serves_log_after_log_and_one_left_half_read(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", VECTORS, make_log(VECTORS, [4] * 5))
    next(iter(read(tmp_path / "a.csv").episodes()))
    first = workers()
    for _ in range(3):
        assert len(list(read(tmp_path / "a.csv").episodes())) == 5
    assert set(workers()) == set(first)


def test_a_parser_that_died_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", VECTORS, make_log(VECTORS, [4] * 5))
    source = read(tmp_path / "a.csv")
    for pid in workers():
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert len(list(source.episodes())) == 5
    stream = source.stream()
    next(stream)
    for worker in [w for w in _alive() if w not in workers()]:
        os.kill(worker, signal.SIGKILL)
    with pytest.raises(DataError, match=r"the parser died \(signal 9\)"):
        list(stream)
    assert len(list(source.episodes())) == 5


def _alive() -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True,
                            check=False).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "steersman.data.parser" in line]


def test_time_and_memory_are_limited(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("x,action\n" + "1.5,0.25\n" * 200_000)
    with pytest.raises(DataError, match=r"within 0.01 s .* takes longer"):
        read(tmp_path / "log.csv", limits=Limits(seconds=0.01, seconds_per_byte=0.0))
    np.savez_compressed(tmp_path / "bomb.npz", observations=np.zeros((1 << 25, 2)), actions=np.zeros(1 << 25))
    assert (tmp_path / "bomb.npz").stat().st_size < 2_000_000
    with pytest.raises(DataError, match="memory"):
        list(read(tmp_path / "bomb.npz", ReadOptions(low=(0.0,), high=(1.0,)),
                  limits=Limits(memory=100 << 20)).recordings())
    write(tmp_path / "a.csv", VECTORS, make_log(VECTORS, [4]))
    assert read(tmp_path / "a.csv").steps == 4


def test_large_images_come_through_shared_memory_and_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature = Signature({"cam": ObservationSpec("image", (256, 256, 3))}, ActionSpec("continuous", (-1.0,), (1.0,)))
    rng = np.random.default_rng(0)
    log = [
        Recording({"cam": rng.integers(0, 256, (n + 1, 256, 256, 3), np.uint8)}, np.zeros((n, 1), np.float32))
        for n in (6, 9, 2, 6, 12, 1, 7, 8, 6, 6, 6, 20)
    ]
    write(tmp_path / "log.npz", signature, log)
    seen: list[int] = []
    look = Segments.look
    monkeypatch.setattr(
        Segments, "look", lambda self, segment, places: seen.append(segment.fd) or look(self, segment, places))
    source = read(tmp_path / "log.npz")
    for back, original in zip(source.recordings(), log, strict=True):
        assert np.array_equal(back.observations["cam"], original.observations["cam"])
    assert len(seen) == 10  # episodes of less than 1 MB are not worth it
    assert len(set(seen)) < 6  # segments are taken again
    kept = list(source.recordings())  # more than there are segments
    del source
    for back, original in zip(kept, log, strict=True):
        assert np.array_equal(back.observations["cam"], original.observations["cam"])
    tight = Limits(memory=60 << 20, memory_per_byte=0.0)
    for back, original in zip(read(tmp_path / "log.npz", limits=tight).recordings(), log, strict=True):
        assert np.array_equal(back.observations["cam"], original.observations["cam"])


def test_errors_come_over_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("x,y\n1,2\n3,4\n")
    with pytest.raises(DataError, match="an action column") as isolated:
        read(tmp_path / "log.csv")
    with pytest.raises(DataError) as here:
        read(tmp_path / "log.csv", limits=None)
    assert str(isolated.value) == str(here.value)
    with pytest.raises(UsageError, match="a format among"):
        read(tmp_path / "log.csv", ReadOptions(format="xlsx"))


def test_the_parser_loads_no_torch_and_writes_no_file(tmp_path: Path) -> None:
    code = f"""
import sys, steersman.data.parser as p, resource
assert "torch" not in sys.modules
try:
    sys.argv[1:] = ["-1"]
    p.main()
except Exception:
    pass
try:
    with open({str(tmp_path / "x")!r}, "w") as file:
        file.write("x")
except OSError as error:
    print(error.strerror)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "File too large", done.stderr


@pytest.mark.parametrize("frame", [
    b'{"kind":"recording","parts":[["a","float32",[-4]]]}', b'{"kind":"recording","parts":[["a","O",[1]]]}',
    b'{"kind":"recording","parts":[["a","uint8",[99999999999999]]]}', b'{"kind":"recording","odd":1}', b"[]", b"\xff",
])
def test_what_the_parser_says_is_not_trusted(frame: bytes) -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(len(frame).to_bytes(8, "little") + frame)
        with pytest.raises(ValueError, match=r"."):  # msgspec's errors are ValueErrors
            Channel(here).reply()
        there.sendall((1 << 40).to_bytes(8, "little"))
        with pytest.raises(ValueError, match="header"):
            Channel(here).reply()
        Channel(there).send(Reply(kind="end"))
        assert Channel(here).reply()[0].kind == "end"
