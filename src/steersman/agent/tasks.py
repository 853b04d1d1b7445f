"""Tasks for an agent as files say them, with all that it offers by name. Knows agents from above."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from steersman.agent.agent import Agent
from steersman.agent.distance import weights_towards
from steersman.configurator import Known, parse_task
from steersman.core import Goal, Task, UsageError


def read_task(path: Path | str, agent: Agent, goal: Callable[[], Goal] | None = None) -> Task:
    """The task that a TOML file says, for this agent; the agent is set to it (`Agent.configure`).

    goal  asked where the file says none

    Raises:
        UsageError: no such file, or one that is no task; a field, a term, a guardrail, a column, an observation, a
            skill, a level, a planner or a learned task that there is not, answered by those that there are.
        ConfigError, PlanningError: values that a task, a planner or the agent refuses.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"a readable task at {path}", f"{error.strerror}", "check the path") from error
    task = parse_task(content, offered(agent), path, goal)
    agent.configure(task)
    return task


def offered(agent: Agent) -> Known:
    """What an agent offers a task."""
    return Known(agent.signature.world, [cost.name for cost in agent.costs], agent.readout, agent.guardrails,
                 agent.additions.outdated, partial(weights_towards, agent))
