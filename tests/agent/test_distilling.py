"""Policies distilled from plans: they copy better than a constant action does, stay in bounds, and say how well."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from small_world import SIGNATURE, Drift
from small_world import agent as parts

from steersman.actor import DistilledPolicy, Greedy, Reactive
from steersman.agent import Agent, AgentConfig
from steersman.agent.distilling import distil
from steersman.core import (
    ActionSpec,
    Belief,
    CallableGoal,
    ColumnGoal,
    MismatchError,
    ObservationSpec,
    Signature,
    Task,
    UsageError,
)
from steersman.cost import Box
from steersman.perception import LinearReadout, VectorEncoder
from steersman.world_model import ResidualModel, TransformerModel


class Log(Drift):
    """The drifting point, frame by frame."""

    def frames(self, episode, row):
        return {"vector": self.states[episode, row]}


def agent_of(signature=SIGNATURE, config=None):
    torch.manual_seed(0)
    config = config or parts()
    perception = config.perception.build(signature)
    model = config.world_model.build(signature, perception.latent_shape, None)
    planner = Greedy.Config(directions=8, ahead=1, execute=1).build()
    return Agent(config, signature, perception, model, planner=planner)


def upward(columns, imagined):
    """Wants the first latent entry to rise where the second is high, and to fall elsewhere."""
    wanted = imagined.states[:, :, :1, 1].sign()
    return -(wanted * (imagined.states[:, :, 1:, 0] - imagined.states[:, :, :1, 0]))


TASK = Task(CallableGoal(upward))


def test_a_policy_copies_its_planner_and_says_how_well():
    told = []
    policy, fidelity = distil(agent_of(), TASK, Log(), moments=200, steps=300, watch=lambda *x: told.append(x))
    assert fidelity.moments == 40
    assert fidelity.error < 0.6 * fidelity.constant
    assert fidelity.planner == 0  # this planner draws nothing at random
    assert told[-1] == (160, 160)
    again, same = distil(agent_of(), TASK, Log(), moments=200, steps=300)
    assert same == fidelity
    state = torch.randn(5, 8) * 100
    assert torch.equal(policy.act(state), again.act(state))
    assert float(policy.act(state).abs().max()) <= 1
    assert policy.propose(Belief(state), TASK).shape == (5, 1, 2)


def test_choices_are_copied_as_choices():
    signature = Signature({"vector": ObservationSpec("vector", (3,))}, ActionSpec("discrete", choices=4))
    agent = agent_of(signature, AgentConfig(
        perception=VectorEncoder.Config(hidden=(16,), size=8), world_model=ResidualModel.Config(width=16)))
    policy, fidelity = distil(agent, TASK, Log(), moments=100, steps=100)
    found = policy.act(torch.randn(7, 8))
    assert found.dtype == torch.int64
    assert found.shape == (7, 1)
    assert 0 <= fidelity.error <= 1


def test_the_exported_policy_goes_from_observation_to_action(tmp_path):
    from steersman.export import export_onnx, policy_graph
    from steersman.export.onnx import open_session, run_session

    agent = agent_of()
    policy = DistilledPolicy.Config(hidden=(8,)).build(SIGNATURE, (8,)).eval()
    done = export_onnx(agent, tmp_path / "out", extra={"policy": policy_graph(agent, policy)})
    observation = {"vector": torch.randn(3, 3)}
    (action,) = run_session(open_session((done.folder / "policy.onnx").read_bytes()), observation)
    torch.testing.assert_close(action, policy.act(agent.encode(observation).state), atol=1e-5, rtol=0)
    assert "observation → action" in (done.folder / "README.md").read_text()


def readable():
    """An agent whose latent is the three columns and that looks one step ahead, and its log."""
    agent = agent_of()
    readout = LinearReadout.Config().build(("x", "y", "z"), (8,))
    states = torch.randn(200, 8, generator=torch.Generator().manual_seed(1))
    readout.fit(states, states[:, :3], 0)
    return Agent(agent.config, SIGNATURE, agent.perception, agent.world_model, planner=agent.planner,
                 readout=readout.eval())


def test_a_policy_that_is_told_where_to_serves_other_goals_than_one():
    agent, goal = readable(), ColumnGoal({"x": 0.0, "y": 0.0}, {"y": 1e6})
    policy, fidelity = distil(agent, Task(goal), Log(), told=("x",), moments=400, steps=600)
    assert policy.targets == ("x",)
    assert fidelity.error < 0.7 * fidelity.constant
    one, _ = distil(agent, Task(goal), Log(), moments=400, steps=600)
    states = Log().states[:, 10]
    reactive = Agent(agent.config, SIGNATURE, agent.perception, agent.world_model, planner=Reactive(policy),
                     readout=agent.readout)
    errors = []
    for target in (-0.6, 0.6):
        task = Task(ColumnGoal({"x": target, "y": 0.0}, {"y": 1e6}))
        agent.reset(0)
        planned = agent.act({"vector": states}, task).action
        acted = reactive.act({"vector": states}, task)
        assert bool(acted.feasible.all())
        assert acted.actions.shape == (len(states), 1, 2)
        blind = one.act(agent.encode({"vector": states}).state)
        errors.append([float((x - planned).abs().mean()) for x in (acted.action, blind)])
    told, blind = (sum(pair[i] for pair in errors) for i in (0, 1))
    assert told < blind


def test_a_reactive_agent_keeps_to_the_fallback_where_its_step_breaks_a_guardrail():
    agent = readable()
    policy = DistilledPolicy.Config(hidden=(8,)).build(SIGNATURE, (8,)).eval()
    never = Box(agent.readout, {"x": (1e6, 2e6)}, name="never")
    reactive = Agent(agent.config, SIGNATURE, agent.perception, agent.world_model, planner=Reactive(policy),
                     readout=agent.readout)
    plan = reactive.act({"vector": torch.zeros(2, 3)}, Task(ColumnGoal({"x": 0.0}), guardrails=(never,)))
    assert plan.feasible.tolist() == [False, False]
    assert plan.action.tolist() == [[0.0, 0.0]] * 2


def test_the_exported_policy_takes_its_target_as_an_input(tmp_path):
    pytest.importorskip("onnxruntime")
    from steersman.export import export_onnx, policy_graph
    from steersman.export.onnx import open_session, run_session

    agent = agent_of()
    policy = DistilledPolicy.Config(hidden=(8,), targets=("x", "z")).build(SIGNATURE, (8,)).eval()
    done = export_onnx(agent, tmp_path / "out", extra={"policy": policy_graph(agent, policy)})
    observation, target = {"vector": torch.randn(3, 3)}, torch.randn(3, 2)
    (action,) = run_session(open_session((done.folder / "policy.onnx").read_bytes()), observation | {"target": target})
    torch.testing.assert_close(action, policy.act(agent.encode(observation).state, None, target), atol=1e-5, rtol=0)
    assert "Targets, in order: x, z." in (done.folder / "README.md").read_text()


def test_what_a_policy_cannot_copy_is_refused():
    with pytest.raises(UsageError, match="a goal on the columns x; got one on no columns"):
        distil(agent_of(), TASK, Log(), told=("x",))
    told = DistilledPolicy.Config(targets=("x",)).build(SIGNATURE, (8,))
    with pytest.raises(MismatchError, match="targets of 1 columns; got 0"):
        told.act(torch.zeros(1, 8))
    with pytest.raises(MismatchError, match="a goal on x; got none for x"):
        told.propose(Belief(torch.zeros(1, 8)), Task(ColumnGoal({"y": 0.0})))
    history = AgentConfig(
        perception=VectorEncoder.Config(hidden=(16,), size=8), history=3,
        world_model=TransformerModel.Config(width=16, depth=1, heads=1, head_width=8, hidden=16))
    with pytest.raises(UsageError, match="history of 3"):
        distil(agent_of(config=history), TASK, Log())
    with pytest.raises(UsageError, match="at least 20"):
        distil(agent_of(), TASK, Log(), moments=3)
    with pytest.raises(MismatchError, match="8 numbers"):
        DistilledPolicy.Config().build(SIGNATURE, (8,)).act(torch.zeros(1, 9))
