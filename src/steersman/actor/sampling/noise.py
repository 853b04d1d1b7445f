"""Noise with a colour: pushes that last. Knows no planner. Shapes: B problems, K candidates, H horizon, k actions of
the world in one, A action size of the world."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from steersman.core.signature import ActionSpec


def steps_of(action: ActionSpec) -> tuple[int, int]:
    """k and A of amounts; of choices, whose chunks are one choice, 1 and 1."""
    return (1, 1) if action.kind == "discrete" else (action.chunk, action.single.size)


def in_chunks(noise: Tensor, chunk: int) -> Tensor:
    """Noise of the world's own steps (B, K, H·k, A) -> (B, K, H, k·A): what lasts, lasts within a chunk and beyond."""
    return noise if chunk == 1 else noise.unflatten(2, (-1, chunk)).flatten(-2)


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
