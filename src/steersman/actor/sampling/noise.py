"""Noise with a colour: pushes that last. Knows no planner. Shapes: H horizon."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def coloured_basis(horizon: int, beta: float) -> Tensor:
    """Matrix (n, H) that turns n = 2 (H // 2 + 1) white numbers into H of unit variance with spectrum 1 / f^β.

    Each frequency has a sine and a cosine of amplitude f^(-β/2); the constant is given that of the lowest frequency
    (Timmer & König 1995, as in the `colorednoise` package).
    """
    frequency = torch.arange(horizon // 2 + 1, dtype=torch.float64) / horizon
    frequency[0] = frequency[1] if horizon > 1 else 1.0
    amplitude = frequency ** (-beta / 2)
    phase = 2 * math.pi * torch.arange(horizon // 2 + 1)[:, None] * torch.arange(horizon) / horizon
    basis = torch.cat([amplitude[:, None] * phase.cos(), amplitude[:, None] * phase.sin()])
    return (basis / basis.square().sum(0).mean().sqrt()).float()
