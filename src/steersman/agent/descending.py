"""A policy by descending the cost through the model: no planner is copied, the imagined future's energy is
differentiated in the policy's weights.

Shapes: B moments, D latent size, A action size, H horizon, G targets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec
import torch
from torch import Tensor

from steersman.actor.ground.verdict import margins_of, total_of, weighted_terms
from steersman.actor.policy.policy import DistilledPolicy
from steersman.agent.agent import Agent
from steersman.agent.distilling import belief_at, drawn_moments, drawn_targets, require_reactive, towards
from steersman.agent.fitting import Frames
from steersman.core import Belief, Task, UsageError
from steersman.core.records import rows
from steersman.nn import AdamW

_STEEPEST = 1.0  # norm that a gradient is cut to: futures of many steps explode now and then


def descend(
    agent: Agent, task: Task, dataset: Frames, *, told: Sequence[str] = (), moments: int = 2000, horizon: int = 15,
    steps: int = 400, batch: int = 128, lr: float = 3e-3, penalty: float = 100.0,
    policy: DistilledPolicy | None = None, config: DistilledPolicy.Config | None = None, seed: int = 0,
    watch: Callable[[int, int], None] | None = None,
) -> tuple[DistilledPolicy, tuple[float, ...]]:
    """A policy whose imagined futures cost least -> (it, the mean energy of a future before each step of descent).

        s_0 of the log, a_t = π_θ(s_t), s_t+1 = f(s_t, a_t);   θ <- θ - η ∇_θ mean Σ_t [C(s_t, a_t) + ρ max(0, g_t)²]

    C are the terms that the task weighs, g its guardrails, ρ = `penalty`. The gradient is the model's and the costs'
    own, through all H steps (value gradients: Heess et al. 2015; Dreamer, Hafner et al. 2020). What is to come after
    the horizon is what a term for the end says, if the task weighs one (`cost.IntrinsicCritic`). The world model does
    not change.

    told     columns of the goal that the policy is told: drawn from the log for every moment, as in `distil`
    policy   goes on from this one, e.g. a distilled one; None: a new one by `config`
    penalty  what a guardrail's excess costs: a policy has no limits, only what it was taught

    Raises:
        UsageError: a model with a history or exogenous inputs, discrete actions, sizes below 1, or a goal that is not
            on the columns `told`. PlanningError: the task does not fit, or its terms pass no gradient on.
    """
    require_reactive(agent, task, told)
    if agent.signature.action.kind == "discrete":
        raise UsageError("continuous actions: a choice has no slope", f"{agent.signature.action.choices} choices",
                         "distil a planner instead")
    if min(moments, horizon, steps, batch) < 1 or lr <= 0:
        raise UsageError("moments, horizon, steps and batch >= 1, lr > 0", f"{moments}, {horizon}, {steps}, {batch}, "
                         f"{lr}", "correct the sizes")
    episode, row = drawn_moments(dataset, moments, seed)
    target = drawn_targets(agent, dataset, tuple(told), moments, seed + 1) if told else None
    begun = belief_at(agent, dataset, episode, row)
    if policy is None:
        config = msgspec.structs.replace(config or DistilledPolicy.Config(), targets=tuple(told))
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            policy = config.build(agent.signature, agent.perception.latent_shape, agent.perception.context_shape)
        policy.calibrate(begun.state, target)
    policy.requires_grad_(True)
    energies = _descended(agent, task, begun, target, policy, horizon, steps, batch, lr, penalty, seed, told, watch)
    return policy.eval().requires_grad_(False), energies


@torch.enable_grad()
def _descended(
    agent: Agent, task: Task, begun: Belief, target: Tensor | None, policy: DistilledPolicy, horizon: int, steps: int,
    batch: int, lr: float, penalty: float, seed: int, told: Sequence[str], watch: Callable[[int, int], None] | None,
) -> tuple[float, ...]:
    generator = torch.Generator().manual_seed(seed)
    named = dict(policy.named_parameters())
    optimiser, energies = AdamW(named.items(), decay=0.0), list[float]()
    for step in range(steps):
        some = torch.randint(len(begun), (batch,), generator=generator)
        asked = towards(task, told, None if target is None else target[some])
        loss = imagined_energy(agent, asked, rows(begun, some), policy, horizon, penalty)
        energies.append(float(loss.detach()))
        found = torch.autograd.grad(loss, list(named.values()))
        size = torch.stack([slope.square().sum() for slope in found]).sum().sqrt()
        if bool(torch.isfinite(size)):
            share = (_STEEPEST / size.clamp_min(1e-12)).clamp(max=1.0)
            for parameter, slope in zip(named.values(), found, strict=True):
                parameter.grad = slope * share
            optimiser.step(lr * 0.5 * (1 + math.cos(math.pi * step / steps)))
            optimiser.forget_gradients()
        if watch is not None:
            watch(step + 1, steps)
    return tuple(energies)


def imagined_energy(
    agent: Agent, task: Task, belief: Belief, policy: DistilledPolicy, horizon: int, penalty: float
) -> Tensor:
    """The mean energy () of the futures that a policy takes from beliefs (B, …), with what its excess costs."""
    problem, there, actions = agent.problem(belief, task), belief, list[Tensor]()
    for _ in range(horizon):
        actions.append(policy.propose(there, problem.task))
        there = agent.world_model.imagine(there, actions[-1][:, None]).last()
    done = torch.cat(actions, 1)[:, None]
    imagined = agent.world_model.imagine(belief, done)
    energy = total_of(weighted_terms(problem, imagined, done), imagined.states.new_empty(done.shape[:3])).sum(2)
    for margin in margins_of(task.guardrails, imagined, done).values():
        energy = energy + penalty * margin.clamp(min=0).square().sum(2)
    return energy.mean()
