"""NineRooms: a point mass with inertia in nine rooms that doors join into one long way; goals near and far.

Geometry and motion are in `snake`. Shapes: B episodes, T steps, D = 8 doors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from steersman.core import (
    ActionError,
    ActionSpec,
    ColumnGoal,
    ConfigError,
    Episode,
    Goal,
    Observation,
    ObservationGoal,
    ObservationSpec,
    Signature,
    TensorRecord,
)
from steersman.core.records import join, put
from steersman.worlds import capsules, snake
from steersman.worlds.held import holding
from steersman.worlds.trials import Labelled, Simulated, World

SIDE = 3
DOORS = (0.25, -0.2, 0.1, 0.3, -0.25, 0.2, -0.1, -0.3)
SUCCESS_RADIUS = 0.12
RANGES = {"short": (0, 1), "middle": (2, 4), "long": (5, 8)}
"""Doors between start and goal."""
_APART = 0.3  # m at least between start and goal
DISK = 0.12
"""Radius of the disks, m."""
_ROUND = 0.12  # m at least between starts or goals and a disk's edge
_CLEAR = 0.15  # m between the middle of a wall and starts or goals
_CHUNK = 256
_SETTLED = 40  # steps before a labelled frame: pushes bring the point to places that starts are clear of
_FLOOR, _WALL_RGB, _AGENT = (232, 228, 218), (66, 66, 74), (196, 64, 36)


@dataclass(frozen=True)
class Walk(TensorRecord):
    """B moments: position, velocity, goal (B, 2), doors (B, D), wall (B, R, 4); entered (B,) bool: whether the last
    step entered a disk."""

    position: Tensor
    velocity: Tensor
    goal: Tensor
    doors: Tensor
    wall: Tensor
    entered: Tensor


class NineRooms(World, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Nine rooms of 1 m behind walls of 0.1 m, joined by eight doors of 0.3 m into a snake; a point mass with inertia.

    Observation  {"vector": x, y, vx, vy}, or with look="picture" {"image": (64, 64, 3) uint8}, which shows no speed;
                 with `shown` also {"map": the places of the eight doors}
    Action       two pushes within [-1, 1]; see `snake.move`. Top speed 0.05 m a step along an axis
    Goal         columns x, y, or a picture; reached within 0.12 m, at any speed

    away     how many doors lie between start and goal: "short" 0 or 1, "middle" 2 to 4, "long" 5 to 8
    doors    middle of each door along its wall, m from the wall's middle, in the order of the way
    varied   draw the doors of every episode anew instead, within 0.3 m
    shown    whether the doors' places are observed, beside the rest
    look     "vector" or "picture"
    goal     "columns", or with look="picture" a "picture" of the point at the goal; no log shows which one that is
    hold     logs hold each push for so many steps on average; 1 is white noise
    disks    one disk of radius 0.12 m stands in each room, half-way between its doors, and is not to be entered. It is
             neither seen nor felt: an agent knows of it by guardrails alone. `disk_places` says where they are
    """

    away: Literal["short", "middle", "long", "any"] = "any"
    doors: tuple[float, ...] = DOORS
    varied: bool = False
    shown: bool = False
    look: Literal["vector", "picture"] = "vector"
    goal: Literal["columns", "picture"] = "columns"
    hold: float = 8.0
    disks: bool = False

    step_limit: ClassVar[int] = 300
    success: ClassVar[str] = f"within {SUCCESS_RADIUS:g} m of the goal"
    violation: ClassVar[str] = "enter a disk"
    recorded: ClassVar[tuple[int, int]] = (300, 200)

    def __post_init__(self) -> None:
        snake.require_doors(self.doors, SIDE)
        if self.away not in (*RANGES, "any") or self.look not in ("vector", "picture") or not self.hold >= 1:
            raise ConfigError("away 'short', 'middle', 'long' or 'any'; look 'vector' or 'picture'; hold >= 1",
                              f"{self}", "correct the world's configuration")
        if self.goal not in ("columns", "picture") or (self.goal == "picture" and self.look != "picture"):
            raise ConfigError("goal 'columns', or 'picture' where look is 'picture'", f"{self.goal} of {self.look}",
                              "correct the world's configuration")

    @property
    def signature(self) -> Signature:
        seen = {"vector": ObservationSpec("vector", (4,), ("x", "y", "vx", "vy"))}
        if self.look == "picture":
            seen = {"image": ObservationSpec("image", (64, 64, 3))}
        if self.shown:
            names = tuple(f"door{i + 1}" for i in range(len(self.doors)))
            seen["map"] = ObservationSpec("vector", (len(names),), names)
        return Signature(seen, ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0), names=("right", "up")))

    def begin(self, count: int, seed: int) -> RoomWalks:
        generator = torch.Generator().manual_seed(seed % 2**63)
        return RoomWalks(self, self.sample(count, generator), generator)

    def disk_places(self, doors: Tensor) -> Tensor:
        """Doors (B, 8) -> (B, 9, 2) middles of the disks, of radius `DISK`."""
        return snake.disks(doors, SIDE)

    def sample(self, count: int, generator: torch.Generator) -> Walk:
        """`count` starts at rest, and goals so many doors away; where disks are, none within 0.12 m of one."""
        walk = self._sampled(count, generator)
        while self.disks:
            near = [(place[:, None] - self.disk_places(walk.doors)).norm(dim=2).amin(1) < DISK + _ROUND
                    for place in (walk.position, walk.goal)]
            again = near[0] | near[1]
            if not bool(again.any()):
                break
            walk = put(walk, again, self._sampled(int(again.sum()), generator))
        return walk

    def _sampled(self, count: int, generator: torch.Generator) -> Walk:
        low, high = RANGES.get(self.away, (0, 8))
        rooms = SIDE * SIDE
        start, goal = (torch.randint(rooms, (64 * count,), generator=generator) for _ in range(2))
        good = ((start - goal).abs() >= low) & ((start - goal).abs() <= high)
        places = [_inside(room[good][: 2 * count], generator) for room in (start, goal)]
        far = (places[0] - places[1]).norm(dim=1) >= _APART
        position, goal = (place[far][:count] for place in places)
        if len(position) < count:
            more = self._sampled(count, generator)
            position, goal = (torch.cat([a, b])[:count] for a, b in ((position, more.position), (goal, more.goal)))
        doors = self.sample_doors(count, generator)
        inside = torch.zeros(count, dtype=torch.bool)
        return Walk(position, torch.zeros(count, 2), goal, doors, snake.walls(doors, SIDE), inside)

    def sample_doors(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, 8) places of the doors."""
        fixed = torch.tensor(self.doors).expand(count, -1)
        return torch.rand(count, len(self.doors), generator=generator) * 0.6 - 0.3 if self.varied else fixed.clone()

    def log(self, episodes: int, steps: int, seed: int) -> Iterator[Episode]:
        """Pushes that are held for `hold` steps on average, from anywhere: no goal, no reward."""
        generator = torch.Generator().manual_seed(seed % 2**63)
        for first in range(0, episodes, _CHUNK):
            seen, actions, _ = self._walked(min(_CHUNK, episodes - first), steps, generator)
            for i, done in enumerate(actions):
                yield Episode({name: value[i] for name, value in seen.items()}, done, info={"world": "NineRooms"})

    def labelled(self, count: int, before: int, generator: torch.Generator) -> Labelled:
        """Of the log's kind, one frame an episode: where the point is."""
        walks = [self._walked(min(_CHUNK, count - first), max(before, _SETTLED), generator)
                 for first in range(0, count, _CHUNK)]
        seen, actions, places = (join(part) for part in zip(*walks, strict=True))
        last = {name: value[:, -before - 1 :] for name, value in seen.items()}
        return Labelled(last, actions[:, actions.shape[1] - before :], places, ("x", "y"))

    def _walked(self, count: int, steps: int, generator: torch.Generator) -> tuple[Observation, Tensor, Tensor]:
        """Held pushes from anywhere: observations name -> (B, T+1, …), actions (B, T, 2), last places (B, 2)."""
        trials = RoomWalks(self, self.sample(count, generator), generator)
        act = holding(self.signature.action, len(trials), self.hold, generator)
        observed, actions = [trials.observe()], list[Tensor]()
        for _ in range(steps):  # over time
            actions.append(act())
            trials.step(actions[-1])
            observed.append(trials.observe())
        seen = {name: torch.stack([o[name] for o in observed], 1) for name in observed[0]}
        return seen, torch.stack(actions, 1), trials.state.position


class RoomWalks(Simulated):
    """B episodes in nine rooms."""

    def __init__(self, config: NineRooms, state: Walk, generator: torch.Generator) -> None:
        super().__init__(config.signature, state, generator)
        self.config = config
        self.shortest = snake.shortest_way(state.doors, state.position, state.goal, SIDE)

    def goals(self) -> Goal:
        if self.config.goal == "picture":
            return ObservationGoal({"image": paint(self.state.wall, self.state.goal)})
        return ColumnGoal({"x": self.state.goal[:, 0], "y": self.state.goal[:, 1]}, {"x": 1.0, "y": 1.0})

    def observe(self) -> Observation:
        now = self.state
        seen = {"vector": torch.cat([now.position, now.velocity], 1)}
        if self.config.look == "picture":
            seen = {"image": paint(now.wall, now.position)}
        return seen | ({"map": now.doors} if self.config.shown else {})

    def advance(self, action: Tensor) -> Walk:
        """
        Raises:
            ActionError: wrong shape, or out of bounds.
        """
        if tuple(action.shape) != (len(self), 2) or not bool((action.abs() <= 1 + 1e-5).all()):
            raise ActionError(f"actions ({len(self)}, 2) within [-1, 1]", f"{tuple(action.shape)}", "clip the action")
        now = self.state
        position, velocity = snake.move(now.wall, now.position, now.velocity, action, SIDE)
        entered = torch.zeros(len(self), dtype=torch.bool)
        if self.config.disks:
            path = torch.stack([now.position, position], 1)
            entered = snake.entered(path, self.config.disk_places(now.doors), DISK)
        return Walk(position, velocity, now.goal, now.doors, now.wall, entered)

    def bad(self) -> Tensor | None:
        return self.state.entered if self.config.disks else None

    def solved(self) -> Tensor:
        return (self.state.position - self.state.goal).norm(dim=1) <= SUCCESS_RADIUS

    def where(self) -> Tensor:
        return self.state.position  # type: ignore[no-any-return]

    def checks(self, paths: Tensor) -> dict[str, Tensor]:
        return {"wall_crossings": snake.crossed_wall(self.state.wall, paths, SIDE)}

    def drift(self, generator: torch.Generator) -> Callable[[], Tensor]:
        """Held pushes, which come farther than uniform ones."""
        return holding(self.signature.action, len(self), self.config.hold, generator)


def paint(wall: Tensor, position: Tensor, size: int = 64) -> Tensor:
    """Pictures (B, size, size, 3) uint8 of walls (B, R, 4) and of points (B, 2), y up; every wall's pixels are those
    whose middle it covers."""
    whole = SIDE * snake.ROOM
    axis = (torch.arange(size) + 0.5) * whole / size
    x, y = axis[None, None, :], axis.flip(0)[None, :, None]
    left, below, right, above = wall[..., None, None].unbind(2)
    solid = ((x[:, None] >= left) & (x[:, None] <= right) & (y[:, None] >= below) & (y[:, None] <= above)).any(1)
    half = snake.WALL / 2
    edge = (x < half) | (x > whole - half) | (y < half) | (y > whole - half)
    dot = capsules.draw((position - whole / 2)[:, None], (position - whole / 2)[:, None], torch.full((1,), 0.06),
                        [_AGENT], _FLOOR, whole / 2, size)
    return torch.where((solid | edge)[..., None], torch.tensor(_WALL_RGB, dtype=torch.uint8), dot)


def _inside(room: Tensor, generator: torch.Generator) -> Tensor:
    """Places (B, 2) in the rooms of these numbers along the way, clear of walls."""
    cell = snake.rooms_in_order(SIDE)[room]
    return cell + _CLEAR + torch.rand(len(room), 2, generator=generator) * (snake.ROOM - 2 * _CLEAR)
