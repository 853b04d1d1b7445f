"""A frozen protocol: which episodes of which world, how many, how long; and running agents under it.

Takes any world that declares start, goal and success (`worlds.World`). Counts every episode, reports starts that are
solved already, and puts the strongest policy that looks at nothing on the same starts.

Shapes: B episodes, T steps.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman.core import ColumnGoal, Goal, Guardrail, MismatchError, ObservationGoal, Plan, Task, UsageError
from steersman.evaluation.deciding import (
    Decides,
    FunctionPolicy,
    PolicyFunction,
    deciding,
    rows_between,
    set_to,
)
from steersman.evaluation.experiencing import Experiencing
from steersman.evaluation.intervals import wilson
from steersman.evaluation.seeds import FRAMES, GUARD, LOG, derived
from steersman.evaluation.success import Tally, drifted
from steersman.worlds import PacedTrials, Trials, World

GuardrailFactory = Callable[[Tensor], tuple[Guardrail, ...]]
"""Masks of what is forbidden (B, P, Q) bool, one per episode -> guardrails. All that an agent is told of it."""


class PlanningProtocol(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One way of measuring, stored with every result.

    world       distribution of starts and goals, and what counts as success
    episodes    counted, all of them
    step_limit  actions an episode; None: the world's own
    stream      which seeds of `evaluation.seeds` its episodes have: protocols of one world differ in it
    log         the world that logs are recorded in, if another one: labelled frames for guardrails are of it

    >>> from steersman.worlds import TwoRooms
    >>> PlanningProtocol(world=TwoRooms.Config(wall_range=(20, 22))).limit
    200

    Raises:
        UsageError: numbers below 1, or a stream that is in use for something else.
    """

    world: World
    episodes: int = 200
    step_limit: int | None = None
    stream: int = 0
    log: World | None = None

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.limit < 1 or self.stream in (LOG, FRAMES, GUARD):
            raise UsageError("episodes and step_limit above 0, and a stream for episodes", f"{self}", "correct them")

    @property
    def limit(self) -> int:
        """Actions an episode."""
        return self.world.step_limit if self.step_limit is None else self.step_limit

    def seed(self, seed: int) -> int:
        """The seed of its episodes that is meant by one seed for everything."""
        return derived(seed, self.stream)


@dataclass(frozen=True)
class Evaluation:
    """What was measured, episode by episode.

    success, violated  (B,) bool; violated: what is forbidden was done (False where nothing is)
    efficiency   (B,) l / max(p, l) of successes, 0 otherwise; their mean is SPL; None: no shortest way is known
    steps        (B,) actions until success or the end
    planning     (B,) CPU-seconds of planning
    random       (B,) bool: success of the strongest random policy on the same starts, or None
    random_violated  (B,) bool: its violations, or None
    returns      (B,) summed rewards, where the world is scored by them (None elsewhere); no agent sees them
    random_returns  (B,) those of the strongest random policy on the same starts, or None
    solved_at_start  episodes whose start satisfied the goal (worlds leave them out: 0)
    infeasible   decisions for which no plan met every guardrail
    checks       name -> (B,) bool: what no path can do, looked for all the same
    paths        (B, T+1, P) places, or None; a finished episode stays where it is
    trials       the episodes as they ended
    """

    protocol: PlanningProtocol
    seed: int
    success: Tensor
    violated: Tensor
    efficiency: Tensor | None
    steps: Tensor
    planning: Tensor
    random: Tensor | None
    random_violated: Tensor | None
    returns: Tensor | None
    random_returns: Tensor | None
    solved_at_start: int
    infeasible: int
    checks: Mapping[str, Tensor]
    paths: Tensor | None
    trials: Trials

    def __len__(self) -> int:
        return len(self.success)

    @property
    def forbids(self) -> bool:
        """Is anything forbidden there?"""
        return self.trials.bad() is not None

    def figures(self) -> dict[str, Any]:
        """The measurements as one flat object for `--json`."""
        n, wins, violations = len(self), int(self.success.sum()), int(self.violated.sum())
        figures: dict[str, Any] = {
            "success": wins / n, "success_ci95": list(wilson(wins, n)), "episodes": n,
            "solved_at_start": self.solved_at_start, "violations": violations,
            "planning_seconds": statistics.median(self.planning.tolist()),
            "steps": float(self.steps.float().mean()), "infeasible_decisions": self.infeasible, "seed": self.seed,
        } | {name: int(found.sum()) for name, found in self.checks.items()}
        if self.efficiency is not None:
            figures["spl"] = float(self.efficiency.mean())
        if self.random is not None:
            figures["random_success"] = float(self.random.double().mean())
        for who, returns in (("", self.returns), ("random_", self.random_returns)):
            if returns is not None:
                figures |= {f"{who}mean_return": float(returns.mean()), f"{who}worst_return": float(returns.min())}
        if self.forbids:
            figures["violations_ci95"] = list(wilson(violations, n))
            if self.random_violated is not None:
                figures["random_violations"] = int(self.random_violated.sum())
        return figures


@dataclass(frozen=True)
class Seen:
    """What a watcher is shown after every decision: the episodes still running (rows of the batch), and the plan."""

    rows: Tensor
    plan: Plan
    step: int
    done: int


def evaluate(
    agent: Decides | PolicyFunction,
    protocol: PlanningProtocol,
    episodes: int | None = None,
    seed: int = 0,
    *,
    guardrails: GuardrailFactory | None = None,
    task: Task | None = None,
    random: bool = True,
    first: int | None = None,
    watch: Callable[[Seen], None] | None = None,
) -> Evaluation:
    """Run `agent` under `protocol`, all episodes side by side.

    agent       an agent, or any function (observation, goal) -> actions; see `FunctionPolicy` for one that is not
                called with all episodes at once
    guardrails  makes guardrails from masks of what is forbidden; None: the agent is not told of it
    task        weights, guardrails, horizon, budget and fallback; its goal is replaced by each episode's
    random      also measure the strongest random policy
    first       act in the first so many of these episodes only: a slow planner beside a fast one, on the same starts

    Raises:
        MismatchError: the agent was trained for another world, or guardrails for what nobody can paint.
        ConfigError: the world cannot be sampled (no room for the disk, …).
    """
    agent = deciding(agent, protocol.world.signature)
    if task is not None:
        set_to(agent, task)
    protocol.world.signature.require(agent.signature.world, "the protocol's world", "the agent")
    trials, again = (_begun(protocol, episodes, seed, first) for _ in range(2))
    trials = in_steps(trials, agent, protocol.limit)
    floor = drifted(again, protocol.limit, torch.Generator().manual_seed(seed + 7)) if random else None
    limits = () if task is None else task.guardrails
    if guardrails is not None:
        masks = trials.painted()
        if masks is None:
            raise MismatchError("a world in which something is forbidden that can be painted", "none",
                                "give guardrails with the task")
        limits += guardrails(masks)
    goal = trials.goals()
    _require_columns(goal, agent)
    asked = replace(task or Task(goal), goal=goal, guardrails=limits)
    tally = Tally(trials, -(-protocol.limit // rows_between(agent)))
    planning, infeasible = follow(agent, tally, asked, seed, watch)
    paths, scored = tally.paths(), protocol.world.scored == "return"
    return Evaluation(
        protocol, seed, tally.success, tally.violated, tally.efficiency(), steps_of(tally), planning,
        None if floor is None else floor.success, None if floor is None else floor.violated,
        trials.returns if scored else None, floor.trials.returns if scored and floor is not None else None,
        tally.solved_at_start, infeasible, {} if paths is None else trials.checks(paths), paths, trials,
    )


def in_steps(trials: Trials, agent: Decides, limit: int) -> Trials:
    """The trials as the agent sees and steps them, of at most `limit` actions of the world."""
    return trials if agent.signature.pace.plain else PacedTrials(
        trials, agent.signature.pace, limit, rows_between(agent))


def steps_of(tally: Tally) -> Tensor:
    """(B,) actions of the world."""
    return tally.trials.steps if isinstance(tally.trials, PacedTrials) else tally.steps


def _require_columns(goal: Goal, agent: Decides) -> None:
    if not isinstance(goal, ColumnGoal) or isinstance(agent, FunctionPolicy):
        return
    known = () if agent.readout is None else agent.readout.columns
    missing = sorted(set(goal.targets) - set(known))
    if missing:
        raise MismatchError(f"an agent that reads {', '.join(sorted(goal.targets))}, where this protocol's goal is",
                            f"one that reads {', '.join(known) or 'no columns'}",
                            "choose the protocol of the agent's own world, or fit a read-out for these columns")


def _begun(protocol: PlanningProtocol, episodes: int | None, seed: int, first: int | None) -> Trials:
    trials = protocol.world.begin(episodes or protocol.episodes, seed)
    return trials if first is None else trials.first(first)


def follow(
    agent: Decides, tally: Tally, task: Task, seed: int, watch: Callable[[Seen], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Tensor, int]:
    """Let `agent` act until every episode of the tally is over; those that are drop out of its batch.

    task  its goal and guardrails have a row for each episode
    stop  asked before every decision: leave the episodes where they stand

    -> CPU-seconds of planning of each episode (B,), and decisions for which no plan met every guardrail.
    """
    n = len(tally.success)
    running, planning, infeasible = torch.arange(n), torch.zeros(n), 0
    agent.reset([1_000_003 * (seed + 1) + i for i in range(n)])
    experiencing, whole = Experiencing(agent, tally.trials), rows_between(agent) == agent.signature.pace.step
    since: Tensor | None = None
    while len(running) and not stop():
        observation = {k: v[running] for k, v in tally.trials.observe().items()}
        before = time.process_time()
        plan = agent.act(observation, task, since=since)
        planning[running] += (time.process_time() - before) / len(running)
        infeasible += int((~plan.feasible).sum())
        if watch is not None:
            watch(Seen(running, plan, tally.time, int(tally.success.sum())))
        commits = agent.commits(task)
        for actions in plan.actions[:, :commits].unbind(1)[: tally.limit - tally.time]:
            every = actions.new_zeros(n, actions.shape[1])
            every[running], moving = actions, tally.on
            tally.step(every)
            experiencing.stepped(every, moving)
        on = tally.on[running]
        since = plan.actions[on][:, :commits] if whole else None
        if not bool(on.all()):
            if bool(on.any()):
                agent.select(on)
                task = _some(task, on)
            running = running[on]
    return planning, infeasible


def _some(task: Task, on: Tensor) -> Task:
    """The task of the episodes that go on; guardrails that are made per episode follow."""
    goal, some = task.goal, task.rows(on, len(on))
    return replace(some, goal=goal.rows(on)) if isinstance(goal, ObservationGoal) else some
