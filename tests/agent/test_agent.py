"""Agents of tiny trained runs: loaded as trained, the same alone and side by side, refused where they do not fit."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from small_world import SIGNATURE, Drift, config
from small_world import agent as parts

from steersman.actor import ICEM
from steersman.agent import Agent
from steersman.agent.config import AgentConfig
from steersman.core import CheckpointError, MismatchError, ObservationGoal, PlanningError, RunError, Task
from steersman.perception import VectorEncoder
from steersman.training import RolloutStage, create_run, train
from steersman.world_model import TransformerModel

DATA = Drift()
PLANNER = ICEM.Config(samples=16, iterations=2, horizon=3)
TASK = Task(ObservationGoal({"vector": torch.tensor([0.5, 0.0, -0.5])}))


def learn(path, agent_config):
    c = config(agent=agent_config, steps=4, rollout=(RolloutStage(starts=1, horizon=4),))
    with create_run(path, c, DATA, recipe="test") as run:
        return train(c, DATA, run)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("agent") / "run"
    return path, learn(path, parts())


@pytest.fixture(scope="module")
def remembering(tmp_path_factory):
    path = tmp_path_factory.mktemp("history") / "run"
    learn(path, AgentConfig(
        perception=VectorEncoder.Config(hidden=(16,), size=8),
        world_model=TransformerModel.Config(width=16, depth=1, heads=1, head_width=8, hidden=16), history=3,
    ))
    return path


def load(path):
    return Agent.load(path, planner=PLANNER.build())


def moments(count, seed=0):
    return {"vector": torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))}


def test_a_loaded_agent_has_the_weights_that_were_trained(trained):
    path, result = trained
    agent = load(path)
    for ours, theirs in ((agent.perception, result.perception), (agent.world_model, result.world_model)):
        expected = theirs.state_dict()
        assert set(ours.state_dict()) == set(expected)
        for name, value in ours.state_dict().items():
            assert torch.equal(value, expected[name]), name
    assert agent.signature == SIGNATURE
    assert not agent.perception.training


def test_two_loads_decide_alike_and_another_seed_does_not(trained):
    def decide(seed):
        agent = load(trained[0])
        agent.reset([seed])
        return torch.stack([agent.act(moments(1, t), TASK).action for t in range(2)])

    assert torch.equal(decide(1), decide(1))
    assert not torch.equal(decide(1), decide(2))


def test_one_moment_or_several_arrays_or_tensors(trained):
    agent, batch = load(trained[0]), moments(3)
    agent.reset([5, 6, 7])
    whole = agent.act(batch, TASK).actions
    for i in range(3):
        agent.reset([5 + i])
        alone = agent.act({"vector": batch["vector"][i].numpy().astype(np.float64)}, TASK)
        assert alone.action.shape == (1, 2)
        torch.testing.assert_close(alone.actions[0], whole[i])
    assert float(whole.abs().max()) <= 1
    assert agent.encode({"vector": batch["vector"][0]}).state.shape == (1, 8)


@pytest.mark.parametrize(
    "observation",
    [
        {"vector": torch.zeros(4)}, {"vector": torch.zeros(2, 2, 3)}, {"picture": torch.zeros(3)}, {},
        {"vector": torch.zeros(())},
    ],
)
def test_what_another_world_shows_is_refused(trained, observation):
    with pytest.raises(MismatchError, match="as in the training data"):
        load(trained[0]).act(observation, TASK)


def test_episodes_that_go_on_decide_as_if_alone(trained):
    agent, alone = load(trained[0]), load(trained[0])
    agent.reset([1, 2, 3])
    alone.reset([3])
    agent.act(moments(3), TASK)
    alone.act({"vector": moments(3)["vector"][2:]}, TASK)
    agent.select(torch.tensor([False, False, True]))
    after = agent.act(moments(1, 9), TASK).actions
    torch.testing.assert_close(after, alone.act(moments(1, 9), TASK).actions)


def test_a_number_of_seeds_that_does_not_fit_is_refused(trained):
    agent = load(trained[0])
    agent.reset([1, 2])
    with pytest.raises(PlanningError, match="3 seeds"):
        agent.act(moments(3), TASK)


# A world model with a history ----------------------------------------------------------------------------------------


def test_the_belief_is_made_of_the_last_moments_and_the_actions_between(remembering, monkeypatch):
    agent = load(remembering)
    seen, begin = [], agent.world_model.begin
    monkeypatch.setattr(agent.world_model, "begin", lambda latent, actions, *rest: (
        seen.append((latent.state, actions)), begin(latent, actions, *rest))[1])
    agent.reset([1, 2])
    done = [agent.act(moments(2, t), TASK).action for t in range(5)]
    for t, (states, actions) in enumerate(seen):
        first = max(0, t - 2)
        expected = torch.stack([agent.encode(moments(2, k)).state for k in range(first, t + 1)], 1)
        torch.testing.assert_close(states, expected)
        assert actions.shape == (2, t - first, 2)
        if t:
            assert torch.equal(actions, torch.stack(done[first:t], 1))


def test_what_was_really_done_counts_and_dropped_episodes_leave_the_memory(remembering):
    agent, alone = load(remembering), load(remembering)
    agent.reset([1, 2])
    alone.reset([2])
    agent.act(moments(2), TASK)
    alone.act({"vector": moments(2)["vector"][1:]}, TASK)
    agent.select(torch.tensor([1]))
    torch.testing.assert_close(agent.act(moments(1, 3), TASK).actions, alone.act(moments(1, 3), TASK).actions)
    other = torch.full((1, 1, 2), 0.7)
    told = [x.act(moments(1, 4), TASK, since=since).imagined.states for x, since in ((agent, other), (alone, None))]
    assert not torch.equal(*told)
    with pytest.raises(PlanningError, match="reset"):
        agent.act(moments(2), TASK)
    with pytest.raises(PlanningError, match="one action between two decisions"):
        alone.act(moments(1), TASK, since=torch.zeros(1, 2, 2))


# Damage ------------------------------------------------------------------------------------------------------------


def test_a_damaged_checkpoint_is_refused(tmp_path):
    learn(tmp_path / "run", parts())
    assert load(tmp_path / "run").signature == SIGNATURE
    file = max((tmp_path / "run" / "checkpoints").rglob("*.safetensors"), key=lambda p: ("model" in p.name, str(p)))
    for damaged in sorted((tmp_path / "run" / "checkpoints").rglob(file.name)):
        data = bytearray(damaged.read_bytes())
        data[len(data) // 2] ^= 1
        damaged.write_bytes(bytes(data))
    with pytest.raises(CheckpointError) as error:
        load(tmp_path / "run")
    assert "\n" not in str(error.value)
    with pytest.raises(RunError):
        load(tmp_path / "nothing")
