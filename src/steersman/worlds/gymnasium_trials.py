"""Trials in any Gymnasium environment: N of them side by side, and tasks for some of Gymnasium's own.

Shapes: B episodes, A action size, C columns.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Tensor

from steersman.core import ColumnGoal, Goal, Observation, ObservationGoal, Signature, UsageError
from steersman.worlds.gymnasium import GymnasiumWorld, make_env
from steersman.worlds.trials import Trials, World


class GymnasiumTrials(Trials):
    """B environments, each until its own end; those that are over stay at their last observation.

    returns, lengths  of each episode so far; the reward is for tables only, no agent sees it
    """

    returns: Tensor

    def __init__(
        self, worlds: Sequence[GymnasiumWorld], seeds: Sequence[int], *, goal: Mapping[str, float] | None = None,
        success: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        """goal: columns to bring to values; success: least and largest value of columns that count as there (None:
        nothing does)."""
        self.worlds, self.signature, self._goal, self._success = worlds, worlds[0].signature, goal, success
        self._now = [world.reset(seed) for world, seed in zip(worlds, seeds, strict=True)]
        self._over = torch.zeros(len(worlds), dtype=torch.bool)
        self.returns, self.lengths = torch.zeros(len(worlds), dtype=torch.float64), [0] * len(worlds)

    def __len__(self) -> int:
        return len(self.worlds)

    def first(self, count: int) -> Self:
        few = copy.copy(self)
        few.worlds, few._now, few._over = self.worlds[:count], self._now[:count], self._over[:count].clone()
        few.returns, few.lengths = self.returns[:count].clone(), self.lengths[:count]
        return few

    def goals(self) -> Goal:
        """As an observation where every column has its value, else as columns."""
        if self._goal is None:
            raise UsageError("a world with a goal of its own", self.worlds[0].id, "give the task a goal")
        columns = [name for spec in self.signature.observations.values() for name in spec.columns]
        targets = {name: torch.full((len(self),), value) for name, value in self._goal.items()}
        if list(self.signature.observations) == ["vector"] and set(columns) == set(targets):
            return ObservationGoal({"vector": torch.stack([targets[name] for name in columns], 1)})
        return ColumnGoal(targets)  # type: ignore[arg-type]

    def observe(self) -> Observation:
        return {name: torch.stack([o[name] for o in self._now]) for name in self._now[0]}

    def step(self, action: Tensor, moving: Tensor | None = None) -> None:
        on = ~self._over if moving is None else moving & ~self._over
        for i in on.nonzero()[:, 0].tolist():
            moment = self.worlds[i].step(action[i])
            self._now[i], self._over[i] = moment.observation, moment.over
            self.returns[i] += moment.reward
            self.lengths[i] += 1

    def solved(self) -> Tensor:
        if self._success is None:
            return torch.zeros(len(self), dtype=torch.bool)
        seen, columns = self.observe()["vector"], self.signature.observations["vector"].columns
        inside = [(seen[:, columns.index(name)] >= low) & (seen[:, columns.index(name)] <= high)
                  for name, (low, high) in self._success.items()]
        return torch.stack(inside).all(0)

    def over(self) -> Tensor:
        return self._over.clone()


class Reach(World, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Reach a place in a Gymnasium environment, told by its columns.

    id       of the environment
    goal     column -> value to bring it to; an observation goal where it names every column
    reached  column -> least and largest value that counts as there
    limit    actions an episode
    """

    id: str
    goal: dict[str, float]
    reached: dict[str, tuple[float, float]]
    limit: int = 200

    @property
    def step_limit(self) -> int:  # type: ignore[override]
        """`limit`."""
        return self.limit

    @property
    def success(self) -> str:  # type: ignore[override]
        """The values that count."""
        return ", ".join(f"{low:g} <= {name} <= {high:g}" for name, (low, high) in self.reached.items())

    @property
    def signature(self) -> Signature:
        return GymnasiumWorld(make_env(self.id)).signature

    def begin(self, count: int, seed: int) -> GymnasiumTrials:
        """Starts that are there already are left out."""
        probe, seeds = GymnasiumWorld(make_env(self.id)), list[int]()
        for one in itertools.count(1_000_003 * (seed + 1)):
            trial = GymnasiumTrials([probe], [one % 2**31], success=self.reached)
            if not bool(trial.solved()):
                seeds.append(one % 2**31)
            if len(seeds) == count:
                break
        worlds = [GymnasiumWorld(make_env(self.id)) for _ in seeds]
        return GymnasiumTrials(worlds, seeds, goal=self.goal, success=self.reached)
