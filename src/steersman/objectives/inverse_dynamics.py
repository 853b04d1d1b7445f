"""Inverse dynamics: two neighbouring latents tell the action between them, so latents keep what actions change.

Shapes: B windows, L steps, D latent size (a vector, or N tokens of size D, flattened), A action size, k actions of the
world in one of the model.
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
from steersman.core.pacing import unchunked
from steersman.core.parts import register
from steersman.core.signature import ActionSpec, Signature
from steersman.objectives.statistics import mean


class InverseDynamics(Objective):
    """A head reads the action from two neighbouring encoded states.

        continuous:  E = mean_{b,t,a} (â_{b,t,a} - 2·(a - low)/(high - low) + 1)²      actions scaled to [-1, 1]
        discrete:    E = mean_{b,t,i} -log softmax(â_{b,t,i})[a_{b,t,i}]

    with â = head(s_{t-before}, …, s_{t+after}), an MLP with one hidden layer of `width` GELUs, on batch.latent.state
    (B, L+1, [N,] D), at every step t that has these moments in its window. A mean over steps and action entries, of
    every process: an uninformed head scores the actions' scaled variance (1/3 if uniform) or log(choices).

    Where one action of the model is a chunk of k actions of the world, continuous entries are those of all k, and a
    discrete chunk is told action by action, i = 1..k, each among the world's choices: k·choices logits in place of
    choices^k, and log(choices) still the mark of an uninformed head. In which order they came may not show in what they
    led to; that part of the error stays.

    The defaults before = 0, after = 1 are the paper's pair of neighbours. Where one moment tells too little (a picture
    without velocities: what a force did shows in the change of a change) let it see more: before = 1 tells the
    velocity before the action, after = 2 what came of it a step later.

    Source: PLDM (Sobal et al. 2025); without it a planner on two rooms drops from 97% to 1%, because a static
    background is a perfect slow feature. Weight 1 there, 4 in two rooms from RGB.

    Part: "inverse_dynamics".

    Raises:
        ConfigError: a log in which nobody acts, impossible settings, windows too short to hold the moments it sees.
    """

    @register(Objective)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="inverse_dynamics"):
        weight: float = 1.0
        width: int = 128
        before: int = 0
        after: int = 1

        def __post_init__(self) -> None:
            if self.before < 0 or self.after < 1 or self.width < 1:
                raise ConfigError("before >= 0, after >= 1 and width >= 1", f"{self.before}, {self.after}, "
                                  f"{self.width}", "keep 0, 1, 128")

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
        moments = config.before + config.after + 1
        outputs = action.chunk * action.single.choices if action.kind == "discrete" else action.width
        self.head = nn.Sequential(
            nn.Linear(moments * math.prod(latent_shape), config.width), nn.GELU(), nn.Linear(config.width, outputs)
        )
        if action.kind == "continuous":
            low, high = torch.tensor(action.low), torch.tensor(action.high)
            self.register_buffer("middle", (high + low) / 2, persistent=False)
            self.register_buffer("half_range", (high - low) / 2, persistent=False)

    def read(self, state: Tensor) -> Tensor:
        """States (B, T, [N,] D) -> of the T - before - after steps that it can tell, actions scaled to [-1, 1], (B, …,
        A), or logits (B, …, k·choices)."""
        state, config = state.flatten(2), self.config
        steps = state.shape[1] - config.before - config.after
        if steps < 1:
            raise ConfigError(f"windows of at least {config.before + config.after} steps, for inverse dynamics that "
                              f"sees {config.before} moments before an action and {config.after} after it",
                              f"{state.shape[1] - 1}", "raise `window`, or lower `before` and `after`")
        moments = [state[:, i : i + steps] for i in range(config.before + config.after + 1)]
        read: Tensor = self.head(torch.cat(moments, -1))
        return read

    @property
    def needs(self) -> tuple[Need[Any], ...]:
        return (Encoded(), Acted())

    def forward(self, batch: LearningBatch) -> Loss:
        read = self.read(batch.latent.state).float()
        actions = batch.of(Acted())[:, self.config.before : self.config.before + read.shape[1]]
        if self.action.kind == "discrete":
            logits = read.unflatten(-1, (self.action.chunk, -1)).flatten(0, 2)
            errors = F.cross_entropy(logits, unchunked(actions, self.action).flatten(), reduction="none")
        else:
            errors = (read - (actions - self.middle) / self.half_range).square()
        error = mean(errors)
        return Loss(self.config.weight * error, {"inverse_dynamics": error.detach()})
