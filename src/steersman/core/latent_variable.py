"""What a world model leaves to chance, as a box: uniform noise becomes z through a prior that may depend on the state.

Whoever plans holds uniform noise u and never asks what distribution it is turned into. Knows neither planners nor the
predictor that reads z. Shapes: N rows (problems times candidates), U uniform numbers a step, Z numbers of z, G numbers
that the prior is given, D latent size (tokens are flattened), A action size, O outcomes; … leading sizes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor, nn

from steersman.core.records import TensorRecord

Energy: TypeAlias = Callable[[Tensor], Tensor]
"""z (N, O, Z) -> (N, O): how badly each z explains the step that was seen; -log p(following | z) up to a constant where
there is a likelihood. Row n is about row n of the state."""


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
    """Outcomes of chance, O of each state and action: what trees branch by.

    u            (…, O, U) on (0, 1): the uniform noise in the middle of what draws each outcome, so that an outcome is
                 imagined as any other future is
    probability  (…, O), sums to 1; 0 marks padding
    exhaustive   whether these are all; False: nodes and weights of a quadrature that stands for endlessly many
    """

    u: Tensor
    probability: Tensor
    exhaustive: bool = True


class LatentVariable(nn.Module, ABC):
    """z of one step: what the state and the action leave open about the next state.

    A world model that has one calls it once for every step that it imagines, with what it knows before that step
    (`WorldModel.given`).
    """

    @property
    @abstractmethod
    def uniform(self) -> int:
        """U: how many uniform numbers decide one step."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Z: how many numbers z has."""

    @property
    def amortised(self) -> bool:
        """Whether `posterior` has learned to tell z without an energy."""
        return True

    @abstractmethod
    def draw(self, u: Tensor, given: Tensor, actions: Tensor) -> Tensor:
        """u (N, U) on (0, 1), given (N, G), actions (N, A) -> z (N, Z), distributed as the prior if u is uniform.

        A row's z depends on that row alone. Differentiable in `given` and `actions` where z is continuous.
        """

    @abstractmethod
    def expected(self, given: Tensor, actions: Tensor) -> Tensor:
        """z (N, Z) that stands for the prior where nothing is drawn: its mean, or its mode where a mean is no z."""

    @abstractmethod
    def posterior(
        self, given: Tensor, actions: Tensor, following: Tensor, energy: Energy | None = None, u: Tensor | None = None
    ) -> Posterior:
        """What explains the step to `following` (N, D).

        energy  inference by minimisation: p(z | step) ∝ p(z) exp(-energy(z)); None: as it was learned (`amortised`)
        u       (N, U): a sample of the posterior, differentiable where it can be; None: its most probable z

        Raises:
            ConfigError: no energy, and nothing was learned.
        """

    def support(self, given: Tensor, actions: Tensor) -> Support | None:
        """Outcomes with their probabilities, N rows of O: every one, or a few that stand for endlessly many
        (`Support.exhaustive`). None: none are listed, and trees plan on what is expected."""
        return None
