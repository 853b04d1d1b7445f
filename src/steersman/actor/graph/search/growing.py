"""Growing: rays of constant actions from every new node; ends that are far from all nodes become nodes.

Shapes: B problems, N nodes, F nodes expanded at a time, R rays, H steps of a ray, D state, A action.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from steersman.actor.graph.search.graph import FAR, Graph, distances, nearest
from steersman.actor.graph.search.settings import Settings
from steersman.actor.ground.primitives import rays
from steersman.core import Belief, Imagined, Problem, Task, WorldModel
from steersman.core.clock import now

_AT_ONCE = 128  # candidates looked at in a round of growth; others come up again from other nodes
_GOLDEN = 0.618  # of the angle between two directions: by so much those of the next graph are turned
_SHORTER = 0.6  # length of the actions of every other later graph: narrow ways need small steps
_CHUNK = 16  # problems in memory at a time; a plan does not depend on it


def grow_all(
    config: Settings, problem: Problem, which: Tensor, closeness: float = 1.0, tries: int = 0
) -> Graph:
    """Graphs for the problems `which` (indices), spaced `closeness` times as far as configured."""
    pieces = []
    reach = _SHORTER if tries % 2 else 1.0
    device = problem.belief.state.device
    fan = rays(problem.action, config.directions, tries * _GOLDEN % 1, reach).to(device)
    every = rays(problem.action, config.directions).to(device)
    ray = problem.within_trust(config.ray)
    for rows in which.split(_CHUNK):
        task = replace(problem.task, guardrails=tuple(g.rows(rows) for g in problem.task.guardrails))
        belief = problem.belief[rows]
        step = _step_length(problem.model, belief, every, task.trusted)
        spacing = closeness * config.spacing
        pieces.append(_grow(config, problem.model, belief, fan, task, spacing, step, ray))
    return Graph(*(torch.cat([getattr(p, name) for p in pieces]) for name in Graph.__dataclass_fields__))


def _grow(
    config: Settings, model: WorldModel, belief: Belief, fan: Tensor, task: Task, spacing: float, step: Tensor,
    ray: int,
) -> Graph:
    c, b, d = config, len(belief), belief.state.shape[-1]
    r, f, n = len(fan), c.expand, c.nodes
    actions = fan[None, None, :, None].expand(b, f, r, ray, -1).flatten(1, 2)
    padded = -(-n // f) * f
    nodes = belief.state.new_zeros(b, padded, d)
    nodes[:, 0] = belief.state
    via = belief.state.new_zeros(b, padded, r, ray, d)
    usable = torch.zeros(b, padded, r, dtype=torch.bool, device=nodes.device)
    count = torch.ones(b, dtype=torch.long, device=nodes.device)
    done = torch.zeros_like(count)
    depth = belief.state.new_zeros(b, padded)  # imagined steps from the start, at most
    kept, vetoed = torch.zeros_like(count), torch.zeros(b, len(task.guardrails), dtype=torch.long)
    slot = torch.arange(f, device=nodes.device)
    rows, place = torch.arange(b, device=nodes.device)[:, None], torch.arange(padded, device=nodes.device)
    began, seconds = now(), task.budget.seconds
    while bool((done < count).any()):
        if seconds is not None and now() - began > seconds / 3:
            break  # what has grown so far is searched
        index = done[:, None] + slot
        live = index < count[:, None]
        index = index.clamp_max(padded - 1)
        starts = nodes[rows, index].repeat_interleave(r, 1)
        imagined = model.branch(belief, starts, actions)
        allowed, refused = allowed_steps(imagined, actions, task)
        imagined = replace(imagined, states=imagined.states.nan_to_num())
        pace = (imagined.states[:, :, 1:] - imagined.states[:, :, :-1]).norm(dim=-1)  # (b, f*r, ray)
        local = pace[..., 0].unflatten(1, (f, r)).amax(2, keepdim=True).expand(-1, -1, r).flatten(1)
        allowed = allowed[..., -1] & live.repeat_interleave(r, 1)  # the whole ray
        allowed &= (pace > c.stall * local[..., None]).all(2)
        reached = depth[rows, index].masked_fill(~live, 0).amax(1) + ray
        if task.trusted is not None:
            allowed &= (reached <= task.trusted)[:, None]
        kept += allowed.sum(1)
        vetoed += (refused.any(2) & live.repeat_interleave(r, 1)[..., None]).sum(1)
        way = imagined.states[:, :, 1:].unflatten(1, (f, r))
        via[rows, index] = torch.where(live[..., None, None, None], way, via[rows, index])
        usable[rows, index] = torch.where(live[..., None], allowed.unflatten(1, (f, r)), usable[rows, index])
        done = torch.minimum(done + f, count)
        before = count
        count = add(nodes, count, imagined.states[:, :, -1], allowed, spacing * step, n)
        new = (place >= before[:, None]) & (place < count[:, None])
        depth = torch.where(new, reached[:, None], depth)
    near, share = nearest(config, nodes[:, :n], count, via[:, :n, :, -1].flatten(1, 2), step)
    share = (share * usable[:, :n].flatten(1, 2)[..., None]).unflatten(1, (n, r))
    zero = torch.zeros_like(belief.state)
    return Graph(
        nodes[:, :n], count, step, near.unflatten(1, (n, r)), share, via[:, :n], zero, zero.new_zeros(b, n),
        zero, fan.new_zeros(b, fan.shape[-1]), torch.zeros_like(count), kept, vetoed, count * r * ray,
        torch.zeros_like(count), torch.ones_like(count), fan.expand(b, -1, -1),
        torch.zeros_like(count, dtype=torch.bool), torch.full_like(step, 2 * FAR), torch.zeros_like(count),
    )


def _step_length(model: WorldModel, belief: Belief, fan: Tensor, trusted: int | None) -> Tensor:
    """(B,): the median change of the imagined steps that move, over directions and 12 steps of each (no more than
    are trusted).

    Moving is more than half of the .98 quantile: in a narrow place most steps run into something.
    """
    ahead = model.imagine(belief, fan[None, :, None].expand(len(belief), -1, min(12, trusted or 12), -1)).states
    pace = (ahead[:, :, 1:] - ahead[:, :, :-1]).norm(dim=-1).flatten(1).nan_to_num(posinf=0.0)
    moving = pace > 0.5 * pace.quantile(0.98, dim=1, keepdim=True)
    return pace.masked_fill(~moving, torch.nan).nanmedian(1).values.clamp_min(1e-6)


def allowed_steps(imagined: Imagined, actions: Tensor, task: Task) -> tuple[Tensor, Tensor]:
    """Which steps, with all steps before them, keep every guardrail (B, K, H); which guardrail refuses what
    (B, K, H, guardrails)."""
    finite = imagined.states[:, :, 1:].isfinite().all(-1)
    if not task.guardrails:
        return finite.cumprod(2).bool(), finite.new_zeros((*finite.shape, 0))
    refused = torch.stack([~(g.margin(imagined, actions) <= 0) for g in task.guardrails], -1)
    return (finite & ~refused.any(-1)).cumprod(2).bool(), refused


def add(nodes: Tensor, count: Tensor, new: Tensor, allowed: Tensor, spacing: Tensor, limit: int) -> Tensor:
    """Keep, in order, every allowed candidate (B, K, D) that is farther than `spacing` from all kept before it.

    Greedy in order, computed in parallel: a candidate is kept once no undecided candidate before it is near,
    and drops once a kept one is near (as in Luby's independent sets). A handful of rounds suffice.
    """
    padding = torch.arange(nodes.shape[1], device=nodes.device) >= count[:, None]
    open_ = allowed & (distances(new, nodes).masked_fill_(padding[:, None], FAR).amin(2) > spacing[:, None])
    first = (~open_).to(torch.int8).argsort(dim=1, stable=True)[:, :_AT_ONCE]  # open ones, in order
    new, open_ = new.gather(1, first[..., None].expand(-1, -1, new.shape[-1])), open_.gather(1, first)
    clash = distances(new, new) <= spacing[:, None, None]
    before = (clash & torch.ones_like(clash[0]).tril(-1)).float()
    keep = torch.zeros_like(open_)
    while bool(open_.any()):
        free = open_ & (torch.bmm(before, open_.float()[..., None])[..., 0] == 0)
        keep |= free
        open_ = open_ & ~free & (torch.bmm(clash.float(), free.float()[..., None])[..., 0] == 0)
    place = count[:, None] + keep.cumsum(1) - 1
    keep &= place < limit
    row, column = keep.nonzero(as_tuple=True)
    nodes[row, place[row, column]] = new[row, column]
    return count + keep.sum(1)
