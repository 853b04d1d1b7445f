"""SIGReg: encoded states should look like samples of an isotropic Gaussian along every random direction.

Shapes: B windows, T = L+1 moments, n samples, D latent size (N tokens count as samples), P slices, K knots.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.nn import functional as F

from steersman.core.boxes import Objective
from steersman.core.errors import ConfigError
from steersman.core.learning import LearningBatch, Loss, Need
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.view_configs import ViewConfig
from steersman.nn.distributed import all_sum
from steersman.objectives.population import needed, populations
from steersman.objectives.statistics import full_precision


class _WaveSums(torch.autograd.Function):
    """(…, n, P) -> (2, K, …, P): Σ_n cos(k·dt·x) and Σ_n sin(k·dt·x), k = 0..K-1.

    One cosine and one sine an entry instead of K: cos (k+1)θ = 2 cos θ cos kθ - cos (k-1)θ, and the same for the sine.
    The signs σ_k (+ + - - + + …) turn that recurrence into one fused multiply-add. Backward is the same recurrence
    over the coefficients (Clenshaw), so nothing of size n·P·K is ever stored.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, dt: float, knots: int) -> Tensor:
        cos, sin = torch.cos(x * dt), torch.sin(x * dt)
        ctx.save_for_backward(cos, sin)
        ctx.dt = dt
        sums = x.new_empty(2, knots, *x.shape[:-2], x.shape[-1])
        starts = ((torch.ones_like(x), cos.clone()), (torch.zeros_like(x), sin.clone()))
        for row, (before, now) in zip(sums, starts, strict=True):
            row[0], row[1] = before.sum(-2), now.sum(-2)
            sign_before, sign = 1, 1
            for k in range(2, knots):
                before, now = now, before.addcmul_(cos, now, value=-2 * sign_before * sign)
                sign_before, sign = sign, -sign_before
                row[k] = now.sum(-2).mul_(sign)
        return sums

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        k = torch.arange(grad.shape[1], dtype=grad.dtype, device=grad.device).view(-1, *[1] * (grad.dim() - 2))
        # d/dx = Σ_k k·dt·(b_k cos kθ - a_k sin kθ), with a, b the gradients of the cosine and sine sums
        cosines, sines = (grad[1] * k * ctx.dt).unsqueeze(-2), (-grad[0] * k * ctx.dt).unsqueeze(-2)
        u, v = _clenshaw(cosines, cos), _clenshaw(sines, cos)
        return cosines[0] + u[0] * cos - u[1] + v[0] * sin, None, None


def _clenshaw(coefficients: Tensor, cos: Tensor) -> tuple[Tensor, Tensor]:
    """u_k = c_k + 2 cos θ u_{k+1} - u_{k+2}, down to k = 1 -> (u_1, u_2)."""
    after, now = torch.zeros_like(cos), torch.zeros_like(cos).add_(coefficients[-1])
    for c in coefficients[1:-1].flip(0):
        after, now = now, torch.sub(c, after, out=after).addcmul_(cos, now, value=2)
    return now, after


def epps_pulley(projected: Tensor, knots: int = 17, last: float = 3.0) -> Tensor:
    """Distance of 1-D samples from a standard Gaussian: (…, n, P) -> (…, P).

        EP = n · ∫_{-last}^{last} |φ̂(t) - e^{-t²/2}|² · e^{-t²/2} dt,   φ̂(t) = mean_n e^{i·t·x}

    by the trapezoid rule on `knots` points of [0, last], doubled (the integrand is even); samples of every process.
    The factor n is there: samples of a Gaussian score 1.05 on average whatever n, collapsed ones (all 0) .40·n.
    """
    dt = last / (knots - 1)
    count = all_sum(projected.new_tensor(float(projected.shape[-2])))
    cos, sin = all_sum(_WaveSums.apply(projected, dt, knots)) / count
    t = torch.arange(knots, dtype=projected.dtype, device=projected.device) * dt
    gaussian = torch.exp(-t.square() / 2)
    rule = torch.full_like(t, 2 * dt)
    rule[0] = rule[-1] = dt
    gap = (cos - gaussian.view(-1, *[1] * (cos.dim() - 1))).square() + sin.square()
    score: Tensor = count * torch.tensordot(rule * gaussian, gap, 1)
    return score


def drawn_directions(seed: int, draw: int, size: int, slices: int, device: torch.device) -> Tensor:
    """(D, P) unit columns, uniform on the sphere: the same in every process, others at the next draw."""
    digest = hashlib.blake2b(f"{seed}:{draw}".encode(), digest_size=4).digest()
    generator = torch.Generator(device).manual_seed(int.from_bytes(digest, "little"))
    return F.normalize(torch.randn(size, slices, generator=generator, device=device), dim=0)


def orthogonal_subspaces(seed: int, count: int, size: int, within: int) -> Tensor:
    """(K, D, d): K random sub-spaces of R^D, each by d orthonormal columns; a function of the seed."""
    digest = hashlib.blake2b(f"{seed}:subspaces".encode(), digest_size=4).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
    bases: Tensor = torch.linalg.qr(torch.randn(count, within, size, generator=generator, dtype=torch.float64)).Q
    return bases.float()


class SIGReg(Objective):
    """Sketched isotropic Gaussian regularisation: every random 1-D projection of the states looks standard normal.

        E = mean_{t,p} EP({⟨s_{b,t}, u_p⟩}_b),   u_p uniform on the unit sphere, P = `slices`, new ones each call

    with EP as in `epps_pulley`, factor n included, on s = batch.latent.state (B, T, [N,] D): n = B states (B·N tokens)
    of each moment, or with `per_step=False` all B·T of them at once; with `views`, those of each view. n counts the
    states of every process.

    With K = `subspaces` (Sub-JEPA) the states are looked at in K random sub-spaces only, of `subspace_size` dimensions
    each (0: D // K), drawn from `seed` once and frozen, a buffer:

        E = mean_{t,k,p} EP({⟨Q_kᵀ s_{b,t}, v_p⟩}_b),   Q_k (D, d) orthonormal columns, v_p on the unit sphere of R^d

    with ⌊P / K⌋ slices in each. What the sub-spaces do not see together is free, so latents may lie on fewer dimensions
    than D; the cost is that of the plain form.

    Slices are a function of `seed` and of the number of calls so far, a buffer that is saved with the objective: a
    resumed run draws what an uninterrupted one draws, and all processes draw the same.

    Source: LeJEPA (Balestriero & LeCun 2025), Epps & Pulley (1983); 17 knots on [0, 3], 1,024 slices and weight .09
    beside a mean squared prediction error are those of LeWM (Maes et al. 2026). Sub-spaces: Sub-JEPA (2026,
    arXiv:2605.09241), 32 of them at D = 192 there.

    Part: "sigreg".

    Raises:
        ConfigError: impossible settings, or sub-spaces larger than the latent.
    """

    @register(Objective)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="sigreg"):
        weight: float = 0.09
        slices: int = 1024
        knots: int = 17
        last: float = 3.0
        per_step: bool = True
        seed: int = 0
        views: tuple[ViewConfig, ...] = ()
        subspaces: int = 0
        subspace_size: int = 0

        def __post_init__(self) -> None:
            if not 0 <= self.subspaces <= self.slices or self.subspace_size < 0 or (
                    self.subspace_size and not self.subspaces):
                raise ConfigError("0 <= subspaces <= slices, and a subspace_size only with subspaces",
                                  f"{self.subspaces}, {self.subspace_size}", "use 0, 0 for the whole space, or 8, 0")
            if self.slices < 1 or self.knots < 3 or not self.last > 0:
                raise ConfigError(
                    "slices >= 1, knots >= 3, last > 0", f"{self.slices}, {self.knots}, {self.last}",
                    "keep the defaults 1024, 17, 3.0",
                )

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
        ) -> SIGReg:
            return SIGReg(self, latent_shape[-1])

    draws: Tensor
    bases: Tensor

    def __init__(self, config: Config, size: int = 0) -> None:
        """size: D, for sub-spaces."""
        super().__init__()
        self.config = config
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))
        if config.subspaces:
            within = config.subspace_size or size // config.subspaces
            if not 1 <= within <= size:
                raise ConfigError(f"sub-spaces of 1 to {size} dimensions, the latent's",
                                  f"{config.subspaces} of {within}", "lower `subspaces` or `subspace_size`, or 0 for "
                                  "the whole space")
            self.register_buffer("bases", orthogonal_subspaces(config.seed, config.subspaces, within, size))

    def directions(self, size: int, device: torch.device) -> Tensor:
        """(D, P) unit columns of the current draw, each within one sub-space where there are any."""
        config, draw = self.config, int(self.draws)
        if not config.subspaces:
            return drawn_directions(config.seed, draw, size, config.slices, device)
        each = config.slices // config.subspaces
        inside = drawn_directions(config.seed, draw, self.bases.shape[2], config.subspaces * each, device)
        return (self.bases @ inside.unflatten(1, (-1, each)).transpose(0, 1)).transpose(0, 1).flatten(1)

    @property
    def needs(self) -> tuple[Need[Any], ...]:
        return needed(self.config.views)

    def forward(self, batch: LearningBatch) -> Loss:
        config, states = self.config, populations(batch, self.config.views)
        state = states[0] if len(states) == 1 else torch.cat(list(states), 1)  # a view's moments beside the other's
        samples = state.transpose(0, 1).flatten(1, -2) if config.per_step else state.flatten(0, -2)
        with full_precision(samples):
            directions = self.directions(samples.shape[-1], samples.device)
            score = epps_pulley(samples.float() @ directions, config.knots, config.last).mean()
        if self.training:
            self.draws += 1
        return Loss(config.weight * score, {"sigreg": score.detach()})
