"""Inverse dynamics: two neighbouring latents tell the action between them, so latents keep what actions change.

Shapes: B windows, L steps, D latent size (a vector, or N tokens of size D, flattened), A action size.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steersman.core.boxes import Objective
from steersman.core.errors import ConfigError
from steersman.core.learning import Acted, Encoded, LearningBatch, Loss, Need
from steersman.core.parts import register
from steersman.core.signature import ActionSpec, Signature
from steersman.objectives.statistics import mean


class InverseDynamics(Objective):
    """A head reads the action from two neighbouring encoded states.

        continuous:  E = mean_{b,t,a} (â_{b,t,a} - 2·(a - low)/(high - low) + 1)²      actions scaled to [-1, 1]
        discrete:    E = mean_{b,t} -log softmax(â_{b,t})[a_{b,t}]

    with â = head(s_t, s_{t+1}), an MLP with one hidden layer of `width` GELUs, on batch.latent.state (B, L+1, [N,] D).
    A mean over steps and action entries, of every process: an uninformed head scores the actions' scaled variance
    (1/3 if uniform) or log(choices).

    Source: PLDM (Sobal et al. 2025); without it a planner on two rooms drops from 97% to 1%, because a static
    background is a perfect slow feature. Weight 1 there, 4 in two rooms from RGB.

    Part: "inverse_dynamics".
    """

    @register(Objective)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="inverse_dynamics"):
        weight: float = 1.0
        width: int = 128

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
        ) -> InverseDynamics:
            if signature.action.kind == "none":
                raise ConfigError("a log with actions, which inverse dynamics tells from what they did",
                                  "one in which nobody acts", "train with `--recipe foresee`, or drop this objective")
            return InverseDynamics(self, signature.action, latent_shape)

    middle: Tensor
    half_range: Tensor

    def __init__(self, config: Config, action: ActionSpec, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.config, self.action = config, action
        self.head = nn.Sequential(
            nn.Linear(2 * math.prod(latent_shape), config.width), nn.GELU(), nn.Linear(config.width, action.width)
        )
        if action.kind == "continuous":
            low, high = torch.tensor(action.low), torch.tensor(action.high)
            self.register_buffer("middle", (high + low) / 2, persistent=False)
            self.register_buffer("half_range", (high - low) / 2, persistent=False)

    def read(self, state: Tensor) -> Tensor:
        """States (B, T, [N,] D) -> (B, T-1, A) actions scaled to [-1, 1], or logits (B, T-1, choices)."""
        state = state.flatten(2)
        read: Tensor = self.head(torch.cat([state[:, :-1], state[:, 1:]], -1))
        return read

    @property
    def needs(self) -> tuple[Need[Any], ...]:
        return (Encoded(), Acted())

    def forward(self, batch: LearningBatch) -> Loss:
        read = self.read(batch.latent.state).float()
        actions = batch.of(Acted())
        if self.action.kind == "discrete":
            errors = F.cross_entropy(read.flatten(0, 1), actions.flatten(), reduction="none")
        else:
            errors = (read - (actions - self.middle) / self.half_range).square()
        error = mean(errors)
        return Loss(self.config.weight * error, {"inverse_dynamics": error.detach()})
