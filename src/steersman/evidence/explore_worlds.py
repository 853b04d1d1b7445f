"""Worlds that are explored from a log of a part of them: what the log holds, what is forbidden, and truth to compare
with. Hazards whose log is slow, and nine rooms whose log holds three.

Knows the worlds, not who explores. Shapes: B episodes, n states, H steps, A action size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from steersman.actor import ICEM, Backup
from steersman.actor.policy.manoeuvres import Brake
from steersman.agent import Agent, AgentConfig
from steersman.core import Episode, Guardrail, Latent, PlannerConfig, Signature, WorldModelConfig
from steersman.cost import Box, OnColumns
from steersman.evidence import guardrails_trial
from steersman.objectives import Prediction
from steersman.perception import LinearReadout, VectorEncoder
from steersman.training import RolloutStage, TrainConfig
from steersman.world_model import ResidualModel
from steersman.worlds import Trials, hazards, snake
from steersman.worlds.hazards_env import Hazards
from steersman.worlds.held import held_actions
from steersman.worlds.nine_rooms import DISK, SIDE, NineRooms, RoomWalks

AHEAD = 5
"""Steps after which predictions are held against the truth."""
MEMBERS = 5


class Ground(ABC):
    """One world to explore.

    length, batch  actions of an episode of exploration, and episodes side by side in a round
    trip           actions of a trip to a goal, at most
    unit           m: an error of one metre is divided by it
    """

    signature: Signature
    length: int
    batch: int
    trip: int

    @abstractmethod
    def log(self, seed: int) -> list[Episode]:
        """What was recorded before."""

    @abstractmethod
    def starts(self, count: int, seed: int) -> Trials:
        """Where episodes of exploration begin: in the part that the log shows."""

    @abstractmethod
    def trips(self, count: int, seed: int) -> Trials:
        """Starts and goals over all of the world."""

    @abstractmethod
    def states(self, count: int, seed: int) -> Any:
        """Uniform over everything that can be reached."""

    @abstractmethod
    def after(self, states: Any, actions: Tensor) -> tuple[Tensor, Tensor]:
        """What is observed in states (n), (n, C), and the places (n, 2) that actions (n, H, A) truly lead to."""

    @abstractmethod
    def guardrails(self, agent: Agent) -> tuple[Guardrail, ...]:
        """What is forbidden, with what is kept for the model's error."""

    @abstractmethod
    def configuration(self, seed: int, steps: int | None = None) -> TrainConfig:
        """Of the trainings."""

    @torch.inference_mode()
    def error(self, agent: Agent, seed: int, count: int = 1000) -> float:
        """Root mean square distance, m, between where `AHEAD` held actions are imagined to lead and where they do."""
        assert agent.readout is not None
        generator = torch.Generator().manual_seed(seed)
        actions = held_actions(self.signature.action, count, AHEAD, generator)
        seen, true = self.after(self.states(count, seed), actions)
        belief = agent.world_model.begin(Latent(agent.encode({"vector": seen}).state[:, None]), actions[:, :0])
        states = agent.world_model.imagine(belief, actions[:, None]).states[:, 0, -1:]
        index = [agent.readout.columns.index(name) for name in ("x", "y")]
        foreseen = agent.readout.read(states)[:, 0, index]
        return float((foreseen - true).square().sum(1).clamp(max=100).mean().sqrt())


def _configuration(model: WorldModelConfig, planner: PlannerConfig, seed: int, **others: Any) -> TrainConfig:
    return TrainConfig(
        agent=AgentConfig(perception=VectorEncoder.Config(size=0, hidden=(), keep=True), world_model=model,
                          planner=planner, readout=LinearReadout.Config()),
        held_out=0.1, seed=seed, gauge_every=0, **others)


class SlowHazards(Ground):
    """Hazards; the log holds white noise from rest: the point trembles where it began and is never fast."""

    length, batch, trip = 40, 16, 80
    world = Hazards.Config()
    signature = world.signature

    def log(self, seed: int) -> list[Episode]:
        return recorded(self.starts(24, seed), 30, torch.Generator().manual_seed(seed))

    def starts(self, count: int, seed: int) -> Trials:
        return self.world.begin(count, seed)

    def trips(self, count: int, seed: int) -> Trials:
        return self.world.begin(count, seed)

    def states(self, count: int, seed: int) -> hazards.HazardState:
        return hazards.sample_states(self.world, count, torch.Generator().manual_seed(seed))

    def after(self, states: hazards.HazardState, actions: Tensor) -> tuple[Tensor, Tensor]:
        seen = hazards.observe(states)
        for action in actions.unbind(1):
            states, _ = hazards.step(self.world, states, action)
        return seen, states.position

    def guardrails(self, agent: Agent) -> tuple[Guardrail, ...]:
        assert agent.readout is not None
        kept = tuple(0.05 + 0.02 * step for step in range(26))
        return guardrails_trial.guardrails(agent.readout, self.world, kept)  # type: ignore[arg-type]

    def configuration(self, seed: int, steps: int | None = None) -> TrainConfig:
        rest = Box.Config(limits={"vx": (-0.3, 0.3), "vy": (-0.3, 0.3)}, name="at rest")
        planner = Backup.Named(
            planner=ICEM.Config(samples=32, iterations=2, elites=6, horizon=15, spread=1.0),
            manoeuvre=Brake.Config(columns=("vx", "vy"), gain=1 / (self.world.thrust * self.world.step)), rest=rest,
            directions=12, lengths=(1, 3, 6, 10), rounds=0)
        return _configuration(
            ResidualModel.Config(width=64, members=MEMBERS, linear=True), planner, seed,
            objectives=(Prediction.Config(weight=4.0),), steps=steps or 1000, window=5, batch_size=128,
            rollout=(RolloutStage(starts=1, horizon=5),), lr=4e-3)


class ThreeOfNine(Ground):
    """Nine rooms in a snake with a disk in each that is not to be entered; the log holds the first three rooms."""

    length, batch, trip = 100, 16, 100
    seen = 3
    world = NineRooms(disks=True)
    signature = world.signature

    def log(self, seed: int) -> list[Episode]:
        """Held pushes. Episodes that left the rooms are cut where they did."""
        found = []
        for episode in recorded(self.starts(24, seed), 60, torch.Generator().manual_seed(seed), self.world.hold):
            inside = snake.room_of(SIDE, episode.observations["vector"][:, :2]) < self.seen
            stay = int(inside.cumprod(0).sum()) - 1
            if stay > 5:
                found.append(Episode({"vector": episode.observations["vector"][: stay + 1]}, episode.actions[:stay]))
        return found

    def starts(self, count: int, seed: int) -> Trials:
        generator = torch.Generator().manual_seed(seed)
        walk = self.world.sample(12 * count, generator)
        rows = (snake.room_of(SIDE, walk.position) < self.seen).nonzero()[:count, 0]
        return RoomWalks(self.world, walk.rows(rows), generator)

    def trips(self, count: int, seed: int) -> Trials:
        """At most two doors away: what a flat planner can do."""
        generator = torch.Generator().manual_seed(seed)
        walk = self.world.sample(12 * count, generator)
        apart = (snake.room_of(SIDE, walk.position) - snake.room_of(SIDE, walk.goal)).abs()
        return RoomWalks(self.world, walk.rows((apart <= 1).nonzero()[:count, 0]), generator)

    def states(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        place = SIDE * snake.ROOM * torch.rand(8 * count, 2, generator=generator)
        wall = snake.walls(torch.tensor([self.world.doors]), SIDE)
        place = place[snake.is_free(wall.expand(len(place), -1, -1), place, SIDE)][:count]
        top = snake.PUSH / (1 - snake.KEPT)
        return place, top * (2 * torch.rand(count, 2, generator=generator) - 1)

    def after(self, states: tuple[Tensor, Tensor], actions: Tensor) -> tuple[Tensor, Tensor]:
        place, speed = states
        wall = snake.walls(torch.tensor([self.world.doors]), SIDE).expand(len(place), -1, -1)
        for action in actions.unbind(1):
            place, speed = snake.move(wall, place, speed, action, SIDE)
        return torch.cat(states, 1), place

    def guardrails(self, agent: Agent) -> tuple[Guardrail, ...]:
        assert agent.readout is not None
        middles = self.world.disk_places(torch.tensor([self.world.doors]))[0]

        def inside(columns: Mapping[str, Tensor]) -> Tensor:
            place = torch.stack([columns["x"], columns["y"]], -1)[..., None, :]
            return DISK - (place - middles).norm(dim=-1).amin(-1)

        return (OnColumns(agent.readout, inside, margin=0.03, name="out of the disks"),)

    def configuration(self, seed: int, steps: int | None = None) -> TrainConfig:
        rest = Box.Config(limits={"vx": (-0.01, 0.01), "vy": (-0.01, 0.01)}, name="at rest")
        planner = Backup.Named(
            planner=ICEM.Config(samples=48, iterations=2, elites=6, horizon=20, spread=1.0),
            manoeuvre=Brake.Config(columns=("vx", "vy"), gain=snake.KEPT / snake.PUSH), rest=rest,
            steps=10, commit=(1, 3), lengths=(1, 2, 3, 5), directions=12, rounds=0)
        return _configuration(
            ResidualModel.Config(width=96, members=MEMBERS, linear=True, waves=5), planner, seed,
            objectives=(Prediction.Config(per_change=True),), steps=steps or 800, window=2, batch_size=256,
            rollout=(RolloutStage(starts=1, horizon=2),), lr=5e-3)


GROUNDS: dict[str, Ground] = {"hazards": SlowHazards(), "nine-rooms": ThreeOfNine()}


def recorded(trials: Trials, steps: int, generator: torch.Generator, hold: float = 1.0) -> list[Episode]:
    """Held actions of nobody who looks, one episode for each of the trials."""
    actions = held_actions(trials.signature.action, len(trials), steps, generator, hold)
    seen = [trials.observe()["vector"]]
    for action in actions.unbind(1):
        trials.step(action)
        seen.append(trials.observe()["vector"])
    return [Episode({"vector": o}, a) for o, a in zip(torch.stack(seen, 1).unbind(0), actions.unbind(0), strict=True)]
