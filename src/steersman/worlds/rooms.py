"""Rooms in a row behind walls with doors: geometry, motion, pictures; all vectorised over B rooms.

Knows nothing of Gymnasium, of goals, or of learning. Lengths are pixels of a 64×64 picture, (x, y) = (column, row).

Shapes: B arenas, W walls.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.core import TensorRecord

SIZE = 64
LOW, HIGH = 6.0, 57.0  # range of the agent's centre
RADIUS = 1.5  # of the agent's body
HALF_WALL = 1.5
REACH = RADIUS + HALF_WALL  # distance from a wall's middle at which the body touches it
MAX_STEP = 2.45  # pixels a step
SUBSTEPS = 8
AGENT_RGB = (205.0, 28.0, 40.0)
WALL_RGB = (52.0, 54.0, 66.0)
DOT_SIGMA = 1.3
_BENDS = 8  # places on each rounded corner of a door
NOISE_LIMIT = 20  # grey levels; colours keep this far from 0 and 255, so that adding noise never wraps


@dataclass(frozen=True)
class Layout(TensorRecord):
    """B arenas.

    wall_x  (B, W) middle of each wall, ascending; a wall is 3 px thick
    door_y  (B, W) middle of each wall's door
    door    (B,) half of the doors' width
    floor   (B, 3) colour, 0..255
    """

    wall_x: Tensor
    door_y: Tensor
    door: Tensor
    floor: Tensor

    def __len__(self) -> int:
        return len(self.wall_x)

    def __getitem__(self, index: Tensor | slice) -> Layout:
        return self.map(lambda x: x[index])


def wall_distance(layout: Layout, position: Tensor) -> Tensor:
    """Distance from points (B, …, 2) to the nearest solid wall (B, …); 0 inside."""
    shape = (len(layout),) + (1,) * (position.ndim - 2) + (-1,)
    wall_x, door_y = layout.wall_x.view(shape), layout.door_y.view(shape)
    half = layout.door.view(shape)
    x, y = position[..., 0:1], position[..., 1:2]
    dx = ((x - wall_x).abs() - HALF_WALL).clamp_min(0)
    dy = (half - (y - door_y).abs()).clamp_min(0)  # above 0 within the door: how far from its nearer edge
    return torch.sqrt(dx**2 + dy**2).amin(-1)


def is_free(layout: Layout, position: Tensor) -> Tensor:
    """Whether the agent's body may stand at points (B, …, 2)."""
    inside = ((position >= LOW) & (position <= HIGH)).all(-1)
    return inside & (wall_distance(layout, position) >= RADIUS)


def room_of(layout: Layout, position: Tensor) -> Tensor:
    """Index of the room, 0..W, of points (B, …, 2): how many walls lie to the left."""
    shape = (len(layout),) + (1,) * (position.ndim - 2) + (-1,)
    return (position[..., 0:1] > layout.wall_x.view(shape)).sum(-1)


def move(layout: Layout, position: Tensor, displacement: Tensor) -> tuple[Tensor, Tensor]:
    """Sweep the body along `displacement` (B, 2) and stop fully at the first contact.

    Contact is tested at 8 places along the way, 0.31 px apart at most against walls of 3 px: crossing a wall is
    impossible. -> position (B, 2), touched (B,) bool.
    """
    fraction = torch.arange(1, SUBSTEPS + 1, device=position.device) / SUBSTEPS
    way = position[:, None] + fraction[:, None] * displacement[:, None]
    clear = is_free(layout, way).cumprod(1)  # 1 until the first contact
    count = clear.sum(1)
    reached = position + (count / SUBSTEPS)[:, None] * displacement
    return torch.where(count[:, None] > 0, reached, position), count < SUBSTEPS


def shortest_path(layout: Layout, start: Tensor, goal: Tensor) -> Tensor:
    """Length (B,) of the shortest free way from start to goal, exact to about 0.02 px.

    A taut string bends only at the doors' corners, which the round body rounds: each corner is eight points of a
    quarter circle. Dynamic programming over those, from left to right, that see each other through the doors between.
    """
    flip = (start[:, 0] > goal[:, 0])[:, None]
    a, b = torch.where(flip, goal, start), torch.where(flip, start, goal)
    angle = torch.arange(_BENDS, device=start.device) * (math.pi / 2 / _BENDS)
    out, gap = HALF_WALL + RADIUS * angle.sin(), RADIUS * angle.cos()
    x = (layout.wall_x[..., None] + torch.cat([-out.flip(0), out])).flatten(1)  # (B, S) sections, ascending
    half = (layout.door[:, None] - torch.cat([gap.flip(0), gap])).repeat(1, layout.wall_x.shape[1])
    middle = layout.door_y.repeat_interleave(2 * _BENDS, 1)
    place_x = torch.cat([a[:, :1], x.repeat_interleave(2, 1), b[:, :1]], 1)  # the two ends of every section
    place_y = torch.cat([a[:, 1:], torch.stack([middle - half, middle + half], -1).flatten(1), b[:, 1:]], 1)
    best = [torch.zeros_like(a[:, 0])]
    for j in range(1, place_x.shape[1]):  # a loop over places, 32 for each wall, not over problems
        along, up = place_x[:, j, None] - place_x[:, :j], place_y[:, j, None] - place_y[:, :j]
        fraction = (x[:, None] - place_x[:, :j, None]) / along[..., None].clamp_min(1e-6)  # (B, j, S)
        aside = (place_y[:, :j, None] + fraction * up[..., None] - middle[:, None]).abs() - half[:, None]
        blocked = ((fraction > 0) & (fraction < 1) & (aside > 1e-3)).any(2)
        length = torch.stack(best, 1) + torch.hypot(along, up)
        outside = (place_x[:, j] <= a[:, 0]) | (place_x[:, j] >= b[:, 0])
        nearest = length.masked_fill(blocked, torch.inf).amin(1)
        best.append(nearest if j == place_x.shape[1] - 1 else nearest.masked_fill(outside, torch.inf))
    return best[-1]


def crossed_wall(layout: Layout, path: Tensor) -> Tensor:
    """Whether a path (B, T+1, 2), taken as a polyline, touches solid wall anywhere: (B,) bool.

    An independent check of `move`: samples every segment at 16 places and asks for the wall itself, not the body.
    """
    fraction = torch.linspace(0, 1, 16, device=path.device)
    points = path[:, :-1, None] + fraction[:, None] * (path[:, 1:] - path[:, :-1])[:, :, None]
    return (wall_distance(layout, points) <= 0).flatten(1).any(1)


def entered_disk(path: Tensor, disk: Tensor) -> Tensor:
    """Whether a path (B, T+1, 2), swept, enters disks (B, 3) of (x, y, radius): (B,) bool. Exact."""
    return (segment_distance(path[:, :-1], path[:, 1:], disk[:, None, :2]) < disk[:, 2:3]).any(1)


def disk_masks(disk: Tensor) -> Tensor:
    """Disks (B, 3) of (x, y, radius) as masks over the picture, (B, 64, 64) bool: what a user would paint."""
    y, x = torch.meshgrid(torch.arange(float(SIZE)), torch.arange(float(SIZE)), indexing="ij")
    return torch.hypot(x - disk[:, 0, None, None], y - disk[:, 1, None, None]) <= disk[:, 2, None, None]


def segment_distance(a: Tensor, b: Tensor, point: Tensor) -> Tensor:
    """Distance from points to segments a-b; (…, 2) each -> (…)."""
    along = b - a
    t = ((point - a) * along).sum(-1) / (along**2).sum(-1).clamp_min(1e-9)
    return (a + t.clamp(0, 1)[..., None] * along - point).norm(dim=-1)


class Painter:
    """Pictures of B layouts with the agent in them.

    Floor and walls are painted once per layout; each frame copies them, blends the agent into a 9×9 patch and adds
    noise read from a bank at a random place, all in uint8: thousands of episodes a second on one core.
    """

    _PATCH = 9

    def __init__(self, layout: Layout, noise: float = 0.02, generator: torch.Generator | None = None) -> None:
        """noise: standard deviation on a scale of 0 to 1."""
        self._background = _background(layout)
        self._bank = None
        if noise > 0:
            bank = torch.randn(1 << 20, generator=generator) * (noise * 255)
            bank = bank.round_().clamp_(-NOISE_LIMIT, NOISE_LIMIT).to(torch.int8).view(torch.uint8)
            self._bank = bank.unfold(0, SIZE * SIZE * 3, 1)

    def frames(self, position: Tensor, generator: torch.Generator | None = None, rows: Tensor | None = None) -> Tensor:
        """position (B, T, 2) -> (B, T, 64, 64, 3) uint8; `rows` picks layouts when B is only some of them."""
        background = self._background if rows is None else self._background[rows]
        b, t = position.shape[:2]
        out = background[:, None].expand(b, t, SIZE, SIZE, 3).clone(memory_format=torch.contiguous_format)
        self._dot(out.view(b * t, SIZE, SIZE, 3), position.reshape(b * t, 2))
        if self._bank is not None:
            place = torch.randint(len(self._bank), (b * t,), generator=generator)
            flat = out.view(b * t, -1)
            for part in range(0, b * t, 512):  # pieces that stay in cache
                flat[part : part + 512] += self._bank[place[part : part + 512]]
        return out

    def _dot(self, frames: Tensor, position: Tensor) -> None:
        n, k = len(frames), self._PATCH
        corner = (position.round().long() - k // 2).clamp_(0, SIZE - k)
        offset = torch.arange(k)
        x = corner[:, 0:1] + offset
        y = corner[:, 1:2] + offset
        wx = torch.exp(-((x - position[:, 0:1]) ** 2) / (2 * DOT_SIGMA**2))
        wy = torch.exp(-((y - position[:, 1:2]) ** 2) / (2 * DOT_SIGMA**2))
        weight = (wy[:, :, None] * wx[:, None, :])[..., None]
        index = (torch.arange(n)[:, None, None] * SIZE + y[:, :, None]) * SIZE + x[:, None, :]
        flat = frames.view(-1, 3)
        under = flat[index.view(-1)].view(n, k, k, 3).float()
        patch = under + weight * (torch.tensor(AGENT_RGB) - under)
        flat[index.view(-1)] = patch.round_().to(torch.uint8).view(-1, 3)


def _background(layout: Layout) -> Tensor:
    """Floor and walls (B, 64, 64, 3) uint8, edges blended by coverage."""
    pixel = torch.arange(SIZE, dtype=torch.float32)
    inside = lambda low, high: (torch.minimum(pixel + 0.5, high) - torch.maximum(pixel - 0.5, low)).clamp(0, 1)  # noqa: E731
    edge = torch.tensor(LOW - RADIUS), torch.tensor(HIGH + RADIUS)
    open_ = inside(*edge)
    solid = (1 - open_[:, None] * open_[None, :]).expand(len(layout), SIZE, SIZE)
    for w in range(layout.wall_x.shape[1]):
        x, y, half = layout.wall_x[:, w, None], layout.door_y[:, w, None], layout.door[:, None]
        across = inside(x - HALF_WALL, x + HALF_WALL)
        along = 1 - inside(y - half, y + half)
        solid = torch.maximum(solid, along[:, :, None] * across[:, None, :])
    floor = layout.floor[:, None, None]
    return (floor + solid[..., None] * (torch.tensor(WALL_RGB) - floor)).round().to(torch.uint8)
