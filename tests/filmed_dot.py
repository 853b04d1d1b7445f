"""A bright dot that its actions push over a dark floor with a lamp that never moves, filmed; a perception that reads it
exactly, a model of it that is exact or wrong on purpose, and logs of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch
from torch import Tensor

from steersman import training
from steersman.agent import Agent, AgentConfig
from steersman.core import (
    ActionSpec,
    Belief,
    Episode,
    Imagined,
    Latent,
    ObservationSpec,
    Pace,
    Perception,
    Signature,
    register,
)
from steersman.core.pacing import unstacked
from steersman.data import CacheWriter, Dataset
from steersman.perception import ConvEncoder, LinearReadout
from steersman.recipes import pixels
from steersman.runs import Run
from steersman.world_model import ResidualModel

SIDE = 24
SEEN = Signature(
    {"image": ObservationSpec("image", (SIDE, SIDE, 3))}, ActionSpec("continuous", low=(-1.0, -1.0), high=(1.0, 1.0)))
LABELLED = Signature(
    {**SEEN.observations, "vector": ObservationSpec("vector", (2,), ("x", "y"))}, SEEN.action)


def pictures(places: Tensor) -> Tensor:
    """(…, 2) x, y -> (…, SIDE, SIDE, 3) uint8: a dot of 3×3 pixels; the lamp is at the lower right."""
    axis = torch.arange(SIDE)
    at = places.round()[..., None, None, :]
    dot = ((axis[None, :] - at[..., 0]).abs() <= 1) & ((axis[:, None] - at[..., 1]).abs() <= 1)
    film = torch.full((*dot.shape, 3), 20, dtype=torch.uint8)
    film[..., SIDE - 4 :, SIDE - 4 :, 2] = 255
    film[dot] = torch.tensor([250, 200, 20], dtype=torch.uint8)
    return film


def episode(steps: int, generator: torch.Generator, labelled: bool = False) -> Episode:
    start = torch.rand(2, generator=generator) * 8 + 6
    actions = torch.rand(steps, 2, generator=generator) * 2 - 1
    places = torch.cat([start[None], actions]).cumsum(0).clamp(3, SIDE - 8).round()
    actions = places.diff(dim=0).clamp(-1, 1)
    seen = {"image": pictures(places)}
    return Episode(seen | ({"vector": places} if labelled else {}), actions)


def log_of(path: Path, episodes: int = 8, steps: int = 20, labelled: bool = False, seed: int = 0) -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    with CacheWriter(path, LABELLED if labelled else SEEN, origin=f"{path.name} {seed}") as writer:
        writer.append([episode(steps, generator, labelled) for _ in range(episodes)])
        writer.finish()
    return Dataset.open(path)


def dot_of(images: Tensor) -> Tensor:
    """(…, SIDE, SIDE, 3) -> (…, 2): where the dot is."""
    bright = (images[..., 0] > 100).float()
    axis, whole = torch.arange(float(SIDE)), bright.sum((-1, -2)).clamp(min=1)
    return torch.stack([(bright.sum(-2) * axis).sum(-1), (bright.sum(-1) * axis).sum(-1)], -1) / whole[..., None]


class Dot(Perception):
    """The latent is where the dot is in the newest picture."""

    latent_shape = (2,)

    def __init__(self, frames: int = 1) -> None:
        super().__init__()
        self.frames = frames

    def encode(self, observation: dict[str, Tensor], task: object = None) -> Latent:
        return Latent(dot_of(unstacked(observation["image"], self.frames)[..., 0, :, :, :]))


class Dots(Perception):
    """The latent is where the dot is in each picture of a moment, behind a linear layer that is the identity."""

    @register(Perception)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="dots"):
        def build(self, signature: Signature) -> Dots:
            return Dots(signature.observations["image"].frames)

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.layer = torch.nn.Linear(2 * frames, 2 * frames)
        torch.nn.init.eye_(self.layer.weight)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return (2 * self.frames,)

    def encode(self, observation: dict[str, Tensor], task: object = None) -> Latent:
        return Latent(self.layer(dot_of(unstacked(observation["image"], self.frames)).flatten(-2)))


class Pushes(torch.nn.Module):
    """s' = s + gain · (the sum of a step's actions)."""

    latent_variable = None

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        return Belief(latent.state[:, -1])

    def imagine(self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, u: object = None) -> Imagined:
        moved = self.gain * actions.unflatten(-1, (-1, 2)).sum(-2).cumsum(2)
        start = belief.state[:, None, None].expand(-1, actions.shape[1], 1, -1)
        return Imagined(torch.cat([start, start + moved], 2))


def agent_of(gain: float = 1.0, pace: Pace = Pace(), history: int = 1) -> Agent:  # noqa: B008 (frozen)
    """One that sees the dot and believes that actions push it `gain` times as far as they do."""
    config = AgentConfig(perception=ConvEncoder.Config(), world_model=ResidualModel.Config(width=8), history=history)
    readout = LinearReadout.Config().build(("x", "y"), (2,))
    places = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) * SIDE
    readout.fit(places, places)
    return Agent(config, SEEN.paced(pace), Dot(pace.frames), Pushes(gain), readout=readout)  # type: ignore[arg-type]


def run_of(
    path: Path, log: Dataset, pace: Pace = Pace(step=2, frames=2), dots: bool = False, **changes: object  # noqa: B008
) -> Run:
    """A run of the recipe for pixels that has taken a single step on `log`; dots: with an encoder that reads them."""
    settings = {"steps": 1, "window": 3, "batch_size": 4, "size": 8, "width": 8, "held_out": 0.3, **changes}
    config = msgspec.structs.replace(pixels.recipe(**settings), pace=pace, precision="fp32")  # type: ignore[arg-type]
    if changes.get("tokens"):  # the recipe's grid is that of larger pictures
        config = msgspec.structs.replace(config, agent=msgspec.structs.replace(
            config.agent, world_model=msgspec.structs.replace(config.agent.world_model, grid=()),
            readout=LinearReadout.Config()))
    if dots:
        config = msgspec.structs.replace(config, agent=msgspec.structs.replace(config.agent, perception=Dots.Config()))
    with training.create_run(path, config, log, recipe="pixels") as run:
        training.train(config, log, run)
    return Run.open(path)
