"""Which scene an id names: Push-T, MiniGrid and dm-control are adapted, all else is any Gymnasium environment."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from steersman.core import ActionSpec
from steersman.worlds.filmed.anything import Filmable
from steersman.worlds.filmed.control import CONTROLS, DM_CONTROL, Control
from steersman.worlds.filmed.minigrid import MiniGrid, action_of_grid
from steersman.worlds.filmed.push_t import PushT
from steersman.worlds.filmed.scene import Scene


def make_scene(id: str, **options: Any) -> Scene:
    """The scene `id`, a new one: "gym_pusht/PushT-v0", "MiniGrid-...", "dm_control/DOMAIN-TASK", or what `make_env`
    takes, with options.

    Raises:
        UsageError: there is none, it draws no pictures, or a package that it needs is not installed.
    """
    if id == PushT.id:
        return PushT()
    if id.startswith("MiniGrid-"):
        return MiniGrid(id)
    if id.startswith(DM_CONTROL):
        return Control(id)
    return Filmable(id, **options)


@lru_cache
def action_of(id: str) -> ActionSpec:
    """What can be done in the scene `id`, found without drawing; where it is known, without its packages."""
    if id == PushT.id:
        return PushT.ACTION
    if id.startswith("MiniGrid-"):
        return action_of_grid(id)
    if id in CONTROLS:
        return CONTROLS[id].action
    scene = make_scene(id)
    try:
        return scene.action
    finally:
        scene.close()
