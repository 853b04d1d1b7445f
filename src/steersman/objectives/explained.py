"""Prediction where chance had a hand: rollouts that know what chance did, and a price on how much of it they were told.

Shapes: B windows, S rollout starts, n steps a rollout, D latent size (a vector, or N tokens of size D).
"""

from __future__ import annotations

from typing import Any

import msgspec
import torch.nn.functional as F

from steersman.core.boxes import Objective
from steersman.core.learning import Encoded, Explained, LearningBatch, Loss, Need
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.objectives.statistics import mean

_FREE = 0.01  # share of the price that nats within the budget still cost


class ExplainedPrediction(Objective):
    """Error of the rollouts whose z explains what followed, and the nats beyond a budget.

        E = weight · mean_{b,s,i,d} (ŝ_{b,s,i,d}(z) - s_{b,s,i,d})² + price · mean_{b,s,i} p(nats_{b,s,i} - budget)
        p(x) = x above 0, x / 100 below

    with ŝ and nats of batch.of(Explained()), nats = KL(q(z | step) ‖ p(z | state, action)). With weight 1/2 and price 1
    this is the negative evidence lower bound of a unit-variance Gaussian, but for the count of dimensions (Kingma &
    Welling 2014); a budget is free bits (Kingma et al. 2016), with a slope that is left inside it: what z may tell for
    nothing the prior must still learn to say beforehand, or draws from it are of no use, and an optimiser that
    normalises gradients learns it as fast at a hundredth of the price. Without a price z tells everything and the prior
    is not learned; far above it z tells nothing. The price is a Lagrange multiplier: energy that a nat must save
    (Alemi et al. 2018, "Fixing a broken ELBO"). Where z is inferred by energy, its `temperature` is the price of nats
    in units of ½ Σ_D (s' - ŝ')², and this price teaches the prior only.

    Parts: "explained", "nats".
    """

    @register(Objective)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="explained_prediction"):
        weight: float = 0.5
        price: float = 1.0
        budget: float = 0.0

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
        ) -> ExplainedPrediction:
            return ExplainedPrediction(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @property
    def needs(self) -> tuple[Need[Any], ...]:
        return (Encoded(), Explained())

    def forward(self, batch: LearningBatch) -> Loss:
        config, rolled = self.config, batch.of(Explained())
        assert rolled.nats is not None
        errors = (rolled.predicted.states[:, :, 1:].float() - batch.reached(rolled).float()).square()
        error, nats = mean(errors), mean(F.leaky_relu(rolled.nats.float() - config.budget, _FREE))
        parts = {"explained": error.detach(), "nats": mean(rolled.nats.detach())}
        return Loss(config.weight * error + config.price * nats, parts)
