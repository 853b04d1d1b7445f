"""How many steps lead from every node of a graph of ways, and from any state, to a goal: a value that does not leak.

Knows graphs, no planners. Shapes: B goals, N nodes, E edges, K states, P entries of a place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.core.way_graph import WayGraph
from steersman.memory.graphs.known import is_known
from steersman.memory.graphs.nearest import nearest_few

FAR = 1e6
"""Steps from where no way is known; beyond it, nearer to the graph is still less."""
_NEAR = 4  # nodes that a state may stand at


def steps_to_go(neighbour: Tensor, cost: Tensor, arrived: Tensor) -> Tensor:
    """Shortest ways backwards from sets of nodes: V(n) = min(arrived(n), min over edges of cost + V(neighbour)).

    neighbour (N, E), -1 for none; cost (N, E), or (B, N, E), >= 0 and infinite for edges that do not count; arrived
    (B, N): steps from nodes that have arrived, infinite for others -> (B, N), infinite where there is no way.

    What Dijkstra's algorithm gives, by relaxing all edges of all problems at once until nothing changes: as many rounds
    as the longest way has edges.
    """
    value, index = arrived, neighbour.clamp(min=0)
    length = cost.masked_fill(neighbour < 0, torch.inf)
    while True:
        through = (value[:, index.flatten()].view(len(value), *index.shape) + length).amin(2)
        better = torch.minimum(value, through)
        if torch.equal(better, value):
            return value
        value = better


def from_anywhere(graph: WayGraph, value: Tensor, points: Tensor) -> Tensor:
    """Steps to go from places: value (B, N) of the nodes, points (B, K, P) -> (B, K).

        V(x) = min over the 4 nearest nodes within touch of |x - n| + V(n);   FAR + |x - n| where there is none

    Half-way to the node must be known, so that none is touched through a wall. A place that touches no node that knows
    a way is worth nothing but to come nearer to one that does.
    """
    b, k = points.shape[:2]
    count = min(_NEAR, len(graph))
    near = nearest_few(points.flatten(0, 1), graph.places, count)
    apart = (points.flatten(0, 1)[:, None] - graph.places[near]).norm(dim=2).view(b, k, count)
    there = value.gather(1, near.view(b, -1)).view(b, k, count)
    between = (points[:, :, None] + graph.places[near].view(b, k, count, -1)) / 2
    touching = (apart <= graph.touch) & is_known(graph.known, between)
    total = torch.where(touching, apart + there, torch.inf).amin(2)
    return torch.where(torch.isfinite(total), total, FAR + apart.amin(2))
