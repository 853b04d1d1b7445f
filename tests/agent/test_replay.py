"""Recorded decisions are made again bit for bit: in another process, from any place of the record, with every planner.

And what must not be replayed is refused: other weights, tasks that hold code.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from small_world import Drift, config
from small_world import agent as parts

from steersman.actor import CEM, ICEM, MCTS, Greedy, Search
from steersman.actor.tree.tree import Tree
from steersman.agent import Agent, record_decisions
from steersman.agent.config import AgentConfig
from steersman.agent.replay import replay, replays
from steersman.core import (
    Budget,
    CallableGoal,
    CheckpointError,
    ColumnGoal,
    MismatchError,
    ObservationGoal,
    RunError,
    Task,
)
from steersman.core.compiled import compiled, compiling
from steersman.cost import Box
from steersman.perception import LinearReadout, VectorEncoder
from steersman.runs import Run
from steersman.runs.decisions import TOGETHER, session_at
from steersman.training import RolloutStage, create_run, train
from steersman.world_model import TransformerModel

DATA = Drift()
AIM = Task(ObservationGoal({"vector": torch.tensor([0.5, 0.0, -0.5])}))


class Seen(Drift):
    """The same with single moments, which a read-out is fitted to."""

    def measured(self, episode, row):
        return {}

    def frames(self, episode, row):
        return {"vector": self.states[episode, row]}


def learn(path, agent_config):
    c = config(agent=agent_config, steps=4, rollout=(RolloutStage(starts=1, horizon=4),))
    with create_run(path, c, DATA, recipe="test") as run:
        train(c, DATA, run)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return learn(tmp_path_factory.mktemp("replay") / "run", parts())


@pytest.fixture(scope="module")
def remembering(tmp_path_factory):
    return learn(tmp_path_factory.mktemp("history") / "run", AgentConfig(
        perception=VectorEncoder.Config(hidden=(16,), size=8),
        world_model=TransformerModel.Config(width=16, depth=1, heads=1, head_width=8, hidden=16), history=3,
    ))


def moments(count, step):
    return {"vector": torch.randn(count, 3, generator=torch.Generator().manual_seed(step))}


def record(path, planner, task, decisions, batch=2, seeds=3):
    agent = Agent.load(path, planner=planner)
    with_recorder = record_decisions(agent, Run.open(path))
    agent.reset(seeds)
    plans = [agent.act(moments(batch, step), task) for step in range(decisions)]
    with_recorder.close()
    return plans


PLANNERS = {
    "icem": ICEM.Config(samples=16, iterations=3, horizon=4), "cem": CEM.Config(samples=16, iterations=3, elites=4),
    "greedy": Greedy.Config(), "search": Search.Config(nodes=40, directions=6),
    "mcts": MCTS.Config(simulations=12, horizon=3, fan=4),
}


@pytest.mark.parametrize("name", PLANNERS)
def test_every_planner_is_replayed_bit_for_bit_from_anywhere(trained, name):
    plans = record(trained, PLANNERS[name].build(), AIM, 6)
    again = replay(trained, 4)
    assert again.identical
    assert again.passed == 4
    assert again.strayed == 0
    assert not again.notes
    assert torch.equal(again.actions, plans[4].action)
    assert all(r.identical for r in replays(trained))


@pytest.mark.parametrize("fast", [True, False])
def test_the_form_that_decided_decides_again(trained, fast, monkeypatch):
    pytest.importorskip("numba")
    used, line = [], Tree.line
    monkeypatch.setattr(Tree, "line", lambda self: (used.append(compiled()), line(self))[1])
    with compiling(fast):
        record(trained, PLANNERS["mcts"].build(), AIM, 2)
    assert all(r.identical for r in replays(trained))
    assert set(used) == {fast}


def test_a_replay_starts_at_the_last_whole_record(trained):
    record(trained, PLANNERS["icem"].build(), AIM, TOGETHER + 3, batch=1)
    again = replay(trained, TOGETHER + 1)
    assert again.identical
    assert again.passed == 1
    again = replay(trained, TOGETHER)  # its warm start comes from the file, not from a decision before
    assert again.identical
    assert again.passed == 0


def test_history_and_new_episodes_are_replayed(remembering):
    agent = Agent.load(remembering, planner=PLANNERS["cem"].build())
    record_decisions(agent, Run.open(remembering))
    for episode in range(2):
        agent.reset(episode)
        for step in range(4):
            agent.act(moments(2, step), AIM)
        agent.select(torch.tensor([True, False]))
        agent.act(moments(1, 9), AIM)
    found = list(replays(remembering))
    assert len(found) == 10
    assert all(r.identical for r in found)


def test_another_thread_count_does_not_matter(trained):
    record(trained, PLANNERS["icem"].build(), AIM, 3)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if before == 1 else 1)
        assert replay(trained, 2).identical
    finally:
        torch.set_num_threads(before)


def test_a_decision_that_a_clock_ended_is_replayed_by_the_same_clock(trained):
    task = Task(AIM.goal, budget=Budget(seconds=0.02))
    plans = record(trained, ICEM.Config(samples=16, iterations=500, horizon=4).build(), task, 3)
    assert int(plans[0].calls[0]) < 500 * 16 * 4
    assert session_at(trained).read(0).clock
    assert all(r.identical for r in replays(trained))


@pytest.fixture(scope="module")
def with_columns(tmp_path_factory):
    """A run with a read-out, so that limits on columns can be set."""
    from steersman.agent.fitting import fit_readout

    path = tmp_path_factory.mktemp("columns") / "run"
    learn(path, AgentConfig(perception=VectorEncoder.Config(hidden=(16,), size=8), world_model=parts().world_model,
                            readout=LinearReadout.Config()))
    with Run.open(path).writer() as run:
        fit_readout(run, Seen(), seed=0)
    return path


def test_guardrails_on_columns_are_stored_and_what_they_said_is_told(with_columns):
    agent = Agent.load(with_columns, planner=PLANNERS["icem"].build())
    record_decisions(agent, Run.open(with_columns))
    column = agent.readout.columns[0]
    task = Task(ColumnGoal({column: 0.5}), guardrails=(Box(agent.readout, {column: (-float("inf"), 0.0)}, name="low"),),
                fallback=torch.zeros(agent.signature.action.size))
    plan = agent.act(moments(2, 0), task)
    agent.act(moments(2, 1), task)
    found = session_at(with_columns).read(0)
    assert found.vetoed["low"] == tuple(plan.vetoed["low"].tolist())
    fallback = [0 if ok else 1 for ok in plan.feasible.tolist()]  # it is looked at as well
    assert [a - b for a, b in zip(found.limits["low"].refused, found.vetoed["low"], strict=True)] == fallback
    assert found.goal == f"{column} = 0.5"
    assert set(found.expected) == set(agent.readout.columns)
    assert found.candidates is not None
    assert found.candidates.scored[0] >= int(plan.kept[0])
    assert all(r.identical for r in replays(with_columns))


def test_code_is_not_stored_and_must_be_given(trained):
    task = Task(CallableGoal(lambda columns, imagined: imagined.states[:, :, 1:].square().mean(-1), "small"))
    record(trained, PLANNERS["cem"].build(), task, 2)
    with pytest.raises(RunError, match=r"goal least small.*task="):
        replay(trained, 1)
    assert replay(trained, 1, task=task).identical


def test_other_weights_are_refused(trained, tmp_path_factory):
    import shutil

    path = tmp_path_factory.mktemp("other") / "run"
    shutil.copytree(trained, path)
    record(path, PLANNERS["cem"].build(), AIM, 2)
    agent = Agent.load(path)
    with torch.no_grad():
        next(agent.world_model.parameters()).add_(1e-6)
    assert agent.fingerprint() != Agent.load(path).fingerprint()
    (session,) = [p for p in (path / "decisions").iterdir() if p.name == session_at(path).path.name]
    text = (session / "session.json").read_text().replace(Agent.load(path).fingerprint(), agent.fingerprint())
    (session / "session.json").write_text(text)
    with pytest.raises(CheckpointError, match="the model that decided"):
        replay(path, 1)


def test_only_the_run_of_the_weights_records_them(trained, remembering):
    with pytest.raises(MismatchError, match="the run of these weights"):
        record_decisions(Agent.load(trained), Run.open(remembering))


def test_a_full_disk_does_not_stop_the_agent(trained, monkeypatch):
    from steersman.runs import frames

    agent = Agent.load(trained, planner=PLANNERS["cem"].build())
    recorder = record_decisions(agent, Run.open(trained))
    agent.act(moments(1, 0), AIM)

    def refuse(fd, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(frames, "write_all", refuse)
    with pytest.warns(RuntimeWarning, match="no longer recorded"):
        agent.act(moments(1, 1), AIM)
    assert agent.act(moments(1, 2), AIM).actions.shape[0] == 1
    assert "space" in recorder.failure
    assert session_at(trained).span() == range(1)


def test_agents_that_take_turns_share_a_record(trained):
    """As served sessions do: each goes on from its own last decision."""
    one, other = (Agent.load(trained, planner=PLANNERS["icem"].build()) for _ in range(2))
    other.recorder = record_decisions(one, Run.open(trained))
    one.reset(1)
    other.reset(2)
    for step in range(3):
        one.act(moments(1, step), AIM)
        other.act(moments(1, 10 + step), AIM)
    assert [r.identical for r in replays(trained)] == [True] * 6
