"""Logged episodes' latents -> a graph: few well-spread nodes, edges that were travelled, edges that imagining verifies.

Knows a world model by its abstract class. Shapes: F frames, N nodes, M members, R rays, H steps of a ray, D, A.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from steersman.core import Belief, DataError, WorldModel
from steersman.core.latent_graph import GraphConfig, LatentGraph

_AT_ONCE = 2048  # rows of a distance table in memory at a time


@torch.no_grad()
def build_graph(
    latents: Sequence[Tensor], actions: Sequence[Tensor], model: WorldModel, fan: Tensor,
    config: GraphConfig | None = None, context: Tensor | None = None,
) -> LatentGraph:
    """Episodes' latents, each (T+1, D), and actions, each (T, A) -> the graph.

    fan      (R, A) constant actions with which neighbours are tried (`actor.primitives.rays`)
    context  (1, M, C) the scene map that all of them share, if the model reads one

    Nodes are picked farthest first. An edge is kept if imagining comes from its node to within `touch` of the other: by
    what was done between two frames, or by a ray. It costs the steps to there and the rest; each member of an ensemble
    says its own.

    Raises:
        DataError: no step, latents that are not vectors, or episodes whose lengths do not fit.
    """
    c = config or GraphConfig()
    if not latents or any(x.dim() != 2 or len(x) != len(a) + 1 or not len(a) for x, a in zip(latents, actions,
                                                                                           strict=True)):
        raise DataError("latents (T+1, D) and actions (T, A) of each episode, T >= 1", f"{len(latents)} episodes",
                        "encode whole episodes")
    frames = torch.cat(list(latents))
    pace = torch.cat([x.diff(dim=0).norm(dim=1) for x in latents])
    step = pace[pace > 0.5 * pace.quantile(0.98)].median().clamp_min(1e-9)
    chosen = _spread_out(frames, c.nodes, float(c.spacing * step))
    nodes = frames[chosen]
    member = model.singles()
    n = len(nodes)
    cost = torch.full((len(member), n, n), torch.inf)
    first = torch.zeros(n, n, actions[0].shape[1], dtype=actions[0].dtype)
    for number, single in enumerate(member):
        _travelled(single, latents, actions, nodes, c, float(step), context, cost[number], first)
        _imagined(single, nodes, fan, c, float(step), context, cost[number], first)
    cost.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    return _listed(nodes, cost, first, step)


def _spread_out(frames: Tensor, limit: int, spacing: float) -> Tensor:
    """Indices of frames, each the farthest from those before, until all lie within `spacing` (Gonzalez 1985)."""
    chosen, apart = [0], (frames - frames[0]).norm(dim=1)
    while len(chosen) < limit and float(apart.max()) > spacing:  # over nodes, each against all frames at once
        chosen.append(int(apart.argmax()))
        apart = torch.minimum(apart, (frames - frames[chosen[-1]]).norm(dim=1))
    return torch.tensor(chosen)


def _travelled(
    model: WorldModel, latents: Sequence[Tensor], actions: Sequence[Tensor], nodes: Tensor, c: GraphConfig, step: float,
    context: Tensor | None, cost: Tensor, first: Tensor,
) -> None:
    """Enter what episodes passed: what was done between two frames, done again in imagination from the node nearest to
    the first, must end near the node nearest to the second. (A frame's nearest node may lie behind a wall.)"""
    belief = Belief(nodes[:1], context)
    near = [torch.cat([torch.cdist(part, nodes).argmin(1) for part in states.split(_AT_ONCE)]) for states in latents]
    for lag in range(min(c.lag, max(map(len, actions))), 0, -1):
        long = [i for i, done in enumerate(actions) if len(done) >= lag]
        here, there = torch.cat([near[i][:-lag] for i in long]), torch.cat([near[i][lag:] for i in long])
        done = torch.cat([actions[i].unfold(0, lag, 1).transpose(1, 2) for i in long])  # (F, lag, A)
        for rows in torch.arange(len(here)).split(_AT_ONCE):
            ends = model.branch(belief, nodes[here[rows]][None], done[rows][None]).states[0, :, -1]
            rest = (ends - nodes[there[rows]]).norm(dim=1) / step
            rows, rest = rows[rest <= c.touch], rest[rest <= c.touch]
            better = lag + rest < cost[here[rows], there[rows]]
            rows, needed = rows[better], (lag + rest)[better]
            edge = here[rows] * len(nodes) + there[rows]
            cost.view(-1).scatter_reduce_(0, edge, needed, "amin")
            rows = rows[needed == cost.view(-1)[edge]]  # of several that enter the same edge, the least
            first[here[rows], there[rows]] = done[rows, 0]


def _imagined(
    model: WorldModel, nodes: Tensor, fan: Tensor, c: GraphConfig, step: float, context: Tensor | None, cost: Tensor,
    first: Tensor,
) -> None:
    """Enter neighbours that one member's rays reach."""
    n, r, k = len(nodes), len(fan), min(c.neighbours + 1, len(nodes))
    belief = Belief(nodes[:1], context)
    for rows in torch.arange(n).split(max(1, _AT_ONCE // r)):
        starts, near = nodes[rows], torch.cdist(nodes[rows], nodes).topk(k, largest=False).indices
        ways = fan[None, None, :, None].expand(1, len(rows), r, c.ray, -1).flatten(1, 2)
        after = model.branch(belief, starts.repeat_interleave(r, 0)[None], ways).states[0, :, 1:]
        rest = (after.reshape(len(rows), 1, r * c.ray, -1) - nodes[near][:, :, None]).norm(dim=-1) / step
        number = torch.arange(1, c.ray + 1).repeat(r)
        needed = torch.where(rest <= c.touch, number + rest, torch.inf)
        least, which = needed.min(2)
        old = cost[rows[:, None], near]
        cost[rows[:, None], near] = torch.minimum(old, least)
        better = (least < old)[..., None]
        rays = fan[which // c.ray].to(first.dtype)
        first[rows[:, None], near] = torch.where(better, rays, first[rows[:, None], near])


def _listed(nodes: Tensor, cost: Tensor, first: Tensor, step: Tensor) -> LatentGraph:
    """Dense tables -> lists of the edges that some member knows."""
    known = torch.isfinite(cost).any(0)
    width = max(1, int(known.sum(1).max()))
    neighbour = known.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :width]
    there = known.gather(1, neighbour)
    rows = torch.arange(len(nodes))[:, None]
    return LatentGraph(
        nodes, torch.where(there, neighbour, -1), cost[:, rows, neighbour].masked_fill(~there, torch.inf),
        first[rows, neighbour], step,
    )
