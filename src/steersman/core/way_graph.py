"""A graph of ways: remembered and imagined states, and what imagining says of the ways between them. No algorithm.

What memory builds and the actor values. Shapes: N nodes, E edges that leave a node at most, C ways tried from a node,
H steps of a way, P entries of a place, D latent size, A action size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.records import TensorRecord


class WayConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a graph of ways is made from a log. Lengths are in steps: 1 is what a fast step of the log changes.

    nodes    at most, picked farthest first, so that every logged state lies as near to one of them as so many allow
    touch    an imagined end this near to a node has reached it; None: a tenth farther than the farthest logged state
             lies from all nodes
    chunk    steps of what was done in the log that are imagined again from a node: an edge needs every `stride`-th
             number of them, from `stride` on
    chunks   stretches of the log tried from a node
    rays     held actions tried from a node, in as many directions (every choice of discrete actions)
    mend     how often a graph whose values leak is built again, with half as many nodes again or, if `touch` is given
             and wider than it need be, a touch of 0.8 of it: values are followed in imagination between 48 pairs of
             logged states, and where more than `leaks` of them take more than twice the steps that were said (and 12),
             it is too coarse. 0: nothing is checked
    leaks    share of them that is tolerated
    beyond   rounds in which imagined ends that touch no node become nodes, at most four times as many as there were,
             and what the log does not know is believed: for goals outside the log, in worlds without walls
    """

    nodes: int = 3000
    touch: float | None = None
    chunk: int = 12
    stride: int = 3
    chunks: int = 8
    rays: int = 16
    mend: int = 0
    leaks: float = 0.1
    beyond: int = 0

    def __post_init__(self) -> None:
        least = min(self.nodes, self.stride, self.chunks, self.rays)
        if least < 1 or self.beyond < 0 or self.chunk < self.stride or not (self.touch is None or self.touch > 0):
            raise ConfigError("positive sizes, and a chunk of at least a stride", f"{self}",
                              "correct the graph's configuration")
        if self.mend < 0 or not 0 <= self.leaks <= 1:
            raise ConfigError("mend >= 0, and leaks within [0, 1]", f"{self}", "correct the graph's configuration")


@dataclass(frozen=True)
class Known(TensorRecord):
    """Where a log has been, pair by pair of a place's entries.

    low, span  (P,) least value of each entry; () the widest range of all
    pairs      (Q, 2) int64
    sides      (Q,) int64 cells that this range is cut into, for each pair
    seen       (Q, 260, 260) bool: its cells, with a margin of two, in the corner of the least values
    """

    low: Tensor
    span: Tensor
    pairs: Tensor
    sides: Tensor
    seen: Tensor


@dataclass(frozen=True)
class WayGraph(TensorRecord):
    """States and how many steps lead from one to another.

    nodes      (N, D) latents
    places     (N, P) where they are: columns, or the latent itself, in units of which a fast step changes 1 in all
    unit       (P,) those units, in the columns' own
    neighbour  (N, E) int64: where an edge leads; -1 is padding
    cost       (N, E) steps to there, by level 1's imagination, and what is left of the way in steps; infinite: padding
    tried      (N, C, H, A) the actions of every way that was tried from a node
    way        (N, E) int64: which of these an edge goes, from the node on; steps (N, E) int64: how many of its actions
    touch      () an imagined state this near has reached a node
    held       () steps that an action of the log is held for, on average
    known      where the log has been
    leaks      (R, 4) what was found in R graphs, this one last: nodes, touch, shares of ways that could not be kept in
               imagination and of those that were not known; R is 0 where nothing was checked
    """

    nodes: Tensor
    places: Tensor
    unit: Tensor
    neighbour: Tensor
    cost: Tensor
    tried: Tensor
    way: Tensor
    steps: Tensor
    touch: Tensor
    held: Tensor
    known: Known
    leaks: Tensor

    def __len__(self) -> int:
        return len(self.nodes)


WaySource = Callable[[WayConfig], WayGraph]
"""How the graph of ways is built -> the graph, when first needed."""
