"""Dropout that is not dominated by drawing random numbers on a CPU. Knows nothing of what is dropped."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def dropout(x: Tensor, probability: float) -> Tensor:
    """Each entry is 0 with `probability`, else divided by 1 - probability (Srivastava et al. 2014); any shape.

    On a CPU four entries share one 64-bit draw of the global generator (half the time of PyTorch's one draw for each),
    so that the probability is rounded to a multiple of 2⁻¹⁶.
    """
    if probability == 0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, probability)
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = draws.view(torch.int16)[: x.numel()].view(x.shape)
    keep = bits >= round(probability * 2**16) - 2**15
    return x * keep.to(x.dtype).mul_(1 / (1 - probability))
