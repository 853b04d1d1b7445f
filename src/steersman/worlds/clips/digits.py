"""A handwritten digit that wanders over the picture and counts up: its place is fast, which digit it is slow.

Shapes: N clips, T steps, P pixels of a picture's side, S of the digit's.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from steersman.core import ConfigError
from steersman.core.extras import require
from steersman.worlds.clips.clips import Clips, Footage, bouncing_walk

_TESTED = 5  # every fifth writing of a digit is kept for tests
_ZOOM = 2


class CountingDigits(Clips, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The 1,797 digits of 8 × 8 pixels that come with scikit-learn (Alpaydin & Kaynak 1998), one at a time, twice as
    large. Every `dwell` frames, from a random phase on, the next digit in counting takes its place (9 is followed by
    0), in a writing drawn at random. The place is a walk that bounces off the picture's edges:

        v' = 0.9 v + 0.436 · kick · ε,   p' = p + v',   p in [-1, 1], ε standard Gaussian, both axes alike

    so that speeds have deviation `kick` and are forgotten in ten frames.

    Factors: "place" (x right, y up); "digit", one column a digit, 1 for the one that is shown.

    part   which writings are shown: "train" four fifths of them, "test" the others
    dwell  frames from one digit to the next
    kick   deviation of the speed, in halves of the free width a frame

    Errors: ConfigError for settings out of range; UsageError when scikit-learn is not installed.
    """

    factors: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "place": ("x", "y"), "digit": tuple(f"digit_{i}" for i in range(10))}

    size: int = 24
    part: Literal["train", "test"] = "train"
    dwell: int = 12
    kick: float = 0.12

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dwell < 1 or not 0 <= self.kick <= 1 or self.size < 8 * _ZOOM + 4:
            raise ConfigError(f"dwell >= 1, kick in [0, 1], pictures of at least {8 * _ZOOM + 4} pixels",
                              f"{self.dwell}, {self.kick}, {self.size}", "correct the film's configuration")

    def filmed(self, count: int, steps: int, generator: torch.Generator) -> Footage:
        place = bouncing_walk(count, steps, self.kick, generator)
        first = torch.randint(10 * self.dwell, (count,), generator=generator)
        turn = (first[:, None] + torch.arange(steps + 1)) // self.dwell
        number = turn % 10
        images, of, among = writings(self.part == "test")
        drawn = torch.rand(count, int(turn.max()) + 1, generator=generator).gather(1, turn)
        writing = of[number] + (drawn * among[number]).long()
        factors = torch.cat([place, F.one_hot(number, 10).float()], -1)
        return Footage(_placed(images[writing], place, self.size), factors)


def _placed(images: Tensor, place: Tensor, size: int) -> Tensor:
    """Images (N, T, S, S) of 0 to 1 at places (N, T, 2) -> (N, T, P, P, 1) uint8, between pixels where they are so."""
    n, t, side = images.shape[:3]
    free = size - side
    corner = torch.stack([(place[..., 0] + 1) / 2 * free, (1 - place[..., 1]) / 2 * free], -1)

    def spread(start: Tensor) -> Tensor:
        """(N, T) -> (N, T, P, S): how much of the image's row s is seen in the picture's row p."""
        gap = torch.arange(size)[:, None] - torch.arange(side) - start[..., None, None]
        return (1 - gap.abs()).clamp(min=0)

    picture = spread(corner[..., 1]) @ images @ spread(corner[..., 0]).mT
    return (255 * picture.clamp(0, 1)).to(torch.uint8).view(n, t, size, size, 1)


@lru_cache
def writings(tested: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Images (M, S, S) of 0 to 1 ordered by digit, where each digit's begin (10,), how many there are (10,): those that
    are kept for tests, or all others.

    Raises:
        UsageError: scikit-learn is not installed.
    """
    found = require("sklearn.datasets", "digits").load_digits()
    number = torch.from_numpy(found.target)
    order = number.argsort(stable=True)
    images = torch.from_numpy(found.images).float()[order] / 16
    number = number[order]
    within = torch.arange(len(number)) - torch.searchsorted(number, number)
    part = (within % _TESTED == 0) == tested
    images, number = images[part], number[part]
    large = F.interpolate(images[:, None], scale_factor=_ZOOM, mode="bilinear")[:, 0]
    among = number.bincount(minlength=10)
    return large, among.cumsum(0) - among, among
