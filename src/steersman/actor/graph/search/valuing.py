"""Valuing: how many steps lead from every node, and from any state, to the goal.

Shapes: B problems, N nodes, F nodes expanded at a time, R rays, H steps of a ray, D state, P its place,
A action.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from steersman.actor.graph.aim import Aim
from steersman.actor.graph.search.graph import FAR, Graph, nearest
from steersman.actor.graph.search.settings import Settings
from steersman.actor.ground.verdict import ends_of, terminal_terms
from steersman.core import Problem
from steersman.core.records import put


def solve(config: Settings, graph: Graph, problem: Problem, aim: Aim, stale: Tensor) -> Graph:
    """Value iteration over the imagined rays, for the problems of a mask (B,)."""
    c, part = config, graph.rows(stale)
    context = None if problem.belief.context is None else problem.belief.context[stale]
    padding = torch.arange(c.nodes, device=stale.device) >= part.count[:, None]
    goal = replace(aim, target=aim.target[stale])
    apart = goal.apart(part.nodes, context).masked_fill(padding, FAR) / part.unit[:, None]
    last = (part.tries > 1) & (not terminal_terms(problem))  # at last, and no critic to ask: from the nearest known
    stretch = torch.where(last, apart.amin(1) * 1.1, 0)
    touch = stretch.clamp_min(c.touch)[:, None]
    value = torch.where(apart <= touch, apart, FAR)
    total = part.share.sum(-1)
    weight = (part.share / total.clamp_min(1e-6)[..., None]).flatten(1)
    closed = (total <= 1e-6) | padding[..., None]
    index = part.near.flatten(1)
    moving = torch.ones_like(part.count, dtype=torch.bool)
    for _ in range(4 * c.nodes):  # a loop over the length of ways, not over nodes or problems
        through = (value.gather(1, index) * weight).view(*part.near.shape).sum(-1) + part.length
        better = torch.minimum(value, through.masked_fill(closed, FAR).amin(2))
        better = torch.where(moving[:, None], better, value)
        moving = (better < value - 1e-3).any(1)
        value = better
        if not bool(moving.any()):
            break
    before = {"goal": graph.goal, "value": graph.value, "outside": graph.outside, "record": graph.record,
              "stuck": graph.stuck}
    solved = {"goal": goal.target, "value": value, "outside": apart.amin(1) > c.touch,
              "record": torch.full_like(part.step, 2 * FAR), "stuck": torch.zeros_like(part.count)}
    return replace(graph, **put(before, stale, solved))


def value_of(
    config: Settings, graph: Graph, problem: Problem, aim: Aim, points: Tensor, states: Tensor
) -> Tensor:
    """Steps to the goal from states (B, K, [N,] D) at points (B, K, P): interpolated, or straight where the goal is in
    touch. Where the graph knows no way: FAR, and what the terms weighed for a future's end say (a critic), or else how
    far it is straight."""
    index, weight = nearest(config, graph.nodes, graph.count, points, graph.step)
    value = graph.value.gather(1, index.flatten(1)).view(index.shape)
    known = (value < FAR / 2) & (weight > 0)
    weight = weight * known
    mean = (value * weight).sum(-1) / weight.sum(-1).clamp_min(1e-6)
    apart = aim.apart(points, problem.belief.context) / graph.unit[:, None]
    ends = ends_of(problem, states)
    beyond = sum(ends.values(), torch.zeros_like(apart)) / problem.weights["goal"] if ends else apart
    far = FAR + beyond  # off the graph: at least go nearer, or where a critic expects least
    mean = torch.where(weight.sum(-1) > 1e-6, mean, far)
    return torch.where(apart <= config.touch, torch.minimum(apart, mean), mean)
