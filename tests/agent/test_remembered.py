"""A* in a run: the graph comes from the run's log when it is needed, is kept, and is made again when it has to be."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from small_world import SIGNATURE, Drift, config
from small_world import agent as parts

from steersman.actor import CEM, AStar, Barrier
from steersman.agent import Agent, from_pretrained, record_decisions, save_pretrained
from steersman.agent.replay import replays
from steersman.core import Episode, ObservationGoal, PlanningError, Task
from steersman.core.latent_graph import GraphConfig
from steersman.data import CacheWriter, Dataset
from steersman.runs import Run
from steersman.training import create_run, train

ASTAR = AStar.Config(follow=CEM.Config(samples=8, iterations=1, elites=2, horizon=3), graph=GraphConfig(nodes=40))
GOAL = Task(ObservationGoal({"vector": torch.ones(3)}))
MOMENT = {"vector": torch.zeros(3)}


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    drift = Drift()
    place = tmp_path_factory.mktemp("remembered") / "log"
    with CacheWriter(place, SIGNATURE) as writer:
        for states, actions in zip(drift.states, drift.actions, strict=True):
            writer.append([Episode({"vector": states}, actions)])
        writer.finish("drift")
    return Dataset.open(place)


def trained(path, log, planner=ASTAR, **changes):
    c = config(steps=4, window=10, agent=msgspec.structs.replace(parts(), planner=planner, **changes))
    with create_run(path, c, log, recipe="drift") as run:
        train(c, log, run)
    return Run.open(path)


@pytest.fixture
def run(tmp_path, log):
    return trained(tmp_path / "run", log)


def files(run):
    return {path.name: path.read_bytes() for path in (run.path / "memory").iterdir()}


def test_the_graph_is_made_when_it_is_needed_and_kept(run):
    agent = Agent.load(run)
    assert not (run.path / "memory").exists()
    plan = agent.act(MOMENT, GOAL)
    assert "remembered states" in plan.reason[0]
    kept = files(run)
    assert set(kept) == {"graph.json", "graph.safetensors"}
    graph = agent.planner.graph
    assert 2 < len(graph) <= 40
    again = Agent.load(run)
    assert torch.equal(again.act(MOMENT, GOAL).actions, plan.actions)
    assert all(torch.equal(getattr(again.planner.graph, name), getattr(graph, name))
               for name in ("nodes", "neighbour", "cost", "action", "step"))
    assert files(run) == kept


def test_it_is_made_again_for_other_weights_another_configuration_and_where_it_is_damaged(run, log):
    Agent.load(run).act(MOMENT, GOAL)
    first = files(run)
    for name, content in first.items():
        for damaged in (content[: len(content) // 2], content[:-3] + b"abc", b"", b"[" * 9000):
            (run.path / "memory" / name).write_bytes(damaged)
            Agent.load(run).act(MOMENT, GOAL)
            assert files(run) == first
    other = msgspec.structs.replace(ASTAR, graph=GraphConfig(nodes=5)).build()
    agent = Agent.load(run, planner=other)
    agent.act(MOMENT, GOAL)
    assert len(agent.planner.graph) == 5
    Agent.load(run).act(MOMENT, GOAL)
    assert files(run) == first


def test_a_graph_of_earlier_weights_is_not_searched(run, log, tmp_path):
    import shutil

    Agent.load(run).act(MOMENT, GOAL)
    other = trained(tmp_path / "other", log, history=1, perception=msgspec.structs.replace(
        parts().perception, hidden=(12,)))
    shutil.copytree(run.path / "memory", other.path / "memory")
    agent = Agent.load(other)
    agent.act(MOMENT, GOAL)
    assert files(other)["graph.safetensors"] != files(run)["graph.safetensors"]
    assert torch.isin(agent.planner.graph.nodes[:, 0], agent.encode(
        {"vector": torch.as_tensor(Drift().states).flatten(0, 1)}).state[:, 0]).float().mean() > 0.5


def test_a_planner_within_another_is_told_too_and_decisions_are_made_again(tmp_path, log):
    run = trained(tmp_path / "run", log, Barrier.Config(planner=ASTAR))
    agent = Agent.load(run)
    recorder = record_decisions(agent, run)
    for _ in range(2):
        agent.act(MOMENT, GOAL)
    recorder.close()
    again = list(replays(run))
    assert [x.identical for x in again] == [True, True]
    assert again[0].notes == ()
    assert agent.planner.planner.graph is not None


@pytest.mark.parametrize(("changes", "planner", "said"), [
    ({"history": 2}, ASTAR, "a history of 2 moments; use planner"),
    ({}, msgspec.structs.replace(ASTAR, fan=3), "at least 4 constant actions, for 2 continuous entries; got 3"),
])
def test_agents_and_actions_that_a_graph_cannot_serve_are_refused_in_words(tmp_path, log, changes, planner, said):
    run = trained(tmp_path / "run", log, planner, **changes)
    with pytest.raises(PlanningError, match=said):
        Agent.load(run).act(MOMENT, GOAL)


def test_a_folder_without_a_log_says_where_the_graph_would_come_from(run, tmp_path):
    folder = save_pretrained(Agent.load(run), tmp_path / "model")
    with pytest.raises(PlanningError, match="load the agent from its run"):
        from_pretrained(folder).act(MOMENT, GOAL)
