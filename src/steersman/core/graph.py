"""A graph of remembered states: what memory builds and the actor searches. No algorithm.

Shapes: N nodes, E edges that leave a node at most, M ensemble members, D latent size, A action size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.core.types import TensorRecord


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
