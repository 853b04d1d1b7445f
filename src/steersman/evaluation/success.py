"""Success: the one place that decides whether, and when, an episode is won, and what was done on the way.

An episode is won with the first step after which the true state satisfies its goal; where the goal is to be kept
(`Trials.sustained`), it is won if the true state satisfies it after the last step. Before its first step it is counted
apart: trials begin unsolved, and how many did not is reported. Knows trials, not who acts.

Shapes: B episodes, T steps, A action size.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from steersman.worlds import Trials


class Tally:
    """Steps trials and counts.

    success, violated  (B,) bool; violated: what is forbidden was done on the way of a step
    steps              (B,) actions until success or the end
    solved_at_start    episodes whose start satisfied the goal
    time               T: steps so far
    """

    def __init__(self, trials: Trials, limit: int, until: Literal["success", "violation", "end"] = "success",
                 ) -> None:
        """limit: actions an episode; until: what else ends it; "end": nothing but the world."""
        self.trials, self.limit, self.until, self.time = trials, limit, until, 0
        self.solved_at_start = 0 if trials.sustained else int(trials.solved().sum())
        self.success, self.violated = torch.zeros(2, len(trials), dtype=torch.bool)
        self.steps = torch.zeros(len(trials), dtype=torch.long)
        self._over = trials.over()
        self._places = [trials.where()]

    @property
    def on(self) -> Tensor:
        """(B,) bool: episodes that go on."""
        ended = {"success": self.success & (not self.trials.sustained), "violation": self.violated,
                 "end": torch.zeros_like(self.success)}[self.until]
        return ~ended & ~self._over & (self.time < self.limit)

    def step(self, action: Tensor) -> None:
        """Take actions (B, A) in the episodes that go on."""
        moving = self.on
        self.trials.step(action, moving)
        self.time += 1
        self.steps += moving
        before = self.success & ~moving if self.trials.sustained else self.success
        self.success = before | moving & self.trials.solved()
        self._over |= self.trials.over()
        bad = self.trials.bad()
        if bad is not None:
            self.violated |= moving & bad
        self._places.append(self.trials.where())

    def paths(self) -> Tensor | None:
        """(B, T+1, P) places, where the world has such; a finished episode stays where it is."""
        places = [place for place in self._places if place is not None]
        return torch.stack(places, 1) if places else None

    def efficiency(self) -> Tensor | None:
        """(B,) success · l / max(p, l), l the exact shortest way to the goal and p the way taken; None: l is not known.
        Its mean is SPL (Anderson et al. 2018)."""
        paths, shortest = self.paths(), self.trials.shortest
        if paths is None or shortest is None:
            return None
        length = (paths[:, 1:] - paths[:, :-1]).norm(dim=-1).sum(1)
        return self.success * shortest / torch.maximum(length, shortest)


def drifted(trials: Trials, limit: int, generator: torch.Generator) -> Tally:
    """What the strongest policy that looks at nothing comes to: the floor."""
    tally, act = Tally(trials, limit), trials.drift(generator)
    while bool(tally.on.any()):
        tally.step(act())
    return tally
