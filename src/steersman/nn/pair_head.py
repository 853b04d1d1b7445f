"""A head on pairs of vectors whose logits rise: each next one is at least the last. Knows nothing of what they say.

Shapes: D size of a vector, K logits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steersman.nn.perceptron import mlp


class PairHead(nn.Module):
    """ℓ_1 = o_1, ℓ_k = ℓ_{k-1} + softplus(o_k), o = mlp(a, b, (a - b)²) with two hidden layers of `width`."""

    def __init__(self, size: int, width: int, logits: int) -> None:
        super().__init__()
        self.network = mlp([3 * size, width, width, logits])

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """(…, D), (…, D) -> (…, K) float32."""
        raw: Tensor = self.network(torch.cat([first, second, (first - second).square()], -1)).float()
        return torch.cat([raw[..., :1], F.softplus(raw[..., 1:])], -1).cumsum(-1)
