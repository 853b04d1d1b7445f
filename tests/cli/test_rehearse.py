"""Rehearsal: failures are found, small, kept, tried again; none is invented; limits that nothing reaches hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from steersman.runs import Run
from steersman.runs.rehearsal import NAME, read_cases

GOAL = ("--env", "Pendulum-v1", "--goal", "cos=1")


def test_a_failure_is_found_made_small_kept_and_found_again(pendulum: Path, steersman: Callable) -> None:
    words = ("rehearse", str(pendulum), *GOAL, "--keep", "speed<=1", "--examples", "30", "--decisions", "6",
             "--kinds", "world,cornered", "--json")
    ended = steersman(*words)
    assert ended.code in (0, 1), ended.err
    kept = read_cases(Run.open(pendulum))
    assert kept, ended.err
    for case in kept:
        found = ended.json[case.kind]
        assert found["found"]
        assert found["margin"] == case.margin > 0
        assert sum(push.steps for push in case.pushes) <= 8, "not shrunk"
    assert ended.code == int(any(case.kind == "world" for case in kept))
    again = steersman("rehearse", str(pendulum), "--saved", "--json")
    assert again.json["saved"] == again.json["saved_failing"] == len(kept)
    assert "STILL FAILS" in again.err


def test_the_same_search_finds_the_same_case_and_keeps_it_once(pendulum: Path, steersman: Callable) -> None:
    words = ("rehearse", str(pendulum), *GOAL, "--keep", "speed<=1", "--examples", "10", "--decisions", "4",
             "--kinds", "cornered", "--seed", "3", "--json")
    first = steersman(*words)
    count = len(read_cases(Run.open(pendulum)))
    second = steersman(*words)
    assert first.json["cornered"] == second.json["cornered"]
    assert len(read_cases(Run.open(pendulum))) == count


def test_nothing_is_invented_where_no_way_leads_to_the_limit(pendulum: Path, steersman: Callable) -> None:
    ended = steersman("rehearse", str(pendulum), *GOAL, "--keep", "speed<=1000", "--examples", "4", "--decisions", "3",
                      "--json")
    assert not any(ended.json[kind]["found"] for kind in ("world", "model", "cornered"))
    assert ended.json["world"]["nearest"] < -900


@pytest.mark.parametrize(("words", "message"), [
    (("--env", "Pendulum-v1"), "--env, --goal and --keep"),
    ((*GOAL, "--keep", "speed<=6", "--kinds", "wurld"), "wurld"),
    ((*GOAL, "--keep", "spead<=6"), "speed"),
    ((*GOAL, "--keep", "speed<=6", "--examples", "0"), "--examples"),
])
def test_mistakes_are_named(pendulum: Path, steersman: Callable, words: tuple[str, ...], message: str) -> None:
    ended = steersman("rehearse", str(pendulum), *words)
    assert ended.code == 2, ended.err
    assert message in ended.err


def test_damaged_cases_are_refused(pendulum: Path, steersman: Callable) -> None:
    path = pendulum / NAME
    before = path.read_bytes() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"format": 1, "cases": [{"env": 3}]}')
    ended = steersman("rehearse", str(pendulum), "--saved")
    path.unlink() if before is None else path.write_bytes(before)
    assert ended.code == 1
    assert "cases of a rehearsal" in ended.err


# The world judges -------------------------------------------------------------------------------------------------

WORLD = """
import gymnasium

class Told(gymnasium.Wrapper):
    def step(self, action):
        observation, reward, ended, late, info = self.env.step(action)
        return observation, reward, ended, late, info | {says}

def make():
    return Told(gymnasium.make("Pendulum-v1"))
"""


@pytest.fixture
def guarded(pendulum: Path) -> Path:
    """The run with a guardrail that reads no column."""
    import torch

    from steersman.agent import Agent, store_additions
    from steersman.cost import BadStates

    agent = Agent.load(pendulum)
    states = torch.randn(300, *agent.perception.latent_shape, generator=torch.Generator().manual_seed(0))
    agent.add_guardrail("odd", BadStates.fit(states, states[:, 0] > 1, share=0.9, config=BadStates.Config(steps=5)))
    store_additions(agent, Run.open(pendulum))
    return pendulum


def test_a_world_that_says_what_is_bad_judges_limits_that_no_column_shows(
    guarded: Path, steersman: Callable, tmp_path: Path
) -> None:
    (tmp_path / "told.py").write_text(WORLD.replace("{says}", '{"cost": float(abs(observation[2]) > 0.5)}'))
    words = ("rehearse", str(guarded), "--env", str(tmp_path / "told.py:make"), "--goal", "cos=1", "--keep", "odd",
             "--examples", "20", "--decisions", "5", "--json")
    ended = steersman(*words, "--judge", "world", "--kinds", "world,cornered")
    assert ended.code in (0, 1), ended.err
    assert "judged by what the world says" in ended.err
    case = next(case for case in read_cases(Run.open(guarded)) if case.judge == "world")
    assert (case.guardrail, case.margin, case.keep) == ("what the world says is bad", 1.0, ("odd",))
    again = steersman("rehearse", str(guarded), "--saved", "--json")
    assert again.json["saved_failing"] >= 1
    columns = steersman(*words, "--judge", "columns")
    assert "a guardrail on columns of cos, sin, speed; got bad states; let the world judge" in columns.err
    (tmp_path / "silent.py").write_text(WORLD.replace("{says}", "{}"))
    silent = steersman("rehearse", str(guarded), "--env", str(tmp_path / "silent.py:make"), "--goal", "cos=1", "--keep",
                       "odd", "--judge", "world")
    assert silent.code == 2
    assert "'bad' or 'cost' in its info" in silent.err
