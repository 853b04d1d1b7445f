"""A part of a picture, enlarged to the picture's size. Knows nothing of what it shows.

Shapes: B rows, T moments, (H, W) pixels.
"""

from __future__ import annotations

import math

import msgspec
import torch
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.looking import Looked, View
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.types import Observation
from steersman.perception.drawn import between
from steersman.perception.views.choosing import acted_on, given, require_range, table
from steersman.perception.views.planes import centres, sampled


class ResizedCrop(View):
    """A box of random area and aspect at a random place, read bilinearly at H × W pixels (Szegedy et al. 2015).

        area ~ U(scale),   log aspect ~ U(log aspect range),   h = √(area / aspect),   w = √(area · aspect),
        top ~ U(0, 1 - h), left ~ U(0, 1 - w);   h and w are at most 1

    Sides are shares of the picture's. As a crop is at most the whole picture, it is enlarged or kept: nothing aliases.
    Places are not rounded to pixels. A box too long for the picture is cut to it, where torchvision draws again.

    Parameters: top, left, height, width, as shares of the picture's sides.

    Raises:
        ConfigError: no picture, an area outside (0, 1].
        MismatchError: another size than the signature's.
    """

    @register(View)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="resized-crop"):
        """observations: which pictures (empty: all, each at the same place); scale (low, high): share of the picture's
        area, MoCo's (Chen et al. 2020); SimCLR has .08 for large pictures; aspect (low, high): width / height."""

        observations: tuple[str, ...] = ()
        scale: tuple[float, float] = (0.2, 1.0)
        aspect: tuple[float, float] = (3 / 4, 4 / 3)

        def __post_init__(self) -> None:
            require_range("scale", self.scale, 0.0, 1.0)
            require_range("aspect", self.aspect, 0.0)
            if not self.scale[0] > 0 or not self.aspect[0] > 0:
                raise ConfigError("a scale and an aspect above 0", f"{self.scale}, {self.aspect}", "raise the low end")

        def build(self, signature: Signature) -> ResizedCrop:
            return ResizedCrop(self, signature)

    uniform = 4
    parameters = ("top", "left", "height", "width")

    def __init__(self, config: Config, signature: Signature) -> None:
        self.config, self.shown = config, signature
        self.specs = acted_on(signature, ("image",), config.observations)

    def look(self, observation: Observation, u: Tensor) -> Looked:
        area = between(u[:, 0], self.config.scale)
        low, high = self.config.aspect
        aspect = between(u[:, 1], (math.log(low), math.log(high))).exp()
        height, width = (area / aspect).sqrt().clamp(max=1), (area * aspect).sqrt().clamp(max=1)
        top, left = u[:, 2] * (1 - height), u[:, 3] * (1 - width)
        seen = dict(observation)
        for name, spec in self.specs.items():
            h, w, _ = spec.shape
            y = (2 * top + height - 1)[:, None] + height[:, None] * centres(h, u)
            x = (2 * left + width - 1)[:, None] + width[:, None] * centres(w, u)
            x, y = torch.broadcast_tensors(x[:, None, :], y[:, :, None])
            seen[name] = sampled(given(observation, name, spec), x, y)
        return Looked(seen, table([top, left, height, width]))
