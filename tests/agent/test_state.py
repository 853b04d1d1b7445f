"""An agent's one state: streaming equals filtering, episodes begin anew beside others, what is saved goes on alike."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from steersman.actor import CEM, ICEM
from steersman.agent import Agent, AgentConfig, AgentState
from steersman.agent import moments as moments_of
from steersman.core import (
    ActionSpec,
    ColumnGoal,
    MismatchError,
    ObservationGoal,
    ObservationSpec,
    PlanningError,
    Signature,
    Task,
)
from steersman.perception import VectorEncoder
from steersman.world_model import RecurrentModel, ResidualModel

SIGNATURE = Signature({"vector": ObservationSpec("vector", (3,))}, ActionSpec("continuous", (-1.0,), (1.0,)))
GOAL = ObservationGoal({"vector": torch.zeros(3)})


def make(streaming=True, history=1, model=None, planner=None) -> Agent:
    torch.manual_seed(0)
    encoder = VectorEncoder.Config(size=6, hidden=(16,))
    predictor = model or RecurrentModel.Config(width=8)
    config = AgentConfig(perception=encoder, world_model=predictor, history=history, streaming=streaming)
    perception = encoder.build(SIGNATURE)
    return Agent(config, SIGNATURE, perception, predictor.build(SIGNATURE, perception.latent_shape, None),
                 planner=planner or CEM.Config(samples=16, iterations=2, elites=4, horizon=4).build())


def moments(count, batch=2, seed=1):
    return torch.randn(count, batch, 3, generator=torch.Generator().manual_seed(seed))


def live(agent, seen):
    agent.reset([3, 4][: seen.shape[1]])
    return [agent.act({"vector": x}, Task(GOAL)) for x in seen]


def test_a_streaming_agent_believes_what_a_filter_over_the_whole_episode_does():
    agent, seen = make(), moments(40)
    plans = live(agent, seen)
    done = torch.stack([plan.action for plan in plans[:-1]], 1)
    with torch.inference_mode():
        states = agent.perception.encode({"vector": seen.transpose(0, 1)})
        whole = agent.world_model.filter(states, done)
    torch.testing.assert_close(agent.state.belief.state, whole.belief.state)
    torch.testing.assert_close(agent.state.belief.carry[0], whole.belief.carry[0])
    torch.testing.assert_close(agent.surprise.energy, whole.surprise.energy[:, -1])


def test_nothing_cuts_a_streaming_history_and_a_cut_one_forgets():
    seen = moments(30)
    other = seen.clone()
    other[0] += 3
    streaming, cut = make(), make(streaming=False, history=4)
    assert not torch.equal(*(live(streaming, x)[-1].warm.mean for x in (seen, other)))
    believed = []
    for x in (seen, other):
        live(cut, x)
        believed.append(cut.state.states.clone())
    assert torch.equal(*believed)
    assert believed[0].shape[1] == 4


def test_rows_that_begin_anew_are_like_an_agent_of_their_own():
    agent, seen, fresh = make(), moments(6), moments(4, batch=1, seed=9)
    live(agent, seen)
    agent.begin(torch.tensor([False, True]), torch.tensor([7]))
    beside = [agent.act({"vector": torch.cat([seen[-1][:1], x])}, Task(GOAL)).action[1] for x in fresh]
    alone = make()
    alone.reset([7])
    for x, action in zip(fresh, beside, strict=True):
        assert torch.equal(alone.act({"vector": x}, Task(GOAL)).action[0], action)
    assert agent.state.decision.tolist() == [10, 4]


def test_an_agent_with_a_cut_history_says_that_its_rows_belong_together():
    agent = make(streaming=False, history=3)
    live(agent, moments(2))
    with pytest.raises(PlanningError, match="an agent that streams"):
        agent.begin(torch.tensor([True, False]))


@pytest.mark.parametrize("planner", [CEM.Config(samples=16, iterations=2, elites=4, horizon=4), ICEM.Config(
    samples=16, iterations=2, elites=4, horizon=4)])
@pytest.mark.parametrize("streaming", [True, False])
def test_a_stored_state_goes_on_the_same(planner, streaming):
    ours, theirs = (make(streaming, 1 if streaming else 3, planner=planner.build()) for _ in range(2))
    seen = moments(8)
    plans = live(ours, seen[:5])
    stored = {name: value.clone() for name, value in ours.state.stored().items()}
    theirs.resume(AgentState.restored(stored, ours.state.seeds, 5, plans[-1].warm))
    for x in seen[5:]:
        assert torch.equal(ours.act({"vector": x}, Task(GOAL)).actions, theirs.act({"vector": x}, Task(GOAL)).actions)


def test_a_state_cut_to_rows_goes_on_as_those_rows():
    agent, seen = make(), moments(6)
    live(agent, seen[:5])
    whole, cut = agent.state, agent.state.rows(torch.tensor([1]))
    both = agent.act({"vector": seen[5]}, Task(GOAL)).actions
    agent.resume(cut)
    assert torch.equal(agent.act({"vector": seen[5][1:]}, Task(GOAL)).actions, both[1:])
    assert whole.rows(torch.tensor([0])).join(cut).seeds.tolist() == [3, 4]


def test_what_was_not_measured_is_what_was_foreseen():
    agent, seen = make(), moments(4)
    live(agent, seen[:3])
    foreseen = agent.world_model.imagine(agent.state.belief, agent.state.done[:, None]).states[:, 0, -1]
    agent.act({"vector": seen[3]}, Task(GOAL), measured={"vector": torch.tensor([True, False])})
    assert torch.equal(agent.state.belief.state[1], foreseen[1])
    assert not torch.equal(agent.state.belief.state[0], foreseen[0])
    assert agent.surprise.known.flatten(1).any(1).tolist() == [True, False]
    with pytest.raises(PlanningError, match="an agent that streams"):
        make(streaming=False).act({"vector": seen[3]}, Task(GOAL), measured={"vector": torch.tensor([True, False])})


def test_several_actions_between_two_moments_are_followed():
    agent, seen = make(), moments(2)
    live(agent, seen[:1])
    before, done = agent.state.belief, torch.tensor([[[0.1], [0.2], [0.3]]]).expand(2, -1, -1)
    agent.act({"vector": seen[1]}, Task(GOAL), since=done)
    with torch.inference_mode():
        expected, _ = agent.world_model.observe(before, done, agent.encode({"vector": seen[1]}))
    assert torch.equal(agent.state.belief.carry[0], expected.carry[0])
    assert agent.surprise.horizon.tolist() == [[3], [3]]


def test_surprise_is_nothing_at_first_and_nothing_when_the_world_is_as_imagined():
    model = ResidualModel.Config(width=8, depth=1)
    agent = make(False, 1, model)
    first = agent.act({"vector": moments(1)[0]}, Task(GOAL))
    assert not bool(agent.surprise.known.any())
    agent.state = replace(agent.state, foreseen=agent.encode({"vector": moments(2)[1]}).state)
    agent.act({"vector": moments(2)[1]}, Task(GOAL))
    assert float(agent.surprise.pooled().max()) < 1e-10
    agent.state = replace(agent.state, foreseen=agent.state.foreseen + 1)
    agent.act({"vector": moments(3)[2]}, Task(GOAL))
    assert float(agent.surprise.pooled().min()) > 0
    assert first.feasible.all()


def test_a_goal_on_columns_without_a_read_out_is_said():
    with pytest.raises(PlanningError, match="read-out"):
        make().act({"vector": moments(1)[0]}, Task(ColumnGoal({"x": 1.0})))


@pytest.mark.parametrize("since", [
    torch.zeros(3, 1, 1), torch.zeros(2, 1, 2), torch.zeros(2, 1), torch.full((2, 1, 1), torch.nan)])
def test_actions_that_are_none_of_this_world_never_enter_a_belief(since):
    agent, seen = make(), moments(2)
    live(agent, seen[:1])
    before = agent.state
    with pytest.raises(MismatchError, match="actions"):
        agent.act({"vector": seen[1]}, Task(GOAL), since=since)
    assert agent.state is before


@pytest.mark.parametrize("choice", [-1, 3])
def test_choices_that_do_not_exist_are_not_taken_for_carried_out(choice):
    signature = Signature({"vector": ObservationSpec("vector", (3,))}, ActionSpec("discrete", choices=3))
    done = torch.tensor([[[0], [2]], [[1], [choice]]])
    with pytest.raises(MismatchError, match=f"choices from 0 to 2; got {choice}"):
        moments_of.require_done(done, signature, 2)
    assert moments_of.require_done(done.clamp(0, 2), signature, 2) is not None


@pytest.mark.parametrize("measured", [
    {"vectr": torch.tensor([True, True])}, {"vector": torch.tensor([True])}, {"vector": torch.ones(2)},
    {"vector": True}])
def test_measured_names_observations_of_this_world_and_says_it_for_each_episode(measured):
    agent, seen = make(), moments(2)
    live(agent, seen[:1])
    with pytest.raises(MismatchError, match="in `measured`"):
        agent.act({"vector": seen[1]}, Task(GOAL), measured=measured)


def test_a_moment_that_is_not_finite_is_refused_unless_it_was_not_measured():
    agent, seen = make(), moments(3)
    live(agent, seen[:1])
    lost = seen[1].clone()
    lost[1, 0] = torch.nan
    with pytest.raises(MismatchError, match=r"rows \[1\].*measured"):
        agent.act({"vector": lost}, Task(GOAL))
    agent.act({"vector": lost}, Task(GOAL), measured={"vector": torch.tensor([True, False])})
    plan = agent.act({"vector": seen[2]}, Task(GOAL))
    assert plan.feasible.all()
    assert agent.state.belief.state.isfinite().all()
    agent.begin(torch.tensor([1]))
    with pytest.raises(MismatchError, match="an episode begins with a whole moment"):
        agent.act({"vector": lost}, Task(GOAL), measured={"vector": torch.tensor([True, False])})


def test_rows_and_seeds_of_what_begins_fit_the_episodes_that_there_are():
    agent = make()
    with pytest.raises(PlanningError, match="reset"):
        agent.begin(torch.tensor([0]), torch.tensor([7]))
    live(agent, moments(1))
    for rows in (torch.tensor([2]), torch.tensor([True])):
        with pytest.raises(PlanningError, match="correct the rows"):
            agent.begin(rows)
    with pytest.raises(PlanningError, match="2 seeds"):
        agent.begin(torch.tensor([True, True]), torch.tensor([1, 2, 3]))
