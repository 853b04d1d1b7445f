"""A latent variable that is nearly always zero: few of its numbers explain a step, and each says which way and how far.

Shapes: N rows, Z numbers of z, G numbers that the prior is given, D latent size, A action size, O candidates.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor, nn

from steersman.core import ConfigError, Energy, LatentVariable, Posterior, Signature, register
from steersman.nn import ActionEmbedding, mlp

_EDGE = 2.0**-24  # uniform numbers are kept so far from 0 and 1
_LOG_STD = 5.0  # log magnitudes have a median within exp(±5) and a deviation within exp(±5)
_RATES = (8.0, 1.0, 0.125, 0.0)  # of the last step size, that are tried
_FIRST = 0.1  # step size that is tried first
_FINE = 1e-4  # of a number of z: a step of less ends the search


class Sparse(LatentVariable):
    """z with an L1 price, mostly zero.

        posterior    ž = argmin_z E(z) / temperature + sparsity Σ_i |z_i|   by proximal gradient steps (ISTA,
                     Daubechies, Defrise & De Mol 2004) whose size is searched anew in each step, from the best of 0
                     and ±e_i
        prior        number by number, i = 1 … Z:  sign_i in {-, 0, +} with p = softmax(MLP_i([g, a, z_1 … z_{i-1}])),
                     log |z_i| ~ N(m_i, v_i²) of the same network where the sign is not 0
        draw         the sign into whose share of (0, 1) u_i falls; where in the share it lies is the quantile of |z_i|
        information  Σ_i -log p(sign_i) + Σ_{ž_i ≠ 0} KL(N(log |ž_i|, blur²) ‖ N(m_i, v_i²)) nats

    Why steps and not a network q: the L1 price makes exact zeros only in a minimum, and the minimum needs no weights
    that lag behind a predictor which still learns. By the envelope theorem ž needs no gradient. The L1 price alone is a
    Laplace prior, whose draws are never zero; the prior that is learned has a share of its own for zero, and is fitted
    to what inference found (Mitchell & Beauchamp 1988, spike and slab).

    A magnitude is known to within a factor exp(±blur): without that grain nats of an amount would have no end. A sample
    of the posterior has that much noise. A new prior gives the three signs equal shares.

    Errors: ConfigError for sizes below 1, prices or a blur that are not positive, and where no energy is given.
    """

    @register(LatentVariable)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="sparse"):
        """size Z; width of the networks; sparsity: the L1 price, 1 counts |z| in nats of a Laplace prior; temperature:
        variance of what z leaves open (as in `Categorical`); steps of ISTA at most; blur of a magnitude; most: the
        largest |z_i| that is looked for."""

        size: int = 2
        width: int = 64
        sparsity: float = 1.0
        temperature: float = 0.01
        steps: int = 6
        blur: float = 0.1
        most: float = 4.0

        def __post_init__(self) -> None:
            if min(self.size, self.width, self.steps) < 1 or not (
                    min(self.sparsity, self.temperature, self.blur, self.most) > 0):
                raise ConfigError("size, width and steps >= 1; sparsity, temperature, blur and most > 0", f"{self}",
                                  "correct the latent variable's configuration")

        def build(self, signature: Signature, latent_shape: tuple[int, ...], given: int) -> Sparse:
            return Sparse(self, signature, latent_shape, given)

    def __init__(self, config: Config, signature: Signature, latent_shape: tuple[int, ...], given: int) -> None:
        super().__init__()
        self.config = config
        self.actions = ActionEmbedding(signature.action)
        known = given + self.actions.width
        self.to_prior = nn.ModuleList(mlp([known + i, config.width, 7], silent=True) for i in range(config.size))

    @property
    def uniform(self) -> int:
        return self.config.size

    @property
    def size(self) -> int:
        return self.config.size

    @property
    def amortised(self) -> bool:
        """No: z is inferred by an energy."""
        return False

    def draw(self, u: Tensor, given: Tensor, actions: Tensor) -> Tensor:
        known, numbers = self._known(given, actions), list[Tensor]()
        for i in range(self.size):  # number i depends on those before it
            log, middle, spread = self._prior(i, known, numbers)
            share = log.exp()
            high = share.cumsum(-1)
            place = u[:, i : i + 1].to(share).clamp(_EDGE, 1 - _EDGE)
            which = (place > high[:, :2]).sum(-1, keepdim=True)
            low = (high - share).gather(-1, which)
            within = ((place - low) / share.gather(-1, which).clamp(min=_EDGE)).clamp(_EDGE, 1 - _EDGE)
            side = (which > 1).long()
            log_size = middle.gather(-1, side) + spread.gather(-1, side) * torch.special.ndtri(within.detach())
            numbers.append(torch.where(which == 1, 0.0, (which - 1) * log_size.exp())[:, 0].to(given))
        return torch.stack(numbers, -1)

    def expected(self, given: Tensor, actions: Tensor) -> Tensor:
        """Of each number the most probable sign, and the median magnitude: a mean would not be sparse."""
        known, numbers = self._known(given, actions), list[Tensor]()
        for i in range(self.size):
            log, middle, _ = self._prior(i, known, numbers)
            which = log.argmax(-1, keepdim=True)
            size = middle.gather(-1, (which > 1).long()).exp()
            numbers.append(torch.where(which == 1, 0.0, (which - 1) * size)[:, 0].to(given))
        return torch.stack(numbers, -1)

    def posterior(
        self, given: Tensor, actions: Tensor, following: Tensor, energy: Energy | None = None, u: Tensor | None = None
    ) -> Posterior:
        if energy is None:
            raise ConfigError("an energy to infer z by", "none, and no posterior that was learned", "pass `energy`")
        z = self._least(energy, given)
        known, nats, numbers = self._known(given, actions), list[Tensor](), list[Tensor]()
        for i, number in enumerate(z.unbind(-1)):
            log, middle, spread = self._prior(i, known, numbers)
            side = (number > 0).long()[:, None]
            m, v = middle.gather(-1, side)[:, 0], spread.gather(-1, side)[:, 0]
            apart = number.abs().clamp(min=_EDGE).log() - m
            blur = self.config.blur
            told = (v / blur).log() + (blur**2 + apart.square()) / (2 * v.square()) - 0.5
            sign = number.sign().long()[:, None] + 1
            nats.append(-log.gather(-1, sign)[:, 0] + torch.where(number == 0, 0.0, told))
            numbers.append(number)
        if u is not None:
            u = u.to(torch.promote_types(z.dtype, torch.float32)).clamp(_EDGE, 1 - _EDGE)
            z = z * (self.config.blur * torch.special.ndtri(u)).exp().to(z)
        return Posterior(z, torch.stack(nats).sum(0))

    def _known(self, given: Tensor, actions: Tensor) -> Tensor:
        return torch.cat([given, self.actions(actions).to(given)], -1)

    def _prior(self, number: int, known: Tensor, before: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Of one number: log p of the signs (N, 3); median of log |z| and its deviation (N, 2), below and above 0."""
        raw = self.to_prior[number](torch.cat([known, *(x[:, None].to(known) for x in before)], -1))
        raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
        log, middle, spread = raw.split([3, 2, 2], -1)
        middle, log_spread = (_LOG_STD * (x / _LOG_STD).tanh() for x in (middle, spread))
        return log.log_softmax(-1), middle, log_spread.exp()

    @torch.no_grad()
    def _least(self, energy: Energy, given: Tensor) -> Tensor:
        """ž (N, Z)."""
        config, size = self.config, self.config.size

        def price(z: Tensor) -> Tensor:
            return energy(z) / config.temperature + config.sparsity * z.abs().sum(-1)

        rows = torch.arange(len(given), device=given.device)
        unit = torch.eye(size, dtype=given.dtype, device=given.device)
        starts = torch.cat([unit.new_zeros(1, size), unit, -unit]).expand(len(given), -1, -1)
        z = starts[rows, _worth(price(starts)).argmin(1)]
        rates = torch.tensor(_RATES, dtype=z.dtype, device=z.device)
        rate = z.new_full((len(z), 1), _FIRST)
        for _ in range(config.steps):
            slope = _slope(energy, z) / config.temperature
            tried = (rate * rates)[..., None]
            point = z[:, None] - tried * slope[:, None]
            point = point.sign() * (point.abs() - config.sparsity * tried).clamp(min=0)
            point = point.clamp(-config.most, config.most)
            best = _worth(price(point)).argmin(1)
            following = point[rows, best]
            moved = (following - z).abs().amax()
            z, rate = following, torch.where(
                best[:, None] == len(_RATES) - 1, rate * rates[-2], rate * rates[best][:, None]).clamp(min=1e-8)
            if float(moved) < _FINE:
                break
        return z


def _worth(price: Tensor) -> Tensor:
    return price.nan_to_num(nan=torch.inf)


def _slope(energy: Energy, z: Tensor) -> Tensor:
    """d energy / d z of each row, (N, Z)."""
    with torch.enable_grad():
        point = z.detach().requires_grad_()
        (slope,) = torch.autograd.grad(energy(point[:, None]).sum(), point)
    return slope.nan_to_num()
