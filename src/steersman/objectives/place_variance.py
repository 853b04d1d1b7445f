"""Anti-collapse for places: things that move each for itself, found in films without a label.

Knows no network. Shapes: B films, T frames, N slots, S numbers of a place.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from steersman.objectives.statistics import covariance


def place_variance(places: Tensor, *, smooth: float = 25.0, spread: float = 0.5, apart: float = 4.0) -> Tensor:
    """Energy over the weights that give places (B, T, N, S), T >= 3:

        smooth · mean |p_{t+1} - 2 p_t + p_{t-1}|²  +  Σ max(0, spread - deviation of each number)
        +  apart · Σ (covariance between numbers of different slots)²

    Prediction (what moves goes on moving), variance and covariance of VICReg (Bardes et al. 2022), taken on places
    instead of on features. A slot that follows a mean of two things has half the variance of one that follows one, and
    two slots that follow the same thing are correlated: both cost, so each slot comes to follow a thing of its own.

    spread  deviation wanted of each number, in its unit: about that of what is to be found
    """
    jerk = (places[:, 2:] - 2 * places[:, 1:-1] + places[:, :-2]).square().mean()
    flat = places[:, places.shape[1] // 2]
    shared = covariance(flat.flatten(1))
    slot = torch.arange(places.shape[2], device=places.device).repeat_interleave(places.shape[3])
    between = (slot[:, None] != slot).to(shared)
    narrow = F.relu(spread - (shared.diagonal() + 1e-6).sqrt()).sum()
    return smooth * jerk + narrow + apart * (shared * between).square().sum()
