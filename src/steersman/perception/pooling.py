"""From features of many places to a state. Knows nothing of what the places are.

Shapes: N moments, n places, D state size.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from steersman.nn.batch_norm import BatchNorm
from steersman.nn.convolution import Activation, activation_layer

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


def projector(width: int, hidden: int, size: int, activation: Activation = "gelu") -> nn.Module:
    """(N, width) -> (N, size): linear, or with `hidden` > 0 through so many units.

        y = W₂ f(BatchNorm(W₁ x)) + b

    Nothing normalises y: an objective such as SIGReg says how it is to be spread. This is the projector of LeJEPA
    (Balestriero & LeCun 2025) and LeWM (Maes et al. 2026).
    """
    if not hidden:
        return nn.Linear(width, size)
    layers = nn.Linear(width, hidden, bias=False), BatchNorm(hidden), activation_layer(activation)
    return nn.Sequential(*layers, nn.Linear(hidden, size))
