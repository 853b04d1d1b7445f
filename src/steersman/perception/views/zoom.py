"""A picture from nearer or from farther away. Knows nothing of what it shows.

Shapes: B rows, T moments, (H, W) pixels.
"""

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


class Zoom(View):
    """Everything is `factor` times as large, seen from the picture's middle; log factor ~ U(log range), with
    `probability`; read bilinearly. Unlike a crop it shows things smaller as well: what lies beyond the old edge is
    `fill`.

    Parameters: factor, 1 where the picture stays as it is.

    Raises:
        ConfigError: no picture, a factor below a quarter (thin things would fall between the pixels that are read).
        MismatchError: another size than the signature's.
    """

    @register(View)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="zoom"):
        """observations: which pictures (empty: all, zoomed alike); factor (low, high); fill: what lies beyond the
        edge."""

        observations: tuple[str, ...] = ()
        factor: tuple[float, float] = (0.8, 1.25)
        probability: float = 1.0
        fill: Fill = "border"

        def __post_init__(self) -> None:
            require_range("factor", self.factor, 0.25)
            require_share("probability", self.probability)

        def build(self, signature: Signature) -> Zoom:
            return Zoom(self, signature)

    uniform = 2
    parameters = ("factor",)

    def __init__(self, config: Config, signature: Signature) -> None:
        self.config, self.shown = config, signature
        self.specs = acted_on(signature, ("image",), config.observations)

    def look(self, observation: Observation, u: Tensor) -> Looked:
        low, high = self.config.factor
        zoomed = u[:, 1] < self.config.probability
        factor = torch.where(zoomed, between(u[:, 0], (math.log(low), math.log(high))).exp(), 1.0)
        rows = zoomed.nonzero()[:, 0]  # nothing is computed for the others
        seen = dict(observation)
        for name, spec in self.specs.items():
            x = given(observation, name, spec)
            if not len(rows):
                continue
            h, w, _ = spec.shape
            places = [centres(n, u) / factor[rows, None] for n in (h, w)]
            y, column = torch.broadcast_tensors(places[0][:, :, None], places[1][:, None, :])
            seen[name] = x.index_put((rows,), sampled(x[rows], column, y, self.config.fill))
        return Looked(seen, table([factor]))
