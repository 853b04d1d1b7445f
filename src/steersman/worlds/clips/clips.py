"""Films in which nobody acts: what they show, and the true factors of every frame, some fast and some slow.

Knows no model. Shapes: N clips, T steps (T + 1 frames), (H, W, C) pixels, F factors.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import msgspec
import torch
from torch import Tensor

from steersman.core import ActionSpec, ConfigError, Episode, Observation, ObservationSpec, Signature
from steersman.core.records import TensorRecord
from steersman.worlds.trials import StructABC

IMAGE = "image"
_CHUNK = 64


@dataclass(frozen=True)
class Footage(TensorRecord):
    """What was filmed.

    pictures  (N, T + 1, H, W, C) uint8
    factors   (N, T + 1, F) float32: the truth behind every frame
    """

    pictures: Tensor
    factors: Tensor

    @property
    def observation(self) -> Observation:
        """As perception takes it."""
        return {IMAGE: self.pictures}


def bouncing_walk(count: int, steps: int, kick: float, generator: torch.Generator) -> Tensor:
    """Places (count, steps + 1, 2) in [-1, 1] of walks that bounce off the edges:

        v' = 0.9 v + 0.436 · kick · ε,   p' = p + v',   ε standard Gaussian, both axes alike

    so that speeds have deviation `kick` and are forgotten in ten frames. Both are drawn at the beginning.
    """
    place = 2 * torch.rand(count, 2, generator=generator) - 1
    speed = kick * torch.randn(count, 2, generator=generator)
    noise = 0.436 * kick * torch.randn(steps, count, 2, generator=generator)
    places = [place]
    for gust in noise:  # time is sequential: a bounce depends on where the walk has come to
        speed = 0.9 * speed + gust
        beyond = (place + speed).abs() > 1
        speed = torch.where(beyond, -speed, speed)
        place = (place + speed).clamp(-1, 1)
        places.append(place)
    return torch.stack(places, 1)


class Clips(msgspec.Struct, metaclass=StructABC, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A distribution of films in which nobody acts.

    factors   name of a factor -> its columns. A factor of several columns is one thing: its error is the mean over them
    recorded  how many films, and steps of each, a log has unless others are asked for
    size      side of the pictures, in pixels
    """

    factors: ClassVar[Mapping[str, tuple[str, ...]]]
    recorded: ClassVar[tuple[int, int]] = (300, 128)
    channels: ClassVar[int] = 1

    size: int = 32

    def __post_init__(self) -> None:
        if self.size < 16:
            raise ConfigError("pictures of at least 16 pixels", f"{self.size}", "raise `size`")

    @abstractmethod
    def filmed(self, count: int, steps: int, generator: torch.Generator) -> Footage:
        """`count` films of `steps` steps each, a function of the generator alone."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of all factors, side by side."""
        return tuple(name for names in self.factors.values() for name in names)

    @property
    def signature(self) -> Signature:
        """One picture, and no action."""
        shape = (self.size, self.size, self.channels)
        return Signature({IMAGE: ObservationSpec("image", shape)}, ActionSpec("none"))

    def log(self, episodes: int, steps: int, seed: int) -> Iterator[Episode]:
        """Films as recordings: the pictures alone."""
        generator = torch.Generator().manual_seed(seed)
        for first in range(0, episodes, _CHUNK):
            footage = self.filmed(min(_CHUNK, episodes - first), steps, generator)
            for pictures in footage.pictures:
                yield Episode({IMAGE: pictures}, torch.zeros(steps, 0))
