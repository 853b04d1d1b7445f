"""A head that a run trained becomes a cost that its agent plans with, and travels with the run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from steersman import Agent, training
from steersman.agent import AgentConfig, store_additions
from steersman.core import ActionSpec, ConfigError, Episode, ObservationSpec, Signature
from steersman.data import CacheWriter, Dataset
from steersman.objectives import Prediction, Reachability, VICReg
from steersman.perception import VectorEncoder
from steersman.runs import Run
from steersman.training import TrainConfig, create_run, reachable_cost
from steersman.world_model import ResidualModel


def log_at(path: Path) -> Dataset:
    signature = Signature({"vector": ObservationSpec("vector", (2,), ("x", "y"))},
                          ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0)))
    g = torch.Generator().manual_seed(0)
    moves = torch.rand(20, 20, 2, generator=g) * 2 - 1
    with CacheWriter(path, signature, origin="walks") as writer:
        writer.append(Episode({"vector": torch.cat([torch.zeros(1, 2), m.cumsum(0)])}, m) for m in moves)
        writer.finish()
    return Dataset.open(path)


def config(*objectives, **changes) -> TrainConfig:
    agent = AgentConfig(perception=VectorEncoder.Config(hidden=(16,), size=8),
                        world_model=ResidualModel.Config(width=16))
    return TrainConfig(agent=agent, objectives=objectives, steps=6, window=8, batch_size=8, precision="fp32",
                       probe=False, **changes)


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_the_trained_head_is_the_cost_of_a_loaded_agent(tmp_path: Path, average: float) -> None:
    log, head = log_at(tmp_path / "log"), Reachability.Config(budgets=(1, 3), width=12)
    settings = config(Prediction.Config(), VICReg.Config(), head, average=average)
    with create_run(tmp_path / "run", settings, log, recipe="test") as run:
        training.train(settings, log, run)
    run = Run.open(tmp_path / "run")
    cost = reachable_cost(run, beyond=4)
    assert cost.config.budgets == (1, 3)
    assert cost.config.beyond == 4
    state = run.checkpoint().path / "state.safetensors"
    for name, x in cost.head.state_dict().items():
        assert torch.equal(load_file(state)[f"weights.objectives.objectives.2.head.{name}"], x), name
    agent = Agent.load(run)
    agent.add_cost(cost)
    store_additions(agent, run)
    again = next(c for c in Agent.load(run).costs if c.name == "reachable")
    states, goal, remaining = torch.randn(5, 8), torch.randn(5, 8), torch.tensor([0, 1, 2, 3, 9])
    assert torch.equal(again.probability(states, goal, remaining), cost.probability(states, goal, remaining))


def test_a_run_without_such_a_head_says_so(tmp_path: Path) -> None:
    log, settings = log_at(tmp_path / "log"), config(Prediction.Config(), VICReg.Config())
    with create_run(tmp_path / "run", settings, log, recipe="test") as run:
        training.train(settings, log, run)
    with pytest.raises(ConfigError, match="a run that trained Reachability"):
        reachable_cost(Run.open(tmp_path / "run"))
