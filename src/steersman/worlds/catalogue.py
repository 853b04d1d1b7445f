"""The worlds of our own and those behind cameras by name; any other name is a Gymnasium environment's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from steersman.worlds.arm import Arm
from steersman.worlds.branching import Fork, Gate, Traffic
from steersman.worlds.corridor import Corridor
from steersman.worlds.filmed.camera import Camera, CameraEnv
from steersman.worlds.filmed.catalogue import FILMED
from steersman.worlds.filmed.scenes import make_scene
from steersman.worlds.grids import Maze
from steersman.worlds.gymnasium import GymnasiumWorld, make_env
from steersman.worlds.hazards_env import Hazards
from steersman.worlds.lqr import Rest
from steersman.worlds.nine_rooms import NineRooms
from steersman.worlds.reactor import Plant
from steersman.worlds.trials import World
from steersman.worlds.two_rooms import TwoRooms

OURS: dict[str, World] = {
    "two-rooms": TwoRooms.Config(),
    "held-out": TwoRooms.Config.held_out(),
    "three-rooms": TwoRooms.Config.three_rooms(),
    "hazards": Hazards.Config(),
    "hazards-pixels": Hazards.Config(look="picture", still=4, moving=0, radius=(0.7, 1.0)),
    "arm": Arm(),
    "reactor": Plant(),
    "corridor": Corridor.Config(),
    "fork": Fork(),
    "fork-pixels": Fork(look="picture"),
    "gate": Gate(),
    "traffic": Traffic(),
    "grid": Maze(),
    "lqr": Rest(),
    "nine-rooms": NineRooms(),
}
"""Walls and doors of "held-out" stand where the log of "two-rooms" never shows them. In "hazards-pixels" an obstacle
lies on the straight way to 4 goals of 10."""


def make_world(id: str, *, low: Sequence[float] = (), high: Sequence[float] = (), pixels: int | None = None,
               **kwargs: Any) -> GymnasiumWorld:
    """A world by its name (`OURS`, `FILMED`), or else the Gymnasium environment `id`, see `make_env`.

    pixels  see the environment through its camera, as pictures of this size, whatever it observes itself

    >>> make_world("Pendulum-v1").signature.observations["vector"].columns
    ('cos', 'sin', 'speed')
    >>> make_world("Pendulum-v1", pixels=64).signature.observations["image"].shape
    (64, 64, 3)

    Raises:
        UsageError: an unknown id, a package that the environment needs and that is not installed, a world of ours
            that is no Gymnasium environment, or one that draws no pictures.
        MismatchError: spaces that are not understood.
        ConfigError: pictures that are too small.
    """
    if id in OURS:
        return GymnasiumWorld(OURS[id].env(), low=low, high=high)
    if id in FILMED:
        return GymnasiumWorld(FILMED[id].env())
    if pixels is not None:
        return GymnasiumWorld(CameraEnv(Camera(make_scene(id, low=low, high=high, **kwargs), pixels)))
    return GymnasiumWorld(make_env(id, **kwargs), low=low, high=high)
