"""dm-control's suite as scenes, drawn in software where there is a renderer: DOMAIN-TASK by name, from its own camera.

Whether a renderer works is found out in a process of its own, which a driver may bring down.

Shapes: A action size, C columns.
"""

from __future__ import annotations

import functools
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steersman.core import ActionSpec, UsageError
from steersman.core.extras import require
from steersman.worlds.filmed.scene import Array, Consequence, Scene, placing

DM_CONTROL = "dm_control/"
_RENDERERS = ("egl", "osmesa")
_PROBE = "from dm_control import mujoco; mujoco.Physics.from_xml_string('<mujoco/>').render(8, 8)"
_FLAT = {"shadow": False, "reflection": False}


@dataclass(frozen=True)
class Known:
    """What is known of a task without making it.

    action   its actions
    columns  what the entries of its observation are
    joints   the generalised positions where columns have given values, from the physics and those values
    script   columns -> what to do
    """

    action: ActionSpec
    columns: tuple[str, ...]
    joints: Callable[[Any, Mapping[str, float]], list[float]]
    script: Callable[[Mapping[str, float]], list[float]]


_LINK = 0.12  # m, of both links of the reacher


def _reach(physics: Any, values: Mapping[str, float]) -> list[float]:
    """The angles of an arm of two links whose end misses the target by (to_target_x, to_target_y)."""
    target = physics.named.model.geom_pos["target"]
    x, y = float(target[0]) - values["to_target_x"], float(target[1]) - values["to_target_y"]
    bend = math.acos(max(-1.0, min(1.0, (x * x + y * y) / (2 * _LINK * _LINK) - 1)))
    return [math.atan2(y, x) - bend / 2, bend]


def _pull(now: Mapping[str, float]) -> list[float]:
    """Pull the arm's end to the target, against its speed: J^T to_target, damped."""
    whole = now["shoulder"] + now["wrist"]
    near = (-_LINK * math.sin(now["shoulder"]), _LINK * math.cos(now["shoulder"]))
    far = (-_LINK * math.sin(whole), _LINK * math.cos(whole))
    x, y = now["to_target_x"], now["to_target_y"]
    wrist = far[0] * x + far[1] * y
    return [60 * (near[0] * x + near[1] * y + wrist) - 0.3 * now["speed_shoulder"],
            60 * wrist - 0.3 * now["speed_wrist"]]


CONTROLS: Mapping[str, Known] = {
    "dm_control/reacher-easy": Known(
        ActionSpec("continuous", low=(-1.0, -1.0), high=(1.0, 1.0), names=("shoulder", "wrist")),
        ("shoulder", "wrist", "to_target_x", "to_target_y", "speed_shoulder", "speed_wrist"), _reach, _pull),
}


class Control(Scene):
    """A task of dm-control's suite, "dm_control/DOMAIN-TASK", seen by its first camera, without shadows (which a
    software renderer spends half its time on). An episode has no end of its own.

    Raises:
        UsageError: dm-control is not installed, no such task, or nothing here draws without a display.
    """

    def __init__(self, id: str) -> None:
        self.id, domain_task = id, id.removeprefix(DM_CONTROL)
        domain, _, task = domain_task.partition("-")
        _use_renderer()
        suite = require("dm_control.suite", "dm-control")
        if (domain, task) not in suite.ALL_TASKS:
            near = sorted(f"{one}-{other}" for one, other in suite.ALL_TASKS if one == domain) or ["reacher-easy"]
            raise UsageError("a task of dm-control's suite, dm_control/DOMAIN-TASK", repr(id), f"try {near[0]}")
        self._env: Any = suite.load(domain, task, task_kwargs={"random": 0})
        self._known = CONTROLS.get(id)
        spec = self._env.action_spec()
        self.action = self._known.action if self._known else ActionSpec(
            "continuous", low=tuple(float(x) for x in spec.minimum), high=tuple(float(x) for x in spec.maximum))
        seen = self._env.reset().observation
        self.columns = self._known.columns if self._known else tuple(
            f"{name}.{i}" for name, values in seen.items() for i in range(np.size(values)))
        self._now = _flat(seen)

    def reset(self, seed: int) -> None:
        self._env.task.random.seed(seed)
        self._now = _flat(self._env.reset().observation)

    def step(self, action: Tensor) -> Consequence:
        moment = self._env.step(action.numpy().astype(np.float64))
        self._now = _flat(moment.observation)
        return Consequence(float(moment.reward or 0.0), truncated=bool(moment.last()))

    def picture(self, size: int) -> Array:
        drawn: Array = self._env.physics.render(size, size, camera_id=0, render_flag_overrides=_FLAT)
        return drawn

    def truth(self) -> Array:
        return self._now

    def place(self, values: Mapping[str, float]) -> None:
        if self._known is None:
            super().place(values)
            return
        physics = self._env.physics
        with placing(self.id, values), physics.reset_context():
            physics.data.qpos[:] = self._known.joints(physics, values)
        self._now = _flat(self._env.task.get_observation(physics))

    def scripted(self, generator: torch.Generator) -> Tensor:
        if self._known is None:
            return super().scripted(generator)
        wanted = torch.tensor(self._known.script(dict(zip(self.columns, self._now.tolist(), strict=True))))
        return wanted.clamp(torch.tensor(self.action.low), torch.tensor(self.action.high))

    def close(self) -> None:
        self._env.close()


def _flat(observation: Mapping[str, Any]) -> Array:
    return np.concatenate([np.ravel(value) for value in observation.values()]).astype(np.float32)


def _use_renderer() -> None:
    """Choose what draws, before dm-control is imported: what MUJOCO_GL says, or the first that works."""
    require("dm_control", "dm-control")
    if "dm_control._render" in sys.modules:
        return
    name = renderer(os.environ.get("MUJOCO_GL", ""))
    if name is None:
        raise UsageError(f"a renderer that draws without a display ({' or '.join(_RENDERERS)}) for dm-control",
                         "none that works", "install EGL or OSMesa of Mesa")
    os.environ["MUJOCO_GL"] = name


@functools.cache
def renderer(asked: str = "") -> str | None:
    """The first renderer, or the one that is asked for, that draws a picture in a process of its own; None: none does.
    """
    for name in (asked,) if asked else _RENDERERS:
        try:
            tried = subprocess.run([sys.executable, "-c", _PROBE], env={**os.environ, "MUJOCO_GL": name},
                                   capture_output=True, timeout=120, check=False)
        except subprocess.TimeoutExpired:  # a driver that hangs
            continue
        if tried.returncode == 0:
            return name
    return None
