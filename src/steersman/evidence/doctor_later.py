"""More of what can go wrong with a log: faults that set in at some row, sensors that round, clip and drift, rows that
another recorder would have written.

Shapes: R rows.
"""

from __future__ import annotations

import numpy as np

from steersman.evidence.doctor_faults import (
    EPISODIC,
    SHARP,
    SMOOTH,
    Fault,
    acted,
    begins,
    observed,
    shift,
    some_of,
    taken,
)
from steersman.evidence.doctor_worlds import Array, Columns, Generator


def late(c: Columns, g: Generator) -> Array:
    """(R,) whether a row lies after a moment in the middle of the log."""
    return np.arange(len(c["t"])) >= g.uniform(0.35, 0.65) * len(c["t"])


def units(c: Columns, g: Generator, strength: float) -> Columns:
    name = some_of(c, g, observed(c))
    return c | {name: np.where(late(c, g), strength * c[name], c[name])}


def offset(c: Columns, g: Generator, strength: float) -> Columns:
    name = some_of(c, g, observed(c))
    return c | {name: c[name] + late(c, g) * strength * np.ptp(c[name])}


def drift(c: Columns, g: Generator, strength: float) -> Columns:
    name = some_of(c, g, observed(c))
    return c | {name: c[name] + np.linspace(0, strength * c[name].std(), len(c["t"]))}


def noisier(c: Columns, g: Generator, strength: float) -> Columns:
    name = some_of(c, g, observed(c))
    return c | {name: c[name] + late(c, g) * strength * c[name].std() * g.normal(size=len(c["t"]))}


def inverted_action(c: Columns, g: Generator, strength: float) -> Columns:
    after = late(c, g)
    return c | {name: np.where(after, strength * c[name], c[name]) for name in acted(c)}


def inverted_column(c: Columns, g: Generator, strength: float) -> Columns:
    name = some_of(c, g, observed(c))
    return c | {name: np.where(late(c, g), strength * c[name], c[name])}


def _swapped(c: Columns, g: Generator, names: list[str]) -> Columns:
    first, second = (names[i] for i in g.choice(len(names), 2, replace=False))
    after = late(c, g)
    return c | {first: np.where(after, c[second], c[first]), second: np.where(after, c[first], c[second])}


def swapped_columns(c: Columns, g: Generator, strength: float) -> Columns:
    return _swapped(c, g, observed(c))


def swapped_actions(c: Columns, g: Generator, strength: float) -> Columns:
    return _swapped(c, g, acted(c))


def slipped(c: Columns, g: Generator, strength: float) -> Columns:
    after = late(c, g)
    return c | {name: np.where(after, shift(c, c[name], int(strength)), c[name]) for name in acted(c)}


def rounded(c: Columns, g: Generator, strength: float) -> Columns:
    name = some_of(c, g, observed(c))
    step = np.ptp(c[name]) / strength
    return c | {name: np.round(c[name] / step) * step}


def clipped(c: Columns, g: Generator, strength: float) -> Columns:
    name = some_of(c, g, observed(c))
    return c | {name: np.clip(c[name], *np.quantile(c[name], [strength / 2, 1 - strength / 2]))}


def dead(c: Columns, g: Generator, strength: float) -> Columns:
    name = some_of(c, g, observed(c))
    at = int(len(c["t"]) * (1 - strength))
    return c | {name: np.where(np.arange(len(c["t"])) >= at, c[name][at], c[name])}


def dropouts(c: Columns, g: Generator, strength: float) -> Columns:
    name = some_of(c, g, observed(c))
    value = c[name] + 3 * np.ptp(c[name])
    value[g.choice(len(value), int(strength * len(value)), replace=False)] = 0.0
    return c | {name: value}


def glitched_action(c: Columns, g: Generator, strength: float) -> Columns:
    name = acted(c)[0]
    value = c[name].astype(float).copy()
    value[g.choice(len(value), 8, replace=False)] = strength * np.abs(value).max()
    return c | {name: value}


def infinite(c: Columns, g: Generator, strength: float) -> Columns:
    name = some_of(c, g, observed(c))
    value = c[name].astype(float).copy()
    value[g.choice(len(value), int(strength), replace=False)] = np.inf
    return c | {name: value}


def overflowing(c: Columns, g: Generator, strength: float) -> Columns:
    name = some_of(c, g, ["position", "x", "speed"] if "position" in c else observed(c))
    return c | {name: np.mod(c[name] - c[name].min(), strength * np.ptp(c[name]))}


def commas(c: Columns, g: Generator, strength: float) -> Columns:
    name = some_of(c, g, observed(c))
    return c | {name: np.array([f"{x:.6f}".replace(".", ",") for x in c[name]], object)}


def other_rate(c: Columns, g: Generator, strength: float) -> Columns:
    ids = np.unique(c["episode"])
    odd = np.isin(c["episode"], g.choice(ids, max(2, len(ids) // 5), replace=False))
    return c | {"t": np.where(odd, strength * c["t"], c["t"])}


def thinned(c: Columns, g: Generator, strength: float) -> Columns:
    """Every second row lost after a moment, the clock counted on as if nothing were."""
    after = late(c, g)
    keep = ~after | (np.arange(len(after)) % int(strength) == 0)
    whole = taken(c, np.flatnonzero(keep))
    index = np.arange(len(whole["t"]))
    start = np.maximum.accumulate(np.where(begins(whole), index, 0))
    return whole | {"t": (index - start) * (c["t"][1] - c["t"][0])}


def nearly_copied(c: Columns, g: Generator, strength: float) -> Columns:
    ids = np.unique(c["episode"])
    parts = [np.flatnonzero(c["episode"] == i) for i in g.choice(ids, max(1, len(ids) // 20), replace=False)]
    whole = taken(c, np.concatenate([np.arange(len(c["t"])), *parts]))
    added = np.concatenate([np.full(len(p), ids.max() + 1 + k) for k, p in enumerate(parts)])
    whole["episode"] = np.concatenate([c["episode"], added])
    fresh = np.arange(len(whole["t"])) >= len(c["t"])
    return whole | {n: whole[n] + fresh * strength * c[n].std() * g.normal(size=len(fresh)) for n in observed(c)}


def one_sided(c: Columns, g: Generator, strength: float) -> Columns:
    name = acted(c)[0]
    return c | {name: strength * np.abs(c[name])}


def held(c: Columns, g: Generator, strength: float) -> Columns:
    start = np.maximum.accumulate(np.where(begins(c), np.arange(len(c["t"])), 0))
    return c | {name: c[name][start] for name in acted(c)}


def unordered(c: Columns, g: Generator, strength: float) -> Columns:
    whole = taken(c, g.permutation(len(c["t"])))
    return {name: value for name, value in whole.items() if name not in ("episode", "t")}


def reset_rows(c: Columns, g: Generator, strength: float) -> Columns:
    ends = np.flatnonzero(begins(c))[1:] - 1
    ends = g.choice(ends, int(strength * len(ends)), replace=False)
    changed = dict(c)
    for name in observed(c):
        changed[name] = c[name].copy()
        changed[name][ends] = c[name][ends + 1]
    return changed


LAW = ("regime-change", "odd-blocks")
PUSHED = ("pendulum", "linear", "drifting", "mountain")

LATER: dict[str, Fault] = {
    "another unit from some row on": Fault(units, ("scale-change",), (57.3, 0.001), SHARP[:5]),
    "an offset from some row on": Fault(offset, ("level-change",), (5.0, -50.0), SHARP[:5]),
    "a drifting sensor": Fault(drift, ("drift", *LAW, "level-change"), (2.0, 5.0), SHARP[:5]),
    "more noise from some row on": Fault(noisier, ("noise-change", *LAW), (0.3, 1.0), SHARP[:5]),
    "an inverted action from some row on": Fault(inverted_action, ("inverted-action", *LAW), (-1.0,), PUSHED),
    "an inverted column from some row on": Fault(inverted_column, ("inverted-column", "scale-change", *LAW), (-1.0,),
                                                 ("pendulum", "linear", "cartpole")),
    "swapped columns from some row on": Fault(
        swapped_columns, ("swapped-columns", "scale-change", "level-change", *LAW), (1,),
        ("pendulum", "linear", "drifting", "cartpole", "regulated")),
    "swapped actions from some row on": Fault(swapped_actions, ("swapped-columns", *LAW), (1,), ("linear", "drifting")),
    "actions that slip from some row on": Fault(slipped, ("action-slipped", *LAW), (-1, 1), ("pendulum", "linear")),
    "rounded values": Fault(rounded, ("coarse-values",), (12, 40), SMOOTH),
    "a clipped sensor": Fault(clipped, ("clipped-sensor",), (0.05, 0.4), SMOOTH),
    "a sensor that dies": Fault(dead, ("stuck-sensor",), (0.1, 0.4), SMOOTH),
    "drop-outs to zero": Fault(dropouts, ("sentinel-values", "spikes"), (0.002, 0.05), SMOOTH),
    "glitches in the action": Fault(glitched_action, ("narrow-actions",), (50.0,), ("pendulum", "linear", "regulated")),
    "infinite values": Fault(infinite, ("missing-values",), (1, 20)),
    "a count that overflows": Fault(overflowing, ("wrapped-angle",), (0.5,), ("mountain", "drifting", "regulated")),
    "decimal commas": Fault(commas, ("not-numbers",), (1,)),
    "another rate in some episodes": Fault(other_rate, ("rate-change",), (0.5, 2.0), EPISODIC),
    "every second row lost from some row on": Fault(thinned, LAW, (2,), PUSHED),
    "episodes copied with a little noise": Fault(nearly_copied, ("duplicate-episodes",), (1e-5, 1e-3), EPISODIC),
    "actions to one side": Fault(one_sided, ("one-sided-actions",), (1.0, -1.0), PUSHED),
    "actions that are held for an episode": Fault(held, ("held-actions", "no-effect"), (1,), EPISODIC),
    "rows in no order": Fault(unordered, ("unordered-rows",), (1,)),
    "the next episode's first row": Fault(reset_rows, ("reset-rows",), (0.3, 1.0), ("pendulum", "cartpole", "drifting",
                                                                                    "mountain")),
}
