"""Acting: the step of least value, what is learned when a step did not lead where it should, and why in words.

Shapes: B problems, N nodes, F nodes expanded at a time, R rays, H steps of a ray, D state, A action.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from steersman.actor.graph.search.graph import FAR, Graph, put
from steersman.actor.graph.search.growing import allowed_steps
from steersman.actor.graph.search.settings import Settings
from steersman.actor.graph.search.valuing import value_of
from steersman.actor.ground.bounds import fallback_action
from steersman.actor.ground.primitives import rays
from steersman.actor.ground.rounds import choose
from steersman.core import Imagined, Plan, Problem, Streams
from steersman.core.clock import now


def noticed(config: Settings, graph: Graph, state: Tensor) -> Tensor:
    """(B,) bool: the last decision's action hardly moved the state."""
    moved = (state - graph.last).norm(dim=1)
    return (graph.pushed != 0).any(1) & (moved < config.stall * graph.step) & (graph.aside == 0)


def corrected(config: Settings, graph: Graph, problem: Problem, wrong: Tensor) -> Graph:
    """Close the rays that what happened disproves, and step aside for a while."""
    aside = torch.where(wrong, config.aside, (graph.aside - 1).clamp_min(0))
    graph = replace(graph, aside=aside)
    if not bool(wrong.any()):
        return graph
    part = graph.map(lambda x: x[wrong])
    alike = _similar(part.fan, part.pushed)  # (b, R)
    here = problem.belief.state[wrong]
    reach = config.touch * part.step
    starts = (part.nodes - here[:, None]).norm(dim=-1) < reach[:, None]
    apart = (part.via[:, :, :, :-1] - here[:, None, None, None]).norm(dim=-1)
    passes = (apart < reach[:, None, None, None]).any(-1)
    closed = (starts[..., None] | passes) & alike[:, None]
    return replace(graph, share=put(graph.share, wrong, part.share * ~closed[..., None]))


def decide(config: Settings, problem: Problem, graph: Graph, began: float, fresh: bool) -> Plan:
    c, b = config, len(problem)
    fan = rays(problem.action, c.look).to(problem.belief.state.device)
    r, far = len(fan), problem.within_trust(c.look_ahead)
    actions = fan[None, :, None].expand(b, r, far, -1)
    imagined = problem.model.imagine(problem.belief, actions)
    allowed, refused = allowed_steps(imagined, actions, problem.task)
    value = value_of(config, graph, imagined.states[:, :, 1:].flatten(1, 2)).view(b, r, far)
    steps = torch.arange(1, far + 1, device=value.device)
    score = (value + steps).masked_fill(~allowed, 2 * FAR)
    best, which = score.flatten(1).min(1)
    ray, length = which // far, which % far
    noise = Streams(problem.seeds, problem.decision).uniform(r).to(value.device)
    sideways = (noise * allowed[:, :, : c.execute].all(2)).argmax(1)
    ray = torch.where(graph.aside > 0, sideways, ray)
    rows = torch.arange(b)
    feasible = allowed[rows, ray, 0]
    chosen, picked = actions[rows, ray], imagined.select(ray)
    energy = score.gather(2, length[:, None, None].expand(b, r, 1))[rows, ray].expand(b, far)
    calls = torch.full((b,), r * far) + (graph.calls if fresh else 0)
    if problem.task.guardrails:  # one step is taken on one look: what lies beyond it was not promised
        chosen, picked, energy = chosen[:, :1], _first_step(picked), energy[:, :1]
        if not bool(feasible.all()):
            spare = fallback_action(problem).to(chosen.dtype).expand_as(chosen)
            there = problem.model.imagine(problem.belief, spare[:, None])
            chosen, calls = choose(feasible, chosen, spare), calls + (~feasible).cpu().long()
            picked = replace(picked, states=choose(feasible, picked.states, there.states))
    pushed = torch.where(feasible[:, None], fan[ray], torch.zeros_like(fan[ray]))
    graph = replace(graph, last=problem.belief.state, pushed=pushed)
    names = [g.name for g in problem.task.guardrails]
    refusals = refused.any(2).sum(1)
    return Plan(
        actions=chosen, imagined=picked, energy={"goal": energy}, feasible=feasible,
        kept=allowed[..., 0].sum(1),
        vetoed={name: refusals[:, i] for i, name in enumerate(names)},
        reason=_reasons(best, feasible, graph), calls=calls,
        seconds=now() - began, warm=graph,
    )


def _first_step(imagined: Imagined) -> Imagined:
    cut = [None if x is None else x[:, :, :1] for x in (imagined.disagreement, imagined.attention)]
    return replace(imagined, states=imagined.states[:, :, :2], disagreement=cut[0], attention=cut[1], carry=())


def _reasons(best: Tensor, feasible: Tensor, graph: Graph) -> tuple[str, ...]:
    def say(steps: float, ok: bool, aside: int, count: int) -> str:
        if not ok:
            return "no direction keeps every guardrail: the declared fallback is taken"
        if aside > 0:
            return "the last actions did not move the state as imagined: stepping aside"
        if steps >= FAR:
            return f"the goal lies outside the {count} imagined states: going nearer in latent distance"
        return f"the shortest of {count} imagined states' ways reaches the goal in about {steps:.0f} steps"

    rows: Any = zip(best.tolist(), feasible.tolist(), graph.aside.tolist(), graph.count.tolist(), strict=True)
    return tuple(say(*row) for row in rows)


def _similar(fan: Tensor, pushed: Tensor) -> Tensor:
    """Which of each fan's actions (B, R, A) point the same way as `pushed` (B, A), within 45 degrees; (B, R) bool."""
    if not fan.is_floating_point():
        return (fan == pushed[:, None]).all(-1)
    cosine = torch.nn.functional.cosine_similarity(fan, pushed[:, None].to(fan.dtype), dim=-1)
    return cosine > 0.7
