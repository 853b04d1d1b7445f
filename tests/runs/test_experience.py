"""Experience on disk: nothing that was appended is lost to a kill, torn moments are dropped, damage costs what it hit,
old moments make room and are counted, two writers are refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from faults import refusing
from points import POINT, at, step, values

from steersman.core import ActionSpec, ObservationSpec, Signature
from steersman.core.errors import ActionError, DataError, LockedError, MismatchError, RunError, StorageError, UsageError
from steersman.runs.experience import FIRST, MARK, TERMINAL, ExperienceReader
from steersman.runs.experiencing import ExperienceWriter, Moments
from steersman.runs.frames import frames, segments

EVERY = Signature(
    {"eye": ObservationSpec("image", (4, 5, 3)), "arm": ObservationSpec("vector", (2,), rows_per_update=2),
     "heat": ObservationSpec("field", (3, 2, 1)), "ear": ObservationSpec("waveform", (6, 1)),
     "words": ObservationSpec("tokens", (3,), vocabulary=9)},
    ActionSpec("discrete", choices=3), ("load",),
)
FILM = Signature({"eye": ObservationSpec("image", (4, 5, 3))}, ActionSpec("none"))


def lived(folder, moments, **limits):
    """One episode: 0, 1, 2, …"""
    writer = ExperienceWriter(folder, POINT, **limits)
    writer.append(Moments(at(0), None))
    for value in range(1, moments):
        writer.append(step(value))
    return writer


def drawn(signature, count, seed):
    g = np.random.default_rng(seed)
    kinds = {
        "uint8": lambda s: g.integers(0, 256, (count, *s.shape), np.uint8),
        "float32": lambda s: g.normal(size=(count, *s.shape)).astype(np.float32),
        "int32": lambda s: g.integers(0, s.vocabulary, (count, *s.shape), np.int32),
    }
    return {name: kinds[spec.dtype](spec) for name, spec in signature.observations.items()}


@pytest.mark.parametrize("signature", [EVERY, FILM], ids=["every kind", "nobody acts"])
def test_what_was_appended_is_read_as_episodes(tmp_path, signature):
    writer = ExperienceWriter(tmp_path / "x", signature)
    steps, kind = [], np.int64 if signature.action.kind == "discrete" else np.float32
    for t in range(5):
        g = np.random.default_rng(t)
        steps.append(Moments(
            drawn(signature, 2, t), g.integers(0, 3, (2, signature.action.size)).astype(kind),
            first=np.full(2, t == 0), exogenous=g.normal(size=(2, len(signature.exogenous))).astype(np.float32),
            measured={"arm": np.array([t % 2 == 0, True])} if signature is EVERY else {},
            times=np.full(2, 0.1 * t),
        ))
        writer.append(steps[-1])
    writer.close()
    found = list(ExperienceReader(tmp_path / "x").recordings())
    assert len(found) == 2
    for row, recording in enumerate(found):
        recording.validate(signature)
        for name in signature.observations:
            assert np.array_equal(recording.observations[name], np.stack([s.observations[name][row] for s in steps]))
        assert np.array_equal(recording.actions, np.stack([s.actions[row] for s in steps[1:]]))
        assert np.array_equal(recording.times, [0.1 * t for t in range(5)])
        if signature is EVERY:
            assert np.array_equal(recording.exogenous, np.stack([s.exogenous[row] for s in steps[1:]]))
            assert np.array_equal(recording.measured["arm"], [t % 2 == 0 or row == 1 for t in range(5)])


def test_a_single_moment_is_an_episode_only_where_nobody_acts(tmp_path):
    for name, signature, count in (("film", FILM, 1), ("point", POINT, 0)):
        with_one = ExperienceWriter(tmp_path / name, signature)
        with_one.append(Moments(drawn(signature, 1, 0), None))
        with_one.close()
        assert len(list(ExperienceReader(tmp_path / name).recordings())) == count


def test_episodes_side_by_side_end_and_begin_on_their_own(tmp_path):
    writer = ExperienceWriter(tmp_path / "x", POINT)
    writer.append(Moments(at(0, 2), None))
    writer.append(step(1, 2, terminal=np.array([True, False])))
    writer.append(step(2, 2, first=np.array([True, False])))
    writer.append(step(3, stream=np.array([1])))
    writer.close()
    found = list(ExperienceReader(tmp_path / "x").recordings())
    assert [r.observations["p"][:, 0].tolist() for r in found] == [[0, 1], [0, 1, 2, 3]]  # the third is one moment long
    assert [(r.info["episode"], r.info["end"]) for r in found] == [("0", "terminal"), ("1", "open")]
    assert [m.marks for m in ExperienceReader(tmp_path / "x").moments()] == [FIRST, FIRST, TERMINAL, 0, FIRST, 0, 0]


REFUSED = {
    "no beginning": (step(1, stream=np.array([7])), DataError, "mark the moment that it begins with as `first`"),
    "after its end": (step(1), DataError, "none, or one that ended"),
    "no action": (Moments(at(1), None, first=np.array([False]), stream=np.array([1])), DataError, "give `actions`"),
    "NaN": (Moments(at(np.nan), None), DataError, "NaN or infinity at row 0"),
    "another shape": (Moments({"p": np.zeros((1, 3), np.float32)}, None), DataError, r"\(1, 2\).*\(1, 3\)"),
    "another type": (Moments({"p": np.zeros((1, 2))}, None), DataError, "float64"),
    "another name": (Moments({"q": np.zeros((1, 2), np.float32)}, None), DataError, "observations p; got q"),
    "out of bounds": (
        Moments(at(1), np.array([[2.0]], np.float32), stream=np.array([1])), ActionError, r"within \[-1, 1\]"),
    "twice a stream": (Moments(at(0, 2), None, stream=np.array([3, 3])), DataError, "2 different streams"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line_and_nothing_is_written(tmp_path, name):
    writer = ExperienceWriter(tmp_path / "x", POINT)
    writer.append(Moments(at(0, 2), None))
    writer.append(step(1, 2, terminal=np.array([True, False])))
    before = values(tmp_path / "x")
    moments, kind, words = REFUSED[name]
    with pytest.raises(kind, match=words) as caught:
        writer.append(moments)
    assert "\n" not in str(caught.value)
    assert values(tmp_path / "x") == before
    writer.append(step(2, stream=np.array([1])))
    assert values(tmp_path / "x") == before | {4: 2.0}
    writer.close()
    with pytest.raises(UsageError, match="one that was closed"):
        writer.append(step(3))


def test_numbers_go_on_and_episodes_do_not(tmp_path):
    lived(tmp_path / "x", 3).close()
    writer = ExperienceWriter(tmp_path / "x", POINT)
    assert writer.count == 3
    with pytest.raises(DataError, match="an episode that has begun in stream 0"):
        writer.append(step(3))
    assert list(writer.append(Moments(at(9), None), durable=True)) == [3]
    writer.close()
    assert values(tmp_path / "x") == {0: 0, 1: 1, 2: 2, 3: 9}


def test_another_world_and_a_damaged_index_are_refused(tmp_path):
    lived(tmp_path / "x", 3).close()
    with pytest.raises(MismatchError, match="observations"):
        ExperienceWriter(tmp_path / "x", FILM)
    index = tmp_path / "x" / "experience.json"
    later = (b'{"format": 9}', "or earlier; got 9; update")
    for content, words in ((b"{", "truncated"), later, (b"[]", "Expected `object`")):
        index.write_bytes(content)
        with pytest.raises(RunError, match=words):
            ExperienceReader(tmp_path / "x")
    with pytest.raises(UsageError, match="some time of experience"):
        ExperienceWriter(tmp_path / "y", POINT, age=0)
    with pytest.raises(RunError, match="record some: steersman run"):
        ExperienceReader(tmp_path / "nothing")


# Kills, torn files and damage ----------------------------------------------------------------------------------------


WRITES = """
import itertools, os, random, signal, sys, time
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[2])
from points import POINT, ExperienceReader, Moments, at, step, values
from steersman.runs import experiencing
from steersman.runs.experiencing import ExperienceWriter
experiencing.SEGMENT = 20_000
folder, retain, rounds = Path(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4])
random.seed(0)
writer = ExperienceWriter(folder, POINT, retain=retain)  # so that no child imports anything
writer.append(Moments(at(-1), None))
writer.close()
told, lost, most = {}, 0, 0
for kill in range(rounds):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        writer = ExperienceWriter(folder, POINT, retain=retain)
        writer.append(Moments(at(-1), None))
        for value in itertools.count(1000 * kill):
            number = writer.append(step(value), durable=value % 50 == 0)[0]
            os.write(write, b"%d %d\\n" % (number, value))
    os.close(write)
    os.set_blocking(read, True)
    content = os.read(read, 64)
    time.sleep(random.random() * 0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while piece := os.read(read, 1 << 16):
        content += piece
    os.close(read)
    told |= dict(tuple(map(int, line.split())) for line in content.decode().split("\\n")[:-1] if line.count(" ") == 1)
    now = dict(tuple(map(int, line.split())) for line in content.decode().splitlines())
    told |= now
    found = values(folder, min(now)) if kill < rounds - 1 else values(folder)
    first = ExperienceReader(folder).span().start
    lost += sum(found.get(number) != value for number, value in told.items() if number >= min(found))
    lost += sorted(found) != list(range(min(found), min(found) + len(found)))
print(len(told), lost, first)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
@pytest.mark.parametrize(("retain", "rounds"), [(1 << 30, 100), (20_000, 30)], ids=["all stays", "making room"])
def test_no_committed_moment_is_lost_to_kills_at_any_moment(tmp_path, retain, rounds):
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", WRITES, str(tmp_path / "x"), str(here), str(retain), str(rounds)],
        capture_output=True, text=True, check=False, timeout=120,
        env=os.environ | {"PYTHONPATH": ":".join([str(here.parent), *sys.path])},
    )
    assert done.returncode == 0, done.stderr
    told, lost, first = map(int, done.stdout.split())
    assert told > 10 * rounds
    assert lost == 0
    assert (first > 0) is (retain < 1 << 20)


def test_a_file_torn_at_any_byte_loses_what_is_torn_and_is_written_on(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda fd: None)
    lived(tmp_path / "x", 4).close()
    file = segments(tmp_path / "x")[-1][1]
    content = file.read_bytes()
    ends = [end for end, _ in frames(file, MARK)]
    for cut in range(len(content)):
        file.write_bytes(content[:cut])
        whole = sum(end <= cut for end in ends)
        assert list(values(tmp_path / "x")) == list(range(whole))
        writer = ExperienceWriter(tmp_path / "x", POINT)
        assert list(writer.append(Moments(at(7), None))) == [whole]
        writer.close()
        assert values(tmp_path / "x")[whole] == 7
        assert len(values(tmp_path / "x")) == whole + 1


def test_a_flipped_byte_costs_one_moment_and_no_other(tmp_path):
    lived(tmp_path / "x", 5).close()
    file = segments(tmp_path / "x")[-1][1]
    content = file.read_bytes()
    ends = [end for end, _ in frames(file, MARK)]
    for place in range(len(content)):
        file.write_bytes(content[:place] + bytes([content[place] ^ 0x41]) + content[place + 1 :])
        hit = sum(end <= place for end in ends)
        assert values(tmp_path / "x") == {n: n for n in range(5) if n != hit}
        parts = [r.observations["p"][:, 0].tolist() for r in ExperienceReader(tmp_path / "x").recordings()]
        assert parts == [p for p in (list(range(hit)), list(range(hit + 1, 5))) if len(p) > 1]
    file.write_bytes(content[: ends[0] + 20] + b"\0" + content[ends[0] + 21 :])
    writer = ExperienceWriter(tmp_path / "x", POINT)  # whoever writes on leaves what follows the damage alone
    assert list(writer.append(Moments(at(9), None))) == [5]
    writer.close()
    assert values(tmp_path / "x") == {0: 0, 2: 2, 3: 3, 4: 4, 5: 9}


DUE = {"another file": lambda w: w._log._full(90, 0.0),
       "room": lambda w: sum(x.size for x in w._log._segments) > w._log.retain}


@pytest.mark.parametrize("due", DUE)
@pytest.mark.parametrize("mode", ["once", "full"])
def test_a_refused_append_leaves_what_was_there_and_can_be_repeated(tmp_path, mode, due, monkeypatch):
    """At every call that an append makes, where it needs another file or room. What was refused may be read until
    something else is appended, where the disk did not let it be taken back."""
    monkeypatch.setattr("os.fsync", lambda fd: None)
    refused = 0
    for n in range(1, 40):
        folder = tmp_path / f"{mode}-{n}"
        writer = lived(folder, 40, retain=1500)
        while not DUE[due](writer):
            writer.append(step(writer.count))
        before = values(folder)
        with refusing(folder, n, mode) as disk:
            try:
                writer.append(step(1000), durable=True)
                ended = None
            except StorageError as error:
                ended = error
        if not disk.hit:
            break
        refused += 1
        last = max(before)
        if ended is None:  # of no use any more, or there already
            assert disk.hit in ("mkdir", "unlink")
            last += 1
        else:
            assert "no space left" in str(ended)
            assert max(values(folder)) <= last + (disk.hit == "fsync"), disk.hit
        number = writer.append(step(1001))[0]
        assert number == last + 1
        writer.close()
        assert values(folder)[number] == 1001
        assert ExperienceWriter(folder, POINT, retain=1500).count == number + 1
    assert refused >= (6 if due == "another file" else 8)


def test_two_writers_are_refused_and_a_dead_one_is_not_waited_for(tmp_path):
    writer = lived(tmp_path / "x", 2)
    with pytest.raises(LockedError, match=r"one writer for .*x; got process"):
        ExperienceWriter(tmp_path / "x", POINT)
    writer.append(step(2))
    writer.close()
    code = f"import sys; sys.path[:0] = {[*sys.path, str(Path(__file__).parent)]!r}\n" \
           "import os; from pathlib import Path; from points import *; from steersman.runs.experiencing import *\n" \
           f"w = ExperienceWriter(Path({str(tmp_path / 'x')!r}), POINT); w.append(Moments(at(5), None)); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    again = ExperienceWriter(tmp_path / "x", POINT)
    assert again.count == 4


# Making room ---------------------------------------------------------------------------------------------------------


def test_the_oldest_make_room_for_size_and_are_counted(tmp_path):
    writer = lived(tmp_path / "x", 100, retain=2000)
    writer.close()
    reader = ExperienceReader(tmp_path / "x")
    span, there = reader.span(), values(tmp_path / "x")
    assert 0 < span.start < 99
    assert span.stop == 100
    assert there == {n: n for n in span}
    assert sum(path.stat().st_size for _, path in segments(tmp_path / "x")) <= 2000 + 2000 // 8
    assert reader.index.first == reader.index.by_size == span.start
    assert reader.index.by_age == 0
    assert reader.index.bytes > 0
    (rest,) = reader.recordings()
    assert rest.observations["p"][:, 0].tolist() == list(span)
    assert rest.info["episode"] == f"0, from step {span.start} on"


def test_moments_go_at_their_age(tmp_path):
    now = [1000.0]
    writer = ExperienceWriter(tmp_path / "x", POINT, age=80, clock=lambda: now[0])
    writer.append(Moments(at(0), None))
    for value in range(1, 300):
        now[0] += 1
        writer.append(step(value))
    span = ExperienceReader(tmp_path / "x").span()
    assert 300 - 80 - 20 <= span.start <= 300 - 80
    assert writer.index.by_age == writer.index.first == span.start
    assert writer.index.by_size == 0
    writer.close()
    now[0] += 10_000
    ExperienceWriter(tmp_path / "x", POINT, age=80, clock=lambda: now[0]).close()
    assert 0 < len(ExperienceReader(tmp_path / "x").span()) <= 12  # the newest file never goes


def test_a_writer_stopped_while_it_made_room_is_finished_by_the_next(tmp_path):
    lived(tmp_path / "x", 100, retain=2000).close()
    shutil.copytree(tmp_path / "x", tmp_path / "y")
    first = segments(tmp_path / "x")[0]
    index = tmp_path / "x" / "experience.json"
    second = segments(tmp_path / "x")[1][0]
    index.write_text(index.read_text().replace(f'"first": {first[0]}', f'"first": {second}'))
    assert min(values(tmp_path / "x")) == second
    ExperienceWriter(tmp_path / "x", POINT, retain=2000).close()
    assert not first[1].exists()
