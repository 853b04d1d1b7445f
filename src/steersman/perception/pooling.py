"""From features of many places to a state. Knows nothing of what the places are.

Shapes: N moments, n places, D state size.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

Pool = Literal["flatten", "mean", "tokens"]
"""flatten: one state that keeps where things are; mean: one that does not, with the fewest weights; tokens: a state of
each place."""


class Pooled(nn.Module):
    """Features (N, n, width) -> states: Linear(flatten x) or Linear(mean x), (N, D); or Linear(x), (N, n, D)."""

    def __init__(self, places: int, width: int, pool: Pool, size: int) -> None:
        super().__init__()
        self.pool = pool
        self.latent_shape: tuple[int, ...] = (places, size) if pool == "tokens" else (size,)
        self.project = nn.Linear((places if pool == "flatten" else 1) * width, size)

    def forward(self, places: Tensor) -> Tensor:
        if self.pool != "tokens":
            places = places.flatten(1) if self.pool == "flatten" else places.mean(1)
        states: Tensor = self.project(places)
        return states
