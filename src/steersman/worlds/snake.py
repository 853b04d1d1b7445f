"""Rooms on a grid, joined by doors into one long way (a snake), and a point mass in them: geometry, motion, ways.

Knows no goals of episodes and no learning. Lengths in m, speeds in m a step, (x, y) = (right, up).

Shapes: B arenas, N rooms along a side, D = N² - 1 doors, R rectangles of wall.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.core import ConfigError

ROOM = 1.0
"""From the middle of a wall to that of the next, m."""
WALL = 0.1
"""Thickness of the walls, m."""
DOOR = 0.3
"""Width of the doors, m."""
KEPT, PUSH = 0.8, 0.01
"""Share of the speed that a step keeps, and what the whole action adds to it, m a step: at most 0.05 along an axis."""
SUBSTEPS = 4  # of 0.018 m at most, against walls of 0.1: none is jumped over
_PLACES = 17  # of a door's opening, on either face of its wall, that shortest ways may pass


def rooms_in_order(side: int) -> Tensor:
    """(N², 2) columns and rows of the rooms along the way: left to right in the lowest row, back in the next, …"""
    row = torch.arange(side * side) // side
    column = torch.arange(side * side) % side
    return torch.stack([torch.where(row % 2 == 0, column, side - 1 - column), row], 1)


def room_of(side: int, position: Tensor) -> Tensor:
    """Number along the way (…) of the room that points (…, 2) are in."""
    cell = (position / ROOM).floor().long().clamp(0, side - 1)
    column, row = cell.unbind(-1)
    return row * side + torch.where(row % 2 == 0, column, side - 1 - column)


def walls(doors: Tensor, side: int) -> Tensor:
    """What stands inside: doors (B, D), the middle of each along its wall, m from the wall's middle -> (B, R, 4)
    rectangles (least x, least y, greatest x, greatest y)."""
    order = rooms_in_order(side)
    joined = {tuple(sorted(map(tuple, (a, b)))): i
              for i, (a, b) in enumerate(zip(order.tolist(), order[1:].tolist(), strict=False))}
    pieces = []
    for row in range(side):  # over the walls of one arena
        for column in range(side):
            for across, other in ((True, (column + 1, row)), (False, (column, row + 1))):
                if max(other) >= side:
                    continue
                number = joined.get(tuple(sorted(((column, row), other))))
                pieces += _wall(column, row, across, None if number is None else doors[:, number], len(doors))
    return torch.stack(pieces, 1)


def _wall(column: int, row: int, across: bool, door: Tensor | None, count: int) -> list[Tensor]:
    """The wall to the right (`across`) or above a room, in one piece or in two beside its door: (B, 4) each."""
    at = ROOM * ((column if across else row) + 1)
    low = torch.full((count,), ROOM * (row if across else column) - WALL / 2)
    high = low + ROOM + WALL
    near, far = torch.full_like(low, at - WALL / 2), torch.full_like(low, at + WALL / 2)
    middle = (low + high) / 2
    spans = [(low, high)] if door is None else [(low, middle + door - DOOR / 2), (middle + door + DOOR / 2, high)]
    return [torch.stack([near, a, far, b] if across else [a, near, b, far], 1) for a, b in spans]


def door_places(doors: Tensor, side: int) -> Tensor:
    """Doors (B, D), the middle of each along its wall, m from the wall's middle -> (B, D, 2) in the arena."""
    order = rooms_in_order(side).to(doors)
    a, b = order[:-1], order[1:]
    middle = (a + b + 1) * (ROOM / 2)
    along = ((b - a) == 0).to(doors)  # a door's place varies along its wall
    return middle + doors[..., None] * along


def disks(doors: Tensor, side: int) -> Tensor:
    """The middles (B, N², 2) of one disk in each room, half-way between its two doors, where straight ways cross; in
    the first and the last room, which have one, in the middle."""
    through = door_places(doors, side)
    ends = rooms_in_order(side)[[0, -1]].to(doors) + ROOM / 2
    between = (through[:, 1:] + through[:, :-1]) / 2
    first, last = ends.expand(len(doors), -1, -1).split(1, 1)
    return torch.cat([first, between, last], 1)


def entered(path: Tensor, middle: Tensor, radius: float) -> Tensor:
    """Whether paths (B, T+1, 2), swept, enter disks of this radius around middles (B, R, 2): (B,) bool."""
    a, along = path[:, :-1, None], path[:, 1:, None] - path[:, :-1, None]
    share = ((middle[:, None] - a) * along).sum(-1) / along.square().sum(-1).clamp_min(1e-12)
    nearest = a + share.clamp(0, 1)[..., None] * along
    return ((nearest - middle[:, None]).norm(dim=-1) < radius).flatten(1).any(1)


def is_free(wall: Tensor, position: Tensor, side: int) -> Tensor:
    """Whether points (B, …, 2) lie in no wall (B, R, 4) and inside the arena."""
    shape = (len(wall),) + (1,) * (position.ndim - 2) + wall.shape[1:]
    left, below, right, above = wall.view(shape).unbind(-1)
    x, y = position[..., 0:1], position[..., 1:2]
    inside = (x > left) & (x < right) & (y > below) & (y < above)
    half = WALL / 2
    arena = ((position >= half) & (position <= ROOM * side - half)).all(-1)
    return arena & ~inside.any(-1)


def move(wall: Tensor, position: Tensor, velocity: Tensor, action: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """One step of a point mass: position, velocity, action (B, 2) each, the action within [-1, 1].

        v' = 0.8 v + 0.01 a,   x' = x + v'

    in four sub-steps, first along x, then along y. Where a wall is in the way the point stays before it, and its speed
    along that axis is gone: it slides.
    """
    velocity = KEPT * velocity + PUSH * action
    moving = torch.ones_like(velocity)
    for _ in range(SUBSTEPS):  # over time
        for axis in range(2):
            part = torch.zeros_like(velocity)
            part[:, axis] = velocity[:, axis] * moving[:, axis] / SUBSTEPS
            free = is_free(wall, position + part, side)
            position = torch.where(free[:, None], position + part, position)
            moving[:, axis] *= free
    return position, velocity * moving


def fewest_steps(doors: Tensor, start: Tensor, goal: Tensor, side: int) -> Tensor:
    """Steps (B,) that no way from start to goal (B, 2) can do with less of: the shortest way in the norm in which a
    step is at most 0.05 m, that of the longer axis."""
    return (shortest_way(doors, start, goal, side, torch.inf) - 0.002).clamp_min(0) / (PUSH / (1 - KEPT))


def shortest_way(doors: Tensor, start: Tensor, goal: Tensor, side: int, norm: float = 2.0) -> Tensor:
    """Length (B,) of the shortest free way from start to goal (B, 2), m, to about 1 mm; each straight piece of it is
    measured in the p-norm `norm`.

    A room is convex, so a way is a polyline through the doors between. Dynamic programming over 17 places of each face
    of a door's wall, door by door.
    """
    order = rooms_in_order(side)
    first, last = room_of(side, start), room_of(side, goal)
    low, high = torch.minimum(first, last), torch.maximum(first, last)
    swap = (first > last)[:, None]
    here, there = torch.where(swap, goal, start), torch.where(swap, start, goal)
    best, places = torch.zeros(len(start), 1), here[:, None]
    along = torch.linspace(-DOOR / 2, DOOR / 2, _PLACES)
    for number in range(len(order) - 1):  # over doors
        a, b = order[number], order[number + 1]
        axis = int((b - a).abs().argmax())
        offset = doors[:, number, None] + along
        middle = (torch.minimum(a, b) + 1.0) * ROOM
        sideways = ROOM * (float(a[1 - axis]) + 0.5) + offset
        sign = float((b - a)[axis])
        passed = (number >= low) & (number < high)
        for face in (-sign, sign):
            face_at = torch.full_like(sideways, float(middle[axis]) + face * WALL / 2)
            new = torch.stack([face_at, sideways] if axis == 0 else [sideways, face_at], -1)
            length = (best[:, None] + (new[:, :, None] - places[:, None]).norm(norm, dim=-1)).amin(2)
            kept = places.expand(-1, _PLACES, -1) if places.shape[1] == 1 else places
            before = best.expand(-1, _PLACES) if best.shape[1] == 1 else best
            places = torch.where(passed[:, None, None], new, kept)
            best = torch.where(passed[:, None], length, before)
    return (best + (there[:, None] - places).norm(norm, dim=-1)).amin(1)


def crossed_wall(wall: Tensor, path: Tensor, side: int) -> Tensor:
    """Whether a path (B, T+1, 2), taken as a polyline, goes through wall: (B,) bool. Corners that sub-steps cut by less
    than a third of the wall's thickness do not count. An independent check of `move`."""
    thin = wall + torch.tensor([1.0, 1.0, -1.0, -1.0]) * (WALL / 3)
    fraction = torch.linspace(0, 1, 17, device=path.device)
    points = path[:, :-1, None] + fraction[:, None] * (path[:, 1:] - path[:, :-1])[:, :, None]
    return ~is_free(thin, points.flatten(1, 2), side).all(1)


def require_doors(doors: tuple[float, ...], side: int) -> None:
    """
    Raises:
        ConfigError: another number of doors, or one that does not fit into its wall.
    """
    most = (ROOM - WALL - DOOR) / 2
    if len(doors) != side * side - 1 or any(not abs(door) <= most for door in doors):
        raise ConfigError(f"{side * side - 1} doors, each within {most:g} m of its wall's middle", f"{doors}",
                          "correct the places of the doors")
