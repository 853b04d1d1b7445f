"""A latent variable with endlessly many outcomes: a Gaussian whose mean and deviation depend on state and action.

Shapes: N rows, Z numbers of z, G numbers that the prior is given, D latent size, A action size, O candidates.
"""

from __future__ import annotations

import msgspec
import numpy as np
import torch
from torch import Tensor

from steersman.core import ConfigError, Energy, LatentVariable, Posterior, Signature, Support, register
from steersman.nn import ActionEmbedding, mlp

_LOG_STD = 5.0  # deviations lie within exp(±5)
_EDGE = 2.0**-24  # uniform numbers are kept so far from 0 and 1: normal quantiles within ±5.4
_NEWTON = 12  # steps of Newton's method at most; a quadratic energy needs one
_PARTS = (1.0, 0.5, 0.25, 0.1, 0.03, 0.01, 0.003, 0.0)  # of a step, that are tried
_MOST_NODES, _MOST_OUTCOMES = 9, 1024  # 9 nodes reach ±4.5 deviations
_FLAT = 0.01  # least curvature, so that no posterior is wider than 10 deviations of the prior


class Gaussian(LatentVariable):
    """z = μ + σ ⊙ Φ⁻¹(u), with μ, log σ = MLP([g, a]).

        posterior    q(z | g, a, s') = N(m, diag v²), m, log v = MLP([g, a, s'])               (Kingma & Welling 2014)
        with energy  N(z*, H⁻¹), z* = argmin E(z) + ½ |(z - μ)/σ|², H its second derivative there  (Laplace)
        support      Gauss-Hermite quadrature, `nodes` for each number of z, nodes^Z outcomes: expectations of
                     polynomials in z up to degree 2 nodes - 1 are exact (Golub & Welsch 1969)
        information  KL(N(m, V) ‖ N(μ, diag σ²)) = ½ [tr(V/σ²) + |(m - μ)/σ|² - Z - log det(V/σ²)] nats

    Without u it is the mean μ. Laplace's posterior is exact where E = -log p(s' | z) is quadratic. It is found by
    Newton's method, from μ, with no gradient to the energy; its information has one to the prior.
    A new prior and a new q are standard normal, so that z says nothing at first.
    """

    @register(LatentVariable)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="gaussian"):
        """size Z; width of the networks; nodes: 3 let trees weigh means and spreads, 0: trees plan on the mean."""

        size: int = 4
        width: int = 64
        nodes: int = 0

        def __post_init__(self) -> None:
            if min(self.size, self.width) < 1 or self.nodes < 0:
                raise ConfigError("size and width >= 1, nodes >= 0", f"{self}",
                                  "correct the latent variable's configuration")
            if self.nodes > _MOST_NODES or self.nodes**self.size > _MOST_OUTCOMES:
                raise ConfigError(f"at most {_MOST_NODES} nodes and {_MOST_OUTCOMES} outcomes, nodes^size",
                                  f"{self.nodes}^{self.size}", "use fewer nodes, or a latent variable of fewer numbers")

        def build(self, signature: Signature, latent_shape: tuple[int, ...], given: int) -> Gaussian:
            return Gaussian(self, signature, latent_shape, given)

    def __init__(self, config: Config, signature: Signature, latent_shape: tuple[int, ...], given: int) -> None:
        super().__init__()
        self.config = config
        self.actions = ActionEmbedding(signature.action)
        known = given + self.actions.width
        self.to_prior = mlp([known, config.width, 2 * config.size], silent=True)
        seen = known + torch.Size(latent_shape).numel()
        self.to_posterior = mlp([seen, config.width, 2 * config.size], silent=True)

    @property
    def uniform(self) -> int:
        return self.config.size

    @property
    def size(self) -> int:
        return self.config.size

    def support(self, given: Tensor, actions: Tensor) -> Support | None:
        if not self.config.nodes:
            return None
        places, weights = (torch.from_numpy(x) for x in np.polynomial.hermite_e.hermegauss(self.config.nodes))
        count = [torch.arange(self.config.nodes)] * self.size
        which = torch.cartesian_prod(*count).view(-1, self.size)  # (O, Z)
        u = torch.special.ndtr(places)[which].to(given.device, torch.float32)
        share = (weights / weights.sum())[which].prod(-1).to(given.device, torch.float32)
        return Support(u.expand(len(given), -1, -1), share.expand(len(given), -1), exhaustive=False)

    def prior(self, given: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """μ and log σ, (N, Z) each."""
        return _split(self.to_prior(torch.cat([given, self.actions(actions).to(given)], -1)))

    def draw(self, u: Tensor, given: Tensor, actions: Tensor) -> Tensor:
        mean, log_std = self.prior(given, actions)
        return mean + log_std.exp() * _quantile(u, mean)

    def expected(self, given: Tensor, actions: Tensor) -> Tensor:
        """The mean."""
        return self.prior(given, actions)[0]

    def posterior(
        self, given: Tensor, actions: Tensor, following: Tensor, energy: Energy | None = None, u: Tensor | None = None
    ) -> Posterior:
        mean, log_std = self.prior(given, actions)
        if energy is not None:
            return _laplace(mean, log_std, energy, u)
        seen = torch.cat([given, self.actions(actions).to(given), following.to(given)], -1)
        middle, log_width = _split(self.to_posterior(seen))
        apart, narrow = (middle - mean) / log_std.exp(), log_width - log_std
        nats = 0.5 * ((2 * narrow).exp() + apart.square() - 1 - 2 * narrow).sum(-1)
        return Posterior(middle if u is None else middle + log_width.exp() * _quantile(u, middle), nats)


def _split(both: Tensor) -> tuple[Tensor, Tensor]:
    """Means, and logs of deviations within ±5, both smooth in what a network says."""
    mean, raw = both.chunk(2, -1)
    return mean, _LOG_STD * (raw / _LOG_STD).tanh()


def _quantile(u: Tensor, like: Tensor) -> Tensor:
    """Φ⁻¹(u), in float32 at least."""
    u = u.to(torch.promote_types(like.dtype, torch.float32)).clamp(_EDGE, 1 - _EDGE)
    return torch.special.ndtri(u).to(like)


def _laplace(mean: Tensor, log_std: Tensor, energy: Energy, u: Tensor | None) -> Posterior:
    """The posterior N(m, V) around the z of least energy."""
    middle, std = mean.detach(), log_std.detach().exp()

    def total(e: Tensor) -> Tensor:
        """Energy and prior of e (N, O, Z), counted in deviations of the prior."""
        return energy(middle[:, None] + std[:, None] * e) + 0.5 * e.square().sum(-1)

    parts = torch.tensor(_PARTS, dtype=mean.dtype, device=mean.device)
    e = torch.zeros_like(middle)
    for _ in range(_NEWTON):
        slope, curve = _derivatives(total, e)
        step = -torch.linalg.solve(curve, slope[..., None])[..., 0]
        with torch.no_grad():
            tried = e[:, None] + parts[:, None] * step[:, None]
            best = total(tried).nan_to_num(nan=torch.inf).argmin(1)
        e = tried[torch.arange(len(e), device=e.device), best]
        if bool((step.abs().amax(-1, keepdim=True) * parts[best, None] <= 1e-6 * (1 + e.abs())).all()):
            break
    _, curve = _derivatives(total, e)
    root = torch.linalg.cholesky(curve)
    spread = torch.cholesky_inverse(root)  # V in deviations of the prior
    z = middle + std * e
    variance = spread.diagonal(dim1=-2, dim2=-1) * std.square()
    apart = (variance + (z - mean).square()) / (2 * log_std).exp() - 1
    nats = (0.5 * apart + log_std - std.log() + root.diagonal(dim1=-2, dim2=-1).log()).sum(-1)
    if u is not None:
        noise = _quantile(u, e)[..., None]
        z = z + std * torch.linalg.solve_triangular(root.mT, noise, upper=True)[..., 0]
    return Posterior(z, nats)


def _derivatives(total: Energy, e: Tensor) -> tuple[Tensor, Tensor]:
    """First derivative (N, Z) and second (N, Z, Z) of a row's own energy, made positive by |eigenvalues|."""
    with torch.enable_grad():
        e = e.detach().requires_grad_()
        (slope,) = torch.autograd.grad(total(e[:, None]).sum(), e, create_graph=True)
        rows = [torch.autograd.grad(slope[:, i].sum(), e, retain_graph=True)[0] for i in range(e.shape[1])]
    values, vectors = torch.linalg.eigh(torch.stack(rows, 1))
    return slope.detach(), (vectors * values.abs().clamp(min=_FLAT)[:, None]) @ vectors.mT
