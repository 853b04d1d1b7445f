"""Shortest ways through a graph, A* for many problems at once. Knows costs and estimates, no states.

Shapes: B problems, N nodes, E edges that leave a node, L nodes of the longest way.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ways:
    """cost (B,), infinite where there is no way; nodes (B, L) in order, -1 after the last; expanded (B,) nodes."""

    cost: Tensor
    nodes: Tensor
    expanded: Tensor


def shortest_ways(neighbour: Tensor, cost: Tensor, entry: Tensor, leave: Tensor, estimate: Tensor) -> Ways:
    """A* (Hart, Nilsson & Raphael 1968): the least entry + Σ cost + leave.

        expand the open node of least g + estimate, until that is no less than the best way found

    neighbour (N, E), -1 for none; cost (N, E), >= 0 and infinite for edges that do not count; either may be given for
    each problem, (B, N, E). entry and leave (B, N): cost to begin and to end there; estimate (B, N): never more than
    the cost from there on. One node of each problem is expanded at a time, all problems together; a problem's way does
    not depend on others.
    """
    b, n = entry.shape
    rows = torch.arange(b, device=entry.device)
    g = torch.cat([entry, entry.new_full((b, 1), torch.inf)], 1)  # the last column takes what leads nowhere
    parent = torch.full((b, n + 1), -1, dtype=torch.int64, device=entry.device)
    open_ = torch.isfinite(g)
    best, last = entry.new_full((b,), torch.inf), torch.full((b,), -1, dtype=torch.int64, device=entry.device)
    expanded = torch.zeros_like(last)
    padded = torch.cat([estimate, estimate.new_zeros(b, 1)], 1)
    while True:
        least, node = torch.where(open_, g + padded, torch.inf).min(1)
        going = least < best
        if not bool(going.any()):
            break
        open_[rows, node] &= ~going
        expanded += going
        here = g[rows, node]
        whole = torch.where(going, here + leave[rows, node], torch.inf)
        last = torch.where(whole < best, node, last)
        best = torch.minimum(best, whole)
        edges, ends = (x[rows, node] if x.dim() == 3 else x[node] for x in (cost, neighbour))
        target = torch.where(torch.isfinite(edges) & going[:, None], ends, n)
        reached = here[:, None] + edges
        better = (reached < g.gather(1, target)) & (target < n)
        target = torch.where(better, target, n)
        g.scatter_reduce_(1, target, torch.where(better, reached, torch.inf), "amin")
        won = better & (g.gather(1, target) == reached)
        parent.scatter_(1, torch.where(won, target, n), node[:, None].expand_as(target))
        open_.scatter_(1, target, True)
        open_[:, n] = False
    return Ways(best, _traced(parent, last), expanded)


def _traced(parent: Tensor, last: Tensor) -> Tensor:
    """Ways from their last nodes back, in order from the first: (B, L)."""
    rows, steps, node = torch.arange(len(last), device=last.device), [last], last
    while bool((node >= 0).any()):
        node = torch.where(node >= 0, parent[rows, node.clamp(min=0)], -1)
        steps.append(node)
    back = torch.stack(steps[:-1] or steps, 1)  # (B, L) from the last node to the first, then -1
    length = (back >= 0).sum(1, keepdim=True)
    index = length - 1 - torch.arange(back.shape[1], device=back.device)
    return torch.where(index >= 0, back.gather(1, index.clamp(min=0)), -1)
