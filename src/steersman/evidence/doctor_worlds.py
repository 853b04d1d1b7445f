"""Logs without a fault, of worlds that have little in common: what the doctor must not invent anything about.

Equations only, vectorised over episodes, numpy only. Each world returns columns as a recorder would write them:
`episode`, `t`, observations, `action…`, exogenous inputs; the action of an episode's last row leads nowhere.

Shapes: E episodes, T rows each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Columns = dict[str, Array]
Generator = np.random.Generator


def _columns(observed: dict[str, Array], actions: dict[str, Array], period: float, **more: Array) -> Columns:
    """(E, T) arrays -> columns of E·T rows."""
    episodes, rows = next(iter(observed.values())).shape
    found: Columns = {
        "episode": np.repeat(np.arange(episodes), rows), "t": np.tile(np.arange(rows) * period, episodes)
    }
    found |= {name: value.reshape(-1) for name, value in (observed | actions | more).items()}
    return found


def pendulum(g: Generator, episodes: int = 60, rows: int = 120) -> Columns:
    """Gymnasium's Pendulum-v1 under uniform torques."""
    theta, speed = g.uniform(-np.pi, np.pi, episodes), g.uniform(-1, 1, episodes)
    u = g.uniform(-2, 2, (episodes, rows))
    kept = np.zeros((3, episodes, rows))
    for t in range(rows):
        kept[:, :, t] = np.cos(theta), np.sin(theta), speed
        speed = np.clip(speed + (15 * np.sin(theta) + 3 * u[:, t]) * 0.05, -8, 8)
        theta = theta + speed * 0.05
    return _columns(dict(zip(("cos", "sin", "speed"), kept, strict=True)), {"action": u}, 0.05)


def cartpole(g: Generator, episodes: int = 320, rows: int = 120) -> Columns:
    """CartPole-v1 under random pushes: two choices, short episodes that end when the pole falls."""
    x = g.uniform(-0.05, 0.05, (4, episodes))
    push = g.integers(0, 2, (episodes, rows))
    kept, alive = np.zeros((4, episodes, rows)), np.ones((episodes, rows), bool)
    for t in range(rows):
        kept[:, :, t] = x
        if t:
            alive[:, t] = alive[:, t - 1] & (np.abs(kept[0, :, t - 1]) < 2.4) & (np.abs(kept[2, :, t - 1]) < 0.2095)
        force = np.where(push[:, t] == 1, 10.0, -10.0)
        cos, sin = np.cos(x[2]), np.sin(x[2])
        temp = (force + 0.05 * x[3] ** 2 * sin) / 1.1
        turn = (9.8 * sin - cos * temp) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
        x = x + 0.02 * np.stack([x[1], temp - 0.05 * turn * cos / 1.1, x[3], turn])
    names = ("position", "speed", "angle", "turn")
    found = _columns(dict(zip(names, kept, strict=True)), {"action": push}, 0.02)
    return {name: value[alive.reshape(-1)] for name, value in found.items()}


def linear(g: Generator, episodes: int = 40, rows: int = 200) -> Columns:
    """A stable linear system of four states and two inputs, with process noise."""
    a = g.normal(size=(4, 4))
    a *= g.uniform(0.85, 0.97) / np.abs(np.linalg.eigvals(a)).max()
    b, noise = g.normal(size=(4, 2)), 10 ** g.uniform(-3, -0.7)
    u = g.uniform(-1, 1, (episodes, rows, 2))
    x, kept = g.normal(size=(episodes, 4)), np.zeros((episodes, rows, 4))
    for t in range(rows):
        kept[:, t] = x
        x = x @ a.T + u[:, t] @ b.T + noise * g.normal(size=x.shape)
    return _columns({f"x{i}": kept[..., i] for i in range(4)}, {f"action.{i}": u[..., i] for i in range(2)}, 1.0)


def plant(g: Generator, episodes: int = 1, rows: int = 9000) -> Columns:
    """One long record of a slow process: driven by noise as much as by its valve, measured with noise, a known feed."""
    feed = np.sin(np.arange(rows) / 60)[None] + 0.3 * _coloured(g, episodes, rows, 0.99)
    valve = np.clip(0.5 + 0.25 * _coloured(g, episodes, rows, 0.8), 0.02, 0.98 + 0 * feed)
    valve = 0.5 + 0.4 * np.tanh(valve - 0.5 + 0.4 * g.normal(size=valve.shape))
    x, kept = np.zeros((2, episodes)), np.zeros((2, episodes, rows))
    for t in range(rows):
        kept[:, :, t] = x
        level = 0.95 * x[0] + 0.4 * (valve[:, t] - 0.5) + 0.05 * feed[:, t] + 0.05 * g.normal(size=episodes)
        x = np.stack([level, 0.9 * x[1] + 0.1 * np.tanh(level) + 0.02 * g.normal(size=episodes)])
    kept = kept + 0.01 * g.normal(size=kept.shape)
    return _columns({"temperature": 60 + 10 * kept[0], "pressure": 2 + kept[1]}, {"action.valve": valve}, 30.0,
                    **{"exogenous.feed": feed})


def drifting(g: Generator, episodes: int = 60, rows: int = 150) -> Columns:
    """A point mass on a line and in it, pushed by coloured noise; nothing holds it in place."""
    u = np.stack([_coloured(g, episodes, rows, 0.7) for _ in range(2)], -1)
    u = np.tanh(u)
    x, v = np.zeros((episodes, 2)), np.zeros((episodes, 2))
    kept = np.zeros((episodes, rows, 4))
    for t in range(rows):
        kept[:, t] = np.concatenate([x, v], 1)
        x, v = x + 0.1 * v, 0.95 * v + 0.1 * u[:, t]
    return _columns({n: kept[..., i] for i, n in enumerate(("x", "y", "vx", "vy"))},
                    {"action.x": u[..., 0], "action.y": u[..., 1]}, 0.1)


def walls(g: Generator, episodes: int = 200, rows: int = 40) -> Columns:
    """A walker in two rooms: steps of at most .05, stopped by walls with one door; it pushes on for a while."""
    x = np.stack([g.uniform(0.05, 0.45, episodes), g.uniform(0.05, 0.95, episodes)], 1)
    heading = g.uniform(0, 2 * np.pi, episodes)
    kept, acts = np.zeros((episodes, rows, 2)), np.zeros((episodes, rows, 2))
    for t in range(rows):
        kept[:, t] = x
        heading = np.where(g.random(episodes) < 0.2, g.uniform(0, 2 * np.pi, episodes), heading)
        speed = 0.05 * np.sqrt(g.random(episodes))
        u = np.stack([speed * np.cos(heading), speed * np.sin(heading)], 1)
        acts[:, t] = u
        new = x + u
        door = np.abs(x[:, 1] - 0.5) < 0.12
        crossing = ((x[:, 0] - 0.5) * (new[:, 0] - 0.5) <= 0) & ~door
        new[:, 0] = np.where(crossing, x[:, 0], new[:, 0])
        x = np.clip(new, 0.0, 1.0)
    return _columns({"x": kept[..., 0], "y": kept[..., 1]}, {"action.dx": acts[..., 0], "action.dy": acts[..., 1]}, 1.0)


def regulated(g: Generator, episodes: int = 40, rows: int = 200) -> Columns:
    """A controller follows set-points and tries things on the way: a closed loop with exploration."""
    x, v = g.normal(size=episodes), np.zeros(episodes)
    target = g.normal(size=episodes)
    kept, acts = np.zeros((2, episodes, rows)), np.zeros((episodes, rows))
    for t in range(rows):
        target = np.where(g.random(episodes) < 0.02, g.normal(size=episodes), target)
        kept[:, :, t] = x, v
        u = 2.0 * (target - x) - 1.0 * v + 0.7 * g.normal(size=episodes)
        acts[:, t] = u
        x, v = x + 0.1 * v, v + 0.1 * (u - 0.5 * v - 0.3 * x**3) + 0.01 * g.normal(size=episodes)
    return _columns({"position": kept[0], "speed": kept[1]}, {"action": acts}, 0.1)


def oscillator(g: Generator, episodes: int = 50, rows: int = 160) -> Columns:
    """Van der Pol with an input that is held for several rows."""
    held = np.repeat(g.uniform(-1, 1, (episodes, rows // 4)), 4, 1)
    x, kept = g.uniform(-2, 2, (2, episodes)), np.zeros((2, episodes, rows))
    for t in range(rows):
        kept[:, :, t] = x
        for _ in range(5):
            x = x + 0.02 * np.stack([x[1], 1.5 * (1 - x[0] ** 2) * x[1] - x[0] + 2 * held[:, t]])
    return _columns({"u": kept[0], "w": kept[1]}, {"action": held}, 0.1)


def mountain(g: Generator, episodes: int = 40, rows: int = 200) -> Columns:
    """MountainCar with continuous pushes: the action is weak, the left end is a wall."""
    x, v = g.uniform(-0.6, -0.4, episodes), np.zeros(episodes)
    u, kept = g.uniform(-1, 1, (episodes, rows)), np.zeros((2, episodes, rows))
    for t in range(rows):
        kept[:, :, t] = x, v
        v = np.clip(v + 0.0015 * u[:, t] - 0.0025 * np.cos(3 * x), -0.07, 0.07)
        x = np.clip(x + v, -1.2, 0.6)
        v = np.where((x <= -1.2) & (v < 0), 0.0, v)
    return _columns({"position": kept[0], "speed": kept[1]}, {"action": u}, 1.0)


def _coloured(g: Generator, episodes: int, rows: int, keep: float) -> Array:
    """First-order noise of deviation 1."""
    z, out = g.normal(size=episodes), np.zeros((episodes, rows))
    for t in range(rows):
        out[:, t] = z
        z = keep * z + np.sqrt(1 - keep**2) * g.normal(size=episodes)
    return out


WORLDS: dict[str, Callable[[Generator], Columns]] = {
    "pendulum": pendulum, "cartpole": cartpole, "linear": linear, "plant": plant, "drifting": drifting,
    "walls": walls, "regulated": regulated, "oscillator": oscillator, "mountain": mountain,
}
