"""What planners that descend an energy share: where restarts begin, and one step, in units of half the action range.

Shapes: B problems, R restarts, H horizon, A action size.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from steersman.actor.ground.bounds import Bounds
from steersman.actor.sampling.distributions import fitted
from steersman.actor.sampling.drawing import amounts_from
from steersman.actor.sampling.noise import coloured_basis
from steersman.core import PlanningError, Problem, Streams

_LEAST = 1e-30  # of a second moment's root: energies have no unit of their own


class Descent:
    """R action sequences of each problem under way.

        project  u <- clip(u - η d)             a = m + h u        (m middle, h half of the range)
        tanh     θ <- θ - η d, u = tanh θ

    d is Adam's direction (Kingma & Ba 2015, second moment 0.99) or the gradient with momentum ("sgd"). Where an energy
    or its gradient is not finite, the sequence goes half the way back to where it last was.
    """

    def __init__(
        self, problem: Problem, horizon: int, restarts: int, spread: float, beta: float, execute: int,
        keep_within: Literal["project", "tanh"] = "project", optimiser: Literal["adam", "sgd"] = "adam",
        momentum: float = 0.8,
    ) -> None:
        """Restart 0 begins at the warm start, or the middle of the range; 1, or 0 where it is the only one, at a
        policy's proposal, if there is one; the others are disturbed by `spread` with spectrum 1 / f^beta."""
        refuse_choices(problem)
        self.bounds = bounds = Bounds(problem.action, problem.belief.state)
        self._tanh, self._adam, self._momentum = keep_within == "tanh", optimiser == "adam", momentum
        start = bounds.unit(amounts_from(problem, horizon, bounds, execute))
        colours = coloured_basis(horizon, beta).to(start.device)
        streams = Streams(problem.seeds, problem.decision)
        noise = (streams.normal(restarts, problem.action.size, len(colours)) @ colours).mT
        first = torch.arange(restarts, device=start.device)[:, None, None] == 0
        unit = (start[:, None] + torch.where(first, 0.0, spread * noise)).clamp(-1, 1)
        if problem.proposal is not None:
            suggested = bounds.unit(bounds.clamp(fitted(problem.proposal, horizon)))[:, None]
            unit = torch.where(first.roll(1, 0), suggested, unit)  # of one alone: itself
        self._point = torch.atanh(unit.clamp(-0.95, 0.95)) if self._tanh else unit
        self._anchor = self._point
        self._first, self._second, self._steps = torch.zeros_like(unit), torch.zeros_like(unit), 0

    @property
    def restarts(self) -> int:
        return self._point.shape[1]

    def actions(self) -> Tensor:
        """Where the sequences stand, (B, R, H, A), within bounds."""
        return self.bounds.action(self._point.tanh() if self._tanh else self._point)

    def step(self, gradient: Tensor, rate: float) -> None:
        """One step of size `rate` against the gradient (B, R, H, A) in actions."""
        slope = gradient.to(self._point) * self.bounds.half
        if self._tanh:
            slope = slope * (1 - self._point.tanh().square())
        fine = slope.isfinite().all(-1).all(-1)[..., None, None]
        slope = torch.where(fine, slope, 0.0)
        self._steps += 1
        if self._adam:
            self._first = torch.lerp(slope, self._first, self._momentum)
            self._second = torch.lerp(slope.square(), self._second, 0.99)
            first = self._first / (1 - self._momentum**self._steps)
            direction = first / (self._second / (1 - 0.99**self._steps)).sqrt().clamp(min=_LEAST)
        else:
            self._first = self._momentum * self._first + slope
            direction = self._first
        moved = self._point - rate * direction
        moved = moved if self._tanh else moved.clamp(-1, 1)
        back = (self._point + self._anchor) / 2
        self._anchor = torch.where(fine, self._point, self._anchor)
        self._point = torch.where(fine, moved, back)

    def select(self, index: Tensor) -> None:
        """Go on with some restarts only, (B, r): a budget that affords no more."""
        rows = torch.arange(len(index), device=index.device)[:, None]
        self._point, self._anchor, self._first, self._second = (
            x[rows, index] for x in (self._point, self._anchor, self._first, self._second)
        )


def refuse_choices(problem: Problem) -> None:
    """Raises PlanningError for an action that is no amount: a choice has no slope."""
    spec = problem.action
    if spec.kind == "discrete" or spec.whole:
        got = f"{spec.choices} discrete choices" if spec.kind == "discrete" else f"whole numbers in {list(spec.whole)}"
        raise PlanningError(
            "a continuous action for a planner that follows gradients", got,
            "use planner 'cem', 'icem', 'mppi' or 'predictive-sampling'",
        )


def slope_of(energy: Tensor, actions: Tensor, keep: bool = False) -> Tensor:
    """d energy / d actions, each candidate's energy (B, K) in its own actions (B, K, H, A); 0 where it is not finite.

    keep  the same imagination will be differentiated again

    Raises:
        PlanningError: the model or the costs do not pass gradients on.
    """
    finite = torch.where(energy.isfinite(), energy, torch.zeros_like(energy))
    if not finite.requires_grad:
        raise PlanningError(
            "a world model and costs that can be differentiated in the actions", "an energy without a gradient",
            "leave out detach(), no_grad() and rounding, or use a planner that samples",
        )
    (gradient,) = torch.autograd.grad(finite.sum(), actions, allow_unused=True, retain_graph=keep)
    if gradient is None:
        return torch.zeros_like(actions)
    lost = ~energy.isfinite()[..., None, None]
    return torch.where(lost, torch.full_like(gradient, torch.nan), gradient)


def fading(step: int, steps: int) -> float:
    """A cosine from 1 to .01 over `steps` steps."""
    return 0.01 + 0.99 * (1 + math.cos(math.pi * step / max(steps, 1))) / 2
