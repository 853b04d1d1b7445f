"""A playground that is met in five ways: a thing of one's own, one that somebody else pushes, and some that drift.

Knows no model. Shapes: B episodes, N things, T steps, P pixels of the picture's side, W pixels of a window's side; a
thing is (x, y, vx, vy), x to the right and y up, in [-1, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import msgspec
import torch
from torch import Tensor

from steersman.core import ActionError, ActionSpec, ConfigError
from steersman.core.records import TensorRecord
from steersman.worlds.pucks import struck

Mode = Literal["stream", "foveation", "agency", "egomotion", "action"]
MODES: tuple[Mode, ...] = ("stream", "foveation", "agency", "egomotion", "action")
OWN, OTHER = 0, 1
_COLOURS = ((230, 60, 50), (60, 200, 80), (70, 90, 240), (225, 205, 60))
_CHUNK = 512


@dataclass(frozen=True)
class Played(TensorRecord):
    """What was recorded of B episodes.

    states   (B, T+1, N, 4): the truth
    own      (B, T, 2): pushes of one's own thing; 0 where nobody acts oneself
    other    (B, T, 2): pushes of the other's thing; 0 where nobody pushes
    """

    states: Tensor
    own: Tensor
    other: Tensor


class Playground(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Discs of one size on a square with walls: the first is one's own, the second another agent's, the rest drift.

        v ← (1 - friction) (v + push · grip(x) · a),  friction and a only of the two that can be pushed
        x ← x + v;  walls give the speed back; discs that touch exchange their speeds along the line between them
        grip(x, y) = 1 + slip · sin(π x) cos(π y / 2)

    The ground does not show how well it grips: who wants to know has to push, or to watch somebody push.

    The five ways in which data arrive (LeCun 2022, section 4) are one scene, of the same things under the same laws:

        stream     the whole picture; nobody pushes
        foveation  a window of it, which jumps wherever one looks; the other agent pushes its thing
        agency     the whole picture; the other agent pushes, and is watched
        egomotion  a window that a camera carries, a few pixels a step; the other agent pushes
        action     the whole picture; the other agent pushes, and one pushes oneself

    size      P; window  W
    drifting  things that nobody can push, N = 2 + drifting
    radius    of a disc, in halves of the picture's side; speed  of what drifts, in the same unit a step
    push      speed that a full push adds where the grip is 1; hold  steps for which who acts at random holds a push
    stride    pixels that the camera may move along each axis in a step

    Raises:
        ConfigError: more things than colours, a window larger than the picture, discs that do not fit.
    """

    size: int = 64
    window: int = 32
    drifting: int = 2
    radius: float = 0.15
    speed: float = 0.05
    push: float = 0.012
    friction: float = 0.06
    slip: float = 0.75
    hold: int = 6
    stride: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.drifting <= len(_COLOURS) - 2:
            raise ConfigError(f"0 to {len(_COLOURS) - 2} things that drift", f"{self.drifting}",
                              "a thing needs a colour of its own")
        if not (2 <= self.window <= self.size and self.window % 2 == self.size % 2 == 0):
            raise ConfigError("an even window within an even picture", f"{self.window} of {self.size}", "correct them")
        if not (0 < self.radius <= 0.2 and 0 <= self.slip < 1 and 0 <= self.friction < 1):
            raise ConfigError("a radius of at most 0.2, slip and friction in [0, 1)",
                              f"{self.radius:g}, {self.slip:g}, {self.friction:g}", "correct the playground")

    @property
    def count(self) -> int:
        """N."""
        return 2 + self.drifting

    @property
    def kinds(self) -> dict[str, tuple[int, ...]]:
        """Kind of a thing -> which ones."""
        return {"own": (OWN,), "other": (OTHER,), "free": tuple(range(2, self.count))}

    @property
    def action(self) -> ActionSpec:
        """The push along x and y."""
        return ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0), names=("push_x", "push_y"))

    @property
    def share(self) -> float:
        """Share of the picture's pixels that a window has."""
        return (self.window / self.size) ** 2

    def grip(self, place: Tensor) -> Tensor:
        """(…, 2) -> (…, 1)."""
        x, y = place.split(1, -1)
        return 1 + self.slip * (math.pi * x).sin() * (math.pi / 2 * y).cos()

    def start(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, N, 4): each in a square of its own; what drifts moves in any direction, the rest by chance too."""
        squares = torch.rand(count, 9, generator=generator).argsort(1)[:, : self.count]
        room = 1 / 3 - self.radius
        corner = (torch.stack([squares % 3, squares // 3], -1) - 1) * (2 / 3)
        place = corner + room * (2 * torch.rand(count, self.count, 2, generator=generator) - 1)
        angle = 2 * math.pi * torch.rand(count, self.count, generator=generator)
        speed = self.speed * torch.stack([angle.cos(), angle.sin()], -1)
        return torch.cat([place, speed], -1)

    def step(self, states: Tensor, own: Tensor, other: Tensor) -> Tensor:
        """states (B, N, 4), pushes (B, 2) each -> (B, N, 4).

        Raises:
            ActionError: a push out of bounds.
        """
        pushes = torch.stack([own, other], 1)
        if not bool((pushes.abs() <= 1 + 1e-5).all()):
            raise ActionError("actions within [-1, 1]", f"{float(pushes.abs().max()):g}", "clip the action")
        place, speed = states.split(2, -1)
        moved = (1 - self.friction) * (speed[:, :2] + self.push * self.grip(place[:, :2]) * pushes)
        speed = torch.cat([moved, speed[:, 2:]], 1)
        place = place + speed
        wall = 1 - self.radius
        beyond = place.abs() > wall
        place = torch.where(beyond, place.sign() * 2 * wall - place, place)
        speed = torch.where(beyond, -speed, speed)
        place, speed = struck(place, speed, self.radius)
        return torch.cat([place.clamp(-wall, wall), speed], -1)

    def play(self, mode: Mode, episodes: int, steps: int, generator: torch.Generator) -> Played:
        """Episodes of this mode; who pushes pushes at random, each push held for a while."""
        own = self._pushes(episodes, steps, generator) * (mode == "action")
        other = self._pushes(episodes, steps, generator) * (mode != "stream")
        states = [self.start(episodes, generator)]
        for t in range(steps):  # time is sequential
            states.append(self.step(states[-1], own[:, t], other[:, t]))
        return Played(torch.stack(states, 1), own, other)

    def picture(self, states: Tensor) -> Tensor:
        """(…, N, ≥ 2) -> (…, P, P, 3) uint8."""
        flat = states[..., :2].flatten(0, -3)
        pictures = torch.cat([self._drawn(some) for some in flat.split(_CHUNK)])
        return pictures.unflatten(0, states.shape[:-2])

    def look(self, pictures: Tensor, corner: Tensor) -> Tensor:
        """Pictures (…, P, P, 3), upper left corners (…, 2), row and column in pixels -> windows (…, W, W, 3).

        Raises:
            ActionError: a window that leaves the picture.
        """
        if not bool(((corner >= 0) & (corner <= self.size - self.window)).all()):
            raise ActionError(f"corners from 0 to {self.size - self.window}", f"{corner.amin()} to {corner.amax()}",
                              "clip the corner")
        within = torch.arange(self.window)
        rows, columns = (corner.flatten(0, -2)[:, i, None] + within for i in range(2))
        flat = pictures.flatten(0, -4)
        found = flat[torch.arange(len(flat))[:, None, None], rows[:, :, None], columns[:, None]]
        return found.unflatten(0, pictures.shape[:-3])

    def jumps(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Corners (*shape, 2) of windows anywhere, even numbers of pixels."""
        return 2 * torch.randint((self.size - self.window) // 2 + 1, (*shape, 2), generator=generator)

    def carried(self, episodes: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A camera that walks: corners (B, T+1, 2), and its motion (B, T, 2) in pixels, from the middle on; it holds
        its course for a while, and stands where the picture ends."""
        most = self.size - self.window
        course = torch.randint(-self.stride // 2, self.stride // 2 + 1, (episodes, -(-steps // self.hold), 2),
                               generator=generator).repeat_interleave(self.hold, 1)[:, :steps] * 2
        corners = [torch.full((episodes, 2), most // 4 * 2)]
        for move in course.unbind(1):
            corners.append((corners[-1] + move).clamp(0, most))
        found = torch.stack(corners, 1)
        return found, found.diff(dim=1)

    def _pushes(self, episodes: int, steps: int, generator: torch.Generator) -> Tensor:
        drawn = 2 * torch.rand(episodes, -(-steps // self.hold), 2, generator=generator) - 1
        return drawn.repeat_interleave(self.hold, 1)[:, :steps]

    def _drawn(self, place: Tensor) -> Tensor:
        grid = (torch.arange(self.size, dtype=torch.float32) + 0.5) / self.size * 2 - 1
        x, y = (v[..., None] for v in place.unbind(-1))
        far = ((grid - x).square()[:, :, None] + (-grid - y).square()[..., None]).sqrt()  # (M, N, P, P)
        shape = (0.5 + self.size / 2 * (self.radius - far)).clamp(0, 1)
        colours = torch.tensor(_COLOURS[: self.count], dtype=torch.float32)
        return torch.einsum("mnij,nc->mijc", shape, colours).clamp(max=255).to(torch.uint8)
