"""Multilayer perceptrons: plain, and several at once. Shapes: N rows, E members."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def mlp(sizes: Sequence[int], norm: bool = False, silent: bool = False) -> nn.Sequential:
    """Linear layers of `sizes` with SiLU (and, if `norm`, LayerNorm before it) between them; the last one is linear,
    and says 0 to everything at first if `silent`."""
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(fan_in, fan_out))
        if i < len(sizes) - 2:
            layers += [nn.LayerNorm(fan_out), nn.SiLU()] if norm else [nn.SiLU()]
    if silent:
        for parameter in layers[-1].parameters():
            nn.init.zeros_(parameter)
    return nn.Sequential(*layers)


class DenseMembers(nn.Module):
    """E linear layers side by side, (E, N, in) -> (E, N, out), in one matrix product. E = 1 is an ordinary layer."""

    def __init__(self, members: int, fan_in: int, fan_out: int, gain: float = 1.0, bias: bool = True) -> None:
        super().__init__()
        bound = gain / math.sqrt(max(fan_in, 1))  # nothing comes in where nobody acts
        self.weight = nn.Parameter(torch.empty(members, fan_out, fan_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(members, 1, fan_out)) if bias else None

    def only(self, number: int) -> DenseMembers:
        """One of the members as a layer of its own, whose weights are views of these."""
        single = DenseMembers.__new__(DenseMembers)
        nn.Module.__init__(single)
        single.weight = nn.Parameter(self.weight.detach()[number : number + 1], requires_grad=False)
        single.bias = None
        if self.bias is not None:
            single.bias = nn.Parameter(self.bias.detach()[number : number + 1], requires_grad=False)
        return single

    def forward(self, x: Tensor) -> Tensor:
        if len(self.weight) == 1:
            return F.linear(x, self.weight[0], None if self.bias is None else self.bias[0, 0])
        y = torch.matmul(x, self.weight.mT)
        return y if self.bias is None else y + self.bias
