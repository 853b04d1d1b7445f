"""Policies that are told their goal as an observation, whoever made them, and what a training of one cost.

Knows neither how they were trained nor the world that they act in. Shapes: B episodes, n model steps, A action size.
"""

from __future__ import annotations

import resource
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from steersman.core import Observation, Signature


class GoalPolicy(ABC):
    """What to do now to see the goal. Nothing is remembered between calls, so that episodes may come and go.

    signature  of the log that it was trained on: its steps are the steps of the policy
    """

    signature: Signature

    @abstractmethod
    def act(self, observation: Observation, goal: Observation) -> Tensor:
        """Observations of B moments, each name -> (B, …) -> (B, n, A): actions to carry out before it looks again,
        within their bounds; n may differ from call to call."""

    def __call__(self, observation: Observation, goal: Observation) -> Tensor:
        """The first of these actions, (B, A)."""
        return self.act(observation, goal)[:, 0]


@dataclass(frozen=True)
class Trained:
    """A policy, and what its training cost.

    policy      acts
    seconds     on the clock, of descending; reading and building included
    steps       of the optimiser
    parameters  numbers that were trained
    memory      bytes: most that this process ever held (resident set), which includes torch itself
    losses      name -> its last value
    """

    policy: GoalPolicy
    seconds: float
    steps: int
    parameters: int
    memory: int
    losses: dict[str, float]

    def __call__(self, observation: Observation, goal: Observation) -> Tensor:
        """`policy`: (B, A)."""
        return self.policy(observation, goal)


def parameters_of(*modules: nn.Module) -> int:
    """Numbers that are trained."""
    return sum(p.numel() for module in modules for p in module.parameters() if p.requires_grad)


def peak_memory() -> int:
    """Bytes: the most that this process ever held in memory at once."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
