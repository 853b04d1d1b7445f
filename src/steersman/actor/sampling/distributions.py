"""Distributions over action sequences that a planner draws from and refits: bounded Gaussian, categorical.

All randomness comes from one stream per problem. Shapes: B problems, K candidates, H horizon, A action size,
C choices.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.actor.ground.bounds import Bounds
from steersman.core import ActionSpec


class Gaussian:
    """Independent normal per step and entry, clamped into bounds: actions are mean + deviation · noise.

    mean, deviation (B, H, A). The first deviation is `spread` times half the range of each entry.
    """

    def __init__(self, mean: Tensor, bounds: Bounds, spread: float) -> None:
        self.bounds = bounds
        self.mean = bounds.limit(mean)
        self.deviation = (spread * bounds.half).expand_as(mean)

    def actions(self, noise: Tensor) -> Tensor:
        """noise (B, K, H, A) -> actions within bounds. Zero noise is the mean."""
        return self.bounds.clamp((self.deviation[:, None] * noise).add_(self.mean[:, None]))

    def refit(self, elites: Tensor, momentum: float, floor: float) -> None:
        """To the mean and (biased) deviation of elites (B, E, H, A); `momentum` keeps that share of the old ones."""
        deviation, mean = torch.std_mean(self.bounds.unit(elites), 1, correction=0)  # no square overflows in units
        self.shift(mean, deviation, momentum, floor)

    def shift(self, mean: Tensor, deviation: Tensor, momentum: float, floor: float) -> None:
        """To a mean and a deviation (B, H, A) in units of half the range."""
        half, middle = self.bounds.half, self.bounds.middle
        self.mean = self.bounds.limit(middle + half * torch.lerp(mean, self.bounds.unit(self.mean), momentum))
        self.deviation = torch.lerp(half * deviation, self.deviation, momentum).maximum(floor * half)


class Categorical:
    """Independent choice per step: probabilities (B, H, C), uniform at first."""

    def __init__(self, batch: int, horizon: int, spec: ActionSpec, device: torch.device) -> None:
        self.probabilities = torch.full((batch, horizon, spec.choices), 1 / spec.choices, device=device)

    def actions(self, uniform: Tensor) -> Tensor:
        """uniform (B, K, H) on (0, 1) -> choices (B, K, H, 1) by inverting the distribution function."""
        edges = self.probabilities.cumsum(-1)[..., :-1]
        return (uniform[..., None] > edges[:, None]).sum(-1, keepdim=True)

    def mode(self) -> Tensor:
        """The most probable choice of each step, (B, H, 1); the first one in a tie."""
        return self.probabilities.argmax(-1, keepdim=True)

    def refit(self, elites: Tensor, momentum: float, floor: float) -> None:
        """To the frequencies of elites (B, E, H, 1), kept at least `floor` / C so that no choice dies out."""
        choices = self.probabilities.shape[-1]
        self.shift(torch.nn.functional.one_hot(elites.squeeze(-1), choices).float().mean(1), momentum, floor)

    def shift(self, frequency: Tensor, momentum: float, floor: float) -> None:
        """To frequencies (B, H, C), kept at least `floor` / C."""
        choices = self.probabilities.shape[-1]
        mixed = torch.lerp(frequency, self.probabilities, momentum)
        self.probabilities = (1 - floor) * mixed + floor / choices


def shifted(sequence: Tensor, steps: int) -> Tensor:
    """A plan (B, …, H, A) for `steps` later: the executed part is dropped and the last action repeated."""
    horizon = sequence.shape[-2]
    index = (torch.arange(horizon, device=sequence.device) + steps).clamp(max=horizon - 1)
    return sequence.index_select(-2, index)


def fitted(sequence: Tensor, horizon: int) -> Tensor:
    """A plan (B, …, H', A) cut or continued with its last action to `horizon` steps."""
    index = torch.arange(horizon, device=sequence.device).clamp(max=sequence.shape[-2] - 1)
    return sequence.index_select(-2, index)
