"""The frozen protocol of two rooms: which episodes, which success, which floor; and running agents under it.

Counts every episode, rejects starts that are solved already, checks whole paths, and puts the strongest random walker
on the same starts. Knows the true state, which it never shows to the agent.

Shapes: B episodes, T steps.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman.agent import Agent
from steersman.core import Guardrail, MismatchError, ObservationGoal, Plan, Task, UsageError
from steersman.evaluation.intervals import wilson
from steersman.worlds import Rooms, TwoRooms, rooms, walk
from steersman.worlds.two_rooms import SIGNATURE, STEP_LIMIT, SUCCESS_RADIUS

GuardrailFactory = Callable[[Tensor], tuple[Guardrail, ...]]
"""Masks over the picture (B, 64, 64) bool, one per episode -> guardrails. All that an agent is told of a disk."""


class PlanningProtocol(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One way of measuring, stored with every result.

    world           distribution of layouts, starts and goals (start and goal always lie in different rooms)
    episodes        counted, all of them
    step_limit      actions an episode
    success_radius  pixels between agent and goal, at any moment, that count as success

    SPL is success-weighted path length (Anderson 2018): mean over episodes of success · l / max(p, l), l the exact
    shortest way from the start to the goal's centre and p the path taken until the goal was reached.

    >>> PlanningProtocol(world=TwoRooms.Config(wall_range=(20, 22))).episodes
    200
    """

    world: TwoRooms.Config = TwoRooms.Config()
    episodes: int = 200
    step_limit: int = STEP_LIMIT
    success_radius: float = SUCCESS_RADIUS

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.step_limit < 1 or not self.success_radius > 0:
            raise UsageError("episodes, step_limit and success_radius above 0", f"{self}", "raise them")


PROTOCOLS: dict[str, PlanningProtocol] = {
    "two-rooms": PlanningProtocol(),
    "held-out": PlanningProtocol(world=TwoRooms.Config.held_out()),
    "three-rooms": PlanningProtocol(world=TwoRooms.Config.three_rooms(), episodes=100),
    "guarded": PlanningProtocol(world=TwoRooms.Config(forbidden=5.0)),
    "guarded-held-out": PlanningProtocol(world=TwoRooms.Config.held_out(forbidden=5.0)),
}
"""Named protocols. Walls and doors of "held-out" stand where the default log never shows them."""


def protocol(name: str) -> PlanningProtocol:
    """The protocol of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"a protocol of {', '.join(PROTOCOLS)}", repr(name), "choose one of them")
    return PROTOCOLS[name]


@dataclass(frozen=True)
class Evaluation:
    """What was measured, episode by episode.

    success, violated  (B,) bool; violated: the swept path entered the forbidden disk (False where there is none)
    efficiency   (B,) l / max(p, l) of successes, 0 otherwise; their mean is SPL
    steps        (B,) actions until success or the end
    crossed      (B,) bool: the path touched solid wall (impossible by construction; checked all the same)
    planning     (B,) CPU-seconds of planning
    random       (B,) bool: success of the strongest random walker on the same starts, or None
    solved_at_start  episodes whose start satisfied the goal (the sampler rejects them: 0)
    infeasible   decisions for which no plan met every guardrail
    paths        (B, T+1, 2) positions; a finished episode stays where it is
    world        the episodes as they ended: layouts, goals, disks, shortest paths
    """

    protocol: PlanningProtocol
    seed: int
    success: Tensor
    violated: Tensor
    efficiency: Tensor
    steps: Tensor
    crossed: Tensor
    planning: Tensor
    random: Tensor | None
    solved_at_start: int
    infeasible: int
    paths: Tensor
    world: Rooms

    def __len__(self) -> int:
        return len(self.success)

    def figures(self) -> dict[str, Any]:
        """The measurements as one flat object for `--json`."""
        n, wins = len(self), int(self.success.sum())
        figures: dict[str, Any] = {
            "success": wins / n, "success_ci95": list(wilson(wins, n)), "spl": float(self.efficiency.mean()),
            "episodes": n, "solved_at_start": self.solved_at_start, "wall_crossings": int(self.crossed.sum()),
            "violations": int(self.violated.sum()), "planning_seconds": statistics.median(self.planning.tolist()),
            "steps": float(self.steps.float().mean()), "infeasible_decisions": self.infeasible, "seed": self.seed,
        }
        if self.random is not None:
            figures["random_success"] = float(self.random.double().mean())
        return figures


@dataclass(frozen=True)
class Seen:
    """What a watcher is shown after every decision: the episodes still running (rows of the batch), plan and world."""

    rows: Tensor
    plan: Plan
    world: Rooms
    step: int
    done: int


def evaluate(
    agent: Agent,
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

    guardrails  makes guardrails from masks of the forbidden disks; None: the agent is not told of them
    task        weights, horizon, budget and fallback; its goal is replaced by each episode's goal picture
    random      also measure the random walker
    first       act in the first so many of these episodes only: a slow planner beside a fast one, on the same starts

    Raises:
        MismatchError: the agent was trained for another world.
        ConfigError: the world cannot be sampled (no room for the disk, …).
    """
    SIGNATURE.require(agent.signature, "TwoRooms", "the agent")
    count = episodes or protocol.episodes
    world = Rooms.sample(protocol.world, count, seed)
    if first is not None:
        world = world.first(first)
    floor = _random_walker(world, protocol, seed) if random else None
    solved = int((world.position - world.goal).norm(dim=1).le(protocol.success_radius).sum())
    limits: tuple[Guardrail, ...] = ()
    if guardrails is not None:
        if world.forbidden is None:
            raise MismatchError("a world with a forbidden disk", "none", "set TwoRooms.Config(forbidden=5.0)")
        limits = guardrails(disk_masks(world.forbidden))
    goal = ObservationGoal(world.goal_observation())
    asked = replace(task or Task(goal), goal=goal, guardrails=limits)
    return _run(agent, protocol, world, asked, seed, solved, floor, watch)


def _run(agent: Agent, protocol: PlanningProtocol, world: Rooms, task: Task, seed: int, solved: int,
         floor: Tensor | None, watch: Callable[[Seen], None] | None) -> Evaluation:
    n = len(world.layout)
    running, success = torch.arange(n), torch.zeros(n, dtype=torch.bool)
    steps, planning, infeasible = torch.zeros(n, dtype=torch.long), torch.zeros(n), 0
    paths = [world.position]
    agent.reset([1_000_003 * (seed + 1) + i for i in range(n)])
    since: Tensor | None = None
    while len(paths) <= protocol.step_limit and len(running):
        observation = {k: v[running] for k, v in world.observe().items()}
        before = time.process_time()
        plan = agent.act(observation, task, since=since)
        planning[running] += (time.process_time() - before) / len(running)
        infeasible += int((~plan.feasible).sum())
        if watch is not None:
            watch(Seen(running, plan, world, len(paths) - 1, int(success.sum())))
        still = torch.ones(len(running), dtype=torch.bool)
        for k in range(min(agent.commits(task), plan.actions.shape[1])):
            if len(paths) > protocol.step_limit:
                break
            action = torch.zeros(n, 2)
            action[running[still]] = plan.actions[still, k].float()
            world.step(action)
            paths.append(world.position)
            steps[running[still]] += 1
            near = (world.position - world.goal).norm(dim=1) <= protocol.success_radius
            success |= near
            still &= ~near[running]
        since = plan.actions[still][:, : agent.commits(task)]
        if not bool(still.all()):
            agent.select(still)
            running = running[still]
            task = _keep(task, still)
    path = torch.stack(paths, 1)
    length = (path[:, 1:] - path[:, :-1]).norm(dim=-1).sum(1)
    efficiency = success * world.shortest / torch.maximum(length, world.shortest)
    violated = (
        torch.zeros(n, dtype=torch.bool) if world.forbidden is None else rooms.entered_disk(path, world.forbidden)
    )
    return Evaluation(
        protocol, seed, success, violated, efficiency, steps, rooms.crossed_wall(world.layout, path), planning, floor,
        solved, infeasible, path, world,
    )


def _keep(task: Task, rows: Tensor) -> Task:
    """The task of the episodes that go on; guardrails that are made per episode follow."""
    assert isinstance(task.goal, ObservationGoal)
    limits = tuple(g.rows(rows) for g in task.guardrails)
    return replace(task, goal=task.goal.map(lambda x: x[rows]), guardrails=limits)


def _random_walker(world: Rooms, protocol: PlanningProtocol, seed: int) -> Tensor:
    """(B,): full speed, a new heading on contact; the strongest walker that looks at nothing."""
    generator = torch.Generator().manual_seed(seed + 7)
    path, _ = walk(world.layout, world.position, protocol.step_limit, generator, full_speed=True)
    near = (path - world.goal[:, None]).norm(dim=-1) <= protocol.success_radius
    return near.any(1)


def disk_masks(disk: Tensor) -> Tensor:
    """Disks (B, 3) of (x, y, radius) as masks over the picture, (B, 64, 64) bool: what a user would paint."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    return torch.hypot(x - disk[:, 0, None, None], y - disk[:, 1, None, None]) <= disk[:, 2, None, None]
