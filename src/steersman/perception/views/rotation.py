"""A picture turned about its centre. Knows nothing of what it shows. Shapes: B rows, T moments, (H, W) pixels."""

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
from steersman.perception.views.choosing import acted_on, given, require_range, require_share, table
from steersman.perception.views.planes import Fill, centres, sampled


class Rotation(View):
    """The picture turned anticlockwise by an angle ~ U(degrees), with `probability`; read bilinearly.

    Parameters: degrees, 0 where not turned.

    Raises:
        ConfigError: no picture.
        MismatchError: another size than the signature's.
    """

    @register(View)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="rotation"):
        """observations: which pictures (empty: all, turned alike); fill: what lies beyond the edge."""

        observations: tuple[str, ...] = ()
        degrees: tuple[float, float] = (-15.0, 15.0)
        probability: float = 1.0
        fill: Fill = "reflection"

        def __post_init__(self) -> None:
            require_range("degrees", self.degrees, -360.0, 360.0)
            require_share("probability", self.probability)

        def build(self, signature: Signature) -> Rotation:
            return Rotation(self, signature)

    uniform = 2
    parameters = ("degrees",)

    def __init__(self, config: Config, signature: Signature) -> None:
        self.config, self.shown = config, signature
        self.specs = acted_on(signature, ("image",), config.observations)

    def look(self, observation: Observation, u: Tensor) -> Looked:
        degrees = torch.where(u[:, 1] < self.config.probability, between(u[:, 0], self.config.degrees), 0.0)
        angle = (degrees * (math.pi / 180))[:, None, None]
        cos, sin = angle.cos(), angle.sin()
        seen = dict(observation)
        for name, spec in self.specs.items():
            h, w, _ = spec.shape
            y, x = centres(h, u)[:, None] * h, centres(w, u)[None] * w  # pixels, so that circles stay round
            turned = (cos * x - sin * y) / w, (sin * x + cos * y) / h
            seen[name] = sampled(given(observation, name, spec), *turned, self.config.fill)
        return Looked(seen, table([degrees]))
