"""The goals of a task as costs score them, each made once for as long as the task asks for it.

Knows perception and read-out by core's abstract classes.
"""

from __future__ import annotations

from steersman.core import Goal, Perception, Readout, Signature, Task
from steersman.cost import resolve
from steersman.cost.goals import GoalSpace


class ResolvedGoals:
    """What `cost.resolve` makes of the goals of one task and its stages."""

    def __init__(self, perception: Perception, signature: Signature) -> None:
        self.perception, self.signature = perception, signature
        self._found: list[tuple[Goal, GoalSpace, Goal]] = []

    def forget(self) -> None:
        """Weights, or what perception attends to, are others now."""
        self._found = []

    def of(self, wanted: list[tuple[Goal, GoalSpace]], task: Task, readout: Readout | None) -> list[Goal]:
        """Goals, each in its space, for what the task attends to; those that are not asked for are forgotten."""
        self._found = [(goal, space, self._of(goal, space, task, readout)) for goal, space in wanted]
        return [found for _, _, found in self._found]

    def _of(self, goal: Goal, space: GoalSpace, task: Task, readout: Readout | None) -> Goal:
        for given, where, found in self._found:
            if given is goal and where == space:
                return found
        return resolve(goal, self.perception, self.signature, readout, space, task)
