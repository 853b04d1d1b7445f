"""What an agent's moments cost is remembered as it lives: its states, its intrinsic costs, its episodes; in the run."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest
import torch
from faults import refusing

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from small_world import Drift, config

from steersman.agent import Agent, Transition, record_experience, remember_triplets
from steersman.core import MismatchError, StorageError, UsageError
from steersman.cost import EffortCost
from steersman.memory import read_triplets
from steersman.runs import Run
from steersman.training import create_run, train


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    path, data = tmp_path_factory.mktemp("remembering") / "run", Drift()
    with create_run(path, config(steps=2), data, recipe="test") as made:
        train(config(steps=2), data, made)
    return Run.open(path)


def agent_of(run: Run) -> Agent:
    agent = Agent.load(run)
    agent.add_cost(EffortCost(agent.signature.action), intrinsic=True)
    record_experience(agent, run)
    return agent


def test_every_moment_is_remembered_with_what_it_costs_and_gone_on_with(run):
    agent, g = agent_of(run), torch.Generator().manual_seed(0)
    memory = remember_triplets(agent, run)
    seen, acted = torch.randn(4, 2, 3, generator=g), torch.rand(3, 2, 2, generator=g)
    agent.experience(Transition({"vector": seen[0]}))
    agent.experience(Transition({"vector": seen[1]}, acted[0]))
    agent.experience(Transition({"vector": seen[2]}, acted[1], terminal=torch.tensor([True, False])))
    agent.experience(Transition({"vector": seen[3][1:]}, acted[2][1:], stream=torch.tensor([1])))
    found = memory.triplets()
    assert found.time.tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert found.episode.tolist() == [0] * 3 + [1] * 4
    assert found.terminal.tolist() == [False, False, True] + [False] * 4
    torch.testing.assert_close(found.states, agent.encode({"vector": torch.cat([seen[:3, 0], seen[:, 1]])}).state)
    effort = [0.0, *acted[:2, 0].square().sum(-1).tolist(), 0.0, *acted[:, 1].square().sum(-1).tolist()]
    torch.testing.assert_close(found.costs / found.costs[1], torch.tensor(effort) / effort[1])
    memory.close()
    agent.log.close()

    again = agent_of(run)
    memory = remember_triplets(again, run)
    again.experience(Transition({"vector": seen[0]}))
    assert len(read_triplets(run.path / "triplets")) == 9 == memory.count
    near = memory.nearest(again.encode({"vector": seen[1, :1]}).state)
    assert near.number.item() == 2
    with refusing(run.path / "triplets", 1, "full"), pytest.raises(StorageError, match="no space left"):
        again.experience(Transition({"vector": seen[1]}, acted[0]))
    again.experience(Transition({"vector": seen[2]}, acted[1]))
    assert len(memory.triplets()) == 11
    memory.close()
    again.log.close()


def test_what_cannot_be_remembered_is_refused(run):
    agent = Agent.load(run)
    with pytest.raises(UsageError, match="record_experience"):
        remember_triplets(agent, run)
    record_experience(agent, run)
    with pytest.raises(UsageError, match="intrinsic cost"):
        remember_triplets(agent, run)
    agent.log.close()
    lived = agent_of(run)
    remember_triplets(lived, run).close()
    lived.origin = msgspec.structs.replace(lived.origin, checkpoint=1)
    with pytest.raises(MismatchError, match="checkpoint 1"):
        remember_triplets(lived, run)
    lived.log.close()
