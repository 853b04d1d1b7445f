"""Which scene an id names: Push-T, MiniGrid and dm-control are adapted, all else is any Gymnasium environment."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from steersman.core import ActionSpec
from steersman.worlds.filmed.anything import Filmable
from steersman.worlds.filmed.camera import Fit
from steersman.worlds.filmed.known import KNOWN
from steersman.worlds.filmed.scene import Scene


def make_scene(id: str, **options: Any) -> Scene:
    """The scene `id`, a new one: "gym_pusht/PushT-v0", "MiniGrid-...", "dm_control/DOMAIN-TASK", or what `make_env`
    takes.

    Raises:
        UsageError: there is none, it draws no pictures, or a package that it needs is not installed.
    """
    return Filmable(id, **options)


@lru_cache
def action_of(id: str) -> ActionSpec:
    """What can be done in the scene `id`, found without drawing."""
    scene = make_scene(id)
    try:
        return scene.action
    finally:
        scene.close()


def fit_of(id: str) -> Fit:
    """How pictures of the scene `id` are best made square."""
    return KNOWN[id].fit if id in KNOWN else "pad"
