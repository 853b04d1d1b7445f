"""Acting for days by the commands alone: counts that go on after any stop, one page that says what a run is doing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from steersman.cli import main
from steersman.runs.decisions import sessions
from steersman.runs.experience import ExperienceReader
from steersman.runs.living import read_living

WORDS = ("--env", "Pendulum-v1", "--goal", "1,0,0", "--episodes", "3")


@pytest.fixture
def run(pendulum: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pendulum, tmp_path / "run"))


def test_steps_are_counted_on_across_calls_and_status_says_so(run: Path, steersman: Callable) -> None:
    nobody = steersman("status", str(run), "--json")
    assert nobody.code == 0
    assert nobody.json["living"] is None
    ended = steersman("run", str(run), *WORDS, "--steps", "300", "--experience", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["steps"] == 300
    assert ended.json["begun"] == 1
    again = steersman("run", str(run), *WORDS, "--steps", "900", "--experience", "--json")
    assert again.code == 0, again.err
    assert (again.json["steps"], again.json["begun"]) == (900, 2)
    assert again.json["episodes"] == 3  # a first batch was left at its end, a second one came to its own
    assert again.json["decisions"] == 900
    found = steersman("status", str(run), "--json").json
    assert (found["living"]["waves"], found["sessions"], found["moments"]) == (2, 2, 906)
    assert found["living"]["returned"] < 0
    page = steersman("status", str(run))
    assert page.code == 0
    assert "done" in page.out
    assert "900 of 900 (100.0%)" in page.out
    assert "begun 2 times" in page.out
    other = steersman("run", str(run), "--env", "Pendulum-v1", "--goal", "0,1,0", "--steps", "1000")
    assert other.code == 2
    assert "the same env, goal, limits and seed as before" in other.err


def test_only_when_surprised_by_the_command(run: Path, pendulum: Path, steersman: Callable, tmp_path: Path) -> None:
    words = ["run", str(run), *WORDS, "--steps", "150", "--surprised", "0.5"]
    without = steersman(*words)
    assert without.code == 2
    assert "a run that holds out a part of its log" in without.err
    run = tmp_path / "held"
    trained = steersman(
        "train", "--recipe", "tiny", "--data", str(pendulum.parent / "log"), "--out", str(run), "--steps", "30",
        "--set", "held_out=0.5", "--set", "agent.planner.samples=8", "--set", "agent.planner.iterations=1",
        "--set", "agent.planner.elites=2", "--set", "agent.planner.horizon=3")
    assert trained.code == 0, trained.err
    ended = steersman("run", str(run), *WORDS, "--steps", "150", "--surprised", "0.5", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["alarms"] > 0  # trained hardly at all, it is surprised half of the time at least
    found = steersman("status", str(run), "--json").json["living"]
    assert found["threshold"] > 0
    refused = steersman("run", str(run), *WORDS, "--surprised", "0.5", "--learn", "10")
    assert refused.code == 2
    assert "not beside --learn" in refused.err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment_it_goes_on(run: Path, steersman: Callable) -> None:
    words = ["run", str(run), *WORDS, "--steps", "1200", "--experience"]
    for wait in (0.05, 0.4, 0.9):
        child = os.fork()
        if child == 0:
            os._exit(main(words))
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    stood = read_living(run)
    ended = steersman(*words, "--json")
    assert ended.code == 0, ended.err
    assert ended.json["steps"] == 1200
    now = read_living(run)
    assert now is not None
    assert now.begun == (1 if stood is None else stood.begun + 1)
    assert len(ExperienceReader(run / "experience").span()) >= 1200  # every moment that was lived, counted or not
    assert len(sessions(run)) >= 1
    assert steersman("replay", str(run), "--json").json["identical"] > 0


def test_status_needs_no_torch(run: Path) -> None:
    code = ("import sys; from steersman.cli import main; assert main(['status', sys.argv[1], '--json']) == 0; "
            "assert 'torch' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["warnings"] == []


def test_a_damaged_file_is_one_line(run: Path, steersman: Callable) -> None:
    (run / "living.json").write_bytes(b'{"format": 1, "env"')
    page = steersman("status", str(run))
    assert page.code == 0
    assert "! expected what was lived, in" in page.out
    ended = steersman("run", str(run), *WORDS, "--steps", "10")
    assert ended.code == 1
    assert len(ended.err.strip().splitlines()) == 1
    (run / "living.json").write_bytes(b'{"format": 99}')
    assert "update steersman" in steersman("run", str(run), *WORDS, "--steps", "10").err
