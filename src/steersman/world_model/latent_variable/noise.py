"""The noise itself as latent variable: for world models that are given and make of uniform numbers what they like.

Shapes: N rows, U uniform numbers, which are z.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.core import ConfigError, Energy, LatentVariable, Posterior


class Noise(LatentVariable):
    """z = u, uniform on (0, 1): a simulator's dice, with no parameters.

    >>> class Wind(WorldModel):                                                                 # doctest: +SKIP
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.latent_variable = Noise(1)  # one number a step: `imagine` is handed u (B, K, H, 1)

    Its posterior says nothing: z = 1/2, 0 nats. Who can list what a simulator's dice lead to overrides
    `WorldModel.support`.

    Errors: ConfigError for fewer than one number.
    """

    def __init__(self, count: int = 1) -> None:
        super().__init__()
        if count < 1:
            raise ConfigError("at least 1 uniform number a step", f"{count}",
                              "leave `latent_variable` None where nothing is left to chance")
        self.count = count

    @property
    def uniform(self) -> int:
        return self.count

    @property
    def size(self) -> int:
        return self.count

    def draw(self, u: Tensor, given: Tensor, actions: Tensor) -> Tensor:
        return u

    def expected(self, given: Tensor, actions: Tensor) -> Tensor:
        return given.new_full((len(given), self.count), 0.5)

    def posterior(
        self, given: Tensor, actions: Tensor, following: Tensor, energy: Energy | None = None, u: Tensor | None = None
    ) -> Posterior:
        z = self.expected(given, actions) if u is None else u
        return Posterior(z, torch.zeros_like(z[:, 0]))
