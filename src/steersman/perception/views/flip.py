"""A picture as in a mirror. Knows nothing of what it shows. Shapes: B rows, T moments, (H, W) pixels."""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from steersman.core.looking import Looked, View
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.types import Observation
from steersman.perception.views.choosing import acted_on, given, per_row, require_share, table


class Flip(View):
    """Left and right exchanged with probability `horizontal`, top and bottom with probability `vertical`; exact.

    Parameters: horizontal, vertical; 1 where flipped.

    Raises:
        ConfigError: no picture, a probability outside [0, 1].
        MismatchError: another size than the signature's.
    """

    @register(View)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="flip"):
        """observations: which pictures (empty: all, flipped alike)."""

        observations: tuple[str, ...] = ()
        horizontal: float = 0.5
        vertical: float = 0.0

        def __post_init__(self) -> None:
            require_share("horizontal", self.horizontal)
            require_share("vertical", self.vertical)

        def build(self, signature: Signature) -> Flip:
            return Flip(self, signature)

    uniform = 2
    parameters = ("horizontal", "vertical")

    def __init__(self, config: Config, signature: Signature) -> None:
        self.config, self.shown = config, signature
        self.specs = acted_on(signature, ("image",), config.observations)

    def look(self, observation: Observation, u: Tensor) -> Looked:
        flips = [(3, u[:, 0] < self.config.horizontal), (2, u[:, 1] < self.config.vertical)]
        seen = dict(observation)
        for name, spec in self.specs.items():
            x = given(observation, name, spec)
            for (axis, flipped), share in zip(flips, (self.config.horizontal, self.config.vertical), strict=True):
                if share > 0:
                    x = torch.where(per_row(flipped, x), x.flip(axis), x)
            seen[name] = x
        return Looked(seen, table([flipped for _, flipped in flips]))
