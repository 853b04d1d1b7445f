"""Boxes beside those that act, exported: critic and policies as graphs, what no graph can be is named and left out."""

from __future__ import annotations

import json

import msgspec
import pytest
import torch
from torch import nn

from steersman.actor import CEM, DistilledPolicy
from steersman.agent import Agent, AgentConfig
from steersman.agent.building.parts import build_parts, parts_of
from steersman.core import ActionSpec, ColumnGoal, Critic, FittedPolicy, ObservationSpec, Signature, Task, register
from steersman.export import export_onnx, export_programs, further_graphs, left_out, load_onnx, programs
from steersman.export.onnx import open_session, run_session
from steersman.memory import LinearMemory
from steersman.perception import VectorEncoder
from steersman.world_model import ResidualModel

SIGNATURE = Signature({"vector": ObservationSpec("vector", (3,), ("x", "y", "z"))},
                      ActionSpec("continuous", low=(-1.0, -2.0), high=(1.0, 2.0)))
STRUCT = {"frozen": True, "forbid_unknown_fields": True, "kw_only": True}


class Bowl(Critic):
    """v = w · s²."""

    @register(Critic)
    class Config(msgspec.Struct, tag="test-bowl", **STRUCT):
        def build(self, latent_shape, context_shape):
            return Bowl(latent_shape[0])

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width))

    def value(self, states, context=None):
        return (states.square() * self.weight).sum(-1)


class Straight(FittedPolicy):
    """Reads its task."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_shape = (4,)

    def propose(self, belief, task):
        return belief.state[:, None, :2] * len(task.weights)


@pytest.fixture(scope="module")
def agent() -> Agent:
    torch.manual_seed(0)
    config = AgentConfig(
        perception=VectorEncoder.Config(hidden=(8,), size=4), world_model=ResidualModel.Config(width=8),
        planner=CEM.Config(samples=8, iterations=1, elites=2, horizon=2), critic=Bowl.Config(),
        memory=LinearMemory.Config(), policies={"go-on": DistilledPolicy.Config(hidden=(8,), targets=("x",))},
    )
    found = parts_of(build_parts(config, SIGNATURE))
    made = Agent(config, SIGNATURE, found.perception, found.world_model, further=found.further)
    made.add_policy("straight", Straight())
    return made


@pytest.fixture(scope="module")
def exported(agent, tmp_path_factory):
    pytest.importorskip("onnxruntime")
    return export_onnx(agent, tmp_path_factory.mktemp("onnx") / "out")


def test_critic_and_distilled_policies_are_graphs_of_their_own(agent, exported):
    assert {"critic", "policy_go-on"} <= set(exported.worst)
    moment, target = {"vector": torch.randn(5, 3)}, torch.randn(5, 1)
    state = agent.encode(moment).state
    (value,) = run_session(open_session((exported.folder / "critic.onnx").read_bytes()), {"state": state})
    torch.testing.assert_close(value, agent.critic.value(state), atol=1e-5, rtol=0)
    policy = open_session((exported.folder / "policy_go-on.onnx").read_bytes())
    (action,) = run_session(policy, moment | {"target": target})
    torch.testing.assert_close(action, agent.policies["go-on"].act(state, None, target), atol=1e-5, rtol=0)


def test_what_no_graph_stands_for_is_named_with_the_reason(agent, exported):
    missing = left_out(agent)
    assert set(missing) == {"memory", "policy.straight"}
    assert exported.left_out == missing
    assert json.loads((exported.folder / "export.json").read_text())["left_out"] == missing
    text = (exported.folder / "README.md").read_text()
    assert "- memory: what it holds changes while the agent acts, and no graph keeps it." in text
    assert "- policy.straight: Straight proposes from a belief and a task" in text


def test_an_agent_on_onnx_runtime_has_the_critic_and_none_of_what_was_left_out(agent, exported):
    there = load_onnx(exported.folder)
    states = torch.randn(2, 3, 5, 4)
    torch.testing.assert_close(there.critic.value(states), agent.critic.value(states), atol=1e-5, rtol=0)
    assert there.memory is None
    assert there.config.memory is None
    assert not there.policies
    task = Task(ColumnGoal({"x": 0.0}))
    with pytest.raises(Exception, match="column"):
        there.act({"vector": torch.zeros(3)}, task)  # no read-out was exported: said as for any agent


def test_programs_for_torch_hold_them_too(agent, tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "agent_graphs", lambda *x: {})  # what they are is tested elsewhere, and takes long
    worst = export_programs(agent, tmp_path / "out")
    assert {"critic", "policy_go-on"} == set(worst)
    assert (tmp_path / "out" / "critic.pt2").exists()


def test_an_agent_without_them_has_no_more_graphs_than_before(agent):
    config = msgspec.structs.replace(agent.config, critic=None, memory=None, policies={})
    plain = Agent(config, SIGNATURE, agent.perception, agent.world_model)
    assert further_graphs(plain) == {}
    assert left_out(plain) == {}
