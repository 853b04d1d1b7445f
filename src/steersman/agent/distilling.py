"""A policy from an agent's own plans: plan for moments of the log, let a network copy the first actions.

The result is measured on moments that took no part, beside how well the planner agrees with itself, and beside one
constant action. With `told`, targets are drawn from the log too and the policy is told them: one network, many goals.

Shapes: n moments, D latent size, A action size, H horizon, G targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman.actor.policy.policy import DistilledPolicy
from steersman.agent.agent import Agent
from steersman.agent.fitting import Frames
from steersman.core import Belief, ColumnGoal, Latent, Plan, Task, TensorRecord, UsageError
from steersman.core.records import join, rows, where
from steersman.cost import column_names
from steersman.nn import AdamW

_BATCH = 64
_HELD_OUT = 0.2
_AHEAD = 2  # a plan is copied for half of its horizon: its end is short-sighted


@dataclass(frozen=True)
class Fidelity:
    """How well a policy copies its planner on n moments that it was not fitted to.

    error        mean |policy - plan| in units of half the action range (discrete: share of other choices)
    planner      the same between two plans of other seeds: no copy can be expected to do better
    constant     the same for the one action that fits best
    moments      n
    """

    error: float
    planner: float
    constant: float
    moments: int


@dataclass(frozen=True)
class _Copied(TensorRecord):
    state: Tensor
    context: Tensor | None
    action: Tensor
    again: Tensor
    target: Tensor | None


def distil(
    agent: Agent, task: Task, dataset: Frames, *, told: Sequence[str] = (), moments: int = 2000, steps: int = 3000,
    relabel: int = 0, reach: int = 20, config: DistilledPolicy.Config | None = None, seed: int = 0,
    watch: Callable[[int, int], None] | None = None,
) -> tuple[DistilledPolicy, Fidelity]:
    """Plan for `moments` moments of the log, drawn uniformly, and fit a policy to what the plans begin with.

    Where imagination carries no history, states that a plan passes in the first half of its horizon are copied too,
    with the actions that it takes there: states that the planner seeks and that a log of wandering may lack.

    relabel  rounds of relabelling: the policy acts in imagination, from the same moments, for up to `reach` steps, the
           planner says what it would have done where that led, and the policy learns that too (DAgger, Ross, Gordon &
           Bagnell 2011, with the world model for a world); a policy's own mistakes are states that no plan passes
    told   columns of the task's goal whose targets the policy is told: in place of what the goal says, plans are made
           towards the values that these columns have at other moments of the log, drawn together
    watch  called with moments done, moments in all

    Raises:
        UsageError: a world model with a history or exogenous inputs, of which a policy sees nothing; fewer than 20
            moments; a goal that is not on the columns `told`.
        PlanningError: a goal that does not fit.
    """
    require_reactive(agent, task, told)
    if moments < 20 or steps < 1 or relabel < 0 or reach < 1:
        raise UsageError("at least 20 moments, 1 step of fitting, 0 rounds of relabelling and a reach of 1",
                         f"{moments}, {steps}, {relabel} and {reach}", "raise them")
    fitted = round(moments * (1 - _HELD_OUT))
    episode, row = drawn_moments(dataset, moments, seed)
    target = drawn_targets(agent, dataset, tuple(told), moments, seed + 1) if told else None
    first, last = (None, None) if target is None else (target[:fitted], target[fitted:])
    held_out = _planned(agent, task, dataset, episode[fitted:], row[fitted:], seed, 0, None, told, last)
    copied = _planned(agent, task, dataset, episode[:fitted], row[:fitted], seed, _AHEAD, watch, told, first)
    config = msgspec.structs.replace(config or DistilledPolicy.Config(), targets=tuple(told))
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        policy = config.build(agent.signature, agent.perception.latent_shape, agent.perception.context_shape)
        policy.calibrate(copied.state, copied.target)
        _fit(policy, copied, steps, seed)
    for number in range(relabel):
        there = _strayed(agent, task, dataset, episode[:fitted], row[:fitted], policy, reach, seed + number, told,
                         first)
        copied = join((copied, _labelled(agent, task, there, seed + number, told, first, watch)))
        _fit(policy, copied, steps, seed + 1 + number)
    return policy.eval(), _fidelity(policy, copied, held_out)


def require_reactive(agent: Agent, task: Task, told: Sequence[str]) -> None:
    """
    Raises:
        UsageError: a world model with a history or exogenous inputs, of which a policy sees nothing; a goal that is not
            on the columns `told`.
    """
    if agent.config.history > 1:
        raise UsageError("an agent whose state is its last observation", f"a history of {agent.config.history}",
                         "plan instead, or train a model without a history")
    if agent.signature.exogenous:
        raise UsageError("an agent whose actions follow from its observation",
                         f"exogenous inputs {', '.join(agent.signature.exogenous)}", "plan instead")
    aims = task.goal.targets if isinstance(task.goal, ColumnGoal) else {}
    if not set(told) <= set(aims):
        raise UsageError(f"a goal on the columns {', '.join(told)}", f"one on {', '.join(aims) or 'no columns'}",
                         "name them in the goal")


def drawn_moments(dataset: Frames, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """`count` moments of a log, uniformly: episode (n,), row (n,)."""
    generator = torch.Generator().manual_seed(seed)
    lengths = dataset.lengths + 1
    place = torch.randint(int(lengths.sum()), (count,), generator=generator)
    ends = lengths.cumsum(0)
    episode = torch.searchsorted(ends, place, right=True)
    return episode, place - (ends - lengths)[episode]


def drawn_targets(agent: Agent, dataset: Frames, told: tuple[str, ...], count: int, seed: int) -> Tensor:
    """Values that the columns `told` have together at moments of the log: (count, G)."""
    names = column_names(agent.signature)
    frames = dataset.frames(*drawn_moments(dataset, count, seed))
    vectors = [name for name, spec in sorted(agent.signature.observations.items()) if spec.kind == "vector"]
    return torch.cat([frames[name].float() for name in vectors], -1)[:, [names.index(name) for name in told]]


def towards(task: Task, told: Sequence[str], target: Tensor | None) -> Task:
    """The task with targets (n, G) of the columns `told`."""
    if target is None or not isinstance(task.goal, ColumnGoal):
        return task
    aims: dict[str, Any] = {**task.goal.targets, **dict(zip(told, target.unbind(-1), strict=True))}
    return replace(task, goal=replace(task.goal, targets=aims))


def _planned(
    agent: Agent, task: Task, dataset: Frames, episode: Tensor, row: Tensor, seed: int, ahead: int,
    watch: Callable[[int, int], None] | None, told: Sequence[str], target: Tensor | None,
) -> _Copied:
    """Plans for these moments, towards these targets (n, G); where `ahead` is 0, twice with other seeds."""
    pieces: list[_Copied] = []
    for start in range(0, len(row), _BATCH):
        batch = slice(start, start + _BATCH)
        frames = dataset.frames(episode[batch], row[batch])
        aims = None if target is None else target[batch]
        agent.reset(seed + start)
        plan = agent.act(frames, towards(task, told, aims))
        again = plan.action
        if not ahead:
            agent.reset(seed + 1_000_003 + start)
            again = agent.act(frames, towards(task, told, aims)).action
        pieces.append(_copied(plan, again, aims, ahead))
        if watch is not None:
            watch(min(start + _BATCH, len(row)), len(row))
    return _together(pieces)


def _strayed(
    agent: Agent, task: Task, dataset: Frames, episode: Tensor, row: Tensor, policy: DistilledPolicy, reach: int,
    seed: int, told: Sequence[str], target: Tensor | None,
) -> list[Belief]:
    """Where the policy leads in imagination, from these moments, after 1 to `reach` steps: beliefs, batch by batch."""
    generator, found = torch.Generator().manual_seed(seed), []
    for start in range(0, len(row), _BATCH):
        batch = slice(start, start + _BATCH)
        asked = towards(task, told, None if target is None else target[batch])
        belief = belief_at(agent, dataset, episode[batch], row[batch])
        left = torch.randint(1, reach + 1, (len(belief),), generator=generator)
        with torch.no_grad():
            for step in range(reach):
                action = policy.propose(belief, asked)
                after = agent.world_model.imagine(belief, action[:, None]).last()
                belief = where(left > step, after, belief)
        found.append(belief)
    return found


def belief_at(agent: Agent, dataset: Frames, episode: Tensor, row: Tensor) -> Belief:
    """What an agent without a history believes at moments (n,) of a log."""
    seen = agent.encode(dataset.frames(episode, row))
    context = None if seen.context is None else seen.context[:, None].clone()
    action = agent.signature.action
    none = torch.zeros(len(row), 0, action.size, dtype=torch.int64 if action.kind == "discrete" else torch.float32)
    with torch.no_grad():
        return agent.world_model.begin(Latent(seen.state[:, None].clone(), context), none)


def _labelled(
    agent: Agent, task: Task, beliefs: Sequence[Belief], seed: int, told: Sequence[str], target: Tensor | None,
    watch: Callable[[int, int], None] | None,
) -> _Copied:
    """What the planner does there."""
    pieces, total = list[_Copied](), sum(map(len, beliefs))
    for number, belief in enumerate(beliefs):
        aims = None if target is None else target[number * _BATCH : (number + 1) * _BATCH]
        agent.reset(seed + number * _BATCH)
        plan = agent.act_from(belief, towards(task, told, aims))
        pieces.append(_copied(plan, plan.action, aims, 0))
        if watch is not None:
            watch(min((number + 1) * _BATCH, total), total)
    agent.reset()
    return _together(pieces)


def _copied(plan: Plan, again: Tensor, aims: Tensor | None, ahead: int) -> _Copied:
    """The states that plans pass in the first 1/ahead of their horizon, with their actions there (0: the first)."""
    steps = max(1, plan.actions.shape[1] // ahead) if ahead else 1
    states, context = plan.imagined.states[:, 0, :steps].flatten(0, 1), plan.imagined.context
    every = _Copied(states, None if context is None else context.repeat_interleave(steps, 0),
                    plan.actions[:, :steps].flatten(0, 1), again.repeat_interleave(steps, 0),
                    None if aims is None else aims.repeat_interleave(steps, 0))
    return rows(every, plan.feasible.repeat_interleave(steps))  # a fallback is no plan


def _together(pieces: Sequence[_Copied]) -> _Copied:
    found = join(pieces).map(torch.clone)
    if not len(found.state):
        raise UsageError("moments of the log with a feasible plan", "none", "loosen the guardrails or the goal")
    return found


@torch.enable_grad()
def _fit(policy: DistilledPolicy, copied: _Copied, steps: int, seed: int, batch: int = 256) -> None:
    generator = torch.Generator().manual_seed(seed)
    optimiser = AdamW(policy.named_parameters(), decay=0.0)
    for step in range(steps):
        rows = torch.randint(len(copied.state), (batch,), generator=generator)
        context, target = (None if x is None else x[rows] for x in (copied.context, copied.target))
        torch.autograd.backward(policy.loss(copied.state[rows], context, copied.action[rows], target))
        optimiser.step(2e-3 * (1 - step / steps))
        optimiser.forget_gradients()


@torch.no_grad()
def _fidelity(policy: DistilledPolicy, copied: _Copied, held_out: _Copied) -> Fidelity:
    discrete = policy.kind == "discrete"
    half = (policy.high - policy.low) / 2

    def apart(a: Tensor, b: Tensor) -> float:
        return float((a != b).float().mean()) if discrete else float(((a - b) / half).abs().mean())

    constant = copied.action.mode(0).values if discrete else copied.action.median(0).values
    acted = policy.act(held_out.state, held_out.context, held_out.target)
    return Fidelity(
        apart(acted, held_out.action), apart(held_out.again, held_out.action),
        apart(constant.expand_as(held_out.action), held_out.action), len(held_out.action),
    )
