"""A latent variable of few outcomes: a codebook, and a prior over it that depends on state and action.

Shapes: N rows, O codes, Z numbers of a code, G numbers that the prior is given, D latent size, A action size.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import torch
from torch import Tensor, nn

from steersman.core import ConfigError, Energy, LatentVariable, Posterior, Signature, Support, register
from steersman.nn import ActionEmbedding, mlp
from steersman.world_model.latent_variable.listing import drawn, inferred, information, listed


class Categorical(LatentVariable):
    """z is one of O codes: one-hot, or a vector that is learned with the predictor.

        prior      p(o | g, a) = softmax(MLP([g, a])); outcomes below `least` are cut where futures are drawn or listed
        draw       the code into whose share of (0, 1) u falls
        posterior  p(o | step) ∝ p(o) exp(-E_o / temperature); temperature 0: ž = argmin_o E_o (LeCun 2022, "A path
                   towards autonomous machine intelligence", section 4.3); or q(o | g, a, s') = softmax(MLP) (van den
                   Oord et al. 2017 learn codes by the nearest; Hafner et al. 2021 learn q)
        information  KL(posterior ‖ prior) in nats, at most log O where the prior is uniform, -log p(ž) at temperature 0

    E is the energy of a step given z; what our predictors hand over is ½ Σ_D (s' - ŝ'(z))², so a temperature is the
    variance of what z leaves open. A new prior is uniform. A sample of a learned q carries its gradient straight
    through (Bengio et al. 2013).

    A posterior by energy has no gradient of its own: it is the E step of expectation maximisation (Neal & Hinton
    1998), and predictor and prior learn from what it found.

    The cut keeps trees small, and keeps a guardrail that holds "in every outcome that may come" from being broken by
    outcomes that never come. Information is told against the prior before the cut.
    """

    @register(LatentVariable)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="categorical"):
        """codes O; size Z of a learned code, 0: one-hot; width of the networks; least: probability below which an
        outcome is neither drawn nor listed; inference: by the least energy, or learned; temperature: see above."""

        codes: int = 8
        size: int = 0
        width: int = 64
        least: float = 1e-3
        inference: Literal["energy", "learned"] = "energy"
        temperature: float = 0.0

        def __post_init__(self) -> None:
            if self.codes < 2 or self.size < 0 or self.width < 1 or not self.temperature >= 0:
                raise ConfigError("codes >= 2, size >= 0, width >= 1 and temperature >= 0", f"{self}",
                                  "correct the latent variable's configuration")
            if not 0 <= self.least < 1 / self.codes:
                raise ConfigError(f"0 <= least < 1 / {self.codes} codes", f"{self.least}",
                                  "lower `least`: otherwise a uniform prior would have no outcome left")

        def build(self, signature: Signature, latent_shape: tuple[int, ...], given: int) -> Categorical:
            return Categorical(self, signature, latent_shape, given)

    codes: Tensor

    def __init__(self, config: Config, signature: Signature, latent_shape: tuple[int, ...], given: int) -> None:
        super().__init__()
        self.config, count = config, config.codes
        self.actions = ActionEmbedding(signature.action)
        known = given + self.actions.width
        self.to_prior = mlp([known, config.width, count], silent=True)
        self.to_posterior: nn.Sequential | None = None
        if self.amortised:
            self.to_posterior = mlp([known + torch.Size(latent_shape).numel(), config.width, count], silent=True)
        if config.size:
            self.codes = nn.Parameter(torch.randn(count, config.size))
        else:
            self.register_buffer("codes", torch.eye(count), persistent=False)

    @property
    def uniform(self) -> int:
        return 1

    @property
    def size(self) -> int:
        return self.codes.shape[1]

    @property
    def amortised(self) -> bool:
        return self.config.inference == "learned"

    def log_prior(self, given: Tensor, actions: Tensor) -> Tensor:
        """log p(o), (N, O), before the cut."""
        return _log_softmax(self.to_prior(torch.cat([given, self.actions(actions).to(given)], -1)))

    def probability(self, given: Tensor, actions: Tensor) -> Tensor:
        """p(o), (N, O), after the cut: what draws, and what is listed."""
        p = self.log_prior(given, actions).exp()
        p = torch.where(p < self.config.least, 0.0, p)
        return p / p.sum(-1, keepdim=True)

    def draw(self, u: Tensor, given: Tensor, actions: Tensor) -> Tensor:
        p = self.probability(given, actions)
        return self.codes[drawn(p, u.to(p))[:, 0]]

    def expected(self, given: Tensor, actions: Tensor) -> Tensor:
        """The most probable code: a mean of codes is none."""
        return self.codes[self.log_prior(given, actions).argmax(-1)]

    def posterior(
        self, given: Tensor, actions: Tensor, following: Tensor, energy: Energy | None = None, u: Tensor | None = None
    ) -> Posterior:
        prior = self.log_prior(given, actions)
        if energy is not None:
            each = energy(self.codes.expand(len(prior), -1, -1))
            log = inferred(prior.detach(), each.detach(), self.config.temperature)
        elif self.to_posterior is not None:
            seen = torch.cat([given, self.actions(actions).to(given), following.to(given)], -1)
            log = _log_softmax(self.to_posterior(seen))
        else:
            raise ConfigError("an energy to infer z by", "none, and no posterior that was learned",
                              "pass `energy`, or configure inference 'learned'")
        share = log.exp()
        which = log.argmax(-1) if u is None else drawn(share.detach(), u.to(share))[:, 0]
        z = self.codes[which]
        if u is not None:
            z = z + (share - share.detach()) @ self.codes.detach()
        return Posterior(z, information(log, prior))

    def support(self, given: Tensor, actions: Tensor) -> Support:
        return listed(self.probability(given, actions), self.config.codes)


def _log_softmax(logits: Tensor) -> Tensor:
    """In float32 at least: shares are added up, and u is finer than half precision."""
    return logits.log_softmax(-1, torch.promote_types(logits.dtype, torch.float32))
