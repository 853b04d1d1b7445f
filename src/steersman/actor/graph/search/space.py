"""Where search compares states: as they are, or by what a read-out reads of them.

Knows a read-out by its abstract class only. Shapes: B problems, N tokens, D latent size, P size of a place in this
space.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.actor.graph.aim import Aim, aim_of
from steersman.core import LatentGoal, PlanningError, Problem, Readout


@dataclass(frozen=True)
class Space:
    """by: the read-out by whose columns states are told apart, each in its own deviations; None: by all their numbers.
    readout: the agent's own, which knows the columns that goals name."""

    by: Readout | None
    readout: Readout | None

    def place(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        """(B, …, [N,] D), context (B, M, W) -> (B, …, P)."""
        return states if self.by is None else self.by.read(states, context) / deviations(self.by).to(states)

    def aim(self, problem: Problem) -> Aim:
        """The goal of every problem, for states that are placed.

        Raises:
            PlanningError: a goal that is code or an observation, or columns that the read-out does not know.
        """
        goal = problem.task.goal
        if self.by is None:
            return aim_of(problem, self.readout, "search")
        if not isinstance(goal, LatentGoal):
            return aim_of(problem, _Placed(self.by), "search")
        latent = goal.latent
        if latent.state.shape[1:] != problem.belief.state.shape[1:]:
            raise PlanningError(f"a latent goal of shape {tuple(problem.belief.state.shape[1:])}",
                                f"{tuple(latent.state.shape[1:])}", "encode the goal with the agent's own perception")
        return Aim(self.place(latent.state, latent.context).expand(len(problem), -1))


class _Placed(Readout):
    """What a read-out would read, from places in the space of its columns."""

    def __init__(self, by: Readout) -> None:
        super().__init__()
        self._by = by

    @property
    def columns(self) -> tuple[str, ...]:
        return self._by.columns

    @property
    def scale(self) -> Mapping[str, float]:
        return self._by.scale

    def read(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        return states * deviations(self._by).to(states)


def deviations(readout: Readout) -> Tensor:
    """(P,) of its columns; 1 where one is not known."""
    return torch.tensor([readout.scale.get(name, 1.0) for name in readout.columns])
