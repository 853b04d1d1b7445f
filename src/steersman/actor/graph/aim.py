"""Where a goal is a point: latent space itself, or the columns that it names, in units of their scale.

So planners on graphs measure nearness to either kind of goal alike; a goal on columns is met by every state that
matches. Knows a read-out by its abstract class only. Shapes: B problems, D latent size, C columns, A action size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.core import CallableGoal, ColumnGoal, LatentGoal, PlanningError, Problem, Readout


@dataclass(frozen=True)
class Aim:
    """target (B, C), and how states are placed beside it: `index` and `scale` of the columns that `readout` reads, or
    as they are."""

    target: Tensor
    readout: Readout | None = None
    index: tuple[int, ...] = ()
    scale: Tensor | None = None

    def place(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        """(B, …, D), context (B, M, W) -> (B, …, C)."""
        if self.readout is None:
            return states
        assert self.scale is not None
        return self.readout.read(states, context)[..., list(self.index)] / self.scale.to(states)

    def apart(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        """How far states (B, …, D) lie from the goal, (B, …)."""
        placed = self.place(states, context)
        return (placed - self.target.view(len(self.target), *[1] * (placed.dim() - 2), -1)).norm(dim=-1)


def aim_of(problem: Problem, readout: Readout | None, planner: str) -> Aim:
    """The goal of every problem.

    Raises:
        PlanningError: a goal that is code or an observation, or columns that no read-out knows.
    """
    goal, state = problem.task.goal, problem.belief.state
    if isinstance(goal, LatentGoal):
        target = goal.latent.state.to(state)
        if target.shape[1:] != state.shape[1:]:
            raise PlanningError(f"a latent goal of shape {tuple(state.shape[1:])}", f"{tuple(target.shape[1:])}",
                                "encode the goal with the agent's own perception")
        return Aim(target.expand(len(state), -1))
    if not isinstance(goal, ColumnGoal):
        what = "code" if isinstance(goal, CallableGoal) else "an observation that nobody encoded"
        raise PlanningError(f"a goal that is a state or names columns, for planner {planner!r}", what,
                            "name columns, show an observation through an agent, or use planner 'cem' or 'icem'")
    known = () if readout is None else readout.columns
    missing = sorted(set(goal.targets) - set(known))
    if readout is None or missing or not goal.targets:
        raise PlanningError(f"targets among {', '.join(known) or 'the columns of a read-out'}",
                            ", ".join(missing) or "none", "correct the goal, or fit a read-out for these columns")
    scale = torch.tensor([goal.scale.get(name, readout.scale.get(name, 1.0)) for name in goal.targets])
    if not bool((scale > 0).all()):
        raise PlanningError("scales above 0", f"{scale.tolist()}", "give the size of an error that matters")
    each = [torch.as_tensor(value).to(state).reshape(-1).expand(len(state)) for value in goal.targets.values()]
    index = tuple(readout.columns.index(name) for name in goal.targets)
    return Aim(torch.stack(each, 1) / scale.to(state), readout, index, scale)


def pace_of(placed: Tensor) -> Tensor:
    """Placed futures (B, K, H+1, C) -> (B,): the median change of the steps that move.

    Moving is more than half of the .98 quantile: in a narrow place most steps run into something.
    """
    pace = (placed[:, :, 1:] - placed[:, :, :-1]).norm(dim=-1).flatten(1).nan_to_num(posinf=0.0)
    moving = pace > 0.5 * pace.quantile(0.98, dim=1, keepdim=True)
    return pace.masked_fill(~moving, torch.nan).nanmedian(1).values.clamp_min(1e-6)
