"""Trials in the steps of a model: pictures stacked, several actions of the world in one.

Knows a pace and trials, no agent. Shapes: B episodes, k actions of the world a step, F pictures a moment.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor

from steersman.core.pacing import Past, still, unchunked
from steersman.core.signature import Pace
from steersman.core.task import Goal, ObservationGoal
from steersman.core.types import Observation
from steersman.worlds.trials import Trials


class PacedTrials(Trials):
    """B episodes of a world, seen and stepped as a model does that was trained at this pace.

    A step takes up to k = `pace.step` actions; it ends early in episodes that are solved (unless the goal is to be
    kept), over, have done what is forbidden or have had their `limit` of actions, so that nothing goes by unseen and
    nobody gets more of them than at another pace. Before the first step the pictures that a moment shows beside its own
    are the first one. `steps` (B,) counts actions of the world.

    limit  actions of the world an episode; None: no end to them
    rows   how many actions of a step are taken, for whoever decides anew before it is over; 0: all k
    """

    def __init__(self, trials: Trials, pace: Pace, limit: int | None = None, rows: int = 0) -> None:
        self.trials, self.pace, self.limit, self.rows = trials, pace, limit, rows or pace.step
        self.signature, self.shortest = trials.signature.paced(pace), trials.shortest
        self.sustained = trials.sustained
        self.steps = torch.zeros(len(trials), dtype=torch.long)
        self._past = Past(pace)
        self._past.add(trials.observe())
        self._solved, self._bad = trials.solved(), trials.bad()

    def __len__(self) -> int:
        return len(self.trials)

    def first(self, count: int) -> Self:
        few = copy.copy(self)
        few.trials, few._past = self.trials.first(count), self._past.first(count)
        few.shortest, few.steps = few.trials.shortest, self.steps[:count].clone()
        few._solved, few._bad = self._solved[:count], None if self._bad is None else self._bad[:count]
        return few

    @property
    def returns(self) -> Tensor | None:  # type: ignore[override]
        """Those of the world."""
        return self.trials.returns

    def goals(self) -> Goal:
        """A picture that is the goal stands still: all pictures of its moment are the same."""
        goal = self.trials.goals()
        if not isinstance(goal, ObservationGoal):
            return goal
        return replace(goal, observation=still(goal.observation, self.signature))

    def observe(self) -> Observation:
        return self._past.moment()

    def step(self, action: Tensor, moving: Tensor | None = None) -> None:
        moving = torch.ones(len(self), dtype=torch.bool) if moving is None else moving
        self._solved, bad = torch.where(moving, False, self._solved), self._bad
        self._bad = None if bad is None else torch.where(moving, False, bad)
        each = unchunked(action, self.signature.action) if self.pace.step > 1 else action[:, None]
        for one in each[:, : self.rows].unbind(1):
            on = moving & ~self.trials.over()
            on = on if self.sustained else on & ~self._solved
            on = on if self._bad is None else on & ~self._bad
            on = on if self.limit is None else on & (self.steps < self.limit)
            if not bool(on.any()):
                break
            self.trials.step(one, on)
            self.steps += on
            self._past.add(self.trials.observe(), on)
            self._solved = torch.where(on, self.trials.solved(), self._solved)
            now = self.trials.bad()
            if self._bad is not None and now is not None:
                self._bad = self._bad | (on & now)

    def solved(self) -> Tensor:
        return self._solved

    def over(self) -> Tensor:
        return self.trials.over()

    def bad(self) -> Tensor | None:
        return self._bad

    def painted(self) -> Tensor | None:
        return self.trials.painted()

    def where(self) -> Tensor | None:
        return self.trials.where()

    def checks(self, paths: Tensor) -> Mapping[str, Tensor]:
        return self.trials.checks(paths)
