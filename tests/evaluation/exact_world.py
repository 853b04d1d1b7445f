"""A point that its actions push, a model of it that is exact or wrong on purpose, and logs of it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from steersman.agent import Agent, AgentConfig
from steersman.core import (
    ActionSpec,
    Belief,
    Episode,
    Imagined,
    Latent,
    ObservationSpec,
    Perception,
    Readout,
    Signature,
    WorldModel,
)
from steersman.data import CacheWriter, Dataset
from steersman.perception import VectorEncoder
from steersman.world_model import ResidualModel

PUSHED = Signature(
    {"vector": ObservationSpec("vector", (2,), ("x", "y"))}, ActionSpec("continuous", low=(-1.0, -1.0), high=(1.0, 1.0))
)


class Seen(Perception):
    """The latent is the observation."""

    latent_shape = (2,)

    def encode(self, observation: dict[str, Tensor], task: object = None) -> Latent:
        return Latent(observation["vector"])


class Pushed(WorldModel):
    """s' = s + gain · sin(3 a); the log's world has gain 1."""

    def __init__(self, gain: float = 1.0, drift: float = 0.0) -> None:
        super().__init__()
        self.gain, self.drift = gain, drift

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        return Belief(latent.state[:, -1])

    def imagine(self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, u: object = None) -> Imagined:
        moved = (self.gain * torch.sin(3 * actions) + self.drift).cumsum(2)
        start = belief.state[:, None, None].expand(-1, actions.shape[1], 1, -1)
        return Imagined(torch.cat([start, start + moved], 2))


class Shown(Readout):
    columns = ("x", "y")

    def read(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        return states


def agent_of(model: WorldModel, readout: bool = True) -> Agent:
    config = AgentConfig(perception=VectorEncoder.Config(), world_model=ResidualModel.Config())
    return Agent(config, PUSHED, Seen(), model, readout=Shown() if readout else None)


def log_of(path: Path, episodes: int, steps: int, seed: int = 0, noise: float = 0.0) -> Dataset:
    """Random pushes; `noise` on what is observed."""
    g = torch.Generator().manual_seed(seed)
    with CacheWriter(path, PUSHED) as writer:
        for _ in range(episodes):
            actions = torch.rand(steps, 2, generator=g) * 2 - 1
            places = torch.cat([torch.randn(1, 2, generator=g), torch.sin(3 * actions)]).cumsum(0)
            places += noise * torch.randn(places.shape, generator=g)
            writer.append([Episode({"vector": places}, actions)])
        writer.finish(f"{seed}")
    return Dataset.open(path)
