"""A policy distilled from plans: from a belief to an action in one pass, without imagining. For one task.

Knows beliefs and the bounds of actions, not where the plans came from (see `agent.distilling`).

Shapes: B problems, D latent size (tokens are flattened), (M, C) scene map, A action size.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steersman.core import ActionSpec, Belief, ConfigError, MismatchError, Policy, Signature, Task
from steersman.nn import mlp


class DistilledPolicy(Policy):
    """a = middle + half range · tanh(MLP([x, W m])) (continuous), the most likely choice of softmax(MLP(…)) (discrete).

    x is the state in units of the deviations that it was fitted to, m the scene map (flattened), if there is one.
    Actions are within bounds by construction. Limits are not: a policy does not imagine, so it keeps a guardrail only
    as far as the plans that it copies did. It serves the task that it was distilled for and no other, and it does not
    remember: world models with a history have more to tell than it sees.

    Raises:
        MismatchError: beliefs of another agent.
    """

    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="distilled"):
        """hidden: widths of the hidden layers; map_width: numbers that the scene map is reduced to."""

        hidden: tuple[int, ...] = (128, 128)
        map_width: int = 32

        def __post_init__(self) -> None:
            if not self.hidden or min(*self.hidden, self.map_width) < 1:
                raise ConfigError("positive widths, at least one", f"{self}", "correct the policy's configuration")

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int] | None = None
        ) -> DistilledPolicy:
            return DistilledPolicy(self, signature.action, latent_shape, context_shape)

    mean: Tensor
    deviation: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self, config: Config, action: ActionSpec, latent_shape: tuple[int, ...],
        context_shape: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        size = torch.Size(latent_shape).numel()
        self.kind, self.size = action.kind, size
        mapped = torch.Size(context_shape).numel() if context_shape is not None else 0
        self.reduce = nn.Linear(mapped, config.map_width) if mapped else None
        width = size + (config.map_width if mapped else 0)
        self.network = mlp([width, *config.hidden, action.width])
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))
        discrete = action.kind == "discrete"
        self.register_buffer("low", torch.zeros(1) if discrete else torch.tensor(action.low))
        self.register_buffer("high", torch.ones(1) if discrete else torch.tensor(action.high))

    def calibrate(self, states: Tensor) -> None:
        """Take mean and deviation from states (n, D)."""
        deviation, mean = torch.std_mean(states.flatten(1).double(), 0, correction=0)
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > 1e-6 * (1 + mean.abs()), deviation, 1.0))

    def scores(self, state: Tensor, context: Tensor | None = None) -> Tensor:
        """What the network says: (B, A) in [-1, 1] of the range, or logits (B, choices)."""
        flat = state.flatten(1)
        if flat.shape[1] != self.size or (context is None) != (self.reduce is None):
            raise MismatchError(
                f"states of {self.size} numbers{' and a scene map' if self.reduce is not None else ''}",
                f"{tuple(state.shape)}", "use the policy with the agent that it was distilled from",
            )
        x = (flat - self.mean) / self.deviation
        if self.reduce is not None and context is not None:
            x = torch.cat([x, self.reduce(context.flatten(1))], -1)
        found: Tensor = self.network(x)
        return found if self.kind == "discrete" else found.tanh()

    def act(self, state: Tensor, context: Tensor | None = None) -> Tensor:
        """(B, D), (B, M, C) -> actions (B, A) float32 within bounds, or choices (B, 1) int64."""
        scores = self.scores(state, context)
        if self.kind == "discrete":
            return scores.argmax(-1, keepdim=True)
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        return torch.minimum(torch.maximum(middle + half * scores, self.low), self.high)

    def loss(self, state: Tensor, context: Tensor | None, actions: Tensor) -> Tensor:
        """To the actions that plans began with: mean squared error in units of half the range, or cross-entropy."""
        scores = self.scores(state, context)
        if self.kind == "discrete":
            return F.cross_entropy(scores, actions[:, 0])
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        return F.mse_loss(scores, (actions - middle) / half)

    def propose(self, belief: Belief, task: Task) -> Tensor:
        """One action: (B, 1, A)."""
        return self.act(belief.state, belief.context)[:, None]
