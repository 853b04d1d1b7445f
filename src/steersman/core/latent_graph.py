"""A graph of remembered states: what memory builds and the actor searches. No algorithm.

Shapes: N nodes, E edges that leave a node at most, M ensemble members, D latent size, A action size.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.records import TensorRecord


class GraphConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Lengths are in steps: 1 is the median latent change of a logged step that moves.

    nodes       at most; spacing: no two nodes are nearer, and no frame is farther from all of them, if `nodes` suffice
    lag         frames of an episode up to this far apart make an edge of what was travelled
    neighbours  nearest nodes that imagining tries to reach, with `fan` constant actions of `ray` steps
    touch       an imagined state this near has reached a node
    """

    nodes: int = 500
    spacing: float = 1.0
    lag: int = 3
    neighbours: int = 8
    ray: int = 4
    touch: float = 0.5

    def __post_init__(self) -> None:
        if min(self.nodes, self.lag, self.neighbours, self.ray) < 1 or not (self.spacing > 0 and self.touch > 0):
            raise ConfigError("positive sizes", f"{self}", "correct the graph's configuration")


@dataclass(frozen=True)
class LatentGraph(TensorRecord):
    """Remembered latent states and how many steps lead from one to another.

    nodes      (N, D)
    neighbour  (N, E) int64: where an edge leads; -1 is padding
    cost       (M, N, E) steps that each member of the ensemble needs; infinite where it does not get there
    action     (N, E, A) the first action of the way
    step       () latent length of a step that moves
    """

    nodes: Tensor
    neighbour: Tensor
    cost: Tensor
    action: Tensor
    step: Tensor

    def __len__(self) -> int:
        return len(self.nodes)

    def pessimistic(self, limit: float) -> Tensor:
        """(N, E): the most steps that any member needs; infinite for padding and above `limit`."""
        worst = self.cost.amax(0)
        return worst.masked_fill((self.neighbour < 0) | (worst > limit), torch.inf)
