"""What can go wrong with a log, planted into a clean one: at several strengths, each with what the doctor must say.

A fault takes columns as `doctor_worlds` makes them and gives them back broken. Shapes: R rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from steersman.evidence.doctor_worlds import Array, Columns, Generator

Plant = Callable[[Columns, Generator, float], Columns]


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


def observed(c: Columns) -> list[str]:
    return [n for n in c if n not in ("episode", "t", "camera") and not n.startswith(("action", "exogenous"))]


def acted(c: Columns) -> list[str]:
    return [n for n in c if n.startswith("action")]


def taken(c: Columns, index: Array) -> Columns:
    return {name: value[index] for name, value in c.items()}


def begins(c: Columns) -> Array:
    """(R,) whether a row begins an episode."""
    return np.diff(c["episode"], prepend=c["episode"][0] - 1) != 0


def shift(c: Columns, value: Array, by: int) -> Array:
    """value[t + by] within each episode; at the ends the nearest row."""
    index = np.arange(len(value))
    start = np.maximum.accumulate(np.where(begins(c), index, 0))
    ends = np.append(np.flatnonzero(begins(c))[1:], len(value)) - 1
    last = np.repeat(ends, np.diff(np.append(np.flatnonzero(begins(c)), len(value))))
    return value[np.clip(index + by, start, last)]


def some_of(c: Columns, g: Generator, names: list[str]) -> str:
    return str(names[int(g.integers(len(names)))])


def missing(c: Columns, g: Generator, strength: float) -> Columns:
    name = some_of(c, g, observed(c))
    value = c[name].astype(float).copy()
    value[g.choice(len(value), max(1, int(strength * len(value))), replace=False)] = np.nan
    return c | {name: value}


def gaps(c: Columns, g: Generator, strength: float) -> Columns:
    keep = np.ones(len(c["t"]), bool)
    inner = np.flatnonzero(~begins(c))
    for start in g.choice(inner, max(2, int(strength * len(keep))), replace=False):
        keep[start : start + int(g.integers(1, 6))] = False
    keep |= begins(c)
    return taken(c, np.flatnonzero(keep))


def constant(c: Columns, g: Generator, strength: float) -> Columns:
    return {**c, "aux": np.full(len(c["t"]), strength)}


def copied(c: Columns, g: Generator, strength: float) -> Columns:
    return {**c, "aux": strength * c[some_of(c, g, observed(c))] + 3.0}


def saturated(c: Columns, g: Generator, strength: float) -> Columns:
    name = acted(c)[0]
    low, high = np.quantile(c[name], [strength / 2, 1 - strength / 2])
    return c | {name: np.clip(c[name], low, high)}


def delayed(c: Columns, g: Generator, strength: float) -> Columns:
    return c | {name: shift(c, c[name], int(strength)) for name in acted(c)}


def late_action(c: Columns, g: Generator, strength: float) -> Columns:
    return c | {name: shift(c, c[name], -1) for name in acted(c)}


def shuffled(c: Columns, g: Generator, strength: float) -> Columns:
    order = g.permutation(len(c["t"]))
    return c | {name: c[name][order] for name in acted(c)}


def dead(c: Columns, g: Generator, strength: float) -> Columns:
    name = acted(c)[int(g.integers(len(acted(c))))]
    return c | {name: g.permutation(c[name])}


def copied_episodes(c: Columns, g: Generator, strength: float) -> Columns:
    ids = np.unique(c["episode"])
    chosen = g.choice(ids, max(1, int(strength * len(ids))), replace=False)
    parts = [np.flatnonzero(c["episode"] == i) for i in chosen]
    whole = taken(c, np.concatenate([np.arange(len(c["t"])), *parts]))
    more = np.concatenate([np.full(len(p), ids.max() + 1 + k) for k, p in enumerate(parts)])
    return whole | {"episode": np.concatenate([c["episode"], more])}


def copied_stretch(c: Columns, g: Generator, strength: float) -> Columns:
    size = int(strength * len(c["t"]))
    whole = taken(c, np.concatenate([np.arange(len(c["t"])), np.arange(100, 100 + size)]))
    whole["episode"] = np.concatenate([c["episode"], c["episode"][100 : 100 + size] + c["episode"].max() + 1])
    return whole


def future(c: Columns, g: Generator, strength: float) -> Columns:
    name = some_of(c, g, observed(c))
    step = np.abs(np.diff(c[name])).mean()
    return {**c, "aux": shift(c, c[name], 1) + strength * step * g.normal(size=len(c["t"]))}


def reward(c: Columns, g: Generator, strength: float) -> Columns:
    names = observed(c)
    after = np.stack([shift(c, c[n], 1) for n in names], 1)
    z = (after - after.mean(0)) / after.std(0)
    a = np.stack([c[n] for n in acted(c)], 1)
    return {**c, "score": -(z**2).sum(1) - strength * ((a / np.abs(a).max()) ** 2).sum(1) + a.sum(1) / np.abs(a).max()}


def action_seen(c: Columns, g: Generator, strength: float) -> Columns:
    return {**c, "aux": strength * c[acted(c)[0]]}


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
    time = np.arange(len(c["t"])) * (c["t"][1] - c["t"][0])
    return {name: value for name, value in c.items() if name != "episode"} | {"t": time}


def slow(c: Columns, g: Generator, strength: float) -> Columns:
    name, every = some_of(c, g, observed(c)), int(strength)
    index = np.arange(len(c["t"]))
    start = np.maximum.accumulate(np.where(begins(c), index, 0))
    return c | {name: c[name][start + (index - start) // every * every]}


def sparse(c: Columns, g: Generator, strength: float) -> Columns:
    name, every = some_of(c, g, observed(c)), int(strength)
    value = c[name].astype(float).copy()
    value[np.arange(len(value)) % every != 0] = np.nan
    return c | {name: value}


def stuck(c: Columns, g: Generator, strength: float) -> Columns:
    name = some_of(c, g, observed(c))
    value = c[name].copy()
    for start in g.integers(0, len(value) - 200, 4):
        stop = start + int(strength)
        value[start:stop] = value[start]
    return c | {name: value}


def spikes(c: Columns, g: Generator, strength: float) -> Columns:
    name = some_of(c, g, observed(c))
    value, span = c[name].astype(float).copy(), c[name].max() - c[name].min()
    at = g.choice(len(value), 12, replace=False)
    value[at] += strength * span * g.uniform(0.8, 1.2, 12) * g.choice([-1, 1], 12)
    return c | {name: value}


def sentinel(c: Columns, g: Generator, strength: float) -> Columns:
    name = some_of(c, g, observed(c))
    value, span = c[name].astype(float).copy(), c[name].max() - c[name].min()
    value[g.choice(len(value), max(5, int(0.003 * len(value))), replace=False)] = np.round(
        c[name].min() - strength * span - 10)
    return c | {name: value}


def repeated(c: Columns, g: Generator, strength: float) -> Columns:
    times = int(strength)
    whole = taken(c, np.repeat(np.arange(len(c["t"])), times))
    period = c["t"][1] - c["t"][0]
    return whole | {"t": whole["t"] + np.tile(np.arange(times), len(c["t"])) * period / times}


def twice(c: Columns, g: Generator, strength: float) -> Columns:
    count = len(c["t"])
    order = np.sort(np.concatenate([np.arange(count), g.choice(count, max(5, int(strength * count)), replace=False)]))
    whole = taken(c, order)
    first = begins(whole)
    index = np.arange(len(order))
    start = np.maximum.accumulate(np.where(first, index, 0))
    return whole | {"t": (index - start) * (c["t"][1] - c["t"][0])}


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


def noise(c: Columns, g: Generator, strength: float) -> Columns:
    return {**c, "aux": strength * g.normal(size=len(c["t"]))}


def counter(c: Columns, g: Generator, strength: float) -> Columns:
    return {**c, "aux": strength * np.arange(len(c["t"]))}


def units(c: Columns, g: Generator, strength: float) -> Columns:
    name = some_of(c, g, observed(c))
    odd = np.isin(c["episode"], g.choice(np.unique(c["episode"]), len(np.unique(c["episode"])) // 6, replace=False))
    return c | {name: np.where(odd, c[name] * strength, c[name])}


def offset(c: Columns, g: Generator, strength: float) -> Columns:
    name = some_of(c, g, observed(c))
    odd = np.isin(c["episode"], g.choice(np.unique(c["episode"]), len(np.unique(c["episode"])) // 6, replace=False))
    return c | {name: c[name] + odd * strength * (c[name].max() - c[name].min())}


def wrapped(c: Columns, g: Generator, strength: float) -> Columns:
    angle = np.arctan2(c["sin"], c["cos"]) * (180 / np.pi if strength > 1 else 1.0)
    return {"episode": c["episode"], "t": c["t"], "angle": angle, "speed": c["speed"], "action": c["action"]}


def changed(c: Columns, g: Generator, strength: float) -> Columns:
    name = acted(c)[0]
    half = np.arange(len(c["t"])) > 0.5 * len(c["t"])
    return c | {name: np.where(half, strength * c[name], c[name])}


def inverted(c: Columns, g: Generator, strength: float) -> Columns:
    ids = np.unique(c["episode"])
    odd = np.isin(c["episode"], g.choice(ids, max(2, int(strength * len(ids))), replace=False))
    return c | {name: np.where(odd, -c[name], c[name]) for name in acted(c)}


def words(c: Columns, g: Generator, strength: float) -> Columns:
    name = some_of(c, g, observed(c))
    value = c[name].astype(str).astype(object)
    value[g.choice(len(value), int(strength), replace=False)] = "ERR"
    return c | {name: value}


def narrow(c: Columns, g: Generator, strength: float) -> Columns:
    name = acted(c)[0]
    value = strength * (c[name] - c[name].mean())
    value[g.choice(len(value), 20, replace=False)] = c[name].max() * g.choice([-1, 1], 20)
    return c | {name: value}


def idle(c: Columns, g: Generator, strength: float) -> Columns:
    return c | {name: np.where(g.random(len(c["t"])) < strength, 0.0, c[name]) for name in acted(c)}


EPISODIC = ("pendulum", "linear", "drifting", "walls", "regulated", "oscillator", "mountain")
SMOOTH = ("pendulum", "linear", "drifting", "regulated", "oscillator", "mountain", "cartpole", "plant")
AMOUNTS = ("pendulum", "linear", "plant", "drifting", "walls", "regulated", "mountain")
SHARP = ("pendulum", "linear", "drifting", "regulated", "mountain", "cartpole", "walls")

FAULTS: dict[str, Fault] = {
    "missing values": Fault(missing, ("missing-values",), (0.0005, 0.02, 0.3)),
    "lost rows": Fault(gaps, ("gaps",), (0.0005, 0.01)),
    "a constant column": Fault(constant, ("constant-column",), (0.0, 7.5)),
    "a copied column": Fault(copied, ("duplicate-column",), (1.0, -0.001, 57.3)),
    "saturated actions": Fault(saturated, ("saturated-actions",), (0.2, 0.6), AMOUNTS),
    "a delay": Fault(delayed, ("delay",), (1, 2, 5), SHARP),
    "the action one row late": Fault(late_action, ("action-one-row-late",), (1,), ("pendulum", "linear", "mountain")),
    "shuffled actions": Fault(shuffled, ("no-effect",), (1,)),
    "a dead actuator": Fault(dead, ("dead-action",), (1,), ("linear", "drifting", "walls")),
    "copied episodes": Fault(copied_episodes, ("duplicate-episodes",), (0.02, 0.3), (*EPISODIC, "cartpole")),
    "a copied stretch": Fault(copied_stretch, ("repeated-stretches", "duplicate-episodes"), (0.02, 0.2), EPISODIC),
    "the future in a column": Fault(future, ("future-column", "knows-action"), (0.0, 0.03), SMOOTH),
    "the reward in a column": Fault(reward, ("knows-action",), (0.1, 1.0), ("linear", "regulated", "walls")),
    "the action in a column": Fault(action_seen, ("action-in-observation",), (1.0, -20.0)),
    "one-row episodes": Fault(lone_rows, ("one-row-episodes",), (1, 20)),
    "interleaved episodes": Fault(interleaved, ("interleaved-episodes",), (1,), EPISODIC),
    "time that goes back": Fault(back, ("time-goes-back",), (1, 30)),
    "time that stands still": Fault(still, ("repeated-times",), (2, 5)),
    "irregular sampling": Fault(jitter, ("irregular-sampling",), (0.3, 0.45)),
    "episodes without a mark": Fault(unmarked, ("unmarked-episodes",), (1,), EPISODIC),
    "episodes run together": Fault(run_together, ("unmarked-resets",), (1,), ("pendulum", "cartpole", "drifting",
                                                                              "walls", "mountain")),
    "a slow column": Fault(slow, ("slow-column",), (3, 10, 25), SMOOTH),
    "a sparse column": Fault(sparse, ("slow-column",), (3, 20)),
    "a stuck sensor": Fault(stuck, ("stuck-sensor",), (20, 100), SMOOTH),
    "spikes": Fault(spikes, ("spikes",), (2.0, 20.0), SMOOTH),
    "a code for no value": Fault(sentinel, ("sentinel-values",), (3.0, 1000.0)),
    "rows written several times": Fault(repeated, ("repeated-rows",), (2, 5)),
    "rows written twice": Fault(twice, ("duplicated-rows",), (0.002, 0.05), AMOUNTS),
    "a frozen recorder": Fault(frozen, ("frozen-rows", "stuck-sensor"), (20, 35), SMOOTH),
    "a hidden speed": Fault(hidden, ("hidden-state",), (1,), ("pendulum", "cartpole", "drifting", "mountain",
                                                              "oscillator")),
    "pure noise": Fault(noise, ("noise-column",), (0.01, 100.0)),
    "a counter": Fault(counter, ("counter",), (1.0, 0.01)),
    "another unit in some episodes": Fault(units, ("scale-change",), (57.3, 0.001), EPISODIC),
    "an offset in some episodes": Fault(offset, ("level-change",), (20.0, 273.0), ("pendulum", "linear", "oscillator",
                                                                                   "regulated", "walls", "mountain")),
    "an angle that starts anew": Fault(wrapped, ("wrapped-angle",), (1, 180), ("pendulum",)),
    "another gain in the second half": Fault(changed, ("regime-change", "inverted-action"), (-1.0, 0.3), SHARP[:5]),
    "an inverted action in some episodes": Fault(inverted, ("inverted-action",), (0.1, 0.3),
                                                 ("pendulum", "linear", "drifting", "walls", "regulated")),
    "text among numbers": Fault(words, ("not-numbers",), (1, 50)),
    "actions that hardly vary": Fault(narrow, ("narrow-actions",), (0.01, 0.05), ("pendulum", "linear", "mountain")),
    "actions that are hardly ever taken": Fault(idle, ("idle-actions", "rare-choices"), (0.9, 0.97), AMOUNTS),
}
