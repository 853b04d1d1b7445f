"""A distance in steps, fitted to the log of an agent: what it counts, and that an agent plans by it."""

from __future__ import annotations

from pathlib import Path

import torch

from steersman import Agent
from steersman.agent import AgentConfig
from steersman.agent.distance import fit_distance, latents
from steersman.core import ActionSpec, Episode, ObservationGoal, ObservationSpec, Signature, Task
from steersman.data import CacheWriter, Dataset
from steersman.perception import VectorEncoder
from steersman.world_model import ResidualModel

SIGNATURE = Signature({"vector": ObservationSpec("vector", (2,))}, ActionSpec("continuous", low=(-1.0,), high=(1.0,)))


def ring(folder: Path, episodes: int = 40, steps: int = 20) -> Dataset:
    """A way round three quarters of a circle, there and back: the ends are near each other and 15 steps apart."""
    g = torch.Generator().manual_seed(0)
    found = []
    for _ in range(episodes):
        at, places, done = int(torch.randint(16, (), generator=g)), [], []
        for _ in range(steps + 1):
            angle = torch.tensor(at * 1.5 * torch.pi / 15)
            places.append(torch.stack([angle.cos(), angle.sin()]))
            move = int(torch.randint(2, (), generator=g)) * 2 - 1
            done.append([float(move)])
            at = min(max(at + move, 0), 15)
        found.append(Episode({"vector": torch.stack(places)}, torch.tensor(done[:-1])))
    with CacheWriter(folder, SIGNATURE, origin="a ring") as writer:
        writer.append(found)
        writer.finish()
    return Dataset.open(folder)


def made() -> Agent:
    torch.manual_seed(0)
    config = AgentConfig(perception=VectorEncoder.Config(size=4, keep=True), world_model=ResidualModel.Config(width=16))
    perception = config.perception.build(SIGNATURE)
    return Agent(config, SIGNATURE, perception, config.world_model.build(SIGNATURE, perception.latent_shape, None))


def test_a_distance_in_steps_goes_round_where_latents_lie_side_by_side(tmp_path: Path) -> None:
    agent, log = made(), ring(tmp_path / "log")
    distance, step = fit_distance(agent, log)
    assert 0.5 < step < 1.3
    angle = torch.tensor([0.0, 1.5 * torch.pi, 0.2 * torch.pi])
    ends = agent.encode({"vector": torch.stack([angle.cos(), angle.sin()], 1)}).state.flatten(1)
    apart = distance.distance(ends[:1].expand(2, -1), ends[1:])
    assert float((ends[0] - ends[1]).norm()) < 2.5 * float((ends[0] - ends[2]).norm())
    assert float(apart[0]) > 4 * float(apart[1])  # 15 steps and 2


def test_latents_are_those_of_the_moments_and_an_agent_plans_by_the_distance(tmp_path: Path) -> None:
    agent, log = made(), ring(tmp_path / "log", 8)
    distance, _ = fit_distance(agent, log)
    agent.add_cost(distance)
    row = torch.arange(3)
    seen = log.frames(torch.zeros(3, dtype=torch.long), row)
    torch.testing.assert_close(latents(agent, log, torch.zeros(3, dtype=torch.long), row), agent.encode(seen).state)
    goal = ObservationGoal({"vector": torch.tensor([1.0, 0.0])})
    plan = agent.act({"vector": torch.tensor([0.0, 1.0])}, Task(goal, weights={"goal": 0.0, distance.name: 1.0}))
    assert distance.name in plan.energy
