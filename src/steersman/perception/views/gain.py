"""A waveform louder or softer. Knows nothing of what sounds. Shapes: B rows, T moments, S samples, C channels."""

from __future__ import annotations

import math

import msgspec
import torch
from torch import Tensor

from steersman.core.looking import Looked, View
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.types import Observation
from steersman.perception.drawn import between
from steersman.perception.views.choosing import acted_on, given, per_row, require_range, require_share, table


class Gain(View):
    """x' = 10^(g/20) x, g ~ U(decibels), with `probability`; all channels and moments alike.

    Parameters: decibels (g), 0 where there is no change.

    Raises:
        ConfigError: no waveform.
        MismatchError: another shape than the signature's.
    """

    @register(View)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="gain"):
        """observations: which waveforms (empty: all, alike)."""

        observations: tuple[str, ...] = ()
        decibels: tuple[float, float] = (-6.0, 6.0)
        probability: float = 1.0

        def __post_init__(self) -> None:
            require_range("decibels", self.decibels, -120.0, 120.0)
            require_share("probability", self.probability)

        def build(self, signature: Signature) -> Gain:
            return Gain(self, signature)

    uniform = 2
    parameters = ("decibels",)

    def __init__(self, config: Config, signature: Signature) -> None:
        self.config, self.shown = config, signature
        self.specs = acted_on(signature, ("waveform",), config.observations)

    def look(self, observation: Observation, u: Tensor) -> Looked:
        decibels = torch.where(u[:, 1] < self.config.probability, between(u[:, 0], self.config.decibels), 0.0)
        factor = (decibels * (math.log(10) / 20)).exp()
        seen = dict(observation)
        for name, spec in self.specs.items():
            x = given(observation, name, spec)
            seen[name] = x * per_row(factor, x).to(x.dtype)
        return Looked(seen, table([decibels]))
