"""The task's goal as an energy: distance in latent space, error of named columns, or any callable.

Knows a read-out by its abstract class only. Shapes: B problems, K candidates, H horizon, D latent size, C columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import msgspec
import torch
from torch import Tensor

from steersman.core import (
    CallableGoal,
    ColumnGoal,
    Cost,
    Distance,
    Imagined,
    LatentGoal,
    ObservationGoal,
    PlanningError,
    Readout,
    Task,
)


class GoalCost(Cost):
    """Energy of a goal at every imagined step.

        LatentGoal    e_t = mean over D of (s_t - g)²      ("absolute": |s_t - g|; "cosine": 1 - cos of the angle)
        ColumnGoal    e_t = Σ_c ((y_t,c - target_c) / scale_c)², y = readout(s)
        CallableGoal  e_t = goal.energy(columns, imagined)

    With `over` "steps" every step counts, which plans to arrive early and stay (measured for two rooms: 97% against
    89% for the last step alone, eb_jepa); with "last" only the horizon's end does, and the steps before are 0.

    An observation goal is not an energy until perception has seen it: see `cost.goals.resolve`.
    """

    name: ClassVar[str] = "goal"

    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="goal"):
        over: Literal["steps", "last"] = "steps"
        distance: Literal["squared", "absolute", "cosine"] = "squared"

        def build(self, readout: Readout | None = None, scale: Mapping[str, float] | None = None) -> GoalCost:
            return GoalCost(readout, scale, self.over, self.distance)

    def __init__(
        self,
        readout: Readout | None = None,
        scale: Mapping[str, float] | None = None,
        over: Literal["steps", "last"] = "steps",
        distance: Literal["squared", "absolute", "cosine"] = "squared",
    ) -> None:
        """scale: size of an error that counts as 1 for columns whose goal names none (their deviation in the log)."""
        self.readout, self.scale, self.over, self.distance = readout, dict(scale or {}), over, distance

    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        goal = task.goal
        if isinstance(goal, LatentGoal):
            energy = self._latent(goal, imagined)
        elif isinstance(goal, ColumnGoal):
            energy = self._columns(goal, imagined)
        elif isinstance(goal, CallableGoal):
            energy = goal.energy(self._read(imagined) if self.readout is not None else {}, imagined)
        else:
            assert isinstance(goal, ObservationGoal), goal
            raise PlanningError(
                "a goal in latent space or on columns", "an observation", "resolve it first: cost.resolve(goal, …)"
            )
        if self.over == "last":
            energy = torch.cat([torch.zeros_like(energy[..., :-1]), energy[..., -1:]], -1)
        return energy

    def as_distance(self, task: Task) -> Distance | None:
        goal = task.goal
        if not isinstance(goal, LatentGoal) or self.distance == "cosine":
            return None
        return Distance(goal.latent.state.flatten(1), 2 if self.distance == "squared" else 1, self.over == "last")

    def _latent(self, goal: LatentGoal, imagined: Imagined) -> Tensor:
        states = imagined.states[:, :, 1:].flatten(3)
        target = goal.latent.state.to(states)
        if target.shape[1:] != imagined.states.shape[3:] or len(target) not in (1, len(states)):
            raise PlanningError(
                f"a latent goal {(len(states), *imagined.states.shape[3:])}, or (1, …) for all",
                f"{tuple(target.shape)}", "encode the goal with the agent's own perception",
            )
        target = target.flatten(1)[:, None, None]
        if self.distance == "cosine":
            return 1 - torch.nn.functional.cosine_similarity(states, target, dim=-1)
        error = states - target
        if error.requires_grad:
            return (error.square() if self.distance == "squared" else error.abs()).mean(-1)
        return (error.square_() if self.distance == "squared" else error.abs_()).mean(-1)

    def _columns(self, goal: ColumnGoal, imagined: Imagined) -> Tensor:
        if not goal.targets:
            raise PlanningError("at least one target column", "none", "name a column and its value")
        columns = self._read(imagined)
        missing = sorted(set(goal.targets) - set(columns))
        if missing:
            raise PlanningError(
                f"targets among {', '.join(columns) or 'no columns'}", ", ".join(missing),
                "correct the goal, or fit a read-out for these columns",
            )
        total = torch.zeros(())
        for name, value in goal.targets.items():
            scale = goal.scale.get(name, self.scale.get(name, 1.0))
            if not scale > 0:
                raise PlanningError(f"a scale > 0 for {name}", f"{scale}", "give the size of an error that matters")
            target = torch.as_tensor(value).to(columns[name])
            error = (columns[name] - target.reshape(-1, 1, 1)) / scale
            total = total.to(error) + error.square()
        return total

    def _read(self, imagined: Imagined) -> dict[str, Tensor]:
        if self.readout is None:
            raise PlanningError("a read-out for a goal on columns", "none", "fit one, or give a goal observation")
        values = self.readout.read(imagined.states[:, :, 1:], imagined.context)
        return dict(zip(self.readout.columns, values.unbind(-1), strict=True))
