"""The latent variable of a table: z is the state that comes, and the table is its prior. Given, not learned.

Shapes: N rows, S states of the table, C choices.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from steersman.core import Energy, LatentVariable, Posterior, Support
from steersman.world_model.latent_variable.listing import drawn, inferred, information, listed


class NextState(LatentVariable):
    """z = e_{s'}, one-hot, with prior p' = p P[a] for a state known as a distribution p (S,).

    draw inverts the distribution function at u; expected is p' itself, the mean of z; the posterior is Bayes', exactly:
    without an energy, p(s' | step) ∝ p'(s') following(s'), which for a state that was seen is that state. support lists
    as many outcomes as any state has at most, the most probable first.

    What was seen and cannot come (p' = 0) is explained by nothing better than the prior.
    """

    transition: Tensor

    def __init__(self, transition: Tensor) -> None:
        """transition (C, S, S): see `TabularModel`."""
        super().__init__()
        self.register_buffer("transition", transition, persistent=False)
        self.outcomes = int((transition > 0).sum(-1).max())

    @property
    def uniform(self) -> int:
        return 1

    @property
    def size(self) -> int:
        return self.transition.shape[-1]

    @property
    def amortised(self) -> bool:
        """No: what is seen tells z, and nothing is learned."""
        return False

    def draw(self, u: Tensor, given: Tensor, actions: Tensor) -> Tensor:
        p = self.expected(given, actions)
        return torch.zeros_like(p).scatter_(1, drawn(p, u), 1.0)

    def expected(self, given: Tensor, actions: Tensor) -> Tensor:
        """p P[a] for rows (N, S) and choices (N, 1): one product for all choices, then each row's own."""
        after = torch.einsum("ns,cst->nct", given, self.transition)
        return after[torch.arange(len(given), device=given.device), actions[:, 0]]

    def posterior(
        self, given: Tensor, actions: Tensor, following: Tensor, energy: Energy | None = None, u: Tensor | None = None
    ) -> Posterior:
        p = self.expected(given, actions)
        prior, count = p.log(), p.shape[-1]
        each = torch.eye(count, dtype=p.dtype, device=p.device).expand(len(p), -1, -1)
        cost = -following.to(p).log() if energy is None else energy(each)
        possible = ((prior > -torch.inf) & (cost < torch.inf)).any(-1, keepdim=True)
        log = inferred(prior, torch.where(possible, cost, 0.0))
        which = log.argmax(-1) if u is None else drawn(log.exp(), u.to(p))[:, 0]
        return Posterior(F.one_hot(which, count).to(p), information(log, prior))

    def support(self, given: Tensor, actions: Tensor) -> Support:
        return listed(self.expected(given, actions), self.outcomes)
