"""From features of many places to a state. Knows nothing of what the places are.

Shapes: N moments, n places, D state size.
"""

from __future__ import annotations

from typing import Literal

import torch
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


class Keypoints(nn.Module):
    """Features (N, width, h, w) -> (N, 3 K + width): where each of K learned maps is high, how high, and what is there
    on average.

        m = maps(Y),   q_k = softmax over places of τ_k m_k
        row_k = Σ q_k · row,   column_k = Σ q_k · column,   strength_k = Σ q_k · m_k,   mean = mean over places of Y

    Rows and columns run from -1 to 1. A place is read off as a number and not as one weight for each place, so what was
    learned in one part of the picture holds in the others, and between two places too. τ is learned, 3 at first.

    Source: spatial soft arg-max of Levine et al. 2016 and Finn et al. 2016 (deep spatial autoencoders), which have the
    places alone.
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.size = 3 * count + width
        self.maps = nn.Conv2d(width, count, 1)
        self.sharpness = nn.Parameter(torch.full((count,), 3.0))

    def forward(self, features: Tensor) -> Tensor:
        maps = self.maps(features).float()
        share = (maps.flatten(2) * self.sharpness[:, None]).softmax(-1).view_as(maps)
        rows, columns = (torch.linspace(-1, 1, n, device=maps.device) for n in maps.shape[2:])
        where = share.sum(3) @ rows, share.sum(2) @ columns
        return torch.cat([*where, (share * maps).sum((2, 3)), features.float().mean((2, 3))], 1).to(features.dtype)


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
