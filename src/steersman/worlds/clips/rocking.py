"""Three balls in a box that rocks: where each of them flies is soon anybody's guess, how the box leans is not.

Shapes: N clips, T steps, K = 3 balls, P pixels of a picture's side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from steersman.core import ConfigError
from steersman.worlds.clips.clips import Clips, Footage

_BALLS, _RADIUS, _GRAVITY, _SUBSTEPS = 3, 0.3, 0.02, 4
_SCALE = 0.7  # half of the box, as a share of half of the picture
_PLACES = tuple(f"{axis}_{colour}" for colour in ("red", "green", "blue") for axis in "xy")


class RockingBalls(Clips, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Discs of radius 0.3 in a box of half-side 1, in the box's own coordinates; the box leans by

        θ(t) = lean · sin(2π t / period + φ),   φ uniform, lean and period drawn for each film

    against the clock, and gravity, 0.02 a step², pulls along (-sin θ, -cos θ) in it. Balls bounce off walls with
    `restitution` and off each other without loss, both by exchange of momentum along the normal, in four sub-steps a
    frame. Forces of the turning itself are left out: the box turns slowly. The picture stands still and shows the box
    leaning, each ball in a colour.

    Factors: "place" is where each ball is, fast, and chaotic because they collide; "centre" is the mean of the three;
    "lean" is θ, slow.

    restitution  share of the speed along the normal that a wall gives back
    leans        least and largest lean, radians
    periods      shortest and longest period, in frames

    Errors: ConfigError for a restitution outside [0, 1], a lean that would leave the picture, a period under 8 frames.
    """

    factors: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "place": _PLACES, "centre": ("x_centre", "y_centre"), "lean": ("lean",)}
    channels: ClassVar[int] = 3

    restitution: float = 0.9
    leans: tuple[float, float] = (0.35, 0.7)
    periods: tuple[float, float] = (80.0, 120.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        fine = 0 <= self.restitution <= 1 and 0 <= self.leans[0] <= self.leans[1] <= math.pi / 4
        if not (fine and 8 <= self.periods[0] <= self.periods[1]):
            raise ConfigError("a restitution in [0, 1], leans in [0, π/4] and periods of at least 8 frames, in order",
                              f"{self.restitution}, {self.leans}, {self.periods}", "correct the film's configuration")

    def filmed(self, count: int, steps: int, generator: torch.Generator) -> Footage:
        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(count, *shape, generator=generator)

        lean, period, phase = uniform(*self.leans), uniform(*self.periods), uniform(0, 2 * math.pi)
        t = torch.arange(steps + 1) + torch.arange(0, 1, 1 / _SUBSTEPS)[:, None]
        angle = lean[:, None, None] * torch.sin(2 * math.pi * t / period[:, None, None] + phase[:, None, None])
        place = _apart(uniform(-0.7, 0.7, _BALLS, 2))
        speed = uniform(-0.1, 0.1, _BALLS, 2)
        places = [place]
        for step in range(steps):  # time is sequential: who meets whom depends on what came before
            for sub in range(_SUBSTEPS):
                place, speed = self._moved(place, speed, angle[:, sub, step])
            places.append(place)
        theta, seen = angle[:, 0], torch.stack(places, 1)
        factors = torch.cat([seen.flatten(2), seen.mean(2), theta[..., None]], -1)
        return Footage(painted(seen, theta, self.size), factors)

    def _moved(self, place: Tensor, speed: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
        """One sub-step of places and speeds (N, K, 2) under the lean (N,)."""
        pull = -_GRAVITY * torch.stack([angle.sin(), angle.cos()], -1)[:, None]
        speed = speed + pull / _SUBSTEPS
        place = place + speed / _SUBSTEPS
        for i in range(_BALLS):
            for j in range(i):
                apart = place[:, i] - place[:, j]
                distance = apart.norm(dim=-1, keepdim=True).clamp(min=1e-6)
                normal, closing = apart / distance, (speed[:, i] - speed[:, j])
                along = (closing * normal).sum(-1, keepdim=True)
                touching = distance < 2 * _RADIUS
                exchanged = torch.where(touching & (along < 0), along, 0.0) * normal
                shift = torch.where(touching, (2 * _RADIUS - distance) / 2, 0.0) * normal
                sign = torch.zeros(_BALLS, 1)
                sign[i], sign[j] = 1.0, -1.0
                speed, place = speed - sign * exchanged[:, None], place + sign * shift[:, None]
        room = 1 - _RADIUS
        outward = (place.abs() > room) & (place * speed > 0)
        return place.clamp(-room, room), torch.where(outward, -self.restitution * speed, speed)


def _apart(place: Tensor) -> Tensor:
    """Places (N, K, 2), pushed apart until no two balls overlap by much."""
    for _ in range(20):
        difference = place[:, :, None] - place[:, None]
        distance = difference.norm(dim=-1, keepdim=True)
        near = (distance < 2.2 * _RADIUS) & (distance > 0)
        push = torch.where(near, 0.05 * difference / distance.clamp(min=1e-6), 0.0)
        place = (place + push.sum(2)).clamp(_RADIUS - 1, 1 - _RADIUS)
    return place


def painted(place: Tensor, angle: Tensor, size: int) -> Tensor:
    """Balls (…, K, 2) in a box that leans by angle (…) -> (…, P, P, 3) uint8. The box is grey on black, y points up."""
    grid = ((torch.arange(size, dtype=torch.float32) + 0.5) / size * 2 - 1) / _SCALE
    across, up = grid, -grid[:, None]
    cos, sin = (v[..., None, None] for v in (angle.cos(), angle.sin()))
    x, y = cos * across + sin * up, cos * up - sin * across  # what a pixel is in the box's coordinates
    sharp = size * _SCALE / 2
    inside = (0.5 + sharp * (1 - torch.maximum(x.abs(), y.abs()))).clamp(0, 1)
    picture = 0.25 * inside[..., None].repeat_interleave(3, -1)
    for ball in range(place.shape[-2]):
        centre_x, centre_y = (v[..., None, None] for v in place[..., ball, :].unbind(-1))
        far = ((x - centre_x).square() + (y - centre_y).square()).sqrt()
        picture[..., ball] = torch.maximum(picture[..., ball], (0.5 + sharp * (_RADIUS - far)).clamp(0, 1))
    return (255 * picture).to(torch.uint8)
