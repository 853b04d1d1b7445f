"""What Reach says of a way, or why there is none: one of six reasons, in words that can be counted.

Shapes: B problems, N nodes, E edges, P entries of a place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.core import Readout
from steersman.core.way_graph import WayGraph
from steersman.memory.graphs.steps_to_go import FAR
from steersman.memory.graphs.targets import Target

OUTSIDE = "the goal lies outside the log"
NO_WAY = "no way is known there"
TOO_FAR = "more steps than allowed"
STALLED = "level 1 stalls"
CUT = "a guardrail cuts every way"
NO_PUSH = "the log never holds a push"
WHY = (OUTSIDE, NO_WAY, TOO_FAR, STALLED, CUT, NO_PUSH)
"""The six reasons why not, as a plan's reason says them."""
_HELD = 1.5  # steps: a log whose actions last less long holds none


def why_not(reason: str) -> tuple[str, ...]:
    """Those of the six that a plan's reason gives."""
    return tuple(words for words in WHY if words in reason)


def said(
    graph: WayGraph, log: WayGraph, target: Target, now: Tensor, here: Tensor, stalled: Tensor, stalls: Tensor,
    opened: Tensor, readout: Readout | None, allowed: Tensor | None,
) -> tuple[str, ...]:
    """One sentence a problem.

    log      the graph of logged states: `graph` itself, or what imagination has grown it from
    now      (B,) steps to go; FAR or more: no way
    here     (B, P) where each stands; stalled (B, P) where it last came to nothing, stalls (B,) how often since the
             goal was set without progress after it
    opened   (B,) bool: whether there would be a way if no guardrail cut any
    allowed  (B,) steps that are left, or None
    """
    nearest, node = target.rest(log.places.expand(len(now), -1, -1), log.unit).min(1)
    outside = nearest > log.touch
    far = now >= FAR / 2
    ends = _where_it_breaks(graph, target, here) if bool(far.any()) else here
    sentences = []
    for b in range(len(now)):  # words, not numbers
        words = []
        if outside[b]:
            words.append(f"{OUTSIDE} (nearest: {_named(log, log.places[node[b]], readout, target.named)})")
        if far[b]:
            if opened[b]:
                words.append(CUT)
            elif not outside[b]:
                words.append(f"{NO_WAY} (it breaks at {_named(graph, ends[b], readout)})")
            if float(graph.held) < _HELD:
                words.append(NO_PUSH)
        else:
            words.append(f"about {float(now[b]):.0f} steps to go")
            if allowed is not None and float(now[b]) > float(allowed[b]):
                words.append(f"{TOO_FAR} ({float(allowed[b]):.0f})")
        if stalls[b]:
            words.append(f"{STALLED} at {_named(graph, stalled[b], readout)}")
        sentences.append(", ".join(words))
    return tuple(sentences)


def _where_it_breaks(graph: WayGraph, target: Target, here: Tensor) -> Tensor:
    """(B, P): of the places that ways lead to from here, the one nearest to the goal; where there is none, here."""
    apart = (here[:, None] - graph.places).norm(dim=2)
    reached = apart <= graph.touch
    index = graph.neighbour.clamp(min=0)
    open_ = graph.neighbour >= 0
    while True:  # over the length of ways
        push = (reached[:, :, None] & open_).to(torch.int8)
        grown = reached.to(torch.int8).scatter_reduce(1, index.flatten().expand(len(here), -1), push.flatten(1), "amax")
        if torch.equal(grown > 0, reached):
            break
        reached = grown > 0
    rest = target.rest(graph.places.expand(len(here), -1, -1), graph.unit).masked_fill(~reached, torch.inf)
    least, node = rest.min(1)
    return torch.where(least.isfinite()[:, None], graph.places[node], here)


def _named(graph: WayGraph, place: Tensor, readout: Readout | None, only: Tensor | None = None) -> str:
    """A place in words: "x 2.95, y 1.2"; latents have no names."""
    if readout is None:
        return "a remembered state"
    values = torch.where(graph.unit.isfinite(), place * graph.unit, 0.0).tolist()
    wanted = graph.unit.isfinite() if only is None else only
    return ", ".join(f"{name} {value:.3g}" for name, value, on in zip(readout.columns, values, wanted.tolist(),
                                                                      strict=True) if on)
