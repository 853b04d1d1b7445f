"""VICReg's variance and covariance terms on encoded states: every dimension is used, and each for itself.

Its invariance term is `Prediction` for moments that follow one another, `Invariance` for views of one. Shapes: B
windows, T = L+1 moments, n samples, D latent size (N tokens count as samples).
"""

from __future__ import annotations

from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman.core.boxes import Objective
from steersman.core.learning import LearningBatch, Loss, Need
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.view_configs import ViewConfig
from steersman.objectives.population import needed, populations
from steersman.objectives.statistics import covariance, variance_within

EPSILON = 1e-4


def hinge(variance: Tensor, std: float = 1.0) -> Tensor:
    """Variances (…, D) -> mean over all of relu(std - √(variance + 1e-4))."""
    return torch.relu(std - torch.sqrt(variance + EPSILON)).mean()


def off_diagonal(matrix: Tensor) -> Tensor:
    """Covariances (…, D, D) -> Σ_{i≠j} C_ij² / D, mean over leading dimensions."""
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    return ((matrix.square().sum((-2, -1)) - diagonal.square().sum(-1)) / matrix.shape[-1]).mean()


class VICReg(Objective):
    """Variance and covariance regularisation of encoded states (Bardes, Ponce & LeCun 2022, eqs. 1 and 3).

        E = variance · mean_d relu(std - √(Var_d + 1e-4))
          + within · mean_d relu(std_within - √(Var_d^within + 1e-4))
          + covariance · Σ_{i≠j} C_ij² / D

    Var and C are unbiased (n - 1) over the states of batch.latent.state (B, T, [N,] D), of every process: over all
    B·T (or B·T·N) of them, or with `per_step` over the B states of each moment, averaged over moments. The states are
    one population, so the paper's ½·Σ over two views of the variance term is the plain term here, and its Σ over
    views of the covariance term (which the paper does not halve) counts once.

    Var^within = Σ_b Σ_t (s_bt - s̄_b)² / (B·(T - 1)): variance around each trajectory's own mean. A static background
    gives variance between episodes for free; only what moves gives variance within them.

    With `views`, Var and C are those of each view's states, and the terms are means over the views.

    Defaults are the paper's 25 and 1, without the within term. Two rooms from RGB: variance 16, within 8,
    covariance 4. PLDM's two rooms: 16, 0, 8.

    Parts: "variance", "variance_within", "covariance".
    """

    @register(Objective)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="vicreg"):
        """Weights of the three terms, targets of the two hinges."""

        variance: float = 25.0
        within: float = 0.0
        covariance: float = 1.0
        std: float = 1.0
        std_within: float = 1.0
        per_step: bool = False
        views: tuple[ViewConfig, ...] = ()

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
        ) -> VICReg:
            return VICReg(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @property
    def needs(self) -> tuple[Need[Any], ...]:
        return needed(self.config.views)

    def forward(self, batch: LearningBatch) -> Loss:
        config = self.config
        states = [state.float() for state in populations(batch, config.views)]
        each = [state.transpose(0, 1).flatten(1, -2) if config.per_step else state.flatten(0, -2) for state in states]
        matrix = covariance(each[0] if len(each) == 1 else torch.stack(each))
        variance = hinge(matrix.diagonal(dim1=-2, dim2=-1), config.std)
        within = hinge(variance_within(states[0] if len(states) == 1 else torch.cat(states)), config.std_within)
        off = off_diagonal(matrix)
        total = config.variance * variance + config.within * within + config.covariance * off
        parts = {"variance": variance, "variance_within": within, "covariance": off}
        return Loss(total, {name: part.detach() for name, part in parts.items()})
