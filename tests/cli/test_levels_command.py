"""`steersman levels`: declared beside measured, for training and for acting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from steersman.cli import main


@pytest.fixture(scope="module")
def acted(pendulum: Path) -> Path:
    planner = '{"type":"icem","samples":8,"iterations":4,"elites":2,"horizon":3}'
    assert main(["run", str(pendulum), "--env", "Pendulum-v1", "--goal", "cos=1", "--episodes", "2", "--planner",
                 planner]) == 0
    return pendulum


def test_every_level_is_shown_as_declared_and_as_counted(acted: Path, steersman: Callable) -> None:
    ended = steersman("levels", acted, "--json")
    assert ended.code == 0, ended.err
    (training,), acting = ended.json["training"].values(), ended.json["acting"]
    assert training["declared"] == training["measured"]
    assert training["writes"] > 0
    assert acting["plan"]["declared"] == pytest.approx(acting["plan"]["measured"])
    assert acting["plan"]["declared"] == 0.25, "four rounds for each step"
    assert acting["plan"]["against_slowest"] == 1
    assert "against slowest" in ended.err
    assert "parameters of everything" in ended.err


def test_a_level_that_was_declared_otherwise_stands_apart(acted: Path, steersman: Callable) -> None:
    planner = '{"type":"icem","samples":8,"iterations":2,"elites":2,"horizon":3}'
    assert main(["run", str(acted), "--env", "Pendulum-v1", "--goal", "cos=1", "--episodes", "1", "--planner",
                 planner]) == 0
    acting = steersman("levels", acted, "--json").json["acting"]
    for name, period in (("plan", 0.25), ("plan, 2", 0.5)):
        assert acting[name]["declared"] == period == pytest.approx(acting[name]["measured"])


def test_a_run_that_never_acted_says_so(pendulum: Path, steersman: Callable, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(pendulum, tmp_path / "run", ignore=shutil.ignore_patterns("decisions"))
    ended = steersman("levels", tmp_path / "run")
    assert ended.code == 0
    assert "no decision is recorded (steersman run)" in ended.out
    assert steersman("levels", tmp_path / "nothing").code == 1
