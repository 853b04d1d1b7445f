"""The smallest planning problems there are, for checks: a state that drifts by what is done. Knows no planner.

Every number is computed on its own, never as part of a matrix product, so a problem's figures are the same, bit for
bit, whatever stands beside it. Shapes: B problems, K candidates, H horizon, D latent size, A action size, C choices.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from steersman.core.boxes import Cost
from steersman.core.guardrail import Guardrail
from steersman.core.problem import Problem
from steersman.core.signature import ActionSpec
from steersman.core.task import Budget, LatentGoal, Task
from steersman.core.types import Belief, Imagined, Latent
from steersman.core.world_model import WorldModel


class Drift(WorldModel):
    """s' = s + u + x, u the action in units of half its range around the middle, or a choice's move; x exogenous.

    Choices move by 0 or along the unit circle. It notes what it was asked: whether an action was out of bounds, steps
    looked ahead, predictor calls a problem, whether exogenous inputs came along. `patience`: seconds a call takes.
    """

    def __init__(self, action: ActionSpec, patience: float = 0.0) -> None:
        super().__init__()
        self.action, self.patience = action, patience
        self.longest, self.asked, self.informed, self.outside = 0, 0, True, False
        if action.kind == "discrete":
            angle = 2 * math.pi * torch.arange(action.choices - 1) / max(1, action.choices - 1)
            self.moves = torch.cat([torch.zeros(1, 2), torch.stack([angle.cos(), angle.sin()], 1)])
        else:
            low, high = (torch.tensor(x, dtype=torch.float64) for x in (action.low, action.high))
            self.middle = (low / 2 + high / 2).float()
            self.reach = (high / 2 - low / 2).float()

    @property
    def size(self) -> int:
        """D: one entry for each of the action's; two for choices."""
        return 2 if self.action.kind == "discrete" else self.action.size

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        return Belief(latent.state[:, -1])

    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, u: Tensor | None = None
    ) -> Imagined:
        time.sleep(self.patience)
        self._note(actions.detach(), exogenous)
        state = belief.state[:, None].expand(-1, actions.shape[1], -1)
        states = [state]
        for t in range(actions.shape[2]):
            state = state + self._move(actions[:, :, t])
            if exogenous is not None:
                state = state + exogenous[:, None, t]
            states.append(state)
        return Imagined(torch.stack(states, 2))

    def _move(self, action: Tensor) -> Tensor:
        if self.action.kind == "discrete":
            return self.moves[action.squeeze(-1)]
        return (action / 2 - self.middle / 2) / self.reach * 2

    def _note(self, actions: Tensor, exogenous: Tensor | None) -> None:
        self.longest = max(self.longest, actions.shape[2])
        self.asked += actions.shape[1] * actions.shape[2]
        self.informed &= exogenous is not None and exogenous.shape[1] >= actions.shape[2]
        self.outside |= not allowed(actions, self.action)


def allowed(actions: Tensor, spec: ActionSpec) -> bool:
    """Whether every action (…, A) is one of this world, judged in float64."""
    if spec.kind == "discrete":
        whole = not actions.is_floating_point()
        return whole and bool(((actions >= 0) & (actions < spec.choices)).all())
    low, high = (torch.tensor(x, dtype=torch.float64) for x in (spec.low, spec.high))
    wide = actions.double()
    inside = ((wide >= low) & (wide <= high)).all()  # false for what is not a number
    return bool(inside) and torch.equal(wide[..., list(spec.whole)], wide[..., list(spec.whole)].round())


class Distance(Cost):
    """e_t = Σ over D of (s_t - goal)²."""

    name = "goal"

    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        assert isinstance(task.goal, LatentGoal)
        target = task.goal.latent.state
        states = imagined.states[:, :, 1:]
        total = states.new_zeros(states.shape[:3])
        for d in range(states.shape[-1]):
            total = total + (states[..., d] - target[:, None, None, d]).square()
        return total


@dataclass
class Wall(Guardrail):
    """The first entry of every imagined state stays at or below `below`, a number or one for each problem (B,)."""

    below: Tensor

    @property
    def name(self) -> str:
        return "wall"

    def margin(self, imagined: Imagined, actions: Tensor) -> Tensor:
        return imagined.states[:, :, 1:, 0] - self.below.reshape(-1, 1, 1)

    def rows(self, rows: Tensor) -> Wall:
        return Wall(self.below if self.below.numel() == 1 else self.below[rows])


@dataclass(frozen=True)
class Case:
    """Problems to plan: where they start, where they want to go, and the rest of it.

    action     what may be done
    start      (B, D); goal (B, D); seeds and decision (B,) int64
    wall       None, or (B,): the first entry of the state must not exceed it
    exogenous  None, or (B, H, D): what drifts by itself
    proposal   None, or (B, H, A): a suggestion, perhaps out of bounds
    """

    action: ActionSpec
    start: Tensor
    goal: Tensor
    seeds: Tensor
    decision: Tensor
    wall: Tensor | None = None
    horizon: int | None = None
    trusted: int | None = None
    budget: Budget = field(default_factory=Budget)
    fallback: Tensor | None = None
    exogenous: Tensor | None = None
    proposal: Tensor | None = None
    patience: float = 0.0

    def rows(self, index: Tensor) -> Case:
        """Some of the problems, in this order."""
        taken = {
            name: None if (x := getattr(self, name)) is None else x[index]
            for name in ("start", "goal", "seeds", "decision", "wall", "exogenous", "proposal")
        }
        return Case(self.action, **taken, horizon=self.horizon, trusted=self.trusted, budget=self.budget,  # type: ignore[arg-type]
                    fallback=self.fallback, patience=self.patience)

    def problem(self, model: WorldModel | None = None) -> Problem:
        rails = () if self.wall is None else (Wall(self.wall),)
        task = Task(
            LatentGoal(Latent(self.goal)), guardrails=rails, horizon=self.horizon, trusted=self.trusted,
            budget=self.budget, fallback=self.fallback,
        )
        return Problem(
            model or Drift(self.action, self.patience), Belief(self.start), (Distance(),), task, self.action,
            self.seeds, self.decision, self.exogenous, None, self.proposal,
        )


def draw_case(action: ActionSpec, problems: int, seed: int, *, scale: float = 3.0) -> Case:
    """Starts and goals normal with deviation `scale` steps, first decisions."""
    generator = torch.Generator().manual_seed(seed)
    size = 2 if action.kind == "discrete" else action.size
    start, goal = (scale * torch.randn(problems, size, generator=generator) for _ in range(2))
    seeds = torch.randint(2**40, (problems,), generator=generator)
    return Case(action, start, goal, seeds, torch.zeros(problems, dtype=torch.int64))
