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
    a_column,
    acted,
    actions,
    begins,
    clipped,
    copies,
    counted_anew,
    first_action,
    observed,
    put,
    shift,
    some_episodes,
    some_of,
    some_rows,
    start_of,
    taken,
)
from steersman.evidence.doctor_worlds import Array, Columns, Generator


def late(c: Columns, g: Generator) -> Array:
    """(R,) whether a row lies after a moment in the middle of the log."""
    return np.arange(len(c["t"])) >= g.uniform(0.35, 0.65) * len(c["t"])


def scaled(c: Columns, x: Array, g: Generator, strength: float) -> Array:
    return np.where(late(c, g), strength * x, x)


def noisier(c: Columns, x: Array, g: Generator, strength: float) -> Array:
    return x + late(c, g) * strength * x.std() * g.normal(size=len(x))


def inverted_action(c: Columns, g: Generator, strength: float) -> Columns:
    after = late(c, g)
    return c | {name: np.where(after, strength * c[name], c[name]) for name in acted(c)}


def _swapped(c: Columns, g: Generator, names: list[str]) -> Columns:
    first, second = (names[i] for i in g.choice(len(names), 2, replace=False))
    after = late(c, g)
    return c | {first: np.where(after, c[second], c[first]), second: np.where(after, c[first], c[second])}


def slipped(c: Columns, g: Generator, strength: float) -> Columns:
    after = late(c, g)
    return c | {name: np.where(after, shift(c, c[name], int(strength)), c[name]) for name in acted(c)}


def rounded(c: Columns, x: Array, g: Generator, strength: float) -> Array:
    step = np.ptp(x) / strength
    return np.round(x / step) * step


def dead(c: Columns, x: Array, g: Generator, strength: float) -> Array:
    at = int(len(x) * (1 - strength))
    return np.where(np.arange(len(x)) >= at, x[at], x)


def dropouts(c: Columns, x: Array, g: Generator, strength: float) -> Array:
    return put(x + 3 * np.ptp(x), some_rows(c, g, strength * len(x)), 0.0)


def glitched(c: Columns, x: Array, g: Generator, strength: float) -> Array:
    return put(x, some_rows(c, g, 8), strength * np.abs(x).max())


def overflowing(c: Columns, g: Generator, strength: float) -> Columns:
    name = some_of(g, ["position", "speed"] if "position" in c else observed(c))
    return c | {name: np.mod(c[name] - c[name].min(), strength * np.ptp(c[name]))}


def commas(c: Columns, x: Array, g: Generator, strength: float) -> Array:
    return np.array([f"{value:.6f}".replace(".", ",") for value in x], object)


def other_rate(c: Columns, g: Generator, strength: float) -> Columns:
    odd = some_episodes(c, g, max(2, len(np.unique(c["episode"])) // 5))
    return c | {"t": np.where(odd, strength * c["t"], c["t"])}


def thinned(c: Columns, g: Generator, strength: float) -> Columns:
    """Every second row lost after a moment, the clock counted on as if nothing were."""
    keep = ~late(c, g) | (np.arange(len(c["t"])) % int(strength) == 0)
    return counted_anew(taken(c, np.flatnonzero(keep)), c["t"][1] - c["t"][0])


def nearly_copied(c: Columns, g: Generator, strength: float) -> Columns:
    whole = copies(c, g, max(1, len(np.unique(c["episode"])) // 20))
    fresh = np.arange(len(whole["t"])) >= len(c["t"])
    return whole | {n: whole[n] + fresh * strength * c[n].std() * g.normal(size=len(fresh)) for n in observed(c)}


def unordered(c: Columns, g: Generator, strength: float) -> Columns:
    whole = taken(c, g.permutation(len(c["t"])))
    return {name: value for name, value in whole.items() if name not in ("episode", "t")}


def reset_rows(c: Columns, g: Generator, strength: float) -> Columns:
    ends = np.flatnonzero(begins(c))[1:] - 1
    ends = g.choice(ends, int(strength * len(ends)), replace=False)
    return c | {name: put(c[name], ends, c[name][ends + 1]) for name in observed(c)}


LAW = ("regime-change", "odd-blocks")
PUSHED = ("pendulum", "linear", "drifting", "mountain")

LATER: dict[str, Fault] = {
    "another unit from some row on": Fault(a_column(scaled), ("scale-change",), (57.3, 0.001), SHARP[:5]),
    "an offset from some row on": Fault(
        a_column(lambda c, x, g, s: x + late(c, g) * s * np.ptp(x)), ("level-change",), (5.0, -50.0), SHARP[:5]),
    "a drifting sensor": Fault(
        a_column(lambda c, x, g, s: x + np.linspace(0, s * x.std(), len(x))),
        ("drift", *LAW, "level-change"), (2.0, 5.0), SHARP[:5]),
    "more noise from some row on": Fault(a_column(noisier), ("noise-change", *LAW), (0.3, 1.0), SHARP[:5]),
    "an inverted action from some row on": Fault(inverted_action, ("inverted-action", *LAW), (-1.0,), PUSHED),
    "an inverted column from some row on": Fault(a_column(scaled), ("inverted-column", "scale-change", *LAW), (-1.0,),
                                                 ("pendulum", "linear", "cartpole")),
    "swapped columns from some row on": Fault(
        lambda c, g, s: _swapped(c, g, observed(c)), ("swapped-columns", "scale-change", "level-change", *LAW), (1,),
        ("pendulum", "linear", "drifting", "cartpole", "regulated")),
    "swapped actions from some row on": Fault(
        lambda c, g, s: _swapped(c, g, acted(c)), ("swapped-columns", *LAW), (1,), ("linear", "drifting")),
    "actions that slip from some row on": Fault(slipped, ("action-slipped", *LAW), (-1, 1), ("pendulum", "linear")),
    "rounded values": Fault(a_column(rounded), ("coarse-values",), (12, 40), SMOOTH),
    "a clipped sensor": Fault(a_column(clipped), ("clipped-sensor",), (0.05, 0.4), SMOOTH),
    "a sensor that dies": Fault(a_column(dead), ("stuck-sensor",), (0.1, 0.4), SMOOTH),
    "drop-outs to zero": Fault(a_column(dropouts), ("sentinel-values", "spikes"), (0.002, 0.05), SMOOTH),
    "glitches in the action": Fault(
        first_action(glitched), ("narrow-actions",), (50.0,), ("pendulum", "linear", "regulated")),
    "infinite values": Fault(
        a_column(lambda c, x, g, s: put(x, some_rows(c, g, s), np.inf)), ("missing-values",), (1, 20)),
    "a count that overflows": Fault(overflowing, ("wrapped-angle",), (0.5,), ("mountain", "drifting", "regulated")),
    "decimal commas": Fault(a_column(commas), ("not-numbers",), (1,)),
    "another rate in some episodes": Fault(other_rate, ("rate-change",), (0.5, 2.0), EPISODIC),
    "every second row lost from some row on": Fault(thinned, LAW, (2,), PUSHED),
    "episodes copied with a little noise": Fault(nearly_copied, ("duplicate-episodes",), (1e-5, 1e-3), EPISODIC),
    "actions to one side": Fault(
        first_action(lambda c, x, g, s: s * np.abs(x)), ("one-sided-actions",), (1.0, -1.0), PUSHED),
    "actions that are held for an episode": Fault(
        actions(lambda c, x, g, s: x[start_of(c)]), ("held-actions", "no-effect"), (1,), EPISODIC),
    "rows in no order": Fault(unordered, ("unordered-rows",), (1,)),
    "the next episode's first row": Fault(reset_rows, ("reset-rows",), (0.3, 1.0), ("pendulum", "cartpole", "drifting",
                                                                                    "mountain")),
}
