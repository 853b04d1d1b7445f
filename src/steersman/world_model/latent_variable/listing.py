"""Distributions over few outcomes: drawing by uniform noise, listing, and inference. Knows no box.

Shapes: N rows, O outcomes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.core import Support


def drawn(probability: Tensor, u: Tensor) -> Tensor:
    """(N, O), uniform numbers u (N, 1) -> the outcome (N, 1), by inverting the distribution function; an outcome of
    probability 0 is never drawn."""
    place = torch.searchsorted(probability.cumsum(-1), u * probability.sum(-1, keepdim=True), right=True)
    last = probability.shape[-1] - 1 - (probability.flip(-1) > 0).to(torch.uint8).argmax(-1, keepdim=True)
    return torch.minimum(place, last)


def listed(probability: Tensor, count: int) -> Support:
    """The `count` most probable outcomes of (N, O), the most probable first, u in the middle of what draws each."""
    share, which = probability.topk(min(count, probability.shape[-1]), -1)
    middle = probability.cumsum(-1) - probability / 2
    return Support(middle.gather(-1, which)[..., None], share)


def inferred(log_prior: Tensor, energy: Tensor, temperature: float = 1.0) -> Tensor:
    """Bayes: (N, O) -> log of p(o) exp(-energy_o / temperature), normalised. Temperature 0: all on the least energy of
    those that may come."""
    if temperature > 0:
        return (log_prior - energy / temperature).log_softmax(-1)
    best = energy.masked_fill(log_prior == -torch.inf, torch.inf).argmin(-1, keepdim=True)
    return torch.full_like(log_prior, -torch.inf).scatter_(-1, best, 0.0)


def information(log_posterior: Tensor, log_prior: Tensor) -> Tensor:
    """(N,): KL(posterior ‖ prior) in nats of (N, O) logs; what the posterior rules out adds nothing."""
    held = log_posterior > -torch.inf
    apart = torch.where(held, log_posterior, 0.0) - torch.where(held, log_prior, 0.0)
    return torch.where(held, log_posterior.exp() * apart, 0.0).sum(-1)
