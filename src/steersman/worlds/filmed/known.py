"""What is known of some of Gymnasium's own environments: how to film them, where their goals are, a script for each.

The one place that knows these worlds by name; every other environment is filmed as it is.

Angles in radians, speeds in radians or units a second, as the environments have them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from steersman.worlds.filmed.scene import Fit

Values = Mapping[str, float]


@dataclass(frozen=True)
class Known:
    """What is known of one environment.

    put         puts the unwrapped environment where columns have values; -> its observation there
    script      columns -> what to do, for a log that shows more than chance does
    attributes  set on the unwrapped environment before it draws: a smaller window that shows the same
    fit         see `camera.square`
    derived     column -> how it follows from the observation's
    """

    put: Callable[[Any, Values], Any]
    script: Callable[[Values], float]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    fit: Fit = "pad"
    derived: Mapping[str, Callable[[Values], float]] = field(default_factory=dict)


def _put_pendulum(env: Any, values: Values) -> Any:
    angle = math.atan2(values.get("sin", 0.0), values["cos"])
    env.state, env.last_u = np.array([angle, values.get("speed", 0.0)]), None
    return np.array([math.cos(angle), math.sin(angle), values.get("speed", 0.0)], np.float32)


def _swing_pendulum(now: Values) -> float:
    """Bring the energy w^2 / 2 + 15 cos(angle) to that of standing, then hold."""
    angle, speed = math.atan2(now["sin"], now["cos"]), now["speed"]
    if now["cos"] > 0.85:
        return -10 * angle - 2 * speed
    missing = 15.0 - (0.5 * speed**2 + 15 * now["cos"])
    return 2.0 * math.copysign(1.0, speed if missing > 0 else -speed)


def _put_cart(env: Any, values: Values) -> Any:
    env.state = tuple(values.get(name, 0.0) for name in ("position", "speed", "angle", "turn"))
    return np.array(env.state, np.float32)


def _balance_cart(now: Values) -> float:
    return float(now["angle"] + 0.3 * now["turn"] + 0.03 * now["position"] + 0.06 * now["speed"] > 0)


def _put_acrobot(env: Any, values: Values) -> Any:
    """A straight arm whose end is at `height`."""
    first = math.acos(max(-1.0, min(1.0, -values["height"] / 2)))
    env.state = np.array([first, 0.0, 0.0, 0.0])
    return np.array([math.cos(first), math.sin(first), 1.0, 0.0, 0.0, 0.0], np.float32)


def _swing_acrobot(now: Values) -> float:
    """Torque against the first joint's motion, which pumps energy into both."""
    return 0.0 if now["speed1"] > 0 else 2.0


def _height(now: Values) -> float:
    """Of the arm's end over the hinge, in lengths of a link: -cos a - cos(a + b)."""
    return -now["cos1"] - (now["cos1"] * now["cos2"] - now["sin1"] * now["sin2"])


def _put_car(env: Any, values: Values) -> Any:
    env.state = np.array([values["position"], values.get("speed", 0.0)])
    return np.array(env.state, np.float32)


def _pump_car(now: Values) -> float:
    return 1.0 if now["speed"] >= 0 else -1.0


_CART = Known(_put_cart, _balance_cart, fit="crop")
KNOWN: Mapping[str, Known] = {
    "Pendulum-v1": Known(_put_pendulum, _swing_pendulum, {"screen_dim": 256}),
    "CartPole-v0": _CART,
    "CartPole-v1": _CART,
    "Acrobot-v1": Known(_put_acrobot, _swing_acrobot, {"SCREEN_DIM": 256}, derived={"height": _height}),
    "MountainCar-v0": Known(_put_car, lambda now: 2.0 if now["speed"] >= 0 else 0.0),
    "MountainCarContinuous-v0": Known(_put_car, _pump_car),
}
"""The windows of Pendulum and Acrobot scale with what they show (256 = 4 x 64 pixels draws in a third of the time).
CartPole's and MountainCar's hold sizes in pixels and stay as they are. CartPole is seen from -1.5 to 1.5 m of its
4.8 m: its pole, 2 pixels of tip in the whole picture, moves by 4."""
