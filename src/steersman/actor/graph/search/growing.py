"""Growing: rays of constant actions from every new node; ends that are far from all nodes become nodes.

Shapes: B problems, N nodes, F nodes expanded at a time, R rays, H steps of a ray, D state, P its place,
A action.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from steersman.actor.graph.aim import Aim, pace_of
from steersman.actor.graph.search.graph import FAR, Graph, distances, nearest
from steersman.actor.graph.search.judging import judged_steps
from steersman.actor.graph.search.settings import Settings
from steersman.actor.graph.search.space import Space
from steersman.actor.ground.primitives import rays
from steersman.core import Problem
from steersman.core.clock import now
from steersman.core.records import join

_AT_ONCE = 128  # candidates looked at in a round of growth; others come up again from other nodes
_GOLDEN = 0.618  # of the angle between two directions: by so much those of the next graph are turned
_SHORTER = 0.6  # length of the actions of every other later graph: narrow ways need small steps
_CHUNK = 16  # problems in memory at a time, of tokens a single one; a plan does not depend on it
_PACING = 12  # steps of each direction from which the length of a step is learned


def grow_all(
    config: Settings, problem: Problem, space: Space, aim: Aim, which: Tensor, closeness: float = 1.0, tries: int = 0
) -> Graph:
    """Graphs for the problems `which` (indices), spaced `closeness` times as far as configured."""
    reach = _SHORTER if tries % 2 else 1.0
    device = problem.belief.state.device
    fan = rays(problem.action, config.directions, tries * _GOLDEN % 1, reach).to(device)
    every = rays(problem.action, config.directions).to(device)
    pieces = []
    for chosen in which.split(_CHUNK if problem.belief.state.ndim == 2 else 1):
        part = problem.rows(chosen)
        ahead = min(_PACING, part.task.trusted or _PACING)
        tried = part.model.imagine(part.belief, every[None, :, None].expand(len(part), -1, ahead, -1))
        placed = space.place(tried.states, tried.context)
        step = pace_of(placed)
        goal = replace(aim, target=aim.target[chosen])
        unit = step if aim.readout is None else pace_of(goal.place(placed, tried.context))
        pieces.append(_grow(config, part, space, fan, closeness * config.spacing, step, goal.target, unit))
    return join(pieces)


def _grow(
    config: Settings, problem: Problem, space: Space, fan: Tensor, spacing: float, step: Tensor, goal: Tensor,
    unit: Tensor,
) -> Graph:
    belief, task, ray = problem.belief, problem.task, problem.within_trust(config.ray)
    c, b, here = config, len(belief), space.place(belief.state[:, None], belief.context)
    r, f, n = len(fan), c.expand, c.nodes
    actions = fan[None, None, :, None].expand(b, f, r, ray, -1).flatten(1, 2)
    padded = -(-n // f) * f
    nodes = here.new_zeros(b, padded, here.shape[-1])
    states = belief.state.new_zeros(b, padded, *belief.state.shape[1:])
    nodes[:, 0], states[:, 0] = here[:, 0], belief.state
    via, length = here.new_zeros(b, padded, r, ray, here.shape[-1]), belief.state.new_full((b, padded, r), float(ray))
    usable = torch.zeros(b, padded, r, dtype=torch.bool, device=nodes.device)
    count = torch.ones(b, dtype=torch.long, device=nodes.device)
    done = torch.zeros_like(count)
    depth = belief.state.new_zeros(b, padded)  # imagined steps from the start, at most
    slot = torch.arange(f, device=nodes.device)
    row, place = torch.arange(b, device=nodes.device)[:, None], torch.arange(padded, device=nodes.device)
    began, seconds = now(), task.budget.seconds
    while bool((done < count).any()):
        if seconds is not None and now() - began > seconds / 3:
            break  # what has grown so far is searched
        index = done[:, None] + slot
        live = index < count[:, None]
        index = index.clamp_max(padded - 1)
        imagined = problem.model.branch(belief, states[row, index].repeat_interleave(r, 1), actions)
        judged = judged_steps(problem, imagined, actions)
        imagined = replace(imagined, states=imagined.states.nan_to_num())
        way = space.place(imagined.states, belief.context)
        pace = (way[:, :, 1:] - way[:, :, :-1]).norm(dim=-1)  # (b, f*r, ray)
        local = pace[..., 0].unflatten(1, (f, r)).amax(2, keepdim=True).expand(-1, -1, r).flatten(1)
        allowed = judged.allowed[..., -1] & live.repeat_interleave(r, 1)  # the whole ray
        allowed &= (pace > c.stall * local[..., None]).all(2)
        reached = depth[row, index].masked_fill(~live, 0).amax(1) + ray
        if task.trusted is not None:
            allowed &= (reached <= task.trusted)[:, None]
        for store, new in ((via, way[:, :, 1:]), (usable, allowed), (length, judged.cost.sum(2))):
            new = new.unflatten(1, (f, r))
            store[row, index] = torch.where(live.view(b, f, *[1] * (new.dim() - 2)), new, store[row, index])
        done = torch.minimum(done + f, count)
        before = count
        count, which = add(nodes, count, way[:, :, -1], allowed, spacing * step, n)
        states[which[0], which[1]] = imagined.states[which[0], which[2], -1]
        grown = (place >= before[:, None]) & (place < count[:, None])
        depth = torch.where(grown, reached[:, None], depth)
    near, share = nearest(config, nodes[:, :n], count, via[:, :n, :, -1].flatten(1, 2), step)
    share = (share * usable[:, :n].flatten(1, 2)[..., None]).unflatten(1, (n, r))
    none, no = torch.zeros_like(count), torch.zeros_like(count, dtype=torch.bool)
    return Graph(
        nodes=nodes[:, :n], count=count, step=step, near=near.unflatten(1, (n, r)), share=share, via=via[:, :n],
        length=length[:, :n], fan=fan.expand(b, -1, -1), calls=count * r * ray, goal=goal, unit=unit,
        value=nodes.new_zeros(b, n), outside=no, last=torch.zeros_like(here[:, 0]),
        pushed=fan.new_zeros(b, fan.shape[-1]), acted=no, aside=none, age=none, tries=torch.ones_like(count),
        record=torch.full_like(step, 2 * FAR), stuck=none,
    )


def add(
    nodes: Tensor, count: Tensor, new: Tensor, allowed: Tensor, spacing: Tensor, limit: int
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Select, in order, every allowed candidate (B, K, P) that is farther than `spacing` from all selected before it.

    Greedy in order, computed in parallel: a candidate is selected once no undecided candidate before it is near,
    and drops once a selected one is near (as in Luby's independent sets). A handful of rounds suffice.

    -> nodes now (B,), and of those that are new: their problem, their node and which candidate they were.
    """
    padding = torch.arange(nodes.shape[1], device=nodes.device) >= count[:, None]
    open_ = allowed & (distances(new, nodes).masked_fill_(padding[:, None], FAR).amin(2) > spacing[:, None])
    first = (~open_).to(torch.int8).argsort(dim=1, stable=True)[:, :_AT_ONCE]  # open ones, in order
    new, open_ = new.gather(1, first[..., None].expand(-1, -1, new.shape[-1])), open_.gather(1, first)
    clash = distances(new, new) <= spacing[:, None, None]
    before = (clash & torch.ones_like(clash[0]).tril(-1)).float()
    chosen = torch.zeros_like(open_)
    while bool(open_.any()):
        free = open_ & (torch.bmm(before, open_.float()[..., None])[..., 0] == 0)
        chosen |= free
        open_ = open_ & ~free & (torch.bmm(clash.float(), free.float()[..., None])[..., 0] == 0)
    place = count[:, None] + chosen.cumsum(1) - 1
    chosen &= place < limit
    row, column = chosen.nonzero(as_tuple=True)
    nodes[row, place[row, column]] = new[row, column]
    return count + chosen.sum(1), (row, place[row, column], first[row, column])
