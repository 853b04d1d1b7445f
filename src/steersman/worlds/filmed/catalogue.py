"""Worlds of others behind a camera by name, with goals and success, for protocols and the command line.

Their logs hold pictures and actions only; what is true is told of a few labelled frames (`World.labelled`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from steersman.worlds.filmed.minigrid import FilmedGrid
from steersman.worlds.filmed.push_t import FilmedPushT
from steersman.worlds.filmed.reach import FilmedReach
from steersman.worlds.filmed.world import Filmed


def _by_picture(world: Filmed) -> Filmed:
    """The same world, its goals told as pictures."""
    changed: dict[str, Any] = {"told": "picture"}
    return msgspec.structs.replace(world, **changed)


_COLUMNS: dict[str, Filmed] = {
    "pendulum-pixels": FilmedReach(
        id="Pendulum-v1", goal={"cos": 1.0, "sin": 0.0, "speed": 0.0},
        reached={"cos": (0.98, 1.0), "speed": (-0.5, 0.5)}, sustained=True),
    "cartpole-pixels": FilmedReach(
        id="CartPole-v1", goal={"angle": 0.0, "position": 0.0},
        reached={"angle": (-0.2095, 0.2095), "position": (-2.4, 2.4)}, scale={"angle": 0.2095, "position": 2.4},
        sustained=True, limit=500, hold=2.0, scripted=0.5),
    "acrobot-pixels": FilmedReach(
        id="Acrobot-v1", goal={"height": 2.0}, reached={"height": (1.0, 2.0)}, limit=500, scripted=0.5),
    "mountain-car-pixels": FilmedReach(
        id="MountainCarContinuous-v0", goal={"position": 0.46}, reached={"position": (0.45, 0.6)}, limit=999,
        hold=20.0, scripted=0.5),
    "push-t": FilmedPushT(),
    "reacher-pixels": FilmedReach(
        id="dm_control/reacher-easy", goal={"to_target_x": 0.0, "to_target_y": 0.0},
        reached={"to_target_x": (-0.04, 0.04), "to_target_y": (-0.04, 0.04)}, scored="success"),
}
_GRIDS: dict[str, Filmed] = {
    "empty-8x8": FilmedGrid(id="MiniGrid-Empty-8x8-v0"),
    "door-key-6x6": FilmedGrid(id="MiniGrid-DoorKey-6x6-v0"),
    "simple-crossing": FilmedGrid(id="MiniGrid-SimpleCrossingS9N1-v0"),
}
FILMED: dict[str, Filmed] = {
    **_COLUMNS, **{f"{name}-by-picture": _by_picture(world) for name, world in _COLUMNS.items()}, **_GRIDS}
"""NAME tells the goal by columns, NAME-by-picture by the goal's picture alone, from the same starts; grids are told by
a picture. CartPole's log is half a script that balances (chance falls within 20 steps), Acrobot's and MountainCar's
half a script that swings up."""
