"""`steersman fit`: what is fitted to a run's log is kept with the run and goes by its name afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from steersman.agent import Agent, from_pretrained
from steersman.cli import main
from steersman.recipes import RECIPES
from steersman.runs import Run

QUICK = ("--steps", "12", "--set", "held_out=0.3", "--set", "agent.planner.samples=8", "--set",
         "agent.planner.iterations=1", "--set", "agent.planner.elites=2", "--set", "agent.planner.horizon=3")


@pytest.fixture(scope="module")
def swings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained, hardly, on six swings of a pendulum, a third of them held out."""
    folder = tmp_path_factory.mktemp("swings")
    RECIPES["tiny"] = ("tiny_recipe", "a recipe for tests")
    try:
        assert main(["collect", "Pendulum-v1", "--steps", "1200", "--out", str(folder / "log")]) == 0
        assert main(["train", "--recipe", "tiny", "--data", str(folder / "log"), "--out", str(folder / "run"),
                     *QUICK]) == 0
    finally:
        del RECIPES["tiny"]
    return folder / "run"


def test_a_margin_is_calibrated_kept_and_put_in_force_by_its_name(swings: Path, steersman: Callable) -> None:
    ended = steersman("fit", swings, "--limit", "speed<=6", "--level", "0.8", "--name", "slow", "--json")
    assert ended.code == 0, ended.err
    facts = ended.json
    assert facts["kept"] == ["guardrail.slow"]
    assert len(facts["margin"]) == 3
    assert 0 <= facts["margin"][0] <= facts["margin"][2] * 1.5
    assert "(80.0%, n = " in ended.err
    rail = Agent.load(swings).guardrails["slow"]
    assert list(rail.config.margin["speed"].by_step) == facts["margin"]
    acted = steersman("run", swings, "--env", "Pendulum-v1", "--goal", "speed=0", "--keep", "slow", "--episodes", "1",
                      "--json")
    assert acted.code == 0, acted.err
    assert "within slow" in acted.err
    assert steersman("replay", f"{swings}:3").code == 0
    rehearsed = steersman("rehearse", swings, "--env", "Pendulum-v1", "--goal", "cos=1", "--keep", "slow",
                          "--examples", "3", "--decisions", "2", "--json")
    assert rehearsed.code in (0, 1), rehearsed.err
    again = steersman("fit", swings, "--limit", "speed<=6", "--level", "0.8", "--recourse", "1", "--name", "slow",
                      "--json")
    assert again.code == 0, again.err
    assert len(again.json["margin"]) == 1
    assert "with a probability of 0.8, the next step turns out no worse" in again.err
    assert Agent.load(swings).guardrails["slow"].config.margin["speed"].lasting
    assert steersman("run", swings, "--env", "Pendulum-v1", "--goal", "speed=0", "--keep", "slow", "--episodes", "1",
                     "--json").code == 0


def test_bad_moments_become_a_guardrail_that_travels_with_an_export(
    swings: Path, steersman: Callable, tmp_path: Path
) -> None:
    lines = [f"{episode},{row}" for episode in range(6) for row in range(0, 60)]
    (tmp_path / "bad.csv").write_text("episode,row\n" + "\n".join(lines) + "\n")
    ended = steersman("fit", swings, "--bad", "bad.csv", "--share", "0.9", "--name", "early", "--json")
    assert ended.code == 0, ended.err
    assert (ended.json["bad"], ended.json["good"]) == (360, 6 * 201 - 360)
    assert steersman("export", swings, "--format", "pretrained", "--out", "model").code == 0
    assert from_pretrained("model").guardrails["early"].share == 0.9
    assert "early" in Path("model/README.md").read_text()
    pictures = steersman("rehearse", swings, "--env", "Pendulum-v1", "--goal", "cos=1", "--keep", "early")
    assert pictures.code == 2
    assert "a guardrail on columns of cos, sin, speed; got early" in pictures.err
    assert steersman("fit", swings, "--drop", "early").code == 0
    assert "early" not in Agent.load(swings).guardrails


def test_labels_may_be_said_one_by_one(swings: Path, steersman: Callable, tmp_path: Path) -> None:
    lines = [f"{episode},{row},{int(row < 60)}" for episode in range(6) for row in range(0, 200, 2)]
    (tmp_path / "bad.csv").write_text("episode,row,bad\n" + "\n".join(lines) + "\n")
    ended = steersman("fit", swings, "--bad", "bad.csv", "--share", "0.9", "--name", "early", "--json")
    assert (ended.json["bad"], ended.json["good"]) == (180, 420), ended.err


def test_the_temporal_distance_is_kept_as_a_cost(
    swings: Path, steersman: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from steersman.cost import TemporalDistance

    monkeypatch.setattr(TemporalDistance.Located, "build", lambda self, shape: TemporalDistance(
        shape, msgspec.structs.replace(self, steps=3, hidden=(8,), size=4)))
    ended = steersman("fit", swings, "--distance", "--json")
    assert ended.json["kept"] == ["cost.temporal-distance"], ended.err
    assert [cost.name for cost in Agent.load(swings).costs][-1] == "temporal-distance"
    for goal in ("cos=1", "1,0,0", "latent:1,0,0"):
        ended = steersman("run", swings, "--env", "Pendulum-v1", "--goal", goal, "--weight", "temporal-distance=1",
                          "--episodes", "1")
        assert ended.code == 0, ended.err
    assert steersman("fit", swings, "--drop", "temporal-distance").code == 0
    ended = steersman("fit", swings, "--distance", "--ends")
    assert (ended.code, "--weight temporal-distance=1" in ended.err + ended.out) == (0, True), ended.err
    assert Agent.load(swings).costs[-1].terminal
    assert steersman("fit", swings, "--drop", "temporal-distance").code == 0


def test_where_the_log_has_been_is_kept_by_some_of_its_columns(
    swings: Path, steersman: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from steersman.cost import Logged

    quick = Logged.Config(hidden=(8,), steps=20)
    monkeypatch.setattr(Logged, "Config", lambda: quick)
    ended = steersman("fit", swings, "--known", "logged", "--columns", "cos, sin", "--level", "0.5", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["kept"] == ["guardrail.logged"]
    assert Agent.load(swings).guardrails["logged"].config.columns == ("cos", "sin")
    assert steersman("run", swings, "--env", "Pendulum-v1", "--goal", "speed=0", "--keep", "logged", "--episodes", "1",
                     "--json").code == 0
    wrong = steersman("fit", swings, "--known", "logged", "--columns", "height", "--level", "0.5")
    assert (wrong.code, "expected columns among cos, sin, speed; got height" in wrong.err) == (1, True), wrong.err
    single = steersman("fit", swings, "--known", "agreement", "--level", "0.5")
    assert (single.code, "which can disagree; got a single model" in single.err) == (2, True), single.err
    assert steersman("fit", swings, "--drop", "logged").code == 0


@pytest.mark.parametrize(("words", "said"), [
    ([], "--limit, --bad, --known, --distance, --critic and --drop; got 0"),
    (["--limit", "speed<=6"], "a name for the guardrail"),
    (["--labels", "few.npz", "--ends"], "--distance beside --ends; got --ends alone"),
    (["--limit", "speed<=6", "--name", "a b"], "letters, digits"),
    (["--limit", "heat<=6", "--name", "a"], "with a column of cos, sin, speed; got 'heat<=6'"),
    (["--limit", "speed<=6", "--name", "a", "--level", "0.9999"], "to promise 100.0%"),
    (["--bad", "none.csv", "--name", "a"], "FileNotFoundError"),
    (["--bad", "wrong.csv", "--name", "a"], "line 2: episode 99, row 0"),
    (["--drop", "nothing"], "got guardrail.nothing"),
])
def test_mistakes_are_one_line(swings: Path, steersman: Callable, tmp_path: Path, words: list[str], said: str) -> None:
    (tmp_path / "wrong.csv").write_text("episode,row\n99,0\n")
    ended = steersman("fit", swings, *words)
    assert ended.code in (1, 2)
    assert said in ended.err
    assert len(ended.err.strip().splitlines()) == 1
    unknown = steersman("run", swings, "--env", "Pendulum-v1", "--goal", "speed=0", "--keep", "nothing")
    assert "kept with the run" in unknown.err
    assert "got 'nothing'" in unknown.err


def test_what_was_fitted_to_other_weights_is_said_to_be(swings: Path) -> None:
    from steersman.cli.goals import limits
    from steersman.core import UsageError

    agent = Agent.load(Run.open(swings))
    agent.additions.outdated = ("old",)
    with pytest.raises(UsageError, match="'old' that was fitted to these weights; got one of others"):
        limits(("old",), agent)


def test_a_critic_is_fitted_to_the_log_to_experience_and_by_practice_and_weighed_by_its_name(
    swings: Path, steersman: Callable
) -> None:
    goal = "cos=1,sin=0,speed=0"
    assert steersman("collect", "Pendulum-v1", "--steps", "2400", "--out", "swung").code == 0
    ended = steersman("fit", swings, "--critic", goal, "--experience", "swung", "--discount", "0.9", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["kept"] == ["cost.critic"]
    assert ended.json["episodes"] == 12
    assert f"explains {ended.json['r2']:.3f}" in ended.err
    acted = steersman("run", swings, "--env", "Pendulum-v1", "--goal", goal, "--weight", "critic=1", "--episodes", "1")
    assert acted.code == 0, acted.err
    other = steersman("run", swings, "--env", "Pendulum-v1", "--goal", "cos=-1", "--weight", "critic=1",
                      "--episodes", "1")
    assert other.code == 1
    assert "the goal that the critic was fitted for" in other.err
    few = steersman("fit", swings, "--critic", goal)
    assert few.code == 1
    assert "at least 10 episodes" in few.err
    practised = steersman("fit", swings, "--critic", goal, "--env", "Pendulum-v1", "--rounds", "1", "--episodes", "10",
                          "--discount", "0.9", "--horizon", "2", "--json")
    assert practised.code == 0, practised.err
    assert len(practised.json["costs"]) == 2
    assert "life 0: 10 episodes, 2,000 steps, without a critic" in practised.err
    assert steersman("fit", swings, "--critic", goal, "--weight", "critic=1").code == 2
    assert steersman("fit", swings, "--critic", "cos=*", "--env", "Pendulum-v1").code == 2
    assert steersman("fit", swings, "--drop", "critic", "--json").json["dropped"] == "critic"
