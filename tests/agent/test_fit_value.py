"""A value fitted through an agent to its log: a short horizon sees what comes after it; what it cannot do is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from steersman.actor import CEM
from steersman.agent import Agent, AgentConfig
from steersman.agent.value import fit_value
from steersman.core import (
    ActionSpec,
    Belief,
    CallableGoal,
    Episode,
    Imagined,
    ObservationSpec,
    Signature,
    Task,
    UsageError,
    WorldModel,
)
from steersman.cost import TDValue
from steersman.data import CacheWriter, Dataset
from steersman.perception import LinearReadout, VectorEncoder

SIGNATURE = Signature({"vector": ObservationSpec("vector", (1,), ("x",))}, ActionSpec("continuous", (-1.0,), (1.0,)))


class Hill(WorldModel):
    """x' = x + a/4 on [-2, 2]; the state is x / deviation, as the encoder keeps it."""

    def __init__(self, encoder: VectorEncoder) -> None:
        super().__init__()
        self.mean, self.deviation = float(encoder.mean), float(encoder.deviation)

    def begin(self, latent, actions, exogenous=None):
        return Belief(latent.state[:, -1])

    def imagine(self, belief, actions, exogenous=None, u=None):
        x = belief.state[:, None].expand(-1, actions.shape[1], -1)
        states = [x]
        for t in range(actions.shape[2]):
            there = ((x * self.deviation + self.mean) + actions[:, :, t] / 4).clamp(-2, 2)
            x = (there - self.mean) / self.deviation
            states.append(x)
        return Imagined(torch.stack(states, 2))


def _stage(columns, actions):
    """A valley of cost .8 on the left, a hill in the middle, nothing on the far right."""
    x = columns["x"]
    return torch.where(x > 1.5, 0.0, torch.where(x < -1, 0.8, 1.0))


def _log(folder: Path) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    with CacheWriter(folder, SIGNATURE, origin="a walk") as writer:
        episodes = []
        for _ in range(40):
            x, rows, done = 4 * torch.rand(1, generator=generator) - 2, [], []
            rows.append(x)
            action = torch.zeros(1)
            for _t in range(60):
                if torch.rand(1, generator=generator) < 0.2:
                    action = 2 * torch.rand(1, generator=generator) - 1
                x = (x + action / 4).clamp(-2, 2)
                rows.append(x)
                done.append(action)
            episodes.append(Episode({"vector": torch.stack(rows)}, torch.stack(done)))
        writer.append(iter(episodes))
        writer.finish()
    return Dataset.open(folder)


def _agent(log: Dataset) -> Agent:
    encoder = VectorEncoder.Config(size=0, hidden=(), keep=True)
    perception = encoder.build(SIGNATURE)
    seen = torch.cat([episode.observations["vector"] for episode in log.episodes()])
    perception.calibrate({"vector": seen})
    readout = LinearReadout.Config().build(("x",), (1,))
    readout.fit(perception.encode({"vector": seen[:, None]}).state[:, 0], seen)
    return Agent(AgentConfig(perception=encoder), SIGNATURE, perception, Hill(perception), readout=readout,
                 planner=CEM.Config(samples=64, iterations=3, elites=8, horizon=3, spread=1.0).build())


def test_a_short_horizon_crosses_a_hill_that_it_cannot_see_over(tmp_path: Path) -> None:
    log = _log(tmp_path / "log")
    agent = _agent(log)
    config = TDValue.Config(discount=0.95, expectile=0.1, hidden=(32,), steps=800, lr=1e-2, target=0.1)
    value, error = fit_value(agent, log, _stage, config=config)
    assert 0 < error < 4
    agent.add_cost(value)
    goal = CallableGoal(lambda columns, imagined: _stage(columns, None))
    start = {"vector": torch.tensor([[-1.5], [-1.2]])}
    ends = {}
    for name, weights in (("without", {"goal": 1.0}), ("with", {"goal": 1.0, "td-value": 1.0})):
        agent.reset(0)
        x, task = start["vector"], Task(goal, weights=weights)
        for _ in range(20):
            x = (x + agent.act({"vector": x}, task).action / 4).clamp(-2, 2)
        ends[name] = x
    assert bool((ends["with"] > 1.5).all())
    assert bool((ends["without"] < -1).all())


def test_what_it_needs_is_said(tmp_path: Path) -> None:
    log = _log(tmp_path / "log")
    agent = _agent(log)
    agent.readout = None
    with pytest.raises(UsageError, match="reads columns"):
        fit_value(agent, log, _stage)
