"""An agent that is shown every row and gives an action for every row, whatever the steps of its model are.

For whoever acts in a world as it is: pictures are stacked here, and the actions of a chunk are handed out one by one.
Shapes: B episodes, k rows a step, A action size of the world.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from steersman.agent.agent import Agent
from steersman.agent.moments import moment_of
from steersman.core import Plan, PlanningError, Task
from steersman.core.pacing import Past, unchunked


class RowByRow:
    """Decides with `agent` when the last plan is used up, and between decisions hands on what was planned.

    >>> acting = RowByRow(Agent.load("runs/camera"))                          # doctest: +SKIP
    >>> while True:                                                           # doctest: +SKIP
    ...     robot.do(acting.act({"image": camera.read()}, task)[0])

    plan  the last decision's
    """

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.reset()

    def reset(self, seeds: Any = None) -> None:
        """Begin new episodes, see `Agent.reset`."""
        self.agent.reset(seeds)
        self.plan: Plan | None = None
        self._past, self._due = Past(self.agent.signature.pace), list[Tensor]()

    def act(self, observation: Mapping[str, Any], task: Task, *, exogenous: Tensor | None = None) -> Tensor:
        """One row, or B of them with a leading dimension -> actions (B, A) to be taken until the next row.

        exogenous  (B, H, E) in the steps of the model, read when a decision is made

        Raises:
            MismatchError, PlanningError: see `Agent.act`; another number of episodes than before.
        """
        row = moment_of(observation, self.agent.signature.world)
        count = len(next(iter(row.values())))
        if self.plan is not None and len(self.plan.actions) != count:
            raise PlanningError(f"{len(self.plan.actions)} observations, as before", f"{count}", "reset() first")
        self._past.add(row)
        if not self._due:
            self.plan = self.agent.act(self._past.moment(), task, exogenous=exogenous)
            chunks = self.plan.actions[:, : max(1, self.agent.commits(task))]
            spec = self.agent.signature.action
            rows = unchunked(chunks, spec).flatten(1, 2) if spec.chunk > 1 else chunks
            hasty = self.agent.rows < self.agent.signature.pace.step
            self._due = list((rows[:, : self.agent.rows] if hasty else rows).unbind(1))
        return self._due.pop(0)
