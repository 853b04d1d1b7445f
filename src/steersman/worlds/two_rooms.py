"""TwoRooms: a dot that must find the door. Layouts per episode, RGB pictures, Gymnasium Env and VectorEnv.

The physics and the pictures are in `rooms`; here are what varies, where episodes start, and the interfaces.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import msgspec
import numpy as np
import torch
from torch import Tensor

from steersman.core import ActionError, ActionSpec, ConfigError, ObservationSpec, Signature
from steersman.worlds import rooms
from steersman.worlds.rooms import HIGH, LOW, MAX_STEP, REACH, Layout, Painter

Interval = tuple[float, float]
SUCCESS_RADIUS = 4.5
STEP_LIMIT = 200
_MIN_GAP = 14.0  # between two walls: a room of at least 8 px for the agent's centre
_CLEARANCE = 3.5  # a way past the forbidden disk keeps this much room
_MARGIN = 0.25  # starts and goals keep this much from contact

SIGNATURE = Signature(
    observations={"image": ObservationSpec(kind="image", shape=(rooms.SIZE, rooms.SIZE, 3))},
    action=ActionSpec(kind="continuous", low=(-1.0, -1.0), high=(1.0, 1.0), names=("right", "down")),
)


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


class TwoRooms(gym.Env[Any, Any]):
    """One agent in rooms that lie in a row, joined by doors; reach a goal in another room.

    Observation  {"image": (64, 64, 3) uint8}: floor of random colour, dark walls, a red dot, a little noise
    Action       (2,) in [-1, 1], moved by 2.45 px · a / max(1, |a|); the body stops fully on contact
    Reward       1 on reaching the goal, else 0; terminated within 4.5 px of the goal, truncated after 200 steps
    Info         position, goal, shortest_path, wall_x, door_y, with a forbidden disk: forbidden, clearance from it
                 and whether it is bad here (for evaluation, never for the agent);
                 goal_image: the picture with the agent at the goal

    >>> env = TwoRooms(TwoRooms.Config(wall_range=(28.5, 34.5)))
    """

    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
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

        @staticmethod
        def held_out(**changes: Any) -> TwoRooms.Config:
            """Walls and doors at positions that the log never shows (the gaps in its ranges)."""
            return TwoRooms.Config(**{"wall_range": (28.5, 34.5), "door_range": (27.5, 35.5), **changes})

        @staticmethod
        def three_rooms(**changes: Any) -> TwoRooms.Config:
            """Two walls, never in the log."""
            return TwoRooms.Config(**{"walls": 2, **changes})

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 (as gymnasium declares it)

    def __init__(self, config: TwoRooms.Config | None = None, render_mode: str | None = None) -> None:
        self.config = config or TwoRooms.Config()
        self.render_mode = render_mode
        self.observation_space = gym.spaces.Dict({"image": gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)})
        self.action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._rooms: Rooms | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._rooms = Rooms.sample(self.config, 1, int(self.np_random.integers(2**62)))
        return self._observe(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self._rooms is None:
            raise ActionError("reset() before step()", "an environment that was never reset", "call reset() first")
        self._rooms.step(torch.as_tensor(np.asarray(action, dtype=np.float32))[None])
        reached = bool(self._rooms.solved()[0])
        return self._observe(), float(reached), reached, self._rooms.time >= STEP_LIMIT, self._info()

    def render(self) -> Any:
        return None if self._rooms is None else self._observe()["image"]

    def _observe(self) -> dict[str, Any]:
        assert self._rooms is not None
        return {"image": self._rooms.observe()["image"][0].numpy().copy()}

    def _info(self) -> dict[str, Any]:
        assert self._rooms is not None
        return {k: v[0] for k, v in self._rooms.info().items()}


def _is_disk(value: Any) -> bool:
    try:
        return 1 <= value <= 8 if isinstance(value, (int, float)) else len(value) == 3 and 0 < value[2] <= 20
    except TypeError:
        return False


class TwoRoomsVector(gym.vector.VectorEnv[Any, Any, Any]):
    """Many TwoRooms stepped together; finished ones restart on the step after (Gymnasium's next-step mode)."""

    def __init__(self, num_envs: int, config: TwoRooms.Config | None = None) -> None:
        single = TwoRooms(config)
        self.config, self.num_envs = single.config, num_envs
        self.single_observation_space, self.single_action_space = single.observation_space, single.action_space
        self.observation_space = gym.vector.utils.batch_space(single.observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(single.action_space, num_envs)
        self.metadata = {**single.metadata, "autoreset_mode": gym.vector.AutoresetMode.NEXT_STEP}
        self._rooms: Rooms | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._rooms = Rooms.sample(self.config, self.num_envs, int(self.np_random.integers(2**62)))
        self._steps = np.zeros(self.num_envs, np.int64)
        self._done = np.zeros(self.num_envs, bool)
        return self._observe(), self._rooms.info()

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        if self._rooms is None:
            raise ActionError("reset() before step()", "an environment that was never reset", "call reset() first")
        again = self._done
        self._rooms.step(torch.as_tensor(np.asarray(actions, dtype=np.float32)) * torch.tensor(~again)[:, None])
        if again.any():
            self._rooms.replace(torch.tensor(again), self.config, int(self.np_random.integers(2**62)))
        self._steps = np.where(again, 0, self._steps + 1)
        reached = self._rooms.solved().numpy() & ~again
        late = (self._steps >= STEP_LIMIT) & ~again
        self._done = reached | late
        return self._observe(), reached.astype(np.float64), reached, late, self._rooms.info()

    def _observe(self) -> dict[str, Any]:
        assert self._rooms is not None
        return {"image": self._rooms.observe()["image"].numpy().copy()}


class Rooms:
    """B episodes in progress: what the two Gymnasium faces and the evaluation protocol share."""

    def __init__(self, layout: Layout, start: Tensor, goal: Tensor, forbidden: Tensor | None, noise: float,
                 generator: torch.Generator) -> None:
        self.layout, self.position, self.goal, self.forbidden = layout, start, goal, forbidden
        self.shortest = rooms.shortest_path(layout, start, goal)
        self._painter, self._noise, self._generator = Painter(layout, noise, generator), noise, generator
        self.time = 0

    @staticmethod
    def sample(config: TwoRooms.Config, count: int, seed: int) -> Rooms:
        """`count` episodes: layout, start and goal in different rooms and, if asked, a disk on the way."""
        generator = torch.Generator().manual_seed(seed % 2**63)
        layout, start, goal, disk = (sample_tasks(config, count, generator))
        return Rooms(layout, start, goal, disk, config.noise, generator)

    def first(self, count: int) -> Rooms:
        """The first `count` episodes alone, from where they stand."""
        disk = None if self.forbidden is None else self.forbidden[:count]
        return Rooms(self.layout[:count], self.position[:count], self.goal[:count], disk, self._noise, self._generator)

    def step(self, action: Tensor) -> Tensor:
        """action (B, 2) -> touched (B,) bool.

        Raises:
            ActionError: wrong shape, NaN, or out of bounds.
        """
        self.position, touched = rooms.move(self.layout, self.position, displacement(action, len(self.layout)))
        self.time += 1
        return touched

    def observe(self) -> dict[str, Tensor]:
        return {"image": self._painter.frames(self.position[:, None], self._generator)[:, 0]}

    def goal_observation(self) -> dict[str, Tensor]:
        return {"image": self._painter.frames(self.goal[:, None], self._generator)[:, 0]}

    def solved(self) -> Tensor:
        return (self.position - self.goal).norm(dim=1) <= SUCCESS_RADIUS

    def replace(self, rows: Tensor, config: TwoRooms.Config, seed: int) -> None:
        """Start new episodes in the rows of a mask (B,)."""
        new = Rooms.sample(config, int(rows.sum()), seed)
        layout = Layout(*(_put(getattr(self.layout, k), rows, getattr(new.layout, k)) for k in vars(self.layout)))
        goal, position = _put(self.goal, rows, new.goal), _put(self.position, rows, new.position)
        forbidden = None if self.forbidden is None or new.forbidden is None else _put(
            self.forbidden, rows, new.forbidden)
        shortest, time = _put(self.shortest, rows, new.shortest), self.time
        self.layout, self.goal, self.position, self.forbidden = layout, goal, position, forbidden
        self._painter = Painter(layout, self._noise, self._generator)
        self.shortest, self.time = shortest, time

    def info(self) -> dict[str, Any]:
        info = {
            "position": self.position, "goal": self.goal, "shortest_path": self.shortest,
            "wall_x": self.layout.wall_x, "door_y": self.layout.door_y,
            "goal_image": self.goal_observation()["image"],
        }
        if self.forbidden is not None:
            info["forbidden"] = self.forbidden
            info["clearance"] = (self.position - self.forbidden[:, :2]).norm(dim=1) - self.forbidden[:, 2]
            info["bad"] = info["clearance"] < 0
        return {k: v.numpy().copy() for k, v in info.items()}


def _put(old: Tensor, rows: Tensor, new: Tensor) -> Tensor:
    out = old.clone()
    out[rows] = new
    return out


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


def sample_layouts(config: TwoRooms.Config, count: int, generator: torch.Generator) -> Layout:
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
    config: TwoRooms.Config, count: int, generator: torch.Generator
) -> tuple[Layout, Tensor, Tensor, Tensor | None]:
    """Layouts, starts (B, 2), goals (B, 2) in another room, forbidden disks (B, 3) or None."""
    if config.forbidden is None:
        return (*_pairs(config, count, generator), None)
    kept: list[tuple[Layout, Tensor, Tensor, Tensor]] = []
    have = 0
    for _ in range(200):
        layout, start, goal = _pairs(config, 2 * count, generator)
        disk, good = _place_disk(config, layout, start, goal, generator)
        kept.append((layout[good], start[good], goal[good], disk[good]))
        have += int(good.sum())
        if have >= count:
            break
    else:
        raise ConfigError(
            "a forbidden disk that leaves a way around it", f"{config.forbidden} with walls {config.wall_range}",
            "make the disk smaller or the rooms wider",
        )
    parts = list(zip(*kept, strict=True))
    layout = Layout(*(torch.cat([getattr(x, k) for x in parts[0]])[:count] for k in vars(parts[0][0])))
    return layout, torch.cat(parts[1])[:count], torch.cat(parts[2])[:count], torch.cat(parts[3])[:count]


def _pairs(config: TwoRooms.Config, count: int, generator: torch.Generator) -> tuple[Layout, Tensor, Tensor]:
    layout = sample_layouts(config, count, generator)
    first = torch.randint(config.walls + 1, (count,), generator=generator)
    other = (first + torch.randint(1, config.walls + 1, (count,), generator=generator)) % (config.walls + 1)
    start, goal = sample_free(layout, first, generator), sample_free(layout, other, generator)
    near = (start - goal).norm(dim=1) <= SUCCESS_RADIUS + 1  # neighbours through a wall: never solved at the start
    if bool(near.any()):
        again = _pairs(config, int(near.sum()), generator)
        layout = Layout(*(_put(getattr(layout, k), near, getattr(again[0], k)) for k in vars(layout)))
        start, goal = _put(start, near, again[1]), _put(goal, near, again[2])
    return layout, start, goal


def _place_disk(config: TwoRooms.Config, layout: Layout, start: Tensor, goal: Tensor,
                generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A disk on the leg from the start to its first door or from the last door to the goal, and whether it is fair.

    Fair: start, goal and every door keep clear of it, and a way that keeps 3.5 px from it exists.
    """
    n = len(layout)
    rows = torch.arange(n)
    forward = start[:, 0] < goal[:, 0]
    first = torch.where(forward, rooms.room_of(layout, start), rooms.room_of(layout, start) - 1)
    last = torch.where(forward, rooms.room_of(layout, goal) - 1, rooms.room_of(layout, goal))
    doors = torch.stack([layout.wall_x, layout.door_y], -1)
    leg = torch.rand(n, generator=generator) < 0.5
    end = torch.where(leg[:, None], start, goal)
    door = torch.where(leg[:, None], doors[rows, first], doors[rows, last])
    along = door - end
    side = torch.stack([-along[:, 1], along[:, 0]], 1) / along.norm(dim=1, keepdim=True).clamp_min(1e-6)
    place = 0.25 + 0.5 * torch.rand(n, 1, generator=generator)
    centre = end + place * along + side * torch.randn(n, 1, generator=generator)
    if isinstance(config.forbidden, (int, float)):
        disk = torch.cat([centre, torch.full((n, 1), float(config.forbidden))], 1)
    else:
        disk = torch.tensor(config.forbidden, dtype=torch.float32).expand(n, 3).clone()
    keep = disk[:, 2] + _CLEARANCE
    clear = lambda p: (p - disk[:, :2]).norm(dim=1) > keep  # noqa: E731
    good = clear(start) & clear(goal)
    for w in range(config.walls):
        good &= clear(doors[:, w])
    index = good.nonzero()[:, 0]
    wide = torch.cat([disk[:, :2], keep[:, None]], 1)[index]
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
    rows = torch.arange(len(layout))
    s, g = cell(start), cell(goal)
    wet = torch.zeros_like(free)
    wet[rows, 0, s[:, 1], s[:, 0]] = 1
    wet = torch.nn.functional.max_pool2d(wet, 3, 1, 1) * free
    for _ in range(220):  # a loop over the length of the way, not over episodes
        grown = torch.nn.functional.max_pool2d(wet, 3, 1, 1) * free
        if bool((grown == wet).all()):
            break
        wet = grown
    return torch.nn.functional.max_pool2d(wet, 3, 1, 1)[rows, 0, g[:, 1], g[:, 0]] > 0
