"""A task that is carried out in stages: which stage each episode is at, and one plan out of the plans of all stages.

Knows stages by their ranges of columns and their numbers of steps; plans nothing itself.
Shapes: B episodes, n of them at one stage, H horizon, A action size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from steersman.actor.ground.joining import joined_plans
from steersman.agent.nearing import Near
from steersman.agent.state import AgentState
from steersman.core import Belief, CallableGoal, Plan, PlanningError, Problem, Readout, Task
from steersman.core.records import apply, put, rows


@dataclass(frozen=True)
class Group:
    """Episodes that are planned for together.

    stage    0, 1, …, that they are at
    rows     (n,) int64, which ones
    entered  they came to it with this decision: nothing of the plan before counts
    """

    stage: int
    rows: Tensor
    entered: bool


def require_columns(task: Task, readout: Readout | None) -> None:
    """
    Raises:
        PlanningError: a stage ends by columns that nobody reads.
    """
    known = () if readout is None else readout.columns
    for name, stage in zip(task.stage_names, task.stages, strict=False):
        if missing := sorted(set(stage.until) - set(known)):
            raise PlanningError(f"an end of stage {name!r} by columns of {', '.join(known) or '(none: no read-out)'}",
                                missing[0], "correct the name, or end the stage by `steps`")


def staged(
    state: AgentState, task: Task, readout: Readout | None, belief: Belief, steps: int
) -> tuple[AgentState, tuple[Group, ...]]:
    """The state at the stages that this moment belongs to, and the episodes by stage.

    A stage that is over at the moment at which it would begin is passed. steps: of the model since the last decision.
    """
    count, device = len(state), state.fresh.device
    if state.stage is None or state.spent is None:
        state = replace(state, warm=None, near=None)
        stage, spent, entered = (torch.zeros(count, dtype=kind, device=device)
                                 for kind in (torch.int64, torch.int64, torch.bool))
        entered = ~entered
    else:
        stage = state.stage.masked_fill(state.fresh, 0)
        spent = (state.spent + steps).masked_fill(state.fresh, 0)
        entered = state.fresh.clone()
    columns = () if readout is None else readout.columns
    values = None
    for i, part in enumerate(task.stages):
        here = stage == i
        if not bool(here.any()):
            continue
        over = torch.zeros_like(here)  # a stage without an end stays
        if part.until:
            assert readout is not None
            if values is None:
                values = readout.read(belief.state[:, None], belief.context)[:, 0].to(device)
            low, high = (values.new_tensor([x[side] for x in part.until.values()]) for side in (0, 1))
            read = values[:, [columns.index(name) for name in part.until]]
            over = ((read >= low) & (read <= high)).all(1)
        if part.steps is not None:
            over = over | (spent >= part.steps)
        moved = here & over
        stage, spent, entered = stage + moved, spent.masked_fill(moved, 0), entered | moved
    groups = [
        Group(i, chosen, anew) for i in range(len(task.stages) + 1) for anew in (False, True)
        if len(chosen := ((stage == i) & (entered == anew)).nonzero()[:, 0])
    ]
    return replace(state, stage=stage, spent=spent), tuple(groups)


def everybody(state: AgentState) -> tuple[AgentState, tuple[Group, ...]]:
    """The same of a task without stages: one group. What an earlier task with stages left behind does not count."""
    if state.stage is not None:
        state = replace(state, stage=None, spent=None, warm=None, near=None)
    return state, (Group(0, torch.arange(len(state), device=state.fresh.device), False),)


def guarded(
    asked: Task, groups: Sequence[Group]
) -> tuple[dict[int, Task], Task, dict[int, tuple[int, ...]]]:
    """Stage -> its task, for the stages that there are episodes at; one task with the guardrails of all of them, for
    who watches the whole decision; and stage -> which of these guardrails are its own or common to all."""
    tasks, held = dict[int, Task](), dict[int, tuple[int, ...]]()
    rails = list(asked.guardrails)
    common = len(rails)
    for stage in dict.fromkeys(group.stage for group in groups):
        tasks[stage] = at = asked.at(stage)
        own = at.guardrails[common:]
        held[stage] = (*range(common), *range(len(rails), len(rails) + len(own)))
        rails += own
    whole = next(iter(tasks.values()))
    if len(tasks) > 1:
        whole = replace(asked, stages=(), guardrails=tuple(rails))
    return tasks, whole, held


def part_of(problem: Problem, group: Group) -> Problem:
    """The problem of these episodes; the task is their stage's.

    Raises:
        PlanningError: a goal that is code, which cannot be told apart by episode.
    """
    if len(group.rows) == len(problem):
        return problem
    if isinstance(problem.task.goal, CallableGoal):
        raise PlanningError("all episodes at one stage where its goal is code", f"{len(group.rows)} of {len(problem)}",
                            "let these episodes act one by one, or aim at columns")
    return problem.rows(group.rows)


def kept_of(value: Any, group: Group, count: int) -> Any:
    """What the last decision left for these episodes: some rows of it, or nothing where they came to a stage
    just now."""
    if value is None or group.entered:
        return None
    return value if len(group.rows) == count else rows(value, group.rows)


def warm_of(warm: Any, group: Group, count: int) -> Any:
    """The same of warm starts, which every stage has its own of."""
    return kept_of(warm.get(group.stage) if isinstance(warm, Mapping) else None, group, count)


def joined(plans: Sequence[tuple[Group, Plan]], count: int, said: Callable[[int, int], str]) -> Plan:
    """One plan (B, H, A) of B = count episodes, H the least horizon of all; its warm start is one for each stage.

    said  (row, stage) -> what a plan's reason says of it
    """
    plan = joined_plans([(group.rows, plan) for group, plan in plans], count)
    stages = {row: group.stage for group, _ in plans for row in group.rows.tolist()}
    reason = tuple(f"{words}; {said(row, stages[row])}" for row, words in enumerate(plan.reason))
    return replace(plan, reason=reason, warm=_warm(plans, count))


def _warm(plans: Sequence[tuple[Group, Plan]], count: int) -> dict[int, Any] | None:
    """Stage -> the warm start of its episodes, in B rows; none where those of one stage are of different forms."""
    found: dict[int, Any] = {}
    for stage in dict.fromkeys(group.stage for group, _ in plans):
        parts = [(group.rows, plan.warm) for group, plan in plans if group.stage == stage]
        if any(warm is None for _, warm in parts):
            continue
        every = apply(lambda x: x.new_zeros(count, *x.shape[1:]), parts[0][1])
        try:
            for index, warm in parts:
                every = put(every, index, warm)
        except (RuntimeError, ValueError):
            continue
        found[stage] = every
    return found or None


def near_of(nears: Sequence[tuple[Group, Near]], count: int) -> Near:
    """How near all episodes have come to the goals of their stages."""
    every = Near.begin(count)
    for group, near in nears:
        every = every.put(group.rows, near)
    return every


def place(task: Task, row: int, stage: int) -> str:
    """The stage in words, of any row.

    >>> from steersman.core import ColumnGoal, SubTask
    >>> place(Task(ColumnGoal({}), stages=(SubTask(Task(ColumnGoal({}), name="lift"), steps=3),)), 0, 0)
    "stage 1 of 2, 'lift'"
    """
    return f"stage {stage + 1} of {len(task.stage_names)}, {task.stage_names[stage]!r}"
