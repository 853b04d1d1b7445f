"""Noise on what was measured. Knows nothing of what it means. Shapes: B rows, T moments, C channels."""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.looking import Looked, View
from steersman.core.parts import register
from steersman.core.signature import ObservationKind, Signature
from steersman.core.types import Observation
from steersman.perception.drawn import KEY, between, noise
from steersman.perception.views.choosing import acted_on, given, per_row, require_range, require_share, table

_NUMBERS: tuple[ObservationKind, ...] = ("image", "vector", "field", "waveform")


class Noise(View):
    """x' = x + σ · scale_c · ε, ε standard normal for every number of every moment; σ ~ U(deviation) a row.

    `scale` is the unit of each channel, its standard deviation in the log for instance; (): 1, and 255 for pictures, so
    that σ = .05 is 5% of the range. Pictures are rounded and cut off at 0 and 255; those that are stacked in one moment
    have noise of one σ, and share the scales of their channels.

    Parameters: deviation (σ), 0 where there is none.

    Raises:
        ConfigError: no observation of numbers, a scale of another length.
        MismatchError: another shape than the signature's.
    """

    @register(View)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="noise"):
        """observations: which (empty: every picture, vector, field and waveform); with `probability` at all."""

        observations: tuple[str, ...] = ()
        deviation: tuple[float, float] = (0.0, 0.1)
        scale: tuple[float, ...] = ()
        probability: float = 1.0

        def __post_init__(self) -> None:
            require_range("deviation", self.deviation, 0.0)
            require_share("probability", self.probability)

        def build(self, signature: Signature) -> Noise:
            return Noise(self, signature)

    uniform = 2 + KEY
    parameters = ("deviation",)

    def __init__(self, config: Config, signature: Signature) -> None:
        self.config, self.shown = config, signature
        self.specs = acted_on(signature, _NUMBERS, config.observations)
        for name, spec in self.specs.items():
            channels = spec.single.shape[-1]
            if config.scale and len(config.scale) != channels:
                raise ConfigError(f"{channels} scales, one for each channel of {name!r}", f"{len(config.scale)}",
                                  "name one observation, and give its channels' scales")

    def look(self, observation: Observation, u: Tensor) -> Looked:
        noisy = u[:, 1] < self.config.probability
        deviation = torch.where(noisy, between(u[:, 0], self.config.deviation), 0.0)
        rows = noisy.nonzero()[:, 0]  # nothing is drawn for the others
        stream, seen = noise(u[rows, 2:]), dict(observation)
        for name, spec in self.specs.items():
            whole = given(observation, name, spec)
            if not len(rows):
                continue
            x, default = whole[rows], 255.0 if spec.kind == "image" else 1.0
            scale = torch.tensor(self.config.scale * spec.frames or (default,), device=x.device)
            added = stream.normal(*x.shape[1:]) * scale * per_row(deviation[rows], x)
            x = (added.add_(x).add_(0.5).clamp_(0, 255).to(torch.uint8) if spec.kind == "image" else
                 x + added.to(x.dtype))
            seen[name] = whole.index_put((rows,), x)
        return Looked(seen, table([deviation]))
