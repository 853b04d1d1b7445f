"""Something that moves and has nothing to do with the task. Knows nothing of what is shown.

Shapes: N pictures, (H, W) pixels, C channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from steersman.core import Streams
from steersman.worlds.shifts.shift import Shift, require

_TILES = 4  # of the texture's side


class Distractor(Shift, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="distractor"):
    """A disc of random tiles swings through the picture, in front of everything:

        place(t) = middle + reach · sin(2π (t / period + phase))   along x and along y

    Its texture (4 × 4 tiles of random colours), a phase for each axis and a period for each axis from (0.75, 1.5) ·
    `period` are the episode's own; no action changes where it goes.

    radius  as a share of the picture's smaller side, up to 0.4; 0.1 by default: it hides 3% of the picture
    period  steps of a swing, at least 4; 40 by default: up to 4 px a step in a picture of 64 px

    Raises:
        ConfigError: numbers out of range.
    """

    radius: float = 0.1
    period: float = 40.0

    def __post_init__(self) -> None:
        good = 0 < self.radius <= 0.4 and 4 <= self.period < math.inf
        require(good, "a radius above 0 and up to 0.4, and a period of at least 4 steps", self)

    def apply(self, pictures: Tensor, seeds: Tensor, moments: Tensor) -> Tensor:
        n, height, width, channels = pictures.shape
        stream, radius = Streams(seeds), self.radius * min(height, width)
        phase, period = stream.uniform(2), self.period * (0.75 + 0.75 * stream.uniform(2))
        texture = stream.integers(256, _TILES, _TILES, channels).to(torch.uint8)
        swing = (2 * math.pi * (moments[:, None] / period + phase)).sin()
        middle = torch.tensor([width, height]) / 2
        centre = middle + (middle - radius) * swing  # (N, 2) x, y in px from the corner
        x = torch.arange(width) + 0.5 - centre[:, :1]
        y = torch.arange(height) + 0.5 - centre[:, 1:]
        column, row = (((v + radius) * (_TILES / (2 * radius))).long().clamp(0, _TILES - 1) for v in (x, y))
        tiles = texture[torch.arange(n)[:, None, None], row[:, :, None], column[:, None]]
        inside = y.square()[:, :, None] + x.square()[:, None] <= radius**2
        return torch.where(inside[..., None], tiles, pictures)
