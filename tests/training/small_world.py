"""A world, a dataset in memory and a model so small that a training step takes a millisecond."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor

from steersman.agent import AgentConfig
from steersman.core import ActionSpec, ObservationSpec, Signature, Window
from steersman.objectives import Prediction, VICReg
from steersman.perception import VectorEncoder
from steersman.training import RolloutStage, TrainConfig
from steersman.world_model import ResidualModel

SIGNATURE = Signature(
    {"vector": ObservationSpec("vector", (3,), ("x", "y", "z"))},
    ActionSpec("continuous", low=(-1.0, -1.0), high=(1.0, 1.0)),
)


class Drift:
    """Episodes of a point that drifts with its actions; what training needs of a dataset, in memory."""

    def __init__(self, episodes: int = 12, steps: int = 20, seed: int = 0) -> None:
        g = torch.Generator().manual_seed(seed)
        self.actions = torch.rand(episodes, steps, 2, generator=g) * 2 - 1
        mix = torch.randn(2, 3, generator=g)
        self.states = torch.cat([torch.zeros(episodes, 1, 3), 0.3 * (self.actions @ mix).cumsum(1)], 1)
        self.lengths = torch.full((episodes,), steps)
        self.signature, self.fingerprint, self.path = SIGNATURE, f"drift-{seed}", Path("drift")

    def subset(self, episodes: Tensor) -> Drift:
        """Some of the episodes."""
        part = copy.copy(self)
        part.actions, part.states, part.lengths = (x[episodes] for x in (self.actions, self.states, self.lengths))
        return part

    def windows(self, episode: Tensor, start: Tensor, length: int) -> Window:
        rows = start[:, None] + torch.arange(length + 1)
        e = episode[:, None]
        return Window({"vector": self.states[e, rows]}, self.actions[e, rows[:, :-1]], None, episode, start)


def agent(history: int = 1, width: int = 16) -> AgentConfig:
    return AgentConfig(
        perception=VectorEncoder.Config(hidden=(16,), size=8),
        world_model=ResidualModel.Config(width=width),
        history=history,
    )


def config(**changes: object) -> TrainConfig:
    settings = {
        "agent": agent(),
        "objectives": (Prediction.Config(), VICReg.Config()),
        "steps": 30,
        "window": 8,
        "batch_size": 6,
        "rollout": (RolloutStage(until=0.5, starts=2, horizon=4), RolloutStage(starts=1, horizon=8)),
        "precision": "fp32",
        "gauge_every": 10,
        "checkpoint_seconds": 0,
        "checkpoint_steps": 5,
    }
    return TrainConfig(**(settings | changes))
