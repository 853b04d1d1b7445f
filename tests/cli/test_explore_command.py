"""`steersman explore`: a round of guarded curiosity, what it leaves, and what it refuses in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steersman.cli import main


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with three members, hardly trained, on a pendulum's log."""
    folder = tmp_path_factory.mktemp("ensemble")
    assert main(["collect", "Pendulum-v1", "--steps", "400", "--out", str(folder / "log")]) == 0
    assert main(["train", "--recipe", "vectors", "--data", str(folder / "log"), "--out", str(folder / "run"), "--steps",
                 "15", "--members", "3", "--width", "8", "--samples", "8", "--iterations", "1", "--horizon", "3",
                 "--held-out", "0"]) == 0
    return folder / "run"


def test_a_round_is_recorded_trained_on_and_gone_on_from(steersman: Callable[..., Any], ensemble: Path) -> None:
    words = ("explore", ensemble, "--env", "Pendulum-v1", "--keep", "speed<=20", "--episodes", "2", "--length", "5",
             "--trips", "0", "--json")
    ended = steersman(*words)
    assert ended.code == 0, ended.err
    (one,) = ended.json["rounds"]
    assert one["explored"] == 10
    assert one["limits_broken"] == 0
    assert one["log"] == 410
    assert ended.json["next"]
    assert (ensemble / "experience").is_dir()
    assert (ensemble / "rounds" / "1" / "log").is_dir()
    again = steersman(*words)
    assert again.code == 0, again.err
    assert again.json["rounds"][0]["log"] == 420
    assert Path(again.json["rounds"][0]["run"]).name == "2"


def test_a_run_without_an_ensemble_is_told_how_to_train_one(steersman: Callable[..., Any], pendulum: Path) -> None:
    ended = steersman("explore", pendulum, "--env", "Pendulum-v1", "--trips", "0")
    assert ended.code == 2
    assert "--members 5" in ended.err
    assert not (pendulum / "experience").exists()


@pytest.mark.parametrize(("words", "said"), [
    (("--env", "Pendelum-v1"), "Pendelum-v1"),
    (("--env", "hazards"), "hazards"),
    (("--env", "Pendulum-v1", "--keep", "sped<=6"), "sped"),
    (("--env", "Pendulum-v1", "--rounds", "0"), "at least one round"),
    (("--env", "Pendulum-v1"), "goal"),
])
def test_what_does_not_fit_is_one_line_and_records_nothing(
    steersman: Callable[..., Any], ensemble: Path, words: tuple[str, ...], said: str
) -> None:
    before = sorted(p.name for p in (ensemble / "rounds").glob("*"))
    ended = steersman("explore", ensemble, *words)
    assert ended.code != 0
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert before == sorted(p.name for p in (ensemble / "rounds").glob("*"))
