"""Goals in a graph of ways: which nodes have arrived, and the value of every node for them.

Shapes: B goals, N nodes, K candidates, H horizon, P entries of a place.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.core import TensorRecord
from steersman.core.way_graph import WayGraph
from steersman.memory.graphs.cutting import Cut
from steersman.memory.graphs.known import is_known_on_the_way
from steersman.memory.graphs.steps_to_go import FAR, from_anywhere, steps_to_go


@dataclass(frozen=True)
class Target(TensorRecord):
    """Where B goals lie: place (B, P), and which of its entries the goal names, named (P,) bool."""

    place: Tensor
    named: Tensor

    def rows_of(self, index: Tensor) -> Target:
        """Some of the goals: index is a mask (B,) or indices."""
        return Target(self.place[index], self.named)

    def rest(self, places: Tensor, unit: Tensor) -> Tensor:
        """Places (B, …, P) -> (B, …): how far they lie from matching, in steps. What the goal does not name is as it
        may be, and so is what never changes."""
        goal = self.place.view(len(self.place), *[1] * (places.dim() - 2), -1)
        return ((places - goal) * (self.named & unit.isfinite())).norm(dim=-1)


def arrived_at(graph: WayGraph, target: Target) -> Tensor:
    """(B, N): the rest of the way from nodes that touch the goal, in steps; infinite for others."""
    rest = target.rest(graph.places.expand(len(target.place), -1, -1), graph.unit)
    return rest.masked_fill(rest > graph.touch, torch.inf)


def value_of(graph: WayGraph, target: Target, cut: Cut | None = None) -> Tensor:
    """Steps to go from every node, (B, N), infinite where no way is known. cut: what guardrails take from the graph."""
    arrived, cost = arrived_at(graph, target), graph.cost
    if cut is not None:
        arrived = arrived.masked_fill(cut.nodes, torch.inf)
        cost = cost.masked_fill(cut.edges, torch.inf)
    return steps_to_go(graph.neighbour, cost, arrived)


def fewest_steps(graph: WayGraph, value: Tensor, target: Target, places: Tensor, every: int) -> Tensor:
    """Steps by which futures reach the goal: value (B, N), places (B, K, H+1, P) -> (B, K).

        min over t of  t + |x_t - goal|  where the goal is touched,  t + V(x_t)  at every `every`-th step

    Of what leaves the region that the log knows, nothing is believed: it counts `FAR` steps more.
    """
    b, k, h = *places.shape[:2], places.shape[2] - 1
    believed = is_known_on_the_way(graph.known, places)
    rest, number = target.rest(places[:, :, 1:], graph.unit), torch.arange(1, h + 1, device=places.device)
    direct = torch.where((rest <= graph.touch) & believed, number + rest, torch.inf).amin(2)
    marks = torch.arange(min(every, h), h + 1, min(every, h), device=places.device)
    to_go = from_anywhere(graph, value, places[:, :, marks].flatten(1, 2)).view(b, k, -1)
    return torch.minimum(direct, (marks + to_go + ~believed[:, :, marks - 1] * FAR).amin(2))
