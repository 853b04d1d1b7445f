"""Decisions on the command line: recorded by `run`, explained by `why`, made again by `replay`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from steersman.cli import main


@pytest.fixture(scope="module")
def acted(pendulum: Path) -> Path:
    """A run that acted once."""
    assert main(["run", str(pendulum), "--env", "Pendulum-v1", "--goal", "cos=1", "--keep", "speed<=0.5",
                 "--episodes", "2"]) == 0
    return pendulum


def test_why_says_what_was_weighed_refused_and_expected(acted: Path, steersman: Callable) -> None:
    ended = steersman("why", f"{acted}:20", "--episode", "1", "--json")
    assert ended.code == 0, ended.err
    facts = ended.json
    assert facts["number"] == 20
    assert facts["problem"] == 1
    assert facts["decision"] == 20
    assert facts["guardrails"]["speed<=0.5"]["looked"] >= 8
    assert set(facts["expected"]) == {"cos", "sin", "speed"}
    assert "Guardrail 'speed<=0.5' refused" in ended.err
    assert "The task was cos = 1" in ended.err
    page = Path(facts["page"]).read_text()
    assert page.count("<svg") == 6
    assert "speed&lt;=0.5" in page
    assert "://" not in page.replace("http://www.w3.org", "")


def test_a_replay_in_another_process_is_identical(acted: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "steersman", "replay", f"{acted}:150"], capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == 0, done.stderr
    assert "identical, bit for bit" in done.stdout


@pytest.mark.parametrize(("words", "message"), [
    (("why", "{run}:900"), "decisions 0 to 199"),
    (("why", "{run}:x"), "RUN:STEP"),
    (("why", "{run}:3", "--episode", "2"), "an episode of 0 to 1"),
    (("replay", "{run}:3", "--session", "4"), "0001"),
    (("replay", "nowhere:3"), "no such folder"),
])
def test_mistakes_are_named(acted: Path, steersman: Callable, words: tuple[str, ...], message: str) -> None:
    ended = steersman(*(word.format(run=acted) for word in words))
    assert ended.code in (1, 2)
    assert message in ended.err
    assert "Traceback" not in ended.err


def test_recording_can_be_left_out(acted: Path, steersman: Callable) -> None:
    before = sorted((acted / "decisions").iterdir())
    assert steersman("run", str(acted), "--env", "Pendulum-v1", "--goal", "cos=1", "--episodes", "1",
                     "--no-record").code == 0
    assert sorted((acted / "decisions").iterdir()) == before
