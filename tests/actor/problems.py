"""Small exact worlds and problems that the planners' tests share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.core import (
    ActionSpec,
    Belief,
    Budget,
    CallableGoal,
    Cost,
    Guardrail,
    Imagined,
    Latent,
    LatentGoal,
    Problem,
    Task,
    WorldModel,
)
from steersman.cost import EffortCost, GoalCost


class LinearWorld(WorldModel):
    """s' = A s + B u: an exact world model, for oracles."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.a, self.b, self.calls = a, b, 0

    def begin(self, latent, actions, exogenous=None):
        return Belief(latent.state[:, -1])

    def imagine(self, belief, actions, exogenous=None, u=None):
        self.calls += actions.shape[1] * actions.shape[2]
        state = belief.state[:, None].expand(-1, actions.shape[1], -1)
        states = [state]
        for t in range(actions.shape[2]):
            state = state @ self.a.mT + actions[:, :, t].to(self.b.dtype) @ self.b.mT
            states.append(state)
        return Imagined(torch.stack(states, 2))


class SquareCost(Cost):
    """xᵀ Q x + uᵀ R u after each step: the cost of a linear-quadratic regulator."""

    name = "lqr"

    def __init__(self, q: Tensor, r: Tensor) -> None:
        self.q, self.r = q, r

    def energy(self, imagined, actions, task):
        x = imagined.states[:, :, 1:]
        return ((x @ self.q) * x).sum(-1) + ((actions @ self.r) * actions).sum(-1)


@dataclass
class Limit(Guardrail):
    """One coordinate of the state stays below a value."""

    index: int = 0
    below: float = 1.0
    title: str = "limit"

    @property
    def name(self):
        return self.title

    def margin(self, imagined, actions):
        return imagined.states[:, :, 1:, self.index] - self.below


def point(dimensions: int = 2) -> LinearWorld:
    """s' = s + u."""
    return LinearWorld(torch.eye(dimensions), torch.eye(dimensions))


def reach(
    start, goal, *, low=-1.0, high=1.0, seeds=None, guardrails=(), budget=None, fallback=None, model=None,
    weights=None, decision=None, **more,
) -> Problem:
    """Problems of moving a point (B, D) to a goal (1 or B, D)."""
    start, goal = torch.as_tensor(start, dtype=torch.float32), torch.as_tensor(goal, dtype=torch.float32)
    size = start.shape[1]
    spec = ActionSpec("continuous", (low,) * size, (high,) * size)
    task = Task(
        LatentGoal(Latent(goal)), weights or {"goal": 1.0}, tuple(guardrails), budget=budget or Budget(),
        fallback=fallback,
    )
    batch = len(start)
    return Problem(
        model or point(size), Belief(start), (GoalCost(), EffortCost(spec)), task, spec,
        torch.arange(batch) if seeds is None else torch.as_tensor(seeds),
        torch.zeros(batch, dtype=torch.int64) if decision is None else decision, **more,
    )


MOVES = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])


def choose(start, goal, choices: Tensor, **more) -> Problem:
    """As `reach`, with a table of displacements (C, D) to choose from."""
    start = torch.as_tensor(start, dtype=torch.float32)
    task = Task(LatentGoal(Latent(torch.as_tensor(goal, dtype=torch.float32))), **more)
    spec = ActionSpec("discrete", choices=len(choices))
    return Problem(
        ChoiceWorld(choices), Belief(start), (GoalCost(),), task, spec, torch.arange(len(start)),
        torch.zeros(len(start), dtype=torch.int64),
    )


class ChoiceWorld(WorldModel):
    """s' = s + table[choice]."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = table

    def begin(self, latent, actions, exogenous=None):
        return Belief(latent.state[:, -1])

    def imagine(self, belief, actions, exogenous=None, u=None):
        moves = self.table[actions.squeeze(-1)].cumsum(2)
        start = belief.state[:, None, None].expand(-1, actions.shape[1], 1, -1)
        return Imagined(torch.cat([start, start + moves], 2))


__all__ = ["MOVES", "CallableGoal", "ChoiceWorld", "Limit", "LinearWorld", "SquareCost", "choose", "point", "reach"]
