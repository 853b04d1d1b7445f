"""MiniGrid seen from above: the whole grid in whole tiles, the actions that do something, goals as pictures.

Shapes: B episodes. x and y in tiles from the top left corner.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from steersman.core import ActionSpec, ColumnGoal, ObservationGoal, UsageError
from steersman.core.extras import require
from steersman.worlds.filmed.anything import drawing
from steersman.worlds.filmed.camera import Camera
from steersman.worlds.filmed.scene import Array, Consequence, Scene, placing
from steersman.worlds.filmed.trials import FilmedTrials, Within
from steersman.worlds.filmed.undisplayed import undisplayed
from steersman.worlds.filmed.world import Filmed

_LEFT, _RIGHT, _FORWARD, _PICKUP, _TOGGLE = 0, 1, 2, 3, 5
_AHEAD = ((1, 0), (0, 1), (-1, 0), (0, -1))  # of the four directions


class _At(NamedTuple):
    """What a way through a grid depends on."""

    x: int
    y: int
    direction: int
    key: bool
    open: bool


class MiniGrid(Scene):
    """A MiniGrid environment of one room or more, seen whole, without the light of what the agent sees itself.

    Actions are turn left, turn right, forward; where there is a key also pick up and toggle. Drop and done do nothing
    that a goal needs and are left out, so that a key which is not in the picture is carried. A log goes on past the
    goal, which can be left again, and begins anywhere in the grid (with a key: carried or not, its door open or not).
    The script goes the shortest way.

    Raises:
        UsageError: minigrid is not installed, or no such environment.
    """

    goes_on: ClassVar[bool] = True
    columns = ("x", "y", "cos", "sin", "key", "open")

    def __init__(self, id: str) -> None:
        self.id, self.action = id, action_of_grid(id)
        with undisplayed():
            require("minigrid", "minigrid")
            self._grid: Any = drawing(id, max_steps=10**9).unwrapped
        self._moves = [_LEFT, _RIGHT, _FORWARD, _PICKUP, _TOGGLE][:self.action.choices]

    def reset(self, seed: int) -> None:
        self._grid.reset(seed=seed)
        self._things = {kind: self._find(kind) for kind in ("goal", "door", "key")}

    def step(self, action: Tensor) -> Consequence:
        _, reward, terminated, truncated, _ = self._grid.step(self._moves[int(action[0])])
        return Consequence(float(reward), bool(terminated), bool(truncated))

    def picture(self, size: int) -> Array:
        """Tiles of as many whole pixels as fit into `size`."""
        tile = max(1, size // max(self._grid.width, self._grid.height))
        picture: Array = self._grid.get_frame(highlight=False, tile_size=tile)
        return picture

    def truth(self) -> Array:
        now = self._now()
        angle = now.direction * math.pi / 2
        return np.array([now.x, now.y, math.cos(angle), math.sin(angle), now.key, now.open], np.float32)

    @property
    def goal(self) -> tuple[int, int]:
        """x and y of the goal square.

        Raises:
            UsageError: there is none.
        """
        place = self._things["goal"]
        if place is None:
            raise UsageError(f"a grid with a goal square, for {self.id}", "none", "choose another environment")
        return place

    def place(self, values: Mapping[str, float]) -> None:
        """Columns that are not named stay, but for the direction: facing right, or down where a wall is on the left.

        Raises:
            UsageError: no x or no y, or a square outside of the grid.
        """
        with placing(self.id, values):
            x, y = round(values["x"]), round(values["y"])
        width, height = self._grid.width, self._grid.height
        if not (0 < x < width and 0 <= y < height):
            raise UsageError(f"a square of the {width} × {height} of {self.id}", f"x {x}, y {y}", "choose one inside")
        left = self._grid.grid.get(x - 1, y)
        direction = 0 if left is None or left.can_overlap() else 1
        if "cos" in values and "sin" in values:
            direction = round(math.atan2(values["sin"], values["cos"]) / (math.pi / 2)) % 4
        now = self._now()
        self._put(_At(x, y, direction, bool(values.get("key", now.key)), bool(values.get("open", now.open))))

    def scatter(self, generator: torch.Generator) -> None:
        """Anywhere that can be stood on; with a key, at one of the three stages of its way."""
        stage = _draw(3, generator) if self._things["key"] is not None else 0
        grid = self._grid.grid
        key, open = stage >= 1, stage == 2
        free = [(x, y) for x in range(grid.width) for y in range(grid.height)
                if self._free(_At(x, y, 0, key, open)) and (x, y) != self._things["goal"]]
        reachable = [place for place in free if open or self._before_door(place[0])]
        x, y = reachable[_draw(len(reachable), generator)]
        self._put(_At(x, y, _draw(4, generator), key, open))

    def scripted(self, generator: torch.Generator) -> Tensor:
        return torch.tensor([self._way()])

    def close(self) -> None:
        self._grid.close()

    def _find(self, kind: str) -> tuple[int, int] | None:
        grid = self._grid.grid
        places = [(i % grid.width, i // grid.width) for i, thing in enumerate(grid.grid)
                  if thing is not None and thing.type == kind]
        return places[0] if places else None

    def _now(self) -> _At:
        x, y = (int(n) for n in self._grid.agent_pos)
        door = self._things["door"]
        opened = door is not None and bool(self._grid.grid.get(*door).is_open)
        return _At(x, y, int(self._grid.agent_dir), self._grid.carrying is not None, opened)

    def _put(self, at: _At) -> None:
        grid, key, door = self._grid.grid, self._things["key"], self._things["door"]
        self._grid.agent_pos, self._grid.agent_dir = (at.x, at.y), at.direction
        if key is not None and at.key and self._grid.carrying is None:
            self._grid.carrying = grid.get(*key)
            grid.set(*key, None)
        if door is not None and at.open:
            grid.get(*door).is_locked, grid.get(*door).is_open = False, True

    def _before_door(self, x: int) -> bool:
        door = self._things["door"]
        return door is None or x < door[0]

    def _free(self, at: _At) -> bool:
        """Can be stood on there?"""
        place = (at.x, at.y)
        if place == self._things["door"]:
            return at.open
        if place == self._things["key"]:
            return at.key
        thing = self._grid.grid.get(*place)
        return thing is None or bool(thing.can_overlap())

    def _after(self, at: _At, choice: int) -> _At:
        """What a choice leads to."""
        move = self._moves[choice]
        if move in (_LEFT, _RIGHT):
            return at._replace(direction=(at.direction + (1 if move == _RIGHT else -1)) % 4)
        step = _AHEAD[at.direction]
        ahead = at._replace(x=at.x + step[0], y=at.y + step[1])
        if move == _FORWARD:
            return ahead if self._free(ahead) else at
        if move == _PICKUP:
            return at._replace(key=at.key or (ahead.x, ahead.y) == self._things["key"])
        if (ahead.x, ahead.y) == self._things["door"] and (at.key or at.open):
            return at._replace(open=not at.open)
        return at

    def _way(self) -> int:
        """The first choice of a shortest way to the goal (breadth first), or a turn where there is none."""
        start, goal = self._now(), self.goal
        first: dict[_At, int] = {start: 0}
        queue = deque([start])
        while queue:
            at = queue.popleft()
            if (at.x, at.y) == goal and at != start:
                return first[at]
            for choice in range(len(self._moves)):
                after = self._after(at, choice)
                if after not in first:
                    first[after] = choice if at == start else first[at]
                    queue.append(after)
        return 0


def action_of_grid(id: str) -> ActionSpec:
    """The choices in a grid of that name."""
    names = ("left", "right", "forward", "pick up", "toggle")
    count = 5 if "Key" in id else 3
    return ActionSpec("discrete", choices=count, names=names[:count])


def _draw(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (1,), generator=generator))


class FilmedGrid(Filmed, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Stand on the goal square of a MiniGrid environment, which is told as a picture of the same grid with the agent
    there (its door open, its key taken), or as x and y."""

    success: ClassVar[str] = "on the goal square"
    recorded: ClassVar[tuple[int, int]] = (200, 100)

    id: str
    told: Literal["columns", "picture"] = "picture"
    limit: int = 100
    hold: float = 1.0

    @property
    def action(self) -> ActionSpec:
        return action_of_grid(self.id)

    def scene(self) -> MiniGrid:
        return MiniGrid(self.id)

    def begin(self, count: int, seed: int) -> FilmedTrials:
        cameras, pictures, places = list[Camera](), list[Tensor](), list[tuple[int, int]]()
        for i in range(count):
            scene = self.scene()
            cameras.append(self.camera(scene))
            start = (1_000_003 * (seed + 1) + i) % 2**31
            scene.reset(start)
            places.append(scene.goal)
            if self.told == "picture":
                scene.place(dict(zip("xy", scene.goal, strict=True)) | {"key": 1.0, "open": 1.0})
                pictures.append(cameras[-1].look()["image"])
                scene.reset(start)
        goals = torch.tensor(places, dtype=torch.float32)
        told: ColumnGoal | ObservationGoal = ColumnGoal({"x": goals[:, 0], "y": goals[:, 1]})
        if pictures:
            told = ObservationGoal({"image": torch.stack(pictures)})
        ranges = {name: (goals[:, i] - 0.1, goals[:, i] + 0.1) for i, name in enumerate("xy")}
        return FilmedTrials(cameras, Within(told, MiniGrid.columns, ranges))
