"""Guardrails at the upper level: the edges of a graph of ways whose imagined way crosses a limit are cut.

Knows guardrails and a world model by their abstract classes. Shapes: B problems, N nodes, E edges, C ways tried from a
node, H steps of a way, D latent size, A action size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from steersman.core import Belief, Guardrail, TensorRecord, WorldModel
from steersman.core.way_graph import WayGraph

_AT_ONCE = 4096  # ways that are imagined at a time


@dataclass(frozen=True)
class Cut(TensorRecord):
    """What guardrails take from a graph: edges (B, N, E) bool that may not be gone, nodes (B, N) bool that stand beyond
    a limit; B is 1 where every limit is the same for all problems."""

    edges: Tensor
    nodes: Tensor

    def leaves(self, graph: WayGraph) -> WayGraph:
        """The graph without them, where B is 1. What stands beyond a limit is no goal and leads nowhere."""
        gone = self.edges[0] | (graph.neighbour < 0) | self.nodes[0, :, None]
        return replace(graph, neighbour=graph.neighbour.masked_fill(gone, -1),
                       cost=graph.cost.masked_fill(gone, torch.inf))


@torch.no_grad()
def cut_by(
    guardrails: Sequence[Guardrail], graph: WayGraph, model: WorldModel, count: int = 1, context: Tensor | None = None,
) -> Cut:
    """Judge every edge by its imagined way, as the lower level judges its candidates:

        an edge of k steps is cut if  g(s_t, a_t, s_{t+1}) <= 0  fails for some t < k,
        or if the node that it leads to stands beyond a limit

    guardrails  the same objects that the lower level takes
    count       problems, B; a guardrail whose `rows` are another object is asked for each of them
    context     (1, M, C) the scene map that all of them share, if the model reads one

    Costs N C H predictor calls, and as many judgements of each guardrail.
    """
    same = count == 1 or all(guardrail.rows(torch.tensor([0])) is guardrail for guardrail in guardrails)
    b, belief = 1 if same else count, Belief(graph.nodes[:1], context)
    n, ways = graph.tried.shape[:2]
    beyond = torch.zeros(b, *graph.tried.shape[:3], dtype=torch.bool)
    for rows in torch.arange(n).split(max(1, _AT_ONCE // (ways * b))):
        actions = graph.tried[rows].flatten(0, 1)[None]
        imagined = model.branch(belief, graph.nodes[rows].repeat_interleave(ways, 0)[None], actions)
        if b > 1:
            actions = actions.expand(b, -1, -1, -1)
            imagined = imagined.map(lambda x: x.expand(b, *x.shape[1:]))
        for guardrail in guardrails:
            beyond[:, rows] |= ~(guardrail.margin(imagined, actions) <= 0).unflatten(1, (len(rows), ways))
    broken = beyond.cumsum(3) > 0
    edges = broken[:, torch.arange(n)[:, None], graph.way, graph.steps - 1]
    nodes = torch.zeros(b, n, dtype=torch.bool)
    for guardrail in guardrails:
        margin = guardrail.standing(graph.nodes[None].expand(b, -1, -1), belief.context)
        if margin is not None:
            nodes |= ~(margin <= 0)
    return Cut(edges | nodes[:, graph.neighbour.clamp(min=0)], nodes)
