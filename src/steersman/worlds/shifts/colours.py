"""Other colours, of the floor and of what is on it. Knows nothing of what is shown."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from steersman.core import ConfigError
from steersman.worlds.shifts.shift import Shift, require, to_bytes


class Colours(Shift, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="colours"):
    """x' = gain ∘ (R x): hues turned about the axis of greys, then each of red, green and blue times its gain.

        R = cos α I + (1 - cos α) / 3 · 1 1ᵀ + sin α / √3 · K,   α = 2π turn,   K x = 1 × x

    Turning changes what has a colour and leaves grey as it is; gains change greys as well, the floor's for instance.

    turn  of a full circle; a third by default: what was red is green
    gain  of red, green, blue, from 0 to 2; by default white turns a light orange

    Raises:
        ConfigError: a gain out of range; pictures that have not three channels.
    """

    turn: float = 1 / 3
    gain: tuple[float, float, float] = (1.0, 0.85, 0.65)

    def __post_init__(self) -> None:
        good = len(self.gain) == 3 and all(0 <= x <= 2 for x in self.gain) and math.isfinite(self.turn)
        require(good, "a turn, and gains from 0 to 2 for red, green and blue", self)

    def apply(self, pictures: Tensor, seeds: Tensor, moments: Tensor) -> Tensor:
        if pictures.shape[3] != 3:
            raise ConfigError("pictures of 3 channels for colours", f"{pictures.shape[3]}", "use another shift")
        cos, sin = math.cos(2 * math.pi * self.turn), math.sin(2 * math.pi * self.turn) / math.sqrt(3)
        same, before, after = cos + (1 - cos) / 3, (1 - cos) / 3 + sin, (1 - cos) / 3 - sin
        x = pictures.float()
        out = torch.empty_like(x)
        for c, gain in enumerate(self.gain):  # by sums: a product of matrices need not give a picture the same bits
            mixed = same * x[..., c] + before * x[..., c - 1] + after * x[..., c - 2]
            out[..., c] = gain * mixed
        return to_bytes(out)
