"""An agent's memory: written at every moment, emptied where an episode begins, cut, stored and gone on from exactly."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from small_world import SIGNATURE, Drift, config
from small_world import agent as parts

from steersman import training
from steersman.actor import CEM
from steersman.agent import Agent, AgentState, record_decisions
from steersman.agent.building.parts import build_parts, parts_of
from steersman.agent.memorising import memorise
from steersman.agent.rederiving import Rederiver
from steersman.agent.replay import _Again, replay
from steersman.core import Belief, ConfigError, Latent, ObservationGoal, RunError, Task
from steersman.memory import LinearMemory, SlotMemory
from steersman.runs import Run
from steersman.runs.decisions import session_at

GOAL = Task(ObservationGoal({"vector": torch.ones(3)}), horizon=2)


def make(**changes) -> Agent:
    settings = msgspec.structs.replace(
        parts(), planner=CEM.Config(samples=4, elites=2, iterations=1, horizon=2),
        memory=LinearMemory.Config(rule="hebbian"), **changes)
    torch.manual_seed(0)
    found = parts_of(build_parts(settings, SIGNATURE))
    return Agent(settings, SIGNATURE, found.perception, found.world_model, further=found.further)


def moments(count: int, episodes: int = 3) -> torch.Tensor:
    return torch.randn(count, episodes, 3, generator=torch.Generator().manual_seed(1))


def live(agent: Agent, seen: torch.Tensor) -> None:
    for x in seen:
        agent.act({"vector": x}, GOAL)


def written(agent: Agent, seen: torch.Tensor) -> torch.Tensor:
    """Σ s sᵀ over the moments (T, B, 3), one after the other: what Hebb's rule holds."""
    total = torch.zeros(seen.shape[1], 8, 8)
    for x in seen:
        state = agent.encode({"vector": x}).state
        total = total + state[:, :, None] * state[:, None, :]
    return total


@pytest.mark.parametrize("streaming", [False, True])
def test_every_observed_moment_is_written_under_the_beliefs_state(streaming):
    agent, seen = make(streaming=streaming), moments(4)
    live(agent, seen)
    torch.testing.assert_close(agent.state.memory.base, written(agent, seen))
    assert agent.state.memory.keys == (), "what is kept does not grow"


def test_an_agent_without_a_memory_plans_the_same():
    agent, seen = make(), moments(3)
    without = Agent(msgspec.structs.replace(agent.config, memory=None), SIGNATURE, agent.perception,
                    agent.world_model)
    for x in seen:
        assert torch.equal(agent.act({"vector": x}, GOAL).actions, without.act({"vector": x}, GOAL).actions)
    assert without.state.memory is None
    assert without.memory is None


def test_an_episode_that_begins_has_forgotten_and_the_others_have_not():
    agent, seen = make(), moments(5)
    live(agent, seen[:3])
    agent.begin(torch.tensor([False, True, False]))
    live(agent, seen[3:])
    whole, late = written(agent, seen), written(agent, seen[3:])
    torch.testing.assert_close(agent.state.memory.base[[0, 2]], whole[[0, 2]])
    torch.testing.assert_close(agent.state.memory.base[1], late[1])
    agent.reset()
    live(agent, seen[:1])
    torch.testing.assert_close(agent.state.memory.base, written(agent, seen[:1]))


def test_a_belief_that_was_not_observed_is_not_remembered():
    agent = make()
    live(agent, moments(1))
    before = agent.state.memory
    agent.act_from(Belief(torch.ones(3, 8)), GOAL)
    assert agent.state.memory is before


def test_a_state_that_was_cut_or_stored_goes_on_the_same():
    agent, other, seen = make(), make(), moments(6)
    live(agent, seen[:4])
    cut = agent.state.rows(torch.tensor([2, 0]))
    stored = {name: value.clone() for name, value in agent.state.stored().items()}
    assert "memory.base" in stored
    again = AgentState.restored(stored, agent.state.seeds, 4, agent.state.warm, agent.empty_memory(3))
    other.resume(again)
    for x in seen[4:]:
        agent.act({"vector": x}, GOAL)
        other.act({"vector": x}, GOAL)
    assert torch.equal(agent.state.memory.base, other.state.memory.base)
    other.resume(cut)
    live(other, seen[4:, [2, 0]])
    assert torch.equal(agent.state.memory.base[[2, 0]], other.state.memory.base)


def test_a_stored_memory_that_is_not_the_agents_is_refused():
    agent = make()
    live(agent, moments(2))
    stored = agent.state.stored()
    with pytest.raises(RunError, match=r"what a memory holds; got memory\.base"):
        AgentState.restored(stored, agent.state.seeds, 2, agent.state.warm)
    with pytest.raises(RunError, match="a state of a memory FastWeights; got one with more"):
        AgentState.restored(stored | {"memory.more": torch.zeros(3)}, agent.state.seeds, 2, agent.state.warm,
                            agent.empty_memory(3))
    with pytest.raises(RunError, match=r"memory\.base \(3, 8, 8\) of float32; got \(2, 8, 8\)"):
        AgentState.restored(stored | {"memory.base": torch.zeros(2, 8, 8)}, agent.state.seeds, 2, agent.state.warm,
                            agent.empty_memory(3))


def test_a_memory_that_grows_says_why_no_episode_can_begin_beside_others():
    class Growing(LinearMemory):
        def settle(self, state):
            return state

    memory, state = Growing(8, 8), AgentState.begin(None, 2)
    belief = Belief(torch.ones(2, 8))
    state = memorise(memory, replace(state, fresh=torch.zeros(2, dtype=torch.bool)), belief)
    state = memorise(memory, state, belief)
    with pytest.raises(ConfigError, match="override `settle`"):
        memorise(memory, state.begun(torch.tensor([0])), belief)


def test_a_recorded_decision_is_replayed_from_what_the_memory_held(tmp_path):
    settings = config(steps=1, agent=make().config)
    with training.create_run(tmp_path / "run", settings, Drift(), recipe="drift") as run:
        training.train(settings, Drift(), run)
    run = Run.open(tmp_path / "run")
    agent, seen = Agent.load(run), moments(4)
    recorder = record_decisions(agent, run)
    live(agent, seen[:3])
    agent.act({"vector": seen[3]}, replace(GOAL))  # another task: the whole state is written
    held = agent.state.memory.base.clone()
    recorder.close()
    assert replay(run, 3).identical
    again = _Again(Rederiver(run, Agent.load(run)), session_at(run.path, "latest"), None)
    assert again.decide(3, ()).passed == 0
    assert torch.equal(again.agent.state.memory.base, held)


def test_a_moment_of_many_tokens_is_written_flat():
    memory, state = LinearMemory(6, 6, "hebbian"), AgentState.begin(None, 1)
    belief = Belief(Latent(torch.arange(6.0).view(1, 2, 3)).state)
    found = memorise(memory, state, belief).memory
    assert torch.equal(found.base[0], torch.arange(6.0)[:, None] * torch.arange(6.0))


def test_slots_begin_beside_others_and_are_stored_and_restored_whole():
    memory = SlotMemory(6, 6, slots=4)
    state, seen = AgentState.begin(None, 2), torch.randn(5, 2, 6, generator=torch.Generator().manual_seed(0))
    for t, moment in enumerate(seen):
        state = state.begun(torch.tensor([1])) if t == 3 else replace(state, fresh=torch.zeros(2, dtype=torch.bool))
        state = memorise(memory, state, Belief(moment))
    assert state.memory.writes.tolist() == [5, 2]
    assert (state.memory.used > 0).sum((1, 2)).tolist() == [4, 2]
    torch.testing.assert_close(memory.read(state.memory, seen[4][:, None])[:, 0], seen[4], atol=1e-2, rtol=0)
    again = AgentState.restored(state.stored(), state.seeds, 0, None, memory.initial(2))
    assert all(torch.equal(x, again.stored()[name]) for name, x in state.stored().items())
