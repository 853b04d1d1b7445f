"""What all agents of `steersman evidence control` are given: a log of so many steps, what a step costs, what is asked.

Three of Gymnasium's worlds as vectors, scored by return, and nine rooms, scored by goals reached. Knows no agent.

Shapes: B problems, K candidates, H horizon, C columns, A action size, G columns of a goal; … leading sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from steersman.core import (
    ColumnGoal,
    Cost,
    Imagined,
    ObservationGoal,
    PlanningError,
    Readout,
    Signature,
    Task,
    UsageError,
)
from steersman.data import CacheWriter, Dataset
from steersman.recipes import far, vectors
from steersman.training import TrainConfig
from steersman.worlds import GymnasiumWorld, NineRooms, held, make_env, record

Stage = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Columns after a step (…, C), the action (…, A), the goal (…, G) -> what the step costs (…): minus the world's own
reward, up to a constant."""
RANGES = ("short", "middle", "long")


@dataclass(frozen=True)
class ControlWorld:
    """One world.

    env       of Gymnasium; "": nine rooms
    columns   C names, in the order of the observation
    steps     of the world that everybody learns from
    longest   steps of an episode of the log, and of one that is scored
    hold      steps for which the log holds an action on average
    stage     minus the world's own reward
    over      columns (…, C) -> where the world ends an episode by itself (…); None: nowhere
    goal, scale  what ours is told to reach: columns and the size of an error that counts as 1
    shown     the same as a whole observation, for policies that are shown a goal
    told      columns of the goal of each episode; (): one goal for all
    ours      recipe of ours, given its seed and perhaps its steps
    calls     predictor calls a decision at which planners are compared
    """

    env: str
    columns: tuple[str, ...]
    steps: int
    longest: int
    stage: Stage
    ours: Callable[..., TrainConfig]
    calls: int
    hold: float = 1.0
    over: Callable[[Tensor], Tensor] | None = None
    goal: Mapping[str, float] = field(default_factory=dict)
    scale: Mapping[str, float] = field(default_factory=dict)
    shown: tuple[float, ...] = ()
    told: tuple[str, ...] = ()

    @property
    def rooms(self) -> bool:
        """Whether episodes have goals of their own, and reaching them is the score."""
        return not self.env

    def task(self, weights: Mapping[str, float] | None = None, **more: Any) -> Task:
        """Ours, or by other weights; the goal of rooms is each episode's."""
        goal = ColumnGoal(self.goal, self.scale) if self.goal else ColumnGoal({"x": 0.0, "y": 0.0}, {"x": 1, "y": 1})
        return Task(goal, weights=weights or {"goal": 1.0}, **more)

    def whole_goal(self) -> Task:
        """One goal for all episodes, as a whole observation."""
        return Task(ObservationGoal({"vector": torch.tensor(self.shown)}))

    def log(self, folder: Path, seed: int, steps: int | None = None) -> Dataset:
        """Random actions: the steps that everybody learns from."""
        count = steps or self.steps
        if self.rooms:
            world = NineRooms()
            signature = world.signature
            episodes: Any = world.log(-(-count // self.longest), self.longest, seed)
        else:
            gym = GymnasiumWorld(make_env(self.env))
            signature = gym.signature
            episodes = record(gym.env, steps=count, longest=self.longest, seed=seed, adapter=gym.adapter,
                              behaviour=held(signature.action, self.hold))
        with CacheWriter(folder, signature, origin=f"random actions, seed {seed}") as writer:
            writer.append(episodes)
            writer.finish()
        return Dataset.open(folder)


class StageCost(Cost):
    """e_t = stage(columns after step t, a_t, goal): minus the world's own reward."""

    name: ClassVar[str] = "stage"

    def __init__(self, world: ControlWorld, readout: Readout) -> None:
        self.world, self.readout = world, readout

    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        columns = self.readout.read(imagined.states[:, :, 1:], imagined.context)
        goal = told(self.world, task, len(columns), columns)
        return self.world.stage(columns, actions.to(columns.dtype), goal[:, None, None].expand(*columns.shape[:3], -1))


def told(world: ControlWorld, task: Task, count: int, like: Tensor) -> Tensor:
    """The goal of each of `count` problems, (B, G).

    Raises:
        PlanningError: a goal that does not name them.
    """
    given = task.goal.targets if isinstance(task.goal, ColumnGoal) else {}
    if not set(world.told) <= set(given):
        raise PlanningError(f"a goal on {', '.join(world.told)}", ", ".join(given) or type(task.goal).__name__,
                            "name the columns in a ColumnGoal")
    values = [torch.as_tensor(given[name]).to(like).expand(count) for name in world.told]
    return torch.stack(values, -1) if values else like.new_zeros(count, 0)


# What a step costs --------------------------------------------------------------------------------------------------


def _pendulum(columns: Tensor, actions: Tensor, goal: Tensor) -> Tensor:
    """θ² + .1 ω² + .001 u²."""
    angle = torch.atan2(columns[..., 1], columns[..., 0])
    return angle.square() + 0.1 * columns[..., 2].square() + 0.001 * actions[..., 0].square()


def _fallen(columns: Tensor) -> Tensor:
    """Beyond 12 degrees, or 2.4 m."""
    return (columns[..., 2].abs() > 0.2095) | (columns[..., 0].abs() > 2.4)


def _cartpole(columns: Tensor, actions: Tensor, goal: Tensor) -> Tensor:
    return _fallen(columns).to(columns)


def _swung_up(columns: Tensor) -> Tensor:
    """-cos θ₁ - cos(θ₁ + θ₂) > 1."""
    cos1, sin1, cos2, sin2 = columns[..., :4].unbind(-1)
    return -cos1 - (cos1 * cos2 - sin1 * sin2) > 1


def _acrobot(columns: Tensor, actions: Tensor, goal: Tensor) -> Tensor:
    return (~_swung_up(columns)).to(columns)


def _rooms(columns: Tensor, actions: Tensor, goal: Tensor) -> Tensor:
    """Metres to the goal: the rooms have no reward of their own."""
    return (columns[..., :2] - goal).norm(dim=-1)


def _ours(window: int, horizon: int, samples: int, lr: float, steps: int) -> Callable[..., TrainConfig]:
    return partial(vectors.recipe, window=window, size=5, horizon=horizon, samples=samples, iterations=2, lr=lr,
                   steps=steps)


WORLDS: Mapping[str, ControlWorld] = {
    "pendulum": ControlWorld(
        env="Pendulum-v1", columns=("cos", "sin", "speed"), steps=5_000, longest=200, stage=_pendulum,
        ours=_ours(16, 35, 128, 8e-3, 1500), calls=2000, goal={"cos": 1.0, "sin": 0.0, "speed": 0.0},
        shown=(1.0, 0.0, 0.0)),
    "cartpole": ControlWorld(
        env="CartPole-v1", columns=("position", "speed", "angle", "turn"), steps=5_000, longest=500, stage=_cartpole,
        over=_fallen, ours=_ours(8, 20, 64, 4e-3, 1000), calls=2000, goal={"position": 0.0, "angle": 0.0},
        scale={"position": 2.4, "angle": 0.21}, shown=(0.0, 0.0, 0.0, 0.0)),
    "acrobot": ControlWorld(
        env="Acrobot-v1", columns=("cos1", "sin1", "cos2", "sin2", "speed1", "speed2"), steps=10_000, longest=500,
        stage=_acrobot, over=_swung_up, hold=4.0, ours=_ours(16, 40, 128, 8e-3, 1000), calls=2000,
        goal={"cos1": -1.0, "cos2": 1.0}, shown=(-1.0, 0.0, 1.0, 0.0, 0.0, 0.0)),
    "rooms": ControlWorld(
        env="", columns=("x", "y", "vx", "vy"), steps=60_000, longest=200, stage=_rooms, hold=8.0,
        ours=far.recipe, calls=160, told=("x", "y")),
}
"""By name. Acrobot and CartPole end an episode by themselves; the pendulum and the rooms do not."""


def control_world(name: str) -> ControlWorld:
    """
    Raises:
        UsageError: there is none of that name.
    """
    if name not in WORLDS:
        raise UsageError(f"a world of {', '.join(WORLDS)}", repr(name), "choose one of them")
    return WORLDS[name]


@dataclass(frozen=True)
class Pieces:
    """Windows of a log as learners of rewards see them, L = H + 1 moments each.

    seen     (B, L, C) columns;  actions (B, H, A);  goal (B, G) in hindsight, where episodes have one
    cost     (B, H) of each step;  over (B, H) bool: the world ended there
    """

    seen: Tensor
    actions: Tensor
    goal: Tensor
    cost: Tensor
    over: Tensor


def draw(world: ControlWorld, log: Dataset, count: int, length: int, generator: torch.Generator) -> Pieces:
    """`count` windows of `length` steps; goals are places where the log went, half of them later on the same way."""
    episode, row = log.draw(count, length, generator)
    window = log.windows(episode, row, length)
    seen, goal = window.observations["vector"], window.actions.new_zeros(count, 0, dtype=torch.float32)
    if world.told:
        later = (row + 1 + torch.randint(world.longest, (count,), generator=generator)).minimum(log.lengths[episode])
        other, place = log.draw(count, 1, generator)
        same = torch.rand(count, generator=generator) < 0.5
        goal = log.frames(torch.where(same, episode, other), torch.where(same, later, place))["vector"]
        goal = goal[:, [world.columns.index(name) for name in world.told]]
    each = goal[:, None].expand(-1, length, -1)
    cost = world.stage(seen[:, 1:], window.actions.to(seen.dtype), each)
    over = torch.zeros_like(cost, dtype=torch.bool) if world.over is None else world.over(seen[:, 1:])
    return Pieces(seen, window.actions, goal, cost, over)


def signature_of(world: ControlWorld) -> Signature:
    """What is observed and done there."""
    return NineRooms().signature if world.rooms else GymnasiumWorld(make_env(world.env)).signature
