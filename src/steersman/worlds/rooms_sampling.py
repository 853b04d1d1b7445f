"""What varies between rooms, and drawing it: layouts, starts, goals in other rooms, forbidden disks on the way.

Knows no Gymnasium and no trials; `rooms` has the geometry. Shapes: B arenas, W walls; lengths in pixels.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman.core import ActionError, ConfigError
from steersman.core.records import join, put, rows
from steersman.worlds import rooms
from steersman.worlds.rooms import HIGH, LOW, MAX_STEP, REACH, Layout

Interval = tuple[float, float]
SUCCESS_RADIUS = 4.5
_MIN_GAP = 14.0  # between two walls: a room of at least 8 px for the agent's centre
_CLEARANCE = 3.5  # a way past the forbidden disk keeps this much room
_MARGIN = 0.25  # starts and goals keep this much from contact


def _intervals(value: Any, name: str) -> tuple[Interval, ...]:
    """Accept one pair or several pairs."""
    try:
        pairs = (value,) if isinstance(value[0], (int, float)) else value
        result = tuple((float(low), float(high)) for low, high in pairs)
    except (TypeError, ValueError, IndexError, KeyError):
        result = ()
    if not result or any(low > high for low, high in result):
        raise ConfigError(f"{name} as (low, high) or several such pairs", f"{value!r}", "for example (28.5, 34.5)")
    return result


def _walls_fit(intervals: tuple[Interval, ...], walls: int) -> bool:
    """Whether so many walls stand far enough apart somewhere: each as far left as those before it allow."""
    reach = -math.inf
    for _ in range(walls):
        places = [max(low, reach) for low, high in intervals if max(low, reach) <= high]
        if not places:
            return False
        reach = min(places) + _MIN_GAP
    return True


def _is_disk(value: Any) -> bool:
    try:
        return 1 <= value <= 8 if isinstance(value, (int, float)) else len(value) == 3 and 0 < value[2] <= 20
    except TypeError:
        return False


class RoomsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What varies from episode to episode.

    wall_range  interval(s) of pixels for the middle of each wall
    door_range  interval(s) of pixels for the middle of each door
    door_width  pixels
    walls       number of walls; rooms are one more
    forbidden   None; a radius: a disk of that size on the way of each episode; or a fixed (x, y, radius)
    noise       standard deviation of pixel noise, 0 to 1

    The defaults are the layouts of the log; `held_out()` gives positions that the log never shows.
    """

    wall_range: tuple[Interval, ...] = ((16.0, 28.0), (35.0, 47.0))
    door_range: tuple[Interval, ...] = ((12.0, 27.0), (36.0, 51.0))
    door_width: float = 10.0
    walls: int = 1
    forbidden: float | tuple[float, float, float] | None = None
    noise: float = 0.02

    def __post_init__(self) -> None:
        set_ = msgspec.structs.force_setattr
        set_(self, "wall_range", _intervals(self.wall_range, "wall_range"))
        set_(self, "door_range", _intervals(self.door_range, "door_range"))
        half = self.door_width / 2
        lowest, highest = LOW + REACH, HIGH - REACH
        problems = [
            (self.walls < 1 or self.walls > 3, "walls from 1 to 3", self.walls, "set walls=1, 2 or 3"),
            (
                any(low < lowest + 1 or high > highest - 1 for low, high in self.wall_range),
                f"wall_range within [{lowest + 1:g}, {highest - 1:g}]", self.wall_range, "leave room on both sides",
            ),
            (not 4 <= self.door_width <= 40, "door_width from 4 to 40 px", self.door_width, "the body takes 3 px"),
            (
                1 < self.walls <= 3 and not _walls_fit(self.wall_range, self.walls),
                f"a wall_range in which {self.walls} walls stand {_MIN_GAP:g} px apart", self.wall_range,
                f"widen it, for example wall_range=({lowest + 1:g}, {highest - 1:g}), or use fewer walls",
            ),
            (
                any(low - half < LOW - 1.5 or high + half > HIGH + 1.5 for low, high in self.door_range),
                f"door_range whose doors fit in [{LOW - 1.5:g}, {HIGH + 1.5:g}]", self.door_range,
                "move or narrow the door",
            ),
            (not 0 <= self.noise <= 0.1, "noise from 0 to 0.1", self.noise, "0.02 is the log's"),
            (
                self.forbidden is not None and not _is_disk(self.forbidden),
                "forbidden as a radius from 1 to 8, or (x, y, radius)", self.forbidden, "for example 5.0",
            ),
        ]
        for wrong, expected, got, fix in problems:
            if wrong:
                raise ConfigError(str(expected), str(got), str(fix))


def displacement(action: Tensor, count: int) -> Tensor:
    """Action (B, 2) in [-1, 1] -> pixels: 2.45 · a / max(1, |a|)."""
    if tuple(action.shape) != (count, 2) or not bool(torch.isfinite(action).all()):
        raise ActionError(f"finite actions of shape ({count}, 2)", f"{tuple(action.shape)}", "one (x, y) per episode")
    if float(action.abs().max()) > 1 + 1e-5:
        raise ActionError("actions within [-1, 1]", f"{float(action.abs().max()):g}", "clip or rescale the action")
    return MAX_STEP * action / action.norm(dim=1, keepdim=True).clamp_min(1)


# Sampling --------------------------------------------------------------------------------------------------------


def _uniform(intervals: tuple[Interval, ...], shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform over a union of intervals."""
    low, high = torch.tensor(intervals).T
    width = high - low
    if float(width.sum()) == 0:
        return low[torch.randint(len(low), shape, generator=generator)]
    place = torch.rand(shape, generator=generator) * width.sum()
    edges = width.cumsum(0)
    piece = torch.searchsorted(edges, place, right=True).clamp_(max=len(width) - 1)
    return low[piece] + place - (edges - width)[piece]


def sample_layouts(config: RoomsSettings, count: int, generator: torch.Generator) -> Layout:
    """`count` random layouts."""
    if config.walls == 1:
        wall_x = _uniform(config.wall_range, (count, 1), generator)
    else:
        wall_x = torch.empty(0, config.walls)
        for _ in range(1000):
            draw = _uniform(config.wall_range, (4 * count, config.walls), generator).sort(1).values
            wall_x = torch.cat([wall_x, draw[(draw.diff(dim=1) >= _MIN_GAP).all(1)]])[:count]
            if len(wall_x) == count:
                break
        else:
            raise ConfigError(
                f"a wall_range in which {config.walls} walls stand {_MIN_GAP:g} px apart", f"{config.wall_range}",
                "widen wall_range or use fewer walls",
            )
    door_y = _uniform(config.door_range, (count, config.walls), generator)
    floor = 145 + 85 * torch.rand(count, 3, generator=generator)
    return Layout(wall_x, door_y, torch.full((count,), config.door_width / 2), floor)


def sample_free(layout: Layout, room: Tensor, generator: torch.Generator) -> Tensor:
    """A uniform free place (B, 2) in the given room (B,) of each layout."""
    edges = torch.cat([torch.full((len(layout), 1), LOW - REACH), layout.wall_x,
                       torch.full((len(layout), 1), HIGH + REACH)], 1)
    low = edges.gather(1, room[:, None])[:, 0] + REACH + _MARGIN
    high = edges.gather(1, room[:, None] + 1)[:, 0] - REACH - _MARGIN
    unit = torch.rand(len(layout), 2, generator=generator)
    y = LOW + _MARGIN + unit[:, 1] * (HIGH - LOW - 2 * _MARGIN)
    return torch.stack([low + unit[:, 0] * (high - low), y], 1)


def sample_tasks(
    config: RoomsSettings, count: int, generator: torch.Generator
) -> tuple[Layout, Tensor, Tensor, Tensor | None]:
    """Layouts, starts (B, 2), goals (B, 2) in another room, forbidden disks (B, 3) or None."""
    if config.forbidden is None:
        return (*_pairs(config, count, generator), None)
    found: list[tuple[Layout, Tensor, Tensor, Tensor]] = []
    for _ in range(200):
        layout, start, goal = _pairs(config, 2 * count, generator)
        disk, good = _place_disk(config, layout, start, goal, generator)
        found.append(rows((layout, start, goal, disk), good))
        if sum(len(layout) for layout, *_ in found) >= count:
            return rows(join(found), slice(count))
    raise ConfigError(
        "a forbidden disk that leaves a way around it", f"{config.forbidden} with walls {config.wall_range}",
        "make the disk smaller or the rooms wider",
    )


def _pairs(config: RoomsSettings, count: int, generator: torch.Generator) -> tuple[Layout, Tensor, Tensor]:
    layout = sample_layouts(config, count, generator)
    first = torch.randint(config.walls + 1, (count,), generator=generator)
    other = (first + torch.randint(1, config.walls + 1, (count,), generator=generator)) % (config.walls + 1)
    start, goal = sample_free(layout, first, generator), sample_free(layout, other, generator)
    near = (start - goal).norm(dim=1) <= SUCCESS_RADIUS + 1  # neighbours through a wall: never solved at the start
    if bool(near.any()):
        return put((layout, start, goal), near, _pairs(config, int(near.sum()), generator))
    return layout, start, goal


def _place_disk(config: RoomsSettings, layout: Layout, start: Tensor, goal: Tensor,
                generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A disk on the leg from the start to its first door or from the last door to the goal, and whether it is fair.

    Fair: start, goal and every door keep clear of it, and a way that keeps 3.5 px from it exists.
    """
    n = len(layout)
    each = torch.arange(n)
    forward = start[:, 0] < goal[:, 0]
    first = torch.where(forward, rooms.room_of(layout, start), rooms.room_of(layout, start) - 1)
    last = torch.where(forward, rooms.room_of(layout, goal) - 1, rooms.room_of(layout, goal))
    doors = torch.stack([layout.wall_x, layout.door_y], -1)
    leg = torch.rand(n, generator=generator) < 0.5
    end = torch.where(leg[:, None], start, goal)
    door = torch.where(leg[:, None], doors[each, first], doors[each, last])
    along = door - end
    side = torch.stack([-along[:, 1], along[:, 0]], 1) / along.norm(dim=1, keepdim=True).clamp_min(1e-6)
    place = 0.25 + 0.5 * torch.rand(n, 1, generator=generator)
    centre = end + place * along + side * torch.randn(n, 1, generator=generator)
    if isinstance(config.forbidden, (int, float)):
        disk = torch.cat([centre, torch.full((n, 1), float(config.forbidden))], 1)
    else:
        disk = torch.tensor(config.forbidden, dtype=torch.float32).expand(n, 3).clone()
    apart = disk[:, 2] + _CLEARANCE
    clear = lambda p: (p - disk[:, :2]).norm(dim=1) > apart  # noqa: E731
    good = clear(start) & clear(goal)
    for w in range(config.walls):
        good &= clear(doors[:, w])
    index = good.nonzero()[:, 0]
    wide = torch.cat([disk[:, :2], apart[:, None]], 1)[index]
    if len(index):
        good[index] = _way_exists(layout[index], start[index], goal[index], wide)
    return disk, good


def _way_exists(layout: Layout, start: Tensor, goal: Tensor, disk: Tensor) -> Tensor:
    """Flood fill on the pixel grid, outside the disks (B, 3): can the goal be reached? (B,) bool."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    points = torch.stack([x, y], -1).view(1, -1, 2).expand(len(layout), -1, -1)
    free = rooms.is_free(layout, points) & ((points - disk[:, None, :2]).norm(dim=-1) > disk[:, 2:3])
    free = free.view(-1, 1, 64, 64).float()
    cell = lambda p: p.round().long().clamp(int(LOW), int(HIGH))  # noqa: E731
    each = torch.arange(len(layout))
    s, g = cell(start), cell(goal)
    wet = torch.zeros_like(free)
    wet[each, 0, s[:, 1], s[:, 0]] = 1
    wet = torch.nn.functional.max_pool2d(wet, 3, 1, 1) * free
    for _ in range(220):  # a loop over the length of the way, not over episodes
        grown = torch.nn.functional.max_pool2d(wet, 3, 1, 1) * free
        if bool((grown == wet).all()):
            break
        wet = grown
    return torch.nn.functional.max_pool2d(wet, 3, 1, 1)[each, 0, g[:, 1], g[:, 0]] > 0
