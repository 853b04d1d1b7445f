"""TwoRooms: a dot that must find the door. Layouts per episode, RGB pictures; a Gymnasium environment, and trials.

The physics and the pictures are in `rooms`, what varies and where episodes start in `rooms_sampling`.
Shapes: B episodes, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from steersman.core import ActionError, ActionSpec, Episode, ObservationGoal, ObservationSpec, Signature
from steersman.core.records import rows
from steersman.worlds import rooms
from steersman.worlds.rooms import Layout, Painter
from steersman.worlds.rooms_sampling import SUCCESS_RADIUS, RoomsSettings, displacement, sample_tasks
from steersman.worlds.trials import Labelled, Trials, World
from steersman.worlds.wander import label, wander

STEP_LIMIT = 200

SIGNATURE = Signature(
    observations={"image": ObservationSpec(kind="image", shape=(rooms.SIZE, rooms.SIZE, 3))},
    action=ActionSpec(kind="continuous", low=(-1.0, -1.0), high=(1.0, 1.0), names=("right", "down")),
)


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

    class Config(RoomsSettings, World, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """`RoomsSettings`, as a world. The defaults are the layouts of the log; `held_out()` gives positions that the
        log never shows."""

        step_limit: ClassVar[int] = STEP_LIMIT
        success: ClassVar[str] = f"within {SUCCESS_RADIUS:g} px of the goal"
        violation: ClassVar[str] = "enter the forbidden disk"
        recorded: ClassVar[tuple[int, int]] = (8000, 32)

        @property
        def signature(self) -> Signature:
            return SIGNATURE

        def begin(self, count: int, seed: int) -> Rooms:
            """Layout, start and goal in different rooms and, if asked, a disk on the way."""
            generator = torch.Generator().manual_seed(seed % 2**63)
            return Rooms(*sample_tasks(self, count, generator), self.noise, generator)

        def log(self, episodes: int, steps: int, seed: int) -> Iterator[Episode]:
            return (episode for chunk in wander(self, episodes, steps, seed) for episode in chunk)

        def labelled(self, count: int, before: int, generator: torch.Generator) -> Labelled:
            return label(self, count, before, generator)

        def env(self) -> TwoRooms:
            return TwoRooms(self)

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
        self._rooms, self._steps = self.config.begin(1, int(self.np_random.integers(2**62))), 0
        return self._observe(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self._rooms is None:
            raise ActionError("reset() before step()", "an environment that was never reset", "call reset() first")
        self._rooms.step(torch.as_tensor(np.asarray(action, dtype=np.float32))[None])
        self._steps += 1
        reached = bool(self._rooms.solved()[0])
        return self._observe(), float(reached), reached, self._steps >= STEP_LIMIT, self._info()

    def render(self) -> Any:
        return None if self._rooms is None else self._observe()["image"]

    def _observe(self) -> dict[str, Any]:
        assert self._rooms is not None
        return {"image": self._rooms.observe()["image"][0].numpy().copy()}

    def _info(self) -> dict[str, Any]:
        assert self._rooms is not None
        return {k: v.numpy().copy()[0] for k, v in self._rooms.info().items()}


class Rooms(Trials):
    """B episodes in rooms: what the Gymnasium environment and an evaluation step.

    position, goal  (B, 2) px; forbidden  (B, 3) disks of (x, y, radius), or None
    """

    signature = SIGNATURE
    shortest: Tensor

    def __init__(self, layout: Layout, start: Tensor, goal: Tensor, forbidden: Tensor | None, noise: float,
                 generator: torch.Generator) -> None:
        self.layout, self.position, self.goal, self.forbidden = layout, start, goal, forbidden
        self.shortest = rooms.shortest_path(layout, start, goal)
        self._before, self._touched = start, torch.zeros(len(layout), dtype=torch.bool)
        self._painter, self.noise, self._generator = Painter(layout, noise, generator), noise, generator

    def __len__(self) -> int:
        return len(self.layout)

    def first(self, count: int) -> Self:
        few = rows((self.layout, self.position, self.goal, self.forbidden), slice(count))
        return type(self)(*few, self.noise, self._generator)

    def goals(self) -> ObservationGoal:
        """Pictures with the agent at its goal."""
        return ObservationGoal({"image": self._frames(self.goal)})

    def observe(self) -> dict[str, Tensor]:
        return {"image": self._frames(self.position)}

    def _frames(self, position: Tensor) -> Tensor:
        return self._painter.frames(position[:, None], self._generator)[:, 0]

    def step(self, action: Tensor, moving: Tensor | None = None) -> None:
        way = displacement(action if moving is None else action * moving[:, None], len(self))
        self._before = self.position
        self.position, self._touched = rooms.move(self.layout, self.position, way)

    def solved(self) -> Tensor:
        return (self.position - self.goal).norm(dim=1) <= SUCCESS_RADIUS

    def bad(self) -> Tensor | None:
        """Did the last step, swept, enter the forbidden disk?"""
        if self.forbidden is None:
            return None
        return rooms.entered_disk(torch.stack([self._before, self.position], 1), self.forbidden)

    def painted(self) -> Tensor | None:
        return None if self.forbidden is None else rooms.disk_masks(self.forbidden)

    def where(self) -> Tensor:
        return self.position

    def checks(self, paths: Tensor) -> dict[str, Tensor]:
        return {"wall_crossings": rooms.crossed_wall(self.layout, paths)}

    def drift(self, generator: torch.Generator) -> Callable[[], Tensor]:
        """The strongest random walker we know: always the largest step, straight on, a new heading on contact."""
        heading: Tensor | None = None

        def act() -> Tensor:
            nonlocal heading
            fresh = 2 * math.pi * torch.rand(len(self), generator=generator)
            heading = fresh if heading is None else torch.where(self._touched, fresh, heading)
            return torch.stack([heading.cos(), heading.sin()], 1)

        return act

    def info(self) -> dict[str, Tensor]:
        """For evaluation and people, name -> (B, …)."""
        info: dict[str, Tensor] = {
            "position": self.position, "goal": self.goal, "shortest_path": self.shortest,
            "wall_x": self.layout.wall_x, "door_y": self.layout.door_y, "goal_image": self._frames(self.goal),
        }
        disk = self.forbidden
        if disk is None:
            return info
        clearance = (self.position - disk[:, :2]).norm(dim=1) - disk[:, 2]
        return info | {"forbidden": disk, "clearance": clearance, "bad": clearance < 0}
