"""VISReg: every dimension has a spread of one, and the shape of the whole is a Gaussian's; strongest where collapsed.

Shapes: B windows, T = L+1 moments, n samples, P slices, D latent size (N tokens count as samples).
"""

from __future__ import annotations

from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman.core.boxes import Objective
from steersman.core.errors import ConfigError
from steersman.core.learning import LearningBatch, Loss, Need
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.view_configs import ViewConfig
from steersman.nn.distributed import all_rows
from steersman.objectives.population import needed, populations
from steersman.objectives.sigreg import drawn_directions
from steersman.objectives.statistics import full_precision

FLOOR = 0.1
"""Smallest spread by which shapes are scaled: what is narrower is pulled apart by its shape as well, and no harder."""


def gaussian_quantiles(count: int, device: torch.device) -> Tensor:
    """(n,) float32: Φ⁻¹(i / (n + 1)), i = 1..n."""
    levels = torch.arange(1, count + 1, dtype=torch.float64, device=device) / (count + 1)
    return torch.special.ndtri(levels).float()


def sliced_wasserstein(samples: Tensor, directions: Tensor) -> Tensor:
    """(…, n, D), (D, P) -> scalar: mean over slices of the squared 2-Wasserstein distance to a standard Gaussian,

        mean_{p,i} (x_(i),p - Φ⁻¹(i / (n + 1)))²,   x_(1) <= … <= x_(n) the sorted projections on slice p
    """
    ordered = (samples @ directions).sort(dim=-2).values
    return (ordered - gaussian_quantiles(samples.shape[-2], samples.device)[:, None]).square().mean()


class VISReg(Objective):
    """Variance and sketching regularisation of encoded states: scale and shape apart.

        E = weight · (scale · mean_d (1 - σ_d)² + shape · SW(x) + centre · mean_d μ_d²)
        x = (s - μ) / max(σ, .1)

    with μ and σ (over n, not n - 1) of each dimension over the samples, and SW as in `sliced_wasserstein` over P =
    `slices` random slices, new ones each call as in `SIGReg`. Samples are the B states of batch.latent.state (B, T,
    [N,] D) of each moment (B·N tokens), the terms then means over moments; with `per_step=False` all B·T at once; with
    `views` those of each view. They are those of every process. The shape does not change with the scale and leaves it
    to the first term.

    SIGReg's gradient vanishes where all states are the same. Here that of the scale does not as long as anything is
    left of the spread, and below .1 the shape pulls apart as well, from a single point too. Sorting makes it slower
    than SIGReg with as many slices, and it needs fewer: 256 here.

    Source: VISReg (Wu, Balestriero & Morgan 2026, arXiv:2606.02572), all three terms weighed 1. There σ carries no
    gradient in x, with no floor to speak of: where latents lie on fewer dimensions than D, no scale of theirs fits all
    slices, the shape term then pulls the spread down by 1/σ, and below about .2 it wins over the first term. Eight
    latents of three numbers stayed collapsed at .04 that way, and do not this way.

    Parts: "scale", "shape", "centre".
    """

    @register(Objective)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="visreg"):
        """Weights of the whole and of its three terms."""

        weight: float = 1.0
        scale: float = 1.0
        shape: float = 1.0
        centre: float = 1.0
        slices: int = 256
        per_step: bool = True
        seed: int = 0
        views: tuple[ViewConfig, ...] = ()

        def __post_init__(self) -> None:
            if self.slices < 1 or min(self.weight, self.scale, self.shape, self.centre) < 0:
                raise ConfigError("slices >= 1 and weights of at least 0", f"{self}", "keep the defaults 256 and 1")

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
        ) -> VISReg:
            return VISReg(self)

    draws: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    @property
    def needs(self) -> tuple[Need[Any], ...]:
        return needed(self.config.views)

    def forward(self, batch: LearningBatch) -> Loss:
        config, states = self.config, [all_rows(state.float()) for state in populations(batch, self.config.views)]
        state = states[0] if len(states) == 1 else torch.cat(states, 1)  # a view's moments beside the other's
        samples = state.transpose(0, 1).flatten(1, -2) if config.per_step else state.flatten(0, -2)
        with full_precision(samples):
            middle = samples.mean(-2, keepdim=True)
            deviation = samples - middle
            spread = torch.linalg.vector_norm(deviation, dim=-2, keepdim=True) / samples.shape[-2] ** 0.5
            directions = drawn_directions(config.seed, int(self.draws), samples.shape[-1], config.slices,
                                          samples.device)
            shape = sliced_wasserstein(deviation / spread.clamp(min=FLOOR), directions)
            scale, centre = (1 - spread).square().mean(), middle.square().mean()
        if self.training:
            self.draws += 1
        total = config.weight * (config.scale * scale + config.shape * shape + config.centre * centre)
        parts = {"scale": scale, "shape": shape, "centre": centre}
        return Loss(total, {name: part.detach() for name, part in parts.items()})
