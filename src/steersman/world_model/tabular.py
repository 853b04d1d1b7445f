"""A world model that is given, not learned: a table of transition probabilities. The oracle for discrete actions.

Shapes: B problems, K candidates, H horizon, S states of the table, C choices.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.core import Belief, ConfigError, Imagined, Latent, Outcomes, WorldModel, every_moment


class TabularModel(WorldModel):
    """Over distributions p (S,) of states: p' = p P[a], P[a, s, s'] the probability of s' after a in s.

    A known state is one-hot. Without `z` a future is the exact distribution of what open-loop actions lead to, so that
    any energy that is linear in p is an exact expectation. With z (B, K, H, 1) uniform on (0, 1) it is a sample: each
    step's state is one-hot, drawn by inverting the distribution function at z. Memoryless.

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

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        """The last state alone matters."""
        return Belief(latent.state[:, -1], None if latent.context is None else latent.context[:, -1])

    def beliefs(
        self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None, reset: Tensor | None = None
    ) -> Belief:
        return every_moment(latent)

    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, z: Tensor | None = None
    ) -> Imagined:
        start = belief.state[:, None].expand(-1, actions.shape[1], -1)
        return Imagined(self._roll(start, actions, z), belief.context)

    def branch(
        self, belief: Belief, states: Tensor, actions: Tensor, exogenous: Tensor | None = None,
        z: Tensor | None = None, carry: tuple[Tensor, ...] = (),
    ) -> Imagined:
        return Imagined(self._roll(states, actions, z), belief.context)

    @property
    def chance(self) -> int:
        return 1

    def outcomes(self, belief: Belief, states: Tensor, actions: Tensor) -> Outcomes | None:
        """Every state that may follow a known (one-hot) one, the most probable first; None where all is certain."""
        count = int((self.transition > 0).sum(-1).max())
        if count == 1:
            return None
        rows = states.flatten(0, 1).to(self.transition.dtype)
        after = self._chosen(rows, actions.reshape(-1)).unflatten(0, actions.shape[:2])
        probability, which = after.topk(min(count, after.shape[-1]), -1)
        middle = after.cumsum(-1) - after / 2
        return Outcomes(middle.gather(-1, which)[..., None], probability)

    def _roll(self, state: Tensor, actions: Tensor, z: Tensor | None) -> Tensor:
        b, k, horizon = actions.shape[:3]
        now = state.reshape(b * k, -1).to(self.transition.dtype)
        choice = actions.reshape(b * k, horizon)
        draws = None if z is None else z.reshape(b * k, horizon).to(now.dtype)
        states = [now]
        for t in range(horizon):
            now = self._chosen(now, choice[:, t])
            if draws is not None:
                now = _drawn(now, draws[:, t])
            states.append(now)
        return torch.stack(states, 1).unflatten(0, (b, k))

    def _chosen(self, now: Tensor, choice: Tensor) -> Tensor:
        """p P[a] for rows (N, S) and choices (N,): one product for all choices, then each row's own."""
        after = torch.einsum("ns,cst->nct", now, self.transition)
        return after[torch.arange(len(now), device=now.device), choice]


def _drawn(p: Tensor, z: Tensor) -> Tensor:
    """Distributions (N, S), uniform numbers (N,) -> one-hot (N, S); a state of probability 0 is never drawn."""
    place = torch.searchsorted(p.cumsum(-1), z[:, None] * p.sum(-1, keepdim=True), right=True)
    last = p.shape[-1] - 1 - (p.flip(-1) > 0).to(torch.uint8).argmax(-1, keepdim=True)
    return torch.zeros_like(p).scatter_(1, torch.minimum(place, last), 1.0)
