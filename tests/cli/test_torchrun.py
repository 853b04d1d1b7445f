"""`torchrun -m steersman train`: two processes make one run, with one voice, and learn what one process learns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from steersman.runs import Run

WORDS = ("--recipe vectors --steps 8 --batch-size 4 --window 6 --size 4 --width 8 --set precision=fp32").split()


def test_two_processes_make_one_run_that_equals_one_process(steersman: Callable, log: Path, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "steersman"]
    done = subprocess.run(
        [*launch, "train", "--data", str(log), "--out", "two", *WORDS, "--json"], cwd=tmp_path, capture_output=True,
        text=True, timeout=300, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    (line,) = done.stdout.splitlines()
    assert json.loads(line) | {"run": "two", "step": 8, "finished": True} == json.loads(line)
    assert done.stderr.count("run two") == 1, "only the first process talks"
    assert steersman("train", "--data", log, "--out", "one", *WORDS).code == 0
    one, two = (Run.open(tmp_path / name) for name in ("one", "two"))
    assert [row["loss"] for row in two.metrics.read()] == pytest.approx([row["loss"] for row in one.metrics.read()],
                                                                      rel=1e-5)
    assert {p.name for p in two.path.iterdir()} == {p.name for p in one.path.iterdir()}


@pytest.mark.parametrize(("rank", "said"), [(0, "expected one process for `inspect`; got 2"), (1, "")])
def test_other_commands_are_for_one_process(
    rank: int, said: str, steersman: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", str(rank))
    ended = steersman("inspect", "anything")
    assert ended.code == 2
    assert (said in ended.err) if said else (ended.err == ended.out == "")


def test_only_the_first_process_explains_a_word_that_is_off(
    steersman: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    ended = steersman("train", "--bogus")
    assert (ended.code, ended.out, ended.err) == (2, "", "")
    monkeypatch.setenv("RANK", "0")
    assert "--bogus" in steersman("train", "--bogus").err


def test_a_dry_run_is_for_one_process(steersman: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert "without torchrun" in steersman("train", "--data", "log.csv", "--dry-run").err
