"""The boxes of an agent, set to a task: what it asks for by name is looked up, its goals are encoded.

Knows configurator, planners and perception by core's abstract classes; plans nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from steersman.agent.believing import Boxes
from steersman.agent.building.further import FurtherBoxes
from steersman.agent.config import AgentConfig
from steersman.agent.configuring import Planners, configured, require_settings
from steersman.agent.nearing import same_goal
from steersman.agent.resolving import ResolvedGoals
from steersman.agent.staging import require_columns
from steersman.agent.state import AgentState
from steersman.core import ConfigError, PlanningError, Readout, Task
from steersman.cost import resolve
from steersman.cost.goals import GoalSpace


class Setting:
    """What an agent's boxes are set to.

    boxes     as the last task set them
    task      the last one as it was given, and `asked`, with what the configurator adds and with its goals as costs
              score them; None: none yet, or other weights act since then
    """

    def __init__(
        self, config: AgentConfig, boxes: Boxes, planners: Planners, further: Callable[[], FurtherBoxes], *,
        readout: Readout | None = None, trusted: int | None = None,
    ) -> None:
        """further: -> the agent's further boxes, as they are when asked; trusted: most steps that any plan may look
        ahead."""
        self.boxes, self.planners, self.trusted = boxes, planners, trusted
        self._config, self._further, self._readout = config, further, readout
        self.forget()

    def forget(self) -> None:
        """Episodes begin anew: what was made of a task is made again."""
        self.task: Task | None = None
        self.asked: Task | None = None
        self._goals = ResolvedGoals(self.boxes.perception, self.boxes.signature)

    def to(self, task: Task, state: AgentState | None) -> tuple[Task, AgentState | None]:
        """The task as planners get it, and the state without what another task had left in it; the boxes are set.

        Raises:
            UsageError, ConfigError: a skill, a level, a planner or a learned task that there is not.
            PlanningError: goals or ends of stages that do not fit; another `react` in the middle of an episode.
        """
        before = self.asked
        if before is not None and task is self.task:
            return self.limited(before), state
        asked = configured(task, self._further().configurator)
        require_settings(asked, self.boxes.perception.tasks, self._further().memory is not None)
        require_columns(asked, self._readout)
        react = self._config.react if asked.settings.react is None else asked.settings.react
        if react != self.boxes.react and state is not None:
            raise PlanningError(f"react {self.boxes.react} for as long as an episode lasts", f"{react}",
                                "reset() the agent, and configure(task) before the first decision")
        if react and self.boxes.streaming:
            raise ConfigError("react = 0 for an agent that streams", f"{react}", "leave `react` out of the task")
        attend = asked.settings.attend
        other = before is not None and before.settings.attend != attend
        if before is not None and other and self.task is not None and state is not None:
            if self.boxes.carries or self.boxes.hasty:
                raise PlanningError("one learned task for as long as an episode lasts, where an agent has a history",
                                    f"{attend!r} after {before.settings.attend!r}",
                                    "reset() the agent before it attends to another")
            state = replace(state, foreseen=None, near=None, warm=None)
        if self.task is None or other:
            self._goals.forget()
        each = (asked, *(stage.task for stage in asked.stages))
        goal, *goals = self._goals.of([(at.goal, self.space(at, asked)) for at in each], asked, self._readout)
        stages = tuple(replace(stage, task=replace(stage.task, goal=own))
                       for stage, own in zip(asked.stages, goals, strict=True))
        if state is not None and before is not None and not same_goal(before.goal, goal):
            state = replace(state, near=None)
        if state is not None and self.task is not None and self.task.stage_names != task.stage_names:
            state = replace(state, stage=None, spent=None, near=None, warm=None)
        self.boxes = replace(self.boxes, react=react, task=asked)
        self.task, self.asked = task, replace(asked, goal=goal, stages=stages)
        return self.limited(self.asked), state

    def commits(self, task: Task, state: AgentState | None) -> int:
        """How many actions of a plan are carried out for this task, of several stages those of the one that looks
        again first."""
        if self.boxes.hasty:
            return 1
        asked = configured(task, self._further().configurator)
        here = set() if state is None or state.stage is None else set(state.stage.tolist())
        every = [asked.at(i) for i in range(max(1, len(asked.stage_names))) if not here or i in here]
        return min(self.planners.of(at.settings).commits(at) for at in every)

    def resolved(self, task: Task) -> Task:
        """The task with its goal as costs score it; nothing is set, and nothing kept."""
        goal = resolve(task.goal, self.boxes.perception, self.boxes.signature, self._readout, self.space(task, task),
                       task)
        return self.limited(replace(task, goal=goal))

    def limited(self, task: Task) -> Task:
        """The task, its horizon within what is trusted."""
        limits = [x for x in (task.trusted, self.trusted) if x is not None]
        return replace(task, trusted=min(limits, default=None))

    def space(self, at: Task, asked: Task) -> GoalSpace:
        """Where the goal of a task, or of one of its stages, is compared."""
        planner = self.planners.of(at.settings.over(asked.settings))
        latent = self._config.goal_space == "auto" and planner.wants_latent_goal()
        return "latent" if latent else self._config.goal_space
