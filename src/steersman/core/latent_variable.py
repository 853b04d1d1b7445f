"""What a world model leaves to chance, as a box: uniform noise becomes z through a prior that may depend on the state.

Whoever plans holds uniform noise and never asks what distribution it is turned into. Shapes: N rows (problems times
candidates), U uniform numbers a step, Z numbers of z, D latent size (a vector, or tokens, flattened), A action size,
O outcomes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from steersman.core.records import TensorRecord


@dataclass(frozen=True)
class Posterior(TensorRecord):
    """What of chance explains a step that was seen.

    z            (N, Z): the best single explanation, or a sample of it where one was asked for
    information  (N,): nats that this step tells about z beyond its prior, KL(posterior ‖ prior); 0: z told nothing
    """

    z: Tensor
    information: Tensor


@dataclass(frozen=True)
class Support(TensorRecord):
    """The outcomes of chance where they can be listed.

    z            (N, O, Z)
    probability  (N, O), sums to 1; 0 marks padding
    """

    z: Tensor
    probability: Tensor


class LatentVariable(nn.Module, ABC):
    """z of one step: what the state and the action leave open about the next state."""

    @property
    @abstractmethod
    def uniform(self) -> int:
        """U: how many uniform numbers decide one step."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Z: how many numbers z has."""

    @abstractmethod
    def draw(self, u: Tensor, state: Tensor, actions: Tensor) -> Tensor:
        """u (N, U) on (0, 1), state (N, D), actions (N, A) -> z (N, Z), distributed as the prior if u is uniform.
        Differentiable in state and actions where z is continuous."""

    @abstractmethod
    def posterior(self, state: Tensor, actions: Tensor, following: Tensor, u: Tensor | None = None) -> Posterior:
        """What explains the step from state (N, D) to following (N, D); u (N, U): a sample instead of the best."""

    def support(self, state: Tensor, actions: Tensor) -> Support | None:
        """Every outcome with its probability; None where there are endlessly many."""
        return None
