"""Are many imagined futures like what may come? Counts against known probabilities, the best of a few, and ranks.

Knows no world and no model: who asks brings draws and the truth. Shapes: N moments, K draws each, O possible outcomes,
H steps, C numbers of a state.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.core import UsageError


@dataclass(frozen=True)
class Shares:
    """How draws fall on known outcomes.

    share  (N, O): of the draws that end near each outcome
    stray  (N,): of the draws that end near none
    """

    share: Tensor
    stray: Tensor

    def gaps(self, probability: Tensor) -> Tensor:
        """(O,): mean over moments of |share - probability (N, O)|, for each outcome."""
        return (self.share - probability).abs().mean(0)


def shares(draws: Tensor, outcomes: Tensor, probability: Tensor, near: float) -> Shares:
    """draws (N, K, C), outcomes (N, O, C) with probability (N, O) -> how often each is met: a draw belongs to the
    nearest outcome of those that may come, if it lies within `near` of it.

    Raises:
        UsageError: a distance that is not positive.
    """
    if not near > 0:
        raise UsageError("a distance above 0 within which a draw meets an outcome", f"{near}",
                              "half the distance of two outcomes is usual")
    apart = torch.cdist(draws, outcomes).masked_fill((probability <= 0)[:, None], torch.inf)
    distance, which = apart.min(2)
    met = torch.zeros_like(apart).scatter_(2, which[..., None], (distance <= near).to(apart)[..., None])
    share = met.mean(1)
    return Shares(share, 1 - share.sum(1))


def best_of(draws: Tensor, truth: Tensor) -> Tensor:
    """draws (N, K, H, C), truth (N, H, C) -> (N,): least over the draws of the mean Euclidean error of a step."""
    return (draws - truth[:, None]).norm(dim=-1).mean(2).amin(1)


def rank_histogram(draws: Tensor, truth: Tensor, tie: float, generator: torch.Generator) -> Tensor:
    """draws (N, K, C), truth (N, C) -> (C, K+1) shares of moments in which the truth has rank 0 … K among the draws
    (Talagrand diagram, Hamill 2001). Flat where truth and draws come from one distribution. Values within `tie` of the
    truth count as equal, and their order is drawn, so that a small error within an outcome is not taken for a wrong
    probability."""
    gap = draws - truth[:, None]
    below, equal = (gap < -tie).sum(1), (gap.abs() <= tie).sum(1)
    rank = below + (torch.rand(below.shape, generator=generator) * (equal + 1)).floor().long()
    places = draws.shape[1] + 1
    return torch.nn.functional.one_hot(rank.clamp(max=places - 1), places).double().mean(0)


def unevenness(histogram: Tensor) -> Tensor:
    """(…, R) shares -> (…): total variation from uniform, ½ Σ_r |share_r - 1/R|; 0 is calibrated, near 1 is not."""
    return (histogram - 1 / histogram.shape[-1]).abs().sum(-1) / 2
