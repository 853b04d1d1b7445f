"""A picture whose camera points a little elsewhere. Knows nothing of what it shows.

Shapes: B rows, T moments, (H, W) pixels.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.looking import Looked, View
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.types import Observation
from steersman.perception.drawn import whole
from steersman.perception.views.choosing import acted_on, given, table


class Translate(View):
    """x'(i, j) = x(i - down, j - right), right and down uniform on -pixels..pixels, whole pixels: exact. What comes in
    at the sides repeats the edge, as in the random shifts of DrQ (Kostrikov, Yarats & Fergus 2021).

    Parameters: right, down, in pixels.

    Raises:
        ConfigError: no picture, fewer than 0 pixels, or as many as a picture has.
        MismatchError: another size than the signature's.
    """

    @register(View)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="translate"):
        """observations: which pictures (empty: all, moved alike); pixels: the farthest either way, DrQ's."""

        observations: tuple[str, ...] = ()
        pixels: int = 4

        def build(self, signature: Signature) -> Translate:
            return Translate(self, signature)

    uniform = 2
    parameters = ("right", "down")

    def __init__(self, config: Config, signature: Signature) -> None:
        self.config, self.shown = config, signature
        self.specs = acted_on(signature, ("image",), config.observations)
        least = min(min(spec.shape[:2]) for spec in self.specs.values())
        if not 0 <= config.pixels < least:
            raise ConfigError(f"0 to {least - 1} pixels", f"{config.pixels}", "correct `pixels`")

    def look(self, observation: Observation, u: Tensor) -> Looked:
        right, down = (whole(u[:, i], 2 * self.config.pixels + 1) - self.config.pixels for i in (0, 1))
        seen = dict(observation)
        for name, spec in self.specs.items():
            x = given(observation, name, spec)
            h, w, _ = spec.shape
            y = (torch.arange(h, device=u.device) - down[:, None]).clamp_(0, h - 1)
            column = (torch.arange(w, device=u.device) - right[:, None]).clamp_(0, w - 1)
            rows, moments = (torch.arange(n, device=u.device) for n in x.shape[:2])
            index = rows[:, None, None, None], moments[:, None, None], y[:, None, :, None], column[:, None, None]
            seen[name] = x[index]
        return Looked(seen, table([right, down]))
