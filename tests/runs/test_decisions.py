"""Recorded decisions on disk: none lost to a kill, torn ones dropped, old ones rotated, damage refused in words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steersman.core.errors import RunError, SteersmanError, StorageError, UsageError
from steersman.runs.decisions import TOGETHER, DecisionReader, DecisionWriter, Recorded, Session, session_at, sessions

SESSION = Session(
    started="now", run="r", checkpoint=3, model="m", planner=None, planner_name="P", threads=1, versions={}
)


def record(number, whole=False, size=10):
    return Recorded(
        number=number, decision=number, when=0.0, seconds=0.1, seeds=(1,), actions=((0.5,),), feasible=(True,),
        energy={"goal": ((1.0, float("inf")),)}, weights={"goal": 1.0}, goal="g", kept=(3,), calls=(9,), vetoed={},
        reason=("because",), candidates=None, limits={}, expected={}, whole=whole, tensors=b"x" * size,
    )


def write(path, count, kept=1 << 20, size=10):
    writer = DecisionWriter(path, SESSION, kept)
    for number in range(count):
        writer.append(record(number, whole=writer.due, size=size))
    writer.close()
    return writer.path


def test_what_was_written_is_read(tmp_path):
    write(tmp_path, 3)
    reader = session_at(tmp_path)
    assert reader.session == SESSION
    assert reader.span() == range(3)
    assert reader.read(2) == record(2)
    assert reader.read(0) == record(0, whole=True)


def test_sessions_follow_one_another(tmp_path):
    write(tmp_path, 1)
    write(tmp_path, 2)
    assert [p.name for p in sessions(tmp_path)] == ["0001", "0002"]
    assert len(session_at(tmp_path, "1").span()) == 1
    assert len(session_at(tmp_path).span()) == 2
    with pytest.raises(RunError, match=r"'7'.*0001, 0002"):
        session_at(tmp_path, "7")


@pytest.mark.parametrize("mode", ["once", "full"])
@pytest.mark.parametrize("first", [1, TOGETHER])
def test_a_refusal_at_any_call_loses_no_decision_and_the_next_attempt_succeeds(tmp_path, mode, first):
    """With `first` decisions there, the next is another of their file, or the first of its own."""
    from faults import refusing  # not where this file runs as a program of its own

    for n in range(1, 30):
        root = tmp_path / str(n)
        writer = DecisionWriter(root, SESSION)
        for number in range(first):
            writer.append(record(number, whole=writer.due))
        reader = DecisionReader(writer.path)
        with refusing(root, n, mode) as disk, suppress(StorageError):
            writer.append(record(first, whole=writer.due))
        assert list(reader.span()) == list(range(writer.number)) or disk.hit
        if writer.number == first:
            writer.append(record(first, whole=writer.due))
        writer.append(record(first + 1, whole=writer.due))
        writer.close()
        assert list(reader.span()) == list(range(first + 2))
        assert reader.leading_to(first + 1)[0].whole
        if not disk.hit:
            break
    assert n > (1 if first == 1 else 5)


def test_a_replay_goes_from_the_last_whole_record(tmp_path):
    write(tmp_path, TOGETHER + 5)
    reader = session_at(tmp_path)
    assert [r.number for r in reader.leading_to(TOGETHER + 2)] == [TOGETHER, TOGETHER + 1, TOGETHER + 2]
    assert [r.number for r in reader.leading_to(2)] == [0, 1, 2]


def test_the_oldest_files_make_room(tmp_path):
    path = write(tmp_path, 5 * TOGETHER, kept=TOGETHER * 1500, size=1000)
    reader = session_at(tmp_path)
    assert reader.span().stop == 5 * TOGETHER
    assert reader.span().start > 0
    assert sum(x.stat().st_size for x in path.glob("*.log")) < 2 * TOGETHER * 1500
    with pytest.raises(RunError, match=f"decisions {reader.span().start} to {5 * TOGETHER - 1}"):
        reader.read(0)


def test_a_torn_record_is_dropped_and_the_rest_stands(tmp_path):
    path = write(tmp_path, 4)
    (file,) = path.glob("*.log")
    file.write_bytes(file.read_bytes()[:-7])
    assert session_at(tmp_path).span() == range(3)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_files_are_refused_in_words(tmp_path_factory, data):
    path = write(tmp_path_factory.mktemp("fuzz"), 4)
    victim = data.draw(st.sampled_from(sorted(path.iterdir())))
    content = bytearray(victim.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    victim.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        reader = DecisionReader(path)
        for number in reader.span():
            reader.read(number)
    except SteersmanError:
        pass


def test_order_is_kept(tmp_path):
    writer = DecisionWriter(tmp_path, SESSION)
    with pytest.raises(UsageError, match="whole"):
        writer.append(record(0))
    writer.append(record(0, whole=True))
    with pytest.raises(UsageError, match="decision 1"):
        writer.append(record(5))


def test_a_later_format_is_refused(tmp_path):
    path = write(tmp_path, 1)
    later = msgspec.to_builtins(SESSION) | {"format": 9}
    (path / "session.json").write_bytes(msgspec.json.encode(later))
    with pytest.raises(RunError, match="update steersman"):
        session_at(tmp_path)


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "decisions").write_text("a file")
    with pytest.raises(StorageError, match="a folder for decisions"):
        DecisionWriter(tmp_path, SESSION)


WRITE = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_decisions import SESSION, DecisionWriter, record
writer = DecisionWriter(Path({path!r}), SESSION)
number = 0
while True:
    writer.append(record(number, whole=writer.due, size=2000))
    print(number, flush=True)
    number += 1
"""


def test_a_kill_loses_no_decision_that_was_acknowledged(tmp_path):
    for attempt in range(3):
        path = tmp_path / f"{attempt}"
        path.mkdir()
        words = WRITE.format(tests=os.path.dirname(__file__), path=str(path))
        with subprocess.Popen([sys.executable, "-c", words], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.05 * (attempt + 1))
            process.send_signal(signal.SIGKILL)
            acknowledged = [int(x) for x in process.stdout.read().split("\n")[:-1]]
        span = session_at(path).span()
        assert span.start == 0
        assert span.stop > acknowledged[-1]
        session_at(path).read(acknowledged[-1])
