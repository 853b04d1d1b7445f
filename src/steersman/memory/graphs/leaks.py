"""Whether a graph's values can be kept: ways between logged states are gone in imagination, in closed loop.

Knows a world model by its abstract class, and no world. Shapes: G pairs, N nodes, R held actions, H steps of one, D
latent size, P entries of a place, A action size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.core import Belief, Readout, TensorRecord, WorldModel
from steersman.core.way_graph import WayGraph
from steersman.memory.graphs.places import read_places
from steersman.memory.graphs.steps_to_go import FAR, from_anywhere
from steersman.memory.graphs.targets import Target, fewest_steps, value_of

_EXECUTE = 4  # steps of a held action before the next choice
_AT_LEAST = 12  # steps that a way may take longer, beside its share
_SLOWER = 2.0  # times as long as the value says


@dataclass(frozen=True)
class Followed(TensorRecord):
    """What came of G ways: value (G,) steps that the graph says, infinite where it knows none; taken (G,) steps until
    the goal was touched in imagination, infinite where it was not within 2 value + 12."""

    value: Tensor
    taken: Tensor

    @property
    def leaks(self) -> Tensor:
        """(G,) bool: a value that could not be kept."""
        return self.value.isfinite() & self.taken.isinf()


@torch.no_grad()
def follow_ways(
    graph: WayGraph, model: WorldModel, starts: Tensor, goals: Tensor, fan: Tensor, readout: Readout | None = None,
    context: Tensor | None = None,
) -> Followed:
    """Go from latents (G, D) to latents (G, D) in imagination, as the lower level would.

        every 4 steps, of R held actions the one of least  min over t of t + V(s_t)  (`fewest_steps`)

    fan (R, A); context (1, M, C). A way is kept if the goal is touched within 2 V + 12 steps; what cannot be kept is a
    value that leaks: edges that end near a node but lead on from elsewhere, through a wall, or at another speed.
    Nobody is asked what is true.
    """
    def place(states: Tensor) -> Tensor:
        return read_places(states, readout, graph.unit, context)

    target = Target(place(goals[:, None])[:, 0], torch.ones(graph.places.shape[1], dtype=torch.bool))
    value = value_of(graph, target)
    said = from_anywhere(graph, value, place(starts[:, None]))[:, 0]
    known, length = said < FAR, int(graph.tried.shape[2])
    limit = torch.where(known, _SLOWER * said + _AT_LEAST, 0.0)
    ways = fan[:, None].expand(-1, length, -1).to(graph.tried.dtype)
    state, taken = starts.clone(), torch.full((len(starts),), torch.inf)
    on, step = known.nonzero()[:, 0], 0
    while len(on):  # over time
        shared = None if context is None else context.expand(len(on), -1, -1)
        imagined = model.imagine(Belief(state[on], shared), ways.expand(len(on), -1, -1, -1)).states
        places = read_places(imagined, readout, graph.unit, shared)
        there = Target(target.place[on], target.named)
        best = fewest_steps(graph, value[on], there, places, _EXECUTE).argmin(1)
        row = torch.arange(len(on))
        rest = there.rest(places[row, best, 1 : _EXECUTE + 1], graph.unit)
        touched = rest <= graph.touch
        when = step + 1 + touched.to(torch.uint8).argmax(1)
        taken[on] = torch.where(touched.any(1), when.to(taken), taken[on])
        state[on] = imagined[row, best, _EXECUTE]
        step += _EXECUTE
        on = on[~touched.any(1) & (step < limit[on])]
    return Followed(said.masked_fill(~known, torch.inf), taken)
