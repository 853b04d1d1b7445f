"""A policy prior: a policy's own way through the imagination is one of the candidates that a planner begins with.

Knows policies and planners by core's abstract classes only. Shapes: B problems, H horizon, A action size.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from steersman.core import Imagined, Level, Plan, Planner, PlanningError, Policy, Problem, Task
from steersman.core.clock import now


class Seeded(Planner):
    """The plan of another planner, which is shown what the policy would do:

        a_t = π(s_t), s_t+1 = f(s_t, a_t), t = 0 … H-1;   `Problem.proposal` = (a_0, …, a_H-1)

    Every sampling planner (CEM, iCEM, MPPI, predictive sampling) puts a proposal among the candidates of its first
    round, and so does no worse by its own judgement; with few samples it does much better where the policy is any good.
    Planners that descend (gradient, augmented Lagrangian, Newton) begin a restart there, their only one if there is one
    alone; beam search compares it with its best sequence, tree search makes it half of its prior, A* hands it to its
    follower. Dynamic programming and graph search begin nowhere and have no use for it.
    The rollout costs H predictor calls, which count, and for which the budget must have room.
    With chance, the policy is followed through what the model expects.

    policy   distilled (`agent.distilling.distil`), learned by TD, or written by hand; one action of it is taken at
             every imagined step anew
    horizon  steps that it is followed for; None: those that the task says, else the planner's own

    Source: the policy prior of TD-MPC, Hansen, Wang & Su 2022.

    Raises:
        PlanningError: neither the task nor the planner says how far to look; a budget that the rollout uses up.
    """

    def __init__(self, planner: Planner, policy: Policy, horizon: int | None = None) -> None:
        self.planner, self.policy, self.execute = planner, policy, planner.execute
        self.horizon = planner.horizon if horizon is None else horizon

    def plan(self, problem: Problem) -> Plan:
        started = now()
        if self.horizon is None and problem.task.horizon is None:
            raise PlanningError("a horizon to follow the policy for", f"none, with {type(self.planner).__name__}",
                                "set `horizon` of Seeded, or that of the task")
        horizon = problem.horizon(self.horizon or 1)
        budget = problem.task.budget
        if budget.calls is not None:
            if budget.calls <= horizon:
                raise PlanningError(f"a budget of more than the {horizon} predictor calls that follow the policy",
                                    f"{budget.calls}", "raise the budget, or plan without a policy prior")
            budget = replace(budget, calls=budget.calls - horizon)
        asked = replace(problem, proposal=followed(self.policy, problem, horizon)[0],
                        task=replace(problem.task, budget=budget))
        plan = self.planner.plan(asked)
        return replace(plan, calls=plan.calls + horizon, seconds=now() - started)

    def commits(self, task: Task) -> int:
        return self.planner.commits(task)

    def rounds(self, task: Task) -> int:
        return self.planner.rounds(task)

    def level(self, task: Task) -> Level:
        return self.planner.level(task)

    def inside(self) -> tuple[Planner, ...]:
        return (self.planner,)


@torch.no_grad()
def followed(policy: Policy, problem: Problem, horizon: int) -> tuple[Tensor, Imagined]:
    """What the policy does along its own imagined way, (B, H, A), and that way, K = 1; one predictor call a step."""
    belief, actions, ways = problem.belief, list[Tensor](), list[Imagined]()
    for t in range(horizon):
        actions.append(policy.propose(belief, problem.task)[:, :1])
        known = None if problem.exogenous is None else problem.exogenous[:, t : t + 1]
        ways.append(problem.model.imagine(belief, actions[-1][:, None], known))
        belief = ways[-1].last()
    states = [ways[0].states[:, :, :1], *(way.states[:, :, 1:] for way in ways)]
    disagreement, attention = (
        torch.cat([getattr(way, name) for way in ways], 2) if getattr(ways[0], name) is not None else None
        for name in ("disagreement", "attention"))
    return torch.cat(actions, 1), Imagined(
        torch.cat(states, 2), problem.belief.context, disagreement, attention, ways[-1].carry, problem.belief.shared)
