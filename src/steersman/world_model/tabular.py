"""A world model that is given, not learned: a table of transition probabilities. The oracle for discrete actions.

Shapes: B problems, K candidates, H horizon, S states of the table, C choices.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from steersman.core import Belief, ConfigError, Imagined, Latent, WorldModel, every_moment
from steersman.world_model.latent_variable.table import NextState


class TabularModel(WorldModel):
    """Over distributions p (S,) of states: p' = p P[a], P[a, s, s'] the probability of s' after a in s.

    A known state is one-hot. Without `u` a future is the exact distribution of what open-loop actions lead to, so that
    any energy that is linear in p is an exact expectation. With u (B, K, H, 1) uniform on (0, 1) it is a sample: each
    step's state is one-hot, drawn by inverting the distribution function at u. What is drawn is the latent variable
    `NextState`; a table without chance has none. Memoryless.

    >>> model = TabularModel(torch.eye(2).expand(1, 2, 2))                     # one choice, which changes nothing
    >>> model.imagine(Belief(torch.tensor([[0.0, 1.0]])), torch.zeros(1, 1, 1, 1, dtype=torch.long)).states.tolist()
    [[[[0.0, 1.0], [0.0, 1.0]]]]

    Errors: ConfigError for a table (C, S, S) of other shape or with rows that are no distributions.
    """

    transition: Tensor

    def __init__(self, transition: Tensor) -> None:
        super().__init__()
        if transition.dim() != 3 or transition.shape[1] != transition.shape[2]:
            raise ConfigError("a table (choices, states, states)", f"{tuple(transition.shape)}", "correct the table")
        if bool((transition < 0).any()) or bool(((transition.sum(-1) - 1).abs() > 1e-4).any()):
            raise ConfigError("rows that sum to 1, none below 0", "others", "normalise the table")
        self.register_buffer("transition", transition)
        self._next = NextState(transition)
        if self._next.outcomes > 1:
            self.latent_variable = self._next

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        """The last state alone matters."""
        return Belief(latent.state[:, -1], None if latent.context is None else latent.context[:, -1])

    def beliefs(
        self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None, reset: Tensor | None = None
    ) -> Belief:
        return every_moment(latent)

    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, u: Tensor | None = None
    ) -> Imagined:
        start = belief.state[:, None].expand(-1, actions.shape[1], -1)
        return Imagined(self._roll(start, actions, u), belief.context)

    def branch(
        self, belief: Belief, states: Tensor, actions: Tensor, exogenous: Tensor | None = None,
        u: Tensor | None = None, carry: tuple[Tensor, ...] = (),
    ) -> Imagined:
        return Imagined(self._roll(states, actions, u), belief.context)

    def given(
        self, belief: Belief, states: Tensor, actions: Tensor, exogenous: Tensor | None = None,
        carry: tuple[Tensor, ...] = (),
    ) -> Tensor:
        """The state, in the table's type."""
        return states.to(self.transition.dtype)

    def _roll(self, state: Tensor, actions: Tensor, u: Tensor | None) -> Tensor:
        b, k, horizon = actions.shape[:3]
        now = state.reshape(b * k, -1).to(self.transition.dtype)
        choice = actions.reshape(b * k, horizon, 1)
        draws = None if u is None else u.reshape(b * k, horizon, 1).to(now.dtype)
        states = [now]
        for t in range(horizon):
            after = self._next.expected if draws is None else partial(self._next.draw, draws[:, t])
            now = after(now, choice[:, t])
            states.append(now)
        return torch.stack(states, 1).unflatten(0, (b, k))
