"""Trials before cameras: B scenes side by side, pictures only when somebody looks; and what is asked of them.

Knows scenes and aims by their abstract classes only.

Shapes: B episodes, A action size, C columns of the truth.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor

from steersman.core import ActionError, ColumnGoal, Goal, Observation, ObservationGoal
from steersman.worlds.filmed.camera import Camera
from steersman.worlds.filmed.logging import Habit
from steersman.worlds.trials import Trials


class Aim(ABC):
    """What is asked of B episodes, and whether it is reached.

    told  as an agent is told, with a leading B: columns or a picture
    """

    told: ColumnGoal | ObservationGoal

    @abstractmethod
    def reached(self, truth: Tensor) -> Tensor:
        """(B, C) -> (B,) bool."""

    @abstractmethod
    def first(self, count: int) -> Aim:
        """Of the first `count` episodes."""


class Within(Aim):
    """Columns within ranges.

    columns  of the truth (C)
    ranges   column -> least and largest value that counts as there: numbers, or (B,)
    """

    def __init__(self, told: ColumnGoal | ObservationGoal, columns: Sequence[str],
                 ranges: Mapping[str, tuple[float | Tensor, float | Tensor]]) -> None:
        self.told, self._columns, self._ranges = told, columns, ranges

    def reached(self, truth: Tensor) -> Tensor:
        there = torch.ones(len(truth), dtype=torch.bool)
        for name, (low, high) in self._ranges.items():
            values = truth[:, self._columns.index(name)]
            there &= (values >= low) & (values <= high)
        return there

    def first(self, count: int) -> Within:
        few = {name: tuple(bound[:count] if isinstance(bound, Tensor) else bound for bound in bounds)
               for name, bounds in self._ranges.items()}
        return Within(first_told(self.told, count), self._columns, few)  # type: ignore[arg-type]


def first_told(told: ColumnGoal | ObservationGoal, count: int) -> ColumnGoal | ObservationGoal:
    """What the first `count` episodes are told."""
    if isinstance(told, ObservationGoal):
        return told.rows(slice(count))
    return replace(told, targets={name: torch.as_tensor(value)[:count] for name, value in told.targets.items()})


class FilmedTrials(Trials):
    """B cameras side by side, each until its scene's own end. A picture is drawn when somebody looks, and once.

    returns    (B,) rewards summed so far: for tables only, no agent sees them
    lengths    (B,) steps so far
    sustained  the aim is to be kept: what counts is whether it is met at the last step
    chance     how the strongest policy that looks at nothing acts
    """

    returns: Tensor

    def __init__(self, cameras: Sequence[Camera], aim: Aim, *, sustained: bool = False,
                 chance: Habit = Habit()) -> None:  # noqa: B008 (frozen)
        """The cameras' scenes stand at their starts."""
        self.cameras, self.aim, self.sustained, self.chance = cameras, aim, sustained, chance
        self.signature = cameras[0].signature
        self.returns = torch.zeros(len(cameras), dtype=torch.float64)
        self.lengths = torch.zeros(len(cameras), dtype=torch.long)
        self._over = torch.zeros(len(cameras), dtype=torch.bool)
        self._truth = torch.stack([torch.from_numpy(camera.scene.truth().copy()) for camera in cameras])
        self._seen: list[Observation | None] = [None] * len(cameras)

    def __len__(self) -> int:
        return len(self.cameras)

    def first(self, count: int) -> Self:
        few = copy.copy(self)
        few.cameras, few.aim, few._seen = self.cameras[:count], self.aim.first(count), self._seen[:count]
        few.returns, few.lengths = self.returns[:count].clone(), self.lengths[:count].clone()
        few._over, few._truth = self._over[:count].clone(), self._truth[:count].clone()
        return few

    def goals(self) -> Goal:
        return self.aim.told

    def observe(self) -> Observation:
        seen: list[Observation] = []
        for i, camera in enumerate(self.cameras):
            now = self._seen[i]
            if now is None:
                now = self._seen[i] = camera.look()
            seen.append(now)
        return {name: torch.stack([one[name] for one in seen]) for name in seen[0]}

    def step(self, action: Tensor, moving: Tensor | None = None) -> None:
        on = ~self._over if moving is None else moving & ~self._over
        self._require(action, on)
        for i in on.nonzero()[:, 0].tolist():
            scene = self.cameras[i].scene
            went = scene.step(action[i])
            self._over[i], self._seen[i] = went.over, None
            self.returns[i] += went.reward
            self.lengths[i] += 1
            self._truth[i] = torch.from_numpy(scene.truth())

    def truth(self) -> Tensor:
        """(B, C) true values of the scene's columns now: for people, never for an agent."""
        return self._truth.clone()

    def solved(self) -> Tensor:
        return self.aim.reached(self._truth)

    def over(self) -> Tensor:
        return self._over.clone()

    def drift(self, generator: torch.Generator) -> Callable[[], Tensor]:
        return self.following(self.chance, generator)

    def following(self, habit: Habit, generator: torch.Generator) -> Callable[[], Tensor]:
        """Whoever acts as a log was made, or as the scene's script does (`Habit(scripted=1)`), which sees the truth: a
        bar to measure against. Every call gives actions (B, A)."""
        acting = [habit.acting(camera.scene, generator) for camera in self.cameras]
        return lambda: torch.stack([act() for act in acting])

    def _require(self, action: Tensor, on: Tensor) -> None:
        spec = self.signature.action
        if tuple(action.shape) != (len(self), spec.size):
            raise ActionError(f"actions ({len(self)}, {spec.size}) for {self.cameras[0].scene.id}",
                              f"{tuple(action.shape)}", "give one for each episode")
        low, high = ((0.0,), (spec.choices - 1.0,)) if spec.kind == "discrete" else (spec.low, spec.high)
        least, most = torch.tensor(low), torch.tensor(high)
        slack = 1e-5 * (most - least)
        outside = ~((action >= least - slack) & (action <= most + slack)).all(1) & on
        if bool(outside.any()):
            raise ActionError(f"actions within {list(low)} and {list(high)} for {self.cameras[0].scene.id}",
                              f"{action[outside][0].tolist()}", "bound the plan")
