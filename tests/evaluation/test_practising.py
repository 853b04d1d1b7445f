"""Practice on a line with a hill: a look of three steps stays in the valley; with a practised critic it crosses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))

from test_fit_value import SIGNATURE, _agent, _log, _stage

from steersman.agent.critic import fit_critic, intrinsic_costs, triplets_of
from steersman.core import CallableGoal, ColumnGoal, ConfigError, Task, UsageError
from steersman.cost import IntrinsicCritic, LearnedCost
from steersman.evaluation.practising import kept_round, lived, practise
from steersman.worlds.trials import Simulated

CONFIG = IntrinsicCritic.Config(discount=0.85, hidden=(32,), steps=300, lr=1e-2)
GOAL = CallableGoal(lambda columns, imagined: _stage(columns, None))
TASK = Task(GOAL, weights={"goal": 1.0, "critic": 1.0})


class Line(Simulated):
    """The world that the agent's model knows exactly; its goal, where one is asked for, is a place."""

    def __init__(self, start):
        super().__init__(SIGNATURE, start, torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.state)

    def goals(self):
        return ColumnGoal({"x": torch.linspace(-1, 1, len(self))}, {"x": 1.0})

    def observe(self):
        return {"vector": self.state}

    def advance(self, action):
        return (self.state + action / 4).clamp(-2, 2)

    def solved(self):
        return torch.zeros(len(self), dtype=torch.bool)

    def where(self):
        return self.state

    def bad(self):
        return None


def begin(count, seed):
    return Line(torch.rand(count, 1, generator=torch.Generator().manual_seed(seed)) * 4 - 2)


def test_practice_carries_a_short_look_over_a_hill(tmp_path: Path) -> None:
    agent = _agent(_log(tmp_path / "log"))
    fixed = agent.fingerprint()
    rounds = practise(agent, begin, TASK, rounds=2, episodes=24, longest=40, first=10, config=CONFIG)
    assert [one.fit is None for one in rounds] == [True, False, False]
    assert kept_round(rounds).cost == min(one.cost for one in rounds[1:])
    assert isinstance(agent.critic, IntrinsicCritic)
    assert agent.fingerprint() == fixed
    ends = {}
    for name, weights in (("without", {"goal": 1.0}), ("with", dict(TASK.weights))):
        agent.reset(0)
        x = torch.tensor([[-1.5], [-1.2]])
        for _ in range(20):
            x = (x + agent.act({"vector": x}, Task(GOAL, weights=weights)).action / 4).clamp(-2, 2)
        ends[name] = x
    assert bool((ends["with"] > 1.5).all())
    assert bool((ends["without"] < -1).all())


def test_a_life_is_remembered_as_it_was_and_costs_are_those_that_plans_add_up(tmp_path: Path) -> None:
    agent = _agent(_log(tmp_path / "log"))
    task = Task(ColumnGoal({"x": 0.0}, {"x": 1.0}), weights={"goal": 2.0})
    life = lived(agent, begin(5, 0), task, ("x",), 12, 4, 0, None)
    assert life.target is not None
    assert agent.readout is not None
    x = agent.readout.read(life.states)[:, 0]
    felt = life.time > 0
    torch.testing.assert_close(life.costs[felt], 2 * (x - life.target[:, 0])[felt].square(), rtol=1e-4, atol=1e-4)
    for number in range(5):
        mine = life.time[life.episode == number]
        assert mine.tolist() == list(range(len(mine)))
        assert 12 - 4 < len(mine) <= 13  # wandering is not remembered


def test_a_log_gives_triplets_of_every_moment_and_a_critic_of_them(tmp_path: Path) -> None:
    log = _log(tmp_path / "log")
    agent = _agent(log)
    task = Task(ColumnGoal({"x": 1.0}, {"x": 1.0}))
    found = triplets_of(agent, log, task)
    assert len(found) == int((log.lengths + 1).sum())
    critic, fit = fit_critic(agent, log, task, config=CONFIG)
    assert critic.config.aim == {"x": 1.0}
    assert fit.episodes == 40
    assert fit.r2 > 0.3  # the log holds its actions at random
    told, _ = fit_critic(agent, log, task, told=("x",), config=CONFIG)
    assert (told.config.targets, told.config.aim) == (("x",), {})


def test_what_was_learned_is_not_foreseen_and_what_is_missing_is_said(tmp_path: Path) -> None:
    log = _log(tmp_path / "log")
    agent = _agent(log)
    agent.add_cost(LearnedCost((1,)))
    states = torch.zeros(3, 1)
    with pytest.raises(ConfigError, match="'learned', a term that was fitted"):
        intrinsic_costs(agent, Task(GOAL, weights={"goal": 1.0, "learned": 1.0}), states, states, states)
    with pytest.raises(UsageError, match="weighs 'critic'"):
        practise(agent, begin, Task(GOAL))
    with pytest.raises(UsageError, match="rounds"):
        practise(agent, begin, TASK, rounds=0)
    with pytest.raises(UsageError, match="a goal on the columns y"):
        fit_critic(agent, log, Task(ColumnGoal({"x": 1.0})), told=("y",))
