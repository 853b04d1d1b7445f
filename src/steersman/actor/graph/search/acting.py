"""Acting: the step of least value, what is learned when a step did not lead where it should, and why in words.

Shapes: B problems, N nodes, F nodes expanded at a time, R rays, H steps of a ray, D state, P its place,
A action.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from steersman.actor.graph.aim import Aim
from steersman.actor.graph.search.graph import FAR, Graph
from steersman.actor.graph.search.judging import judged_steps
from steersman.actor.graph.search.settings import Settings
from steersman.actor.graph.search.space import Space
from steersman.actor.graph.search.valuing import value_of
from steersman.actor.ground.bounds import fallback_action
from steersman.actor.ground.primitives import rays
from steersman.actor.ground.verdict import verdict
from steersman.core import Imagined, Plan, Problem, Streams
from steersman.core.clock import now
from steersman.core.records import put, where


def noticed(config: Settings, graph: Graph, here: Tensor) -> Tensor:
    """(B,) bool: the last decision's action hardly moved the state, which is at `here` (B, P)."""
    moved = (here - graph.last).norm(dim=1)
    return graph.acted & (moved < config.stall * graph.step) & (graph.aside == 0)


def corrected(config: Settings, graph: Graph, places: Tensor, wrong: Tensor) -> Graph:
    """Close the rays that what happened disproves, and step aside for a while."""
    aside = torch.where(wrong, config.aside, (graph.aside - 1).clamp_min(0))
    graph = replace(graph, aside=aside)
    if not bool(wrong.any()):
        return graph
    part = graph.rows(wrong)
    alike = _similar(part.fan, part.pushed)  # (b, R)
    here = places[wrong]
    reach = config.touch * part.step
    starts = (part.nodes - here[:, None]).norm(dim=-1) < reach[:, None]
    apart = (part.via[:, :, :, :-1] - here[:, None, None, None]).norm(dim=-1)
    passes = (apart < reach[:, None, None, None]).any(-1)
    closed = (starts[..., None] | passes) & alike[:, None]
    return replace(graph, share=put(graph.share, wrong, part.share * ~closed[..., None]))


def decide(
    config: Settings, problem: Problem, space: Space, aim: Aim, graph: Graph, here: Tensor, began: float, fresh: Tensor
) -> Plan:
    """The plan from here, at places (B, P); fresh (B,) bool: the graph was grown for this decision."""
    c, b = config, len(problem)
    fan = rays(problem.action, c.look).to(problem.belief.state.device)
    r, far = len(fan), problem.within_trust(c.look_ahead)
    actions = fan[None, :, None].expand(b, r, far, -1)
    imagined = problem.model.imagine(problem.belief, actions)
    judged = judged_steps(problem, imagined, actions)
    ends = imagined.states[:, :, 1:].flatten(1, 2)
    value = value_of(config, graph, problem, aim, space.place(ends, problem.belief.context), ends).view(b, r, far)
    total = (value + judged.cost.cumsum(2)).masked_fill(~judged.allowed, 2 * FAR)
    best, which = total.flatten(1).min(1)
    ray = which // far
    noise = Streams(problem.seeds, problem.decision).uniform(r).to(value.device)
    sideways = (noise * judged.allowed[:, :, : c.execute].all(2)).argmax(1)
    ray = torch.where(graph.aside > 0, sideways, ray)
    rows = torch.arange(b, device=ray.device)
    feasible = judged.allowed[rows, ray, 0]
    chosen, picked = actions[rows, ray], imagined.select(ray)
    calls = torch.full((b,), r * far) + torch.where(fresh, graph.calls, 0).cpu()
    if problem.task.guardrails:  # one step is taken on one look: what lies beyond it was not promised
        chosen, picked = chosen[:, :1], _first_step(picked)
        if not bool(feasible.all()):
            spare = fallback_action(problem).to(chosen.dtype).expand_as(chosen)
            there = problem.model.imagine(problem.belief, spare[:, None])
            chosen, picked = where(feasible, (chosen, picked), (spare, there))
            calls = calls + (~feasible).cpu().long()
    graph = replace(graph, last=here, pushed=fan[ray], acted=feasible & _pushes(fan[ray]))
    return Plan(
        actions=chosen, imagined=picked, feasible=feasible, kept=judged.allowed[..., 0].sum(1),
        energy={name: part[:, 0] for name, part in verdict(problem, picked, chosen[:, None]).parts.items()},
        vetoed={name: broken.any(2).sum(1) for name, broken in judged.refused.items()},
        reason=_reasons(best, feasible, graph), calls=calls,
        seconds=now() - began, warm=graph,
    )


def _first_step(imagined: Imagined) -> Imagined:
    cut = [None if x is None else x[:, :, :1] for x in (imagined.disagreement, imagined.attention)]
    return replace(imagined, states=imagined.states[:, :, :2], disagreement=cut[0], attention=cut[1], carry=())


def _reasons(best: Tensor, feasible: Tensor, graph: Graph) -> tuple[str, ...]:
    def say(steps: float, ok: bool, aside: int, count: int) -> str:
        if not ok:
            return "INFEASIBLE: no direction keeps every guardrail; fallback action"
        if aside > 0:
            return "the last actions did not move the state as imagined: stepping aside"
        if steps >= FAR:
            return f"the goal lies outside the {count} imagined states: going nearer to it, straight"
        return f"the shortest of {count} imagined states' ways reaches the goal in about {steps:.0f} steps"

    rows: Any = zip(best.tolist(), feasible.tolist(), graph.aside.tolist(), graph.count.tolist(), strict=True)
    return tuple(say(*row) for row in rows)


def _pushes(actions: Tensor) -> Tensor:
    """(B,) bool: actions (B, A) that are to move something: every choice, and amounts that are not all 0."""
    if not actions.is_floating_point():
        return torch.ones_like(actions[:, 0], dtype=torch.bool)
    return (actions != 0).any(1)


def _similar(fan: Tensor, pushed: Tensor) -> Tensor:
    """Which of each fan's actions (B, R, A) point the same way as `pushed` (B, A), within 45 degrees; (B, R) bool."""
    if not fan.is_floating_point():
        return (fan == pushed[:, None]).all(-1)
    cosine = torch.nn.functional.cosine_similarity(fan, pushed[:, None].to(fan.dtype), dim=-1)
    return cosine > 0.7
