"""Reach in a run: its graph comes from the run's log when it is needed, is kept, and decisions come again."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from small_world import SIGNATURE, Drift, config
from small_world import agent as parts

from steersman.actor import Reach
from steersman.agent import Agent, record_decisions
from steersman.agent.replay import replays
from steersman.core import Episode, ObservationGoal, Task
from steersman.core.records import tensors
from steersman.data import CacheWriter, Dataset
from steersman.memory import WayConfig
from steersman.runs import Run
from steersman.training import create_run, train

REACH = Reach.Config(horizon=4, hold=2, samples=12, beyond=2, ways=WayConfig(nodes=40, chunk=4, stride=2, rays=6))
GOAL = Task(ObservationGoal({"vector": torch.ones(3)}))
MOMENT = {"vector": torch.zeros(3)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place, drift = tmp_path_factory.mktemp("ways"), Drift()
    with CacheWriter(place / "log", SIGNATURE) as writer:
        writer.append([Episode({"vector": s}, a) for s, a in zip(drift.states, drift.actions, strict=True)])
        writer.finish("drift")
    log = Dataset.open(place / "log")
    c = config(steps=4, window=10, agent=msgspec.structs.replace(parts(), planner=REACH))
    with create_run(place / "run", c, log, recipe="drift") as begun:
        train(c, log, begun)
    return Run.open(place / "run")


def test_the_graph_is_made_when_needed_kept_and_made_again_where_it_is_damaged(run):
    agent = Agent.load(run)
    assert not (run.path / "ways").exists()
    plan = agent.act(MOMENT, GOAL)
    graph = agent.planner.graph
    stored = run.path / "ways" / "graph.safetensors"
    content = stored.read_bytes()
    again = Agent.load(run)
    assert torch.equal(again.act(MOMENT, GOAL).actions, plan.actions)
    one, other = tensors(graph), tensors(again.planner.graph)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    stored.write_bytes(content[:-8] + b"damaged!")
    assert torch.equal(Agent.load(run).act(MOMENT, GOAL).actions, plan.actions)
    assert stored.read_bytes() == content
    other_settings = msgspec.structs.replace(REACH, ways=WayConfig(nodes=10, chunk=4, stride=2, rays=6)).build()
    Agent.load(run, planner=other_settings).act(MOMENT, GOAL)
    assert len(other_settings.graph) <= 10
    assert stored.read_bytes() != content


def test_recorded_decisions_are_made_again(run):
    agent = Agent.load(run)
    recorder = record_decisions(agent, run)
    for _ in range(3):
        agent.act(MOMENT, GOAL)
    recorder.close()
    found = list(replays(run))
    assert len(found) == 3
    assert all(one.identical for one in found)
