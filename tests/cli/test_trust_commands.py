"""Trust by the commands alone: measured on the part of a log that was held out, kept, shown, and planned within."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from steersman.cli import main
from steersman.recipes import RECIPES
from steersman.runs import Run
from steersman.runs.trust import load_trust

PLANNER = ["--set", "agent.planner.samples=8", "--set", "agent.planner.iterations=1", "--set",
           "agent.planner.elites=2", "--set", "agent.planner.horizon=12"]


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that held out a fifth of its log; another log of the same world beside it."""
    folder = tmp_path_factory.mktemp("trust")
    RECIPES["tiny"] = ("tiny_recipe", "a recipe for tests")
    try:
        for name, seed in (("log", "0"), ("other", "5")):
            assert main(["collect", "Pendulum-v1", "--episodes", "30", "--length", "25", "--out", str(folder / name),
                         "--seed", seed]) == 0
        assert main(["train", "--recipe", "tiny", "--data", str(folder / "log"), "--out", str(folder / "run"),
                     "--steps", "60", "--set", "held_out=0.2", *PLANNER]) == 0
        assert main(["train", "--recipe", "tiny", "--data", str(folder / "log"), "--out", str(folder / "greedy"),
                     "--steps", "5", *PLANNER]) == 0
    finally:
        del RECIPES["tiny"]
    return folder


def test_trust_is_measured_kept_and_shown(pendulum: Path, steersman: Callable) -> None:
    run = str(pendulum / "run")
    ended = steersman("evaluate", run, "--offline", "--json")
    assert ended.code == 0, ended.err
    facts = ended.json
    assert (facts["episodes"], facts["unit"], facts["steps"], facts["checkpoint"]) == (6, "segment", 12, 60)
    assert set(facts["bands"]) == {"cos", "sin", "speed"}
    assert 0 <= facts["rank"]["mean"] <= 1
    assert load_trust(Run.open(run)).horizon == facts["horizon"]
    for words in ("How far it can be trusted", "True-action rank", "no change"):
        assert words in ended.err
    page = (pendulum / "run" / "report" / "report.html").read_text()
    assert 'id="trust"' in page
    assert "Prediction error by horizon" in page


def test_another_log_serves_a_run_that_learned_from_all_of_its_own(pendulum: Path, steersman: Callable) -> None:
    greedy = str(pendulum / "greedy")
    refused = steersman("evaluate", greedy, "--offline")
    assert refused.code == 2
    assert "held_out=0.1" in refused.err
    rooms = steersman("evaluate", greedy, "--protocol", "two-rooms")
    assert rooms.code == 1
    assert "`--offline` measures from the log alone" in rooms.err
    foreign = pendulum / "foreign.csv"
    foreign.write_text("a,b\n1,2\n2,3\n3,4\n")
    assert "name the action columns" in steersman("evaluate", greedy, "--offline", "--data", str(foreign)).err
    said = steersman("evaluate", greedy, "--offline", "--data", str(foreign), "--observation", "a", "--action", "b")
    assert "as in the run" in said.err  # read, and of another world
    own = steersman("evaluate", greedy, "--offline", "--data", str(pendulum / "log"))
    assert own.code == 2
    assert "its own" in own.err
    ended = steersman("evaluate", greedy, "--offline", "--data", str(pendulum / "other"), "--horizon", "3", "--json")
    assert ended.code == 0, ended.err
    assert (ended.json["episodes"], ended.json["unit"], ended.json["steps"]) == (30, "episode", 3)


def test_an_agent_plans_no_farther_than_it_is_trusted(pendulum: Path, steersman: Callable) -> None:
    run = pendulum / "run"
    steersman("evaluate", str(run), "--offline", "--horizon", "5")
    record = run / "trust" / "trust.json"
    horizon = load_trust(Run.open(run)).horizon
    text = record.read_text()
    record.write_text(text.replace(f'"horizon": {horizon}', '"horizon": 4'))
    words = ["run", str(run), "--env", "Pendulum-v1", "--goal", "1,0,0", "--episodes", "1", "--trusted", "--json"]
    ended = steersman(*words)
    assert ended.code == 0, ended.err
    assert ended.json["trusted_horizon"] == 4
    record.write_text(text.replace(f'"horizon": {horizon}', '"horizon": 0'))
    assert "predicts better than no change" in steersman(*words).err
    record.unlink()
    assert "--offline` measures it" in steersman(*words).err


def test_two_plans_are_compared_from_a_logged_moment(pendulum: Path, steersman: Callable) -> None:
    run = str(pendulum / "run")
    ended = steersman("what-if", run, "--row", "30", "--action", "2", "--horizon", "6", "--json")  # measures first
    assert ended.code == 0, ended.err
    facts = ended.json
    assert (facts["episode"], facts["row"], facts["steps"]) == (1, 4, 6)
    assert facts["plan"]["actions"] == [[2.0]] * 6
    assert facts["logged"] is not None
    assert len(facts["bound"]["cos"]) == 6
    assert "identifies less than an experiment" in ended.err
    page = (pendulum / "run" / "report" / "report.html").read_text()
    assert "What if: from episode 1, row 4" in page
    named = steersman("what-if", run, "--episode", "1", "--row", "4", "--action=-1", "--action", "logged", "--against",
                      "0", "--horizon", "3", "--json")
    assert named.code == 0, named.err
    assert named.json["plan"]["actions"][0] == [-1.0]
    assert named.json["other"]["actions"] == [[0.0]] * 3
    assert named.json["logged"] is None


WRONG = [
    (["--row", "780", "--action", "0"], "a row in 0..779 of the log"),
    (["--row", "26", "--episode", "2", "--action", "0"], "a row in 0..25 of episode 2"),
    (["--row", "0", "--episode", "30", "--action", "0"], "an episode in 0..29"),
    (["--row", "0", "--action", "3"], "within -2..2"),
    (["--row", "0", "--action", "1,1"], "1 of action 0"),
    (["--row", "0", "--action", "push=1"], "1 of action 0"),
    (["--row", "0", "--action", "much"], "a number for action 0"),
    (["--row", "0", "--action", "nan"], "within -2..2"),
    (["--row", "25", "--action", "1"], "logged actions"),
    (["--row", "0", "--action", "1", "--horizon", "0"], "horizon of at least 1"),
]


@pytest.mark.parametrize(("words", "says"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_a_moment_or_an_action_that_is_not_there_is_refused_in_one_line(
    words: list[str], says: str, pendulum: Path, steersman: Callable
) -> None:
    ended = steersman("what-if", str(pendulum / "run"), *words)
    assert ended.code == 2
    assert says in ended.err.splitlines()[-1]
