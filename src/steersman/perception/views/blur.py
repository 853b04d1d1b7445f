"""A picture out of focus. Knows nothing of what it shows. Shapes: B rows, T moments, (H, W) pixels, R radius."""

from __future__ import annotations

import math

import msgspec
import torch
from torch import Tensor
from torch.nn import functional as F

from steersman.core.errors import ConfigError
from steersman.core.looking import Looked, View
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.types import Observation
from steersman.perception.drawn import between
from steersman.perception.views.choosing import acted_on, given, require_range, require_share, table
from steersman.perception.views.planes import images, planes


class Blur(View):
    """x' = g_σ * x along rows and columns, g_σ(k) ∝ exp(-k² / 2σ²) for |k| <= R = ⌈2 σ_max⌉; edges are mirrored.

    σ ~ U(sigma) in pixels, with `probability`; otherwise the picture stays as it is.

    Parameters: sigma in pixels, 0 where the picture is not blurred.

    Raises:
        ConfigError: no picture, one smaller than the kernel.
        MismatchError: another size than the signature's.
    """

    @register(View)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="blur"):
        """observations: which pictures (empty: all); sigma (low, high) in pixels, SimCLR's (Chen et al. 2020)."""

        observations: tuple[str, ...] = ()
        sigma: tuple[float, float] = (0.1, 2.0)
        probability: float = 0.5

        def __post_init__(self) -> None:
            require_range("sigma", self.sigma, 0.0)
            require_share("probability", self.probability)
            if not self.sigma[0] > 0:
                raise ConfigError("a sigma above 0", f"{self.sigma}", "set the probability to 0 for no blur")

        def build(self, signature: Signature) -> Blur:
            return Blur(self, signature)

    uniform = 2
    parameters = ("sigma",)

    def __init__(self, config: Config, signature: Signature) -> None:
        self.config, self.shown = config, signature
        self.specs = acted_on(signature, ("image",), config.observations)
        self.radius = math.ceil(2 * config.sigma[1])
        for name, spec in self.specs.items():
            if min(spec.shape[:2]) <= self.radius:
                raise ConfigError(f"pictures of more than {self.radius} pixels a side for sigma {config.sigma}",
                                  f"{name!r} of {spec.shape[0]} × {spec.shape[1]}", "lower sigma")

    def look(self, observation: Observation, u: Tensor) -> Looked:
        sigma = between(u[:, 0], self.config.sigma)
        blurred = u[:, 1] < self.config.probability
        rows = blurred.nonzero()[:, 0]  # nothing is computed for the others
        offsets = torch.arange(self.radius + 1, device=u.device, dtype=torch.float32)
        half = torch.exp(-0.5 * (offsets / sigma[rows, None]) ** 2)
        half = half / (half[:, :1] + 2 * half[:, 1:].sum(1, keepdim=True))
        seen = dict(observation)
        for name, spec in self.specs.items():
            whole = given(observation, name, spec)
            if not len(rows):
                continue
            x = planes(whole[rows])
            for axis in (3, 4):
                x = self._along(x, axis, half.view(len(rows), -1, 1, 1, 1, 1))
            seen[name] = whole.index_put((rows,), images(x))
        return Looked(seen, table([torch.where(blurred, sigma, 0.0)]))

    def _along(self, x: Tensor, axis: int, half: Tensor) -> Tensor:
        """The kernel's symmetric halves (B, R + 1, 1, …) along one axis of (B, T, C, H, W)."""
        n, r = x.shape[axis], self.radius
        sides = (r, r, 0, 0) if axis == 4 else (0, 0, r, r)
        wide = F.pad(x.flatten(0, 1), sides, mode="reflect").unflatten(0, x.shape[:2])
        out = x * half[:, 0]
        for k in range(1, r + 1):  # over the kernel: rows share each sum
            out.addcmul_(wide.narrow(axis, r - k, n) + wide.narrow(axis, r + k, n), half[:, k])
        return out
