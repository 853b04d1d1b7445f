"""The counts of a life, and what bounds its files: samples of memory are thinned, its slope is that of most pairs, old
sessions and snapshots go."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from steersman.runs import living
from steersman.runs.decisions import FOLDER, retire_sessions, sessions
from steersman.runs.living import Living, read_living, sampled, slope, write_living
from steersman.runs.updates import SNAPSHOTS_KEPT, Journal


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_living(tmp_path) is None
    one = Living(env="hazards", goal="", asked=10, steps=10, refused={"x": 3}, resident=((1, 2), (3, 4)))
    write_living(tmp_path, one)
    assert read_living(tmp_path) == one
    assert one.done


def test_samples_are_thinned_and_reach_from_the_beginning_to_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(living, "resident", lambda: 7)
    samples: tuple[tuple[int, int], ...] = ()
    for step in range(10_000):
        samples = sampled(samples, step)
        assert len(samples) <= 256
    assert samples[0][0] == 0
    assert samples[-1][0] > 9_900
    gaps = [b[0] - a[0] for a, b in itertools.pairwise(samples)]
    assert max(gaps) <= 512


def test_the_slope_is_that_of_what_grows_and_not_of_one_jump() -> None:
    assert slope(tuple((n, 50 * n) for n in range(40))) == 50
    assert slope(tuple((n, 0 if n < 35 else 10**6) for n in range(40))) == 0
    assert slope(((0, 0), (1, 1))) is None
    warming = tuple((n, 1000 * min(n, 10)) for n in range(60))
    assert slope(warming) == 0


def test_old_sessions_go_whole_and_the_newest_stays(tmp_path: Path) -> None:
    for number in range(1, 5):
        folder = tmp_path / FOLDER / f"{number:04d}"
        folder.mkdir(parents=True)
        (folder / "000000000.log").write_bytes(b"x" * 100)
    assert retire_sessions(tmp_path, 250) == 2
    assert [x.name for x in sessions(tmp_path)] == ["0003", "0004"]
    assert retire_sessions(tmp_path, 1) == 1
    assert [x.name for x in sessions(tmp_path)] == ["0004"]


def test_old_snapshots_go(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in range(SNAPSHOTS_KEPT + 5):
        journal.keep(f"{number:032d}", b"x")
    assert len(list((tmp_path / "snapshots").iterdir())) == SNAPSHOTS_KEPT
    assert journal.kept(f"{SNAPSHOTS_KEPT + 4:032d}") == b"x"
    assert journal.kept(f"{0:032d}") is None
