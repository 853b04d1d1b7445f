"""What can go wrong with a log, planted into a clean one: at several strengths, each with what the doctor must say.

A fault takes columns as `doctor_worlds` makes them and gives them back broken. Shapes: R rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from steersman.evidence.doctor_worlds import Array, Columns, Generator

Plant = Callable[[Columns, Generator, float], Columns]
Rule = Callable[[Columns, Array, Generator, float], Array]
"""Columns, values (R,) of the one that changes, generator, strength -> its new values."""


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    plant      the clean columns and a strength -> broken columns
    says       kinds of findings, any of which names it
    strengths  to plant it at
    worlds     in which it makes sense (empty: all)
    """

    plant: Plant
    says: tuple[str, ...]
    strengths: tuple[float, ...]
    worlds: tuple[str, ...] = ()


# What a fault is planted into ----------------------------------------------------------------------------------------


def observed(c: Columns) -> list[str]:
    return [n for n in c if n not in ("episode", "t", "camera") and not n.startswith(("action", "exogenous"))]


def acted(c: Columns) -> list[str]:
    return [n for n in c if n.startswith("action")]


def taken(c: Columns, index: Array) -> Columns:
    return {name: value[index] for name, value in c.items()}


def begins(c: Columns) -> Array:
    """(R,) whether a row begins an episode."""
    return np.diff(c["episode"], prepend=c["episode"][0] - 1) != 0


def start_of(c: Columns) -> Array:
    """(R,) the row at which a row's episode begins."""
    found: Array = np.maximum.accumulate(np.where(begins(c), np.arange(len(c["t"])), 0))
    return found


def counted_anew(c: Columns, period: float) -> Columns:
    """The rows of each episode, timed as if none were missing or added."""
    return c | {"t": (np.arange(len(c["t"])) - start_of(c)) * period}


def shift(c: Columns, value: Array, by: int) -> Array:
    """value[t + by] within each episode; at the ends the nearest row."""
    ends = np.append(np.flatnonzero(begins(c))[1:], len(value)) - 1
    last = np.repeat(ends, np.diff(np.append(np.flatnonzero(begins(c)), len(value))))
    return value[np.clip(np.arange(len(value)) + by, start_of(c), last)]


def some_of(g: Generator, names: list[str]) -> str:
    return str(names[int(g.integers(len(names)))])


def some_rows(c: Columns, g: Generator, count: float) -> Array:
    return g.choice(len(c["t"]), int(count), replace=False)


def some_episodes(c: Columns, g: Generator, count: int) -> Array:
    """(R,) whether a row is of one of `count` episodes that are drawn."""
    return np.isin(c["episode"], g.choice(np.unique(c["episode"]), count, replace=False))


def put(value: Array, rows: Array, new: Any) -> Array:
    """Numbers with others in some rows."""
    value = value.astype(float).copy()
    value[rows] = new
    return value


def copies(c: Columns, g: Generator, count: int) -> Columns:
    """`count` episodes once more at the end, under names of their own."""
    ids = np.unique(c["episode"])
    parts = [np.flatnonzero(c["episode"] == i) for i in g.choice(ids, count, replace=False)]
    more = np.concatenate([np.full(len(p), ids.max() + 1 + k) for k, p in enumerate(parts)])
    whole = taken(c, np.concatenate([np.arange(len(c["t"])), *parts]))
    return whole | {"episode": np.concatenate([c["episode"], more])}


# Plants that change columns by a rule --------------------------------------------------------------------------------


def a_column(rule: Rule) -> Plant:
    """One observed column, drawn at random."""

    def plant(c: Columns, g: Generator, strength: float) -> Columns:
        name = some_of(g, observed(c))
        return c | {name: rule(c, c[name], g, strength)}

    return plant


def actions(rule: Rule) -> Plant:
    """Every action."""
    return lambda c, g, strength: c | {name: rule(c, c[name], g, strength) for name in acted(c)}


def first_action(rule: Rule) -> Plant:
    return lambda c, g, strength: c | {acted(c)[0]: rule(c, c[acted(c)[0]], g, strength)}


def added(make: Callable[[Columns, Generator, float], Array]) -> Plant:
    """One more column."""
    return lambda c, g, strength: {**c, "aux": make(c, g, strength)}


# Plants and rules ----------------------------------------------------------------------------------------------------


def gaps(c: Columns, g: Generator, strength: float) -> Columns:
    keep = np.ones(len(c["t"]), bool)
    inner = np.flatnonzero(~begins(c))
    for start in g.choice(inner, max(2, int(strength * len(keep))), replace=False):
        keep[start : start + int(g.integers(1, 6))] = False
    keep |= begins(c)
    return taken(c, np.flatnonzero(keep))


def shuffled(c: Columns, g: Generator, strength: float) -> Columns:
    order = g.permutation(len(c["t"]))
    return c | {name: c[name][order] for name in acted(c)}


def dead(c: Columns, g: Generator, strength: float) -> Columns:
    name = some_of(g, acted(c))
    return c | {name: g.permutation(c[name])}


def copied_episodes(c: Columns, g: Generator, strength: float) -> Columns:
    return copies(c, g, max(1, int(strength * len(np.unique(c["episode"])))))


def copied_stretch(c: Columns, g: Generator, strength: float) -> Columns:
    size = int(strength * len(c["t"]))
    whole = taken(c, np.concatenate([np.arange(len(c["t"])), np.arange(100, 100 + size)]))
    whole["episode"] = np.concatenate([c["episode"], c["episode"][100 : 100 + size] + c["episode"].max() + 1])
    return whole


def future(c: Columns, g: Generator, strength: float) -> Array:
    name = some_of(g, observed(c))
    step = np.abs(np.diff(c[name])).mean()
    return shift(c, c[name], 1) + strength * step * g.normal(size=len(c["t"]))


def reward(c: Columns, g: Generator, strength: float) -> Columns:
    names = observed(c)
    after = np.stack([shift(c, c[n], 1) for n in names], 1)
    z = (after - after.mean(0)) / after.std(0)
    a = np.stack([c[n] for n in acted(c)], 1)
    return {**c, "score": -(z**2).sum(1) - strength * ((a / np.abs(a).max()) ** 2).sum(1) + a.sum(1) / np.abs(a).max()}


def lone_rows(c: Columns, g: Generator, strength: float) -> Columns:
    count = int(strength)
    whole = taken(c, np.concatenate([np.arange(len(c["t"])), g.integers(0, len(c["t"]), count)]))
    return whole | {"episode": np.concatenate([c["episode"], c["episode"].max() + 1 + np.arange(count)])}


def interleaved(c: Columns, g: Generator, strength: float) -> Columns:
    return taken(c, np.argsort(c["t"] + 1e-9 * c["episode"], kind="stable"))


def back(c: Columns, g: Generator, strength: float) -> Columns:
    order = np.arange(len(c["t"]))
    inside = ~begins(c)
    whole = np.flatnonzero(inside[:-3] & inside[1:-2] & inside[2:-1] & inside[3:])
    for at in g.choice(whole, int(strength), replace=False):
        order[at : at + 4] = order[at : at + 4][::-1].copy()
    return taken(c, order)


def still(c: Columns, g: Generator, strength: float) -> Columns:
    period = c["t"][1] - c["t"][0]
    return c | {"t": np.floor(c["t"] / period / strength + 1e-6) * period * strength}


def jitter(c: Columns, g: Generator, strength: float) -> Columns:
    period = c["t"][1] - c["t"][0]
    return c | {"t": c["t"] + period * np.clip(strength * g.normal(size=len(c["t"])), -0.49, 0.49)}


def unmarked(c: Columns, g: Generator, strength: float) -> Columns:
    return {name: value for name, value in c.items() if name != "episode"}


def run_together(c: Columns, g: Generator, strength: float) -> Columns:
    return unmarked(c, g, strength) | {"t": np.arange(len(c["t"])) * (c["t"][1] - c["t"][0])}


def clipped(c: Columns, x: Array, g: Generator, strength: float) -> Array:
    found: Array = np.clip(x, *np.quantile(x, [strength / 2, 1 - strength / 2]))
    return found


def slow(c: Columns, x: Array, g: Generator, strength: float) -> Array:
    every, start = int(strength), start_of(c)
    return x[start + (np.arange(len(x)) - start) // every * every]


def stuck(c: Columns, x: Array, g: Generator, strength: float) -> Array:
    x = x.copy()
    for start in g.integers(0, len(x) - 200, 4):
        x[start : start + int(strength)] = x[start]
    return x


def spikes(c: Columns, x: Array, g: Generator, strength: float) -> Array:
    at = g.choice(len(x), 12, replace=False)
    leap = strength * np.ptp(x) * g.uniform(0.8, 1.2, 12) * g.choice([-1, 1], 12)
    return put(x, at, x[at] + leap)


def sentinel(c: Columns, x: Array, g: Generator, strength: float) -> Array:
    return put(x, some_rows(c, g, max(5, 0.003 * len(x))), np.round(x.min() - strength * np.ptp(x) - 10))


def repeated(c: Columns, g: Generator, strength: float) -> Columns:
    times = int(strength)
    whole = taken(c, np.repeat(np.arange(len(c["t"])), times))
    period = c["t"][1] - c["t"][0]
    return whole | {"t": whole["t"] + np.tile(np.arange(times), len(c["t"])) * period / times}


def twice(c: Columns, g: Generator, strength: float) -> Columns:
    more = some_rows(c, g, max(5, strength * len(c["t"])))
    return counted_anew(taken(c, np.sort(np.concatenate([np.arange(len(c["t"])), more]))), c["t"][1] - c["t"][0])


def frozen(c: Columns, g: Generator, strength: float) -> Columns:
    changed = dict(c)
    first = begins(c)
    for start in g.integers(0, len(c["t"]) - 200, 6):
        stop = start + int(strength)
        if not first[start + 1 : stop].any():
            for name in observed(c):
                changed[name] = changed[name].copy()
                changed[name][start:stop] = changed[name][start]
    return changed


def hidden(c: Columns, g: Generator, strength: float) -> Columns:
    gone = {"speed", "turn", "vx", "vy", "w"}
    return {name: value for name, value in c.items() if name not in gone}


def a_sixth(c: Columns, g: Generator) -> Array:
    """(R,) whether a row is of a sixth of the episodes."""
    return some_episodes(c, g, len(np.unique(c["episode"])) // 6)


def wrapped(c: Columns, g: Generator, strength: float) -> Columns:
    angle = np.arctan2(c["sin"], c["cos"]) * (180 / np.pi if strength > 1 else 1.0)
    return {"episode": c["episode"], "t": c["t"], "angle": angle, "speed": c["speed"], "action": c["action"]}


def inverted(c: Columns, g: Generator, strength: float) -> Columns:
    odd = some_episodes(c, g, max(2, int(strength * len(np.unique(c["episode"])))))
    return c | {name: np.where(odd, -c[name], c[name]) for name in acted(c)}


def words(c: Columns, x: Array, g: Generator, strength: float) -> Array:
    value = x.astype(str).astype(object)
    value[some_rows(c, g, strength)] = "ERR"
    return value


def narrow(c: Columns, x: Array, g: Generator, strength: float) -> Array:
    extremes = x.max() * g.choice([-1, 1], 20)
    return put(strength * (x - x.mean()), some_rows(c, g, 20), extremes)


EPISODIC = ("pendulum", "linear", "drifting", "walls", "regulated", "oscillator", "mountain")
SMOOTH = ("pendulum", "linear", "drifting", "regulated", "oscillator", "mountain", "cartpole", "plant")
AMOUNTS = ("pendulum", "linear", "plant", "drifting", "walls", "regulated", "mountain")
SHARP = ("pendulum", "linear", "drifting", "regulated", "mountain", "cartpole", "walls")

FAULTS: dict[str, Fault] = {
    "missing values": Fault(
        a_column(lambda c, x, g, s: put(x, some_rows(c, g, max(1, s * len(x))), np.nan)),
        ("missing-values",), (0.0005, 0.02, 0.3)),
    "lost rows": Fault(gaps, ("gaps",), (0.0005, 0.01)),
    "a constant column": Fault(added(lambda c, g, s: np.full(len(c["t"]), s)), ("constant-column",), (0.0, 7.5)),
    "a copied column": Fault(
        added(lambda c, g, s: s * c[some_of(g, observed(c))] + 3.0), ("duplicate-column",), (1.0, -0.001, 57.3)),
    "saturated actions": Fault(first_action(clipped), ("saturated-actions",), (0.2, 0.6), AMOUNTS),
    "a delay": Fault(actions(lambda c, x, g, s: shift(c, x, int(s))), ("delay",), (1, 2, 5), SHARP),
    "the action one row late": Fault(
        actions(lambda c, x, g, s: shift(c, x, -1)),
        ("action-one-row-late",), (1,), ("pendulum", "linear", "mountain")),
    "shuffled actions": Fault(shuffled, ("no-effect",), (1,)),
    "a dead actuator": Fault(dead, ("dead-action",), (1,), ("linear", "drifting", "walls")),
    "copied episodes": Fault(copied_episodes, ("duplicate-episodes",), (0.02, 0.3), (*EPISODIC, "cartpole")),
    "a copied stretch": Fault(copied_stretch, ("repeated-stretches", "duplicate-episodes"), (0.02, 0.2), EPISODIC),
    "the future in a column": Fault(added(future), ("future-column", "knows-action"), (0.0, 0.03), SMOOTH),
    "the reward in a column": Fault(reward, ("knows-action",), (0.1, 1.0), ("linear", "regulated", "walls")),
    "the action in a column": Fault(
        added(lambda c, g, s: s * c[acted(c)[0]]), ("action-in-observation",), (1.0, -20.0)),
    "one-row episodes": Fault(lone_rows, ("one-row-episodes",), (1, 20)),
    "interleaved episodes": Fault(interleaved, ("interleaved-episodes",), (1,), EPISODIC),
    "time that goes back": Fault(back, ("time-goes-back",), (1, 30)),
    "time that stands still": Fault(still, ("repeated-times",), (2, 5)),
    "irregular sampling": Fault(jitter, ("irregular-sampling",), (0.3, 0.45)),
    "episodes without a mark": Fault(unmarked, ("unmarked-episodes",), (1,), EPISODIC),
    "episodes run together": Fault(run_together, ("unmarked-resets",), (1,), ("pendulum", "cartpole", "drifting",
                                                                              "walls", "mountain")),
    "a slow column": Fault(a_column(slow), ("slow-column",), (3, 10, 25), SMOOTH),
    "a sparse column": Fault(
        a_column(lambda c, x, g, s: put(x, np.arange(len(x)) % int(s) != 0, np.nan)), ("slow-column",), (3, 20)),
    "a stuck sensor": Fault(a_column(stuck), ("stuck-sensor",), (20, 100), SMOOTH),
    "spikes": Fault(a_column(spikes), ("spikes",), (2.0, 20.0), SMOOTH),
    "a code for no value": Fault(a_column(sentinel), ("sentinel-values",), (3.0, 1000.0)),
    "rows written several times": Fault(repeated, ("repeated-rows",), (2, 5)),
    "rows written twice": Fault(twice, ("duplicated-rows",), (0.002, 0.05), AMOUNTS),
    "a frozen recorder": Fault(frozen, ("frozen-rows", "stuck-sensor"), (20, 35), SMOOTH),
    "a hidden speed": Fault(hidden, ("hidden-state",), (1,), ("pendulum", "cartpole", "drifting", "mountain",
                                                              "oscillator")),
    "pure noise": Fault(added(lambda c, g, s: s * g.normal(size=len(c["t"]))), ("noise-column",), (0.01, 100.0)),
    "a counter": Fault(added(lambda c, g, s: s * np.arange(len(c["t"]))), ("counter",), (1.0, 0.01)),
    "another unit in some episodes": Fault(
        a_column(lambda c, x, g, s: np.where(a_sixth(c, g), x * s, x)), ("scale-change",), (57.3, 0.001), EPISODIC),
    "an offset in some episodes": Fault(
        a_column(lambda c, x, g, s: x + a_sixth(c, g) * s * np.ptp(x)),
        ("level-change",), (20.0, 273.0),
        ("pendulum", "linear", "oscillator", "regulated", "walls", "mountain")),
    "an angle that starts anew": Fault(wrapped, ("wrapped-angle",), (1, 180), ("pendulum",)),
    "another gain in the second half": Fault(
        first_action(lambda c, x, g, s: np.where(np.arange(len(x)) > 0.5 * len(x), s * x, x)),
        ("regime-change", "inverted-action"), (-1.0, 0.3), SHARP[:5]),
    "an inverted action in some episodes": Fault(inverted, ("inverted-action",), (0.1, 0.3),
                                                 ("pendulum", "linear", "drifting", "walls", "regulated")),
    "text among numbers": Fault(a_column(words), ("not-numbers",), (1, 50)),
    "actions that hardly vary": Fault(
        first_action(narrow), ("narrow-actions",), (0.01, 0.05), ("pendulum", "linear", "mountain")),
    "actions that are hardly ever taken": Fault(
        actions(lambda c, x, g, s: np.where(g.random(len(x)) < s, 0.0, x)),
        ("idle-actions", "rare-choices"), (0.9, 0.97), AMOUNTS),
}
