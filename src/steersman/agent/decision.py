"""One decision: from a belief and a task to a plan, stage by stage, and the state that the next one goes on from.

Knows planners, costs and guardrails by core's abstract classes. Shapes: B problems, H horizon, A action size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from steersman.agent.alarm import log_surprise
from steersman.agent.believing import Boxes
from steersman.agent.configuring import Planners
from steersman.agent.flight import Recorder
from steersman.agent.flight.recorder import Inputs
from steersman.agent.levels import PLAN, count_moments
from steersman.agent.nearing import Near, looked
from steersman.agent.staging import (
    everybody,
    guarded,
    joined,
    kept_of,
    near_of,
    part_of,
    place,
    staged,
    warm_of,
)
from steersman.agent.state import AgentState
from steersman.core import Belief, Cost, Plan, Problem, Readout, Surprise, Task
from steersman.core.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a decision is made with.

    boxes     as they are set to the task
    costs     the terms that it may weigh
    planners  the one that each stage asks for
    ledger    counts what changes
    readout   by which stages end; None: none does
    recorder  writes the decision down; None: nobody does
    surprise  of the moment that it starts from; None: it starts from a belief
    """

    boxes: Boxes
    costs: tuple[Cost, ...]
    planners: Planners
    ledger: Ledger
    readout: Readout | None = None
    recorder: Recorder | None = None
    surprise: Surprise | None = None

    def make(
        self, belief: Belief, state: AgentState, asked: Task, exogenous: Tensor | None, inputs: Inputs | None
    ) -> tuple[Plan, AgentState]:
        """The plan of B problems, and the state after it. inputs: what is recorded; None: from a belief, never
        recorded."""
        count, done = len(belief), None if inputs is None else inputs.since
        steps = 1 if done is None else done.shape[1]
        if asked.stages:
            state, groups = staged(state, asked, self.readout, belief, steps)
        else:
            state, groups = everybody(state)
        tasks, problem_task, held = guarded(asked, groups)
        first = tasks[groups[0].stage]
        if inputs is not None or PLAN not in self.ledger.entries:
            self.ledger.declare(self.planners.of(first.settings).level(first))
        if inputs is not None:
            count_moments(self.ledger, count, steps, self.surprise)
        problem = Problem(
            self.boxes.world_model, belief, self.costs, problem_task, self.boxes.signature.action,
            state.seeds, state.decision, exogenous, state.warm, passed=self.boxes.passed(state.decision),
            surprise=_logarithm(self.surprise),
        )
        near = state.near

        def decided(seen: Problem) -> Plan:
            nonlocal near
            if not asked.stages:
                plan, near = self._planned(seen, near)
                return plan
            plans, nears = [], []
            for group in groups:
                rails = tuple(seen.task.guardrails[i] for i in held[group.stage])
                part = part_of(replace(seen, task=replace(tasks[group.stage], guardrails=rails)), group)
                part = replace(part, warm=warm_of(state.warm, group, count))
                plan, nearer = self._planned(part, kept_of(state.near, group, count))
                plans.append((group, plan))
                nears.append((group, nearer))
            near = near_of(nears, count)
            return joined(plans, count, partial(place, asked))

        if self.recorder is None or inputs is None:
            plan = decided(problem)
        else:
            plan = self.recorder.decide(decided, problem, inputs, self.surprise, state.stage)
        after = replace(
            state, decision=state.decision + 1, fresh=torch.zeros_like(state.fresh), near=near, warm=plan.warm,
            done=plan.actions[:, :1], foreseen=plan.imagined.states[:, 0, 1],
            outside=self._coming(state, exogenous, plan),
        )
        if self.recorder is not None and inputs is not None:
            self.recorder.decided(after, inputs.task, inputs.standing)
        return plan, after

    def _planned(self, problem: Problem, near: Near | None) -> tuple[Plan, Near]:
        """The plan of the planner that the task asks for, and how near it comes to the goal."""
        planner = self.planners.of(problem.task.settings)
        plan, near = looked(near, _told(planner.plan(problem), problem), problem, planner,
                            self.boxes.rows / self.boxes.signature.pace.step if self.boxes.hasty else 1.0)
        self.ledger.count(PLAN, points=0, writes=len(problem) * plan.rounds)
        return plan, near

    def _coming(self, state: AgentState, exogenous: Tensor | None, plan: Plan) -> Tensor | None:
        """What the next decision has to know of the exogenous inputs of this one."""
        if exogenous is None or (self.boxes.history == 1 and not self.boxes.streaming):
            return None
        if self.boxes.streaming:
            return exogenous[:, : plan.actions.shape[1]]
        before = exogenous[:, :0] if state.outside is None else state.outside
        return torch.cat([before, exogenous[:, :1]], 1)[:, 1 - self.boxes.history :]


def _logarithm(surprise: Surprise | None) -> Tensor | None:
    """(B,): -inf where nothing had been foreseen."""
    if surprise is None:
        return None
    known = surprise.known.flatten(1).any(1)
    return torch.where(known, log_surprise(surprise), -torch.inf)


def _told(plan: Plan, problem: Problem) -> Plan:
    """The plan, whose reasons say which intrinsic costs the task silences."""
    if not problem.silenced:
        return plan
    words = f"the task silences {', '.join(map(repr, problem.silenced))}"
    return replace(plan, reason=tuple(f"{said}; {words}" for said in plan.reason))
