"""Two discs that wander over the picture, each for itself: who knows where one is knows nothing of the other.

Shapes: N clips, T steps, P pixels of a picture's side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from steersman.core import ConfigError, Episode, ObservationSpec, Signature
from steersman.worlds.clips.clips import IMAGE, Clips, Footage, bouncing_walk

PLACES = "places"
_RADIUS = 0.28  # of half the picture's side


class Wanderers(Clips, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A red and a green disc on black, both walking as `bouncing_walk` says; where they overlap the picture is yellow.

    Factors: "red" and "green", each a place (x right, y up) in [-1, 1].

    labelled  the log shows the places beside the pictures, as a vector: labels, for objectives that ask for columns
    kick      deviation of the speed, in halves of the free width a frame

    Raises:
        ConfigError: settings out of range.
    """

    factors: ClassVar[Mapping[str, tuple[str, ...]]] = {"red": ("red_x", "red_y"), "green": ("green_x", "green_y")}
    channels: ClassVar[int] = 3
    recorded: ClassVar[tuple[int, int]] = (200, 32)

    size: int = 24
    labelled: bool = True
    kick: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.kick <= 1:
            raise ConfigError("kick in [0, 1]", f"{self.kick}", "correct the film's configuration")

    @property
    def signature(self) -> Signature:
        seen = super().signature
        if not self.labelled:
            return seen
        return Signature({**seen.observations, PLACES: ObservationSpec("vector", (4,), self.columns)}, seen.action)

    def filmed(self, count: int, steps: int, generator: torch.Generator) -> Footage:
        both = [bouncing_walk(count, steps, self.kick, generator) for _ in self.factors]
        pictures = torch.zeros(count, steps + 1, self.size, self.size, 3, dtype=torch.uint8)
        for channel, places in enumerate(both):
            pictures[..., channel] = _disc(places, self.size)
        return Footage(pictures, torch.cat(both, -1))

    def log(self, episodes: int, steps: int, seed: int) -> Iterator[Episode]:
        if not self.labelled:
            yield from super().log(episodes, steps, seed)
            return
        footage = self.filmed(episodes, steps, torch.Generator().manual_seed(seed))
        for pictures, factors in zip(footage.pictures, footage.factors, strict=True):
            yield Episode({IMAGE: pictures, PLACES: factors}, torch.zeros(steps, 0))


def _disc(places: Tensor, size: int) -> Tensor:
    """Places (…, 2) in [-1, 1] -> (…, P, P) uint8, one disc that is whole within the picture."""
    grid = (torch.arange(size, dtype=torch.float32) + 0.5) / size * 2 - 1
    x, y = ((1 - _RADIUS) * v[..., None, None] for v in places.unbind(-1))
    far = ((grid - x).square() + (-grid[:, None] - y).square()).sqrt()
    return (255 * (0.5 + size / 2 * (_RADIUS - far)).clamp(0, 1)).to(torch.uint8)
