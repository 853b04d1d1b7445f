"""A column over the length of a log: another unit, another zero, drift, more noise, later on or in some episodes.

The log is cut into pieces (episodes, the long ones cut again). What is said of one column is said only if no other
column changes in the same pieces: then the world changed, not the sensor.

Shapes: R rows, P pieces.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from steersman.data.doctor.report import Finding, some
from steersman.data.doctor.rows import Array, Rows
from steersman.data.timing import stretches

_FEWEST = 8
_SHORTEST = 12


@dataclass(frozen=True)
class Pieces:
    """Pieces of a log, in order, and what each column does in them.

    bounds  (start, stop) rows
    whole   whether every piece is an episode of its own, begun anew
    step    column -> (P,) median |change| from row to row
    bend    column -> (P,) median |second difference|
    level   column -> (P,) median
    width   column -> (P,) from the 5% to the 95% quantile
    """

    bounds: tuple[tuple[int, int], ...]
    whole: bool
    step: dict[str, Array]
    bend: dict[str, Array]
    level: dict[str, Array]
    width: dict[str, Array]


def pieces(rows: Rows, names: Sequence[str]) -> Pieces | None:
    """Cut a log into pieces; None if that makes too few."""
    cut = [(a, b) for a, b in stretches(rows.bounds, _SHORTEST) if b - a >= _SHORTEST]
    if len(cut) < _FEWEST:
        return None
    if len(cut) > 2000:
        cut = [cut[i] for i in np.linspace(0, len(cut) - 1, 2000).astype(int)]
    found = Pieces(tuple(cut), len(cut) <= len(rows.bounds), {}, {}, {}, {})
    for name in names:
        values = rows.values[name]
        parts = [_finite(values[a:b]) for a, b in cut]
        found.step[name] = np.array([np.median(np.abs(np.diff(p))) for p in parts])
        found.bend[name] = np.array([np.median(np.abs(np.diff(p, 2))) for p in parts])
        ends = np.array([np.quantile(p, [0.05, 0.5, 0.95]) for p in parts])
        found.level[name], found.width[name] = ends[:, 1], ends[:, 2] - ends[:, 0]
    return found


def _finite(values: Array) -> Array:
    good = values[np.isfinite(values)]
    return good if len(good) > 2 else np.zeros(3)


def examine(rows: Rows, observed: Sequence[str], acted: Sequence[str]) -> Iterator[Finding]:
    """Findings about units, zeros, noise and drift of each column."""
    p = pieces(rows, [*observed, *acted])
    if p is None:
        return
    for name in observed:
        others = [o for o in (*observed, *acted) if o != name]
        found = _scale(rows, p, name, others) or _level(rows, p, name, others) or _noise(rows, p, name, others)
        if found is not None:
            yield found
        else:
            yield from _drift(p, name, others)
    for name in acted:
        found = _scale(rows, p, name, [o for o in acted if o != name])
        if found is not None:
            yield found


# Two kinds of pieces ---------------------------------------------------------------------------------------------


def apart(values: Array, least: float) -> Array | None:
    """(P,) bool: the smaller of two groups, `least` apart at least.

    Parted by the widest gap in `values`, wider than 1.5 times what nine in ten of either group span; or by the moment
    from which on values are others, by more than 1.2 times what eight in ten of either group span.
    """
    order = np.argsort(values)
    gaps = np.diff(values[order])
    at = int(gaps.argmax())
    low, high = values[order[: at + 1]], values[order[at + 1 :]]
    spans = [float(np.subtract(*np.quantile(g, [0.95, 0.05]))) for g in (low, high)]
    if gaps[at] >= least and gaps[at] >= 1.5 * max(spans):
        return np.asarray(values <= low.max() if len(low) < len(high) else values >= high.min())
    return _since(values, least)


def _since(values: Array, least: float) -> Array | None:
    count = len(values)
    if count < 12:
        return None
    total, square = np.cumsum(values), np.cumsum(values**2)
    k = np.arange(3, count - 2)  # values before the moment
    within = square[-1] - total[k - 1] ** 2 / k - (total[-1] - total[k - 1]) ** 2 / (count - k)
    moment = int(k[within.argmin()])
    groups = values[:moment], values[moment:]
    way = abs(float(np.median(groups[1]) - np.median(groups[0])))
    spans = [float(np.subtract(*np.quantile(g, [0.9, 0.1]))) for g in groups]
    if way < least or way < 1.2 * max(spans):
        return None
    late = np.arange(count) >= moment
    return late if moment >= count / 2 else ~late


def _shared(odd: Array, tables: Sequence[Array]) -> bool:
    """Whether another column is far from its habit in the odd pieces, too."""
    for table in tables:
        usual, inside = table[~odd], table[odd]
        low, high = np.quantile(usual, [0.05, 0.95])
        slack = 0.5 * (high - low) + 1e-12
        if ((inside < low - slack) | (inside > high + slack)).mean() > 0.5:
            return True
    return False


def _where(rows: Rows, p: Pieces, odd: Array) -> tuple[str, tuple[int, ...]]:
    """Where the odd pieces are, in words, and the first rows of some."""
    index = np.flatnonzero(odd)
    first = some(rows.number[[p.bounds[i][0] for i in index]].tolist())
    run = len(index) == index[-1] - index[0] + 1 and len(index) > 1
    if run and index[-1] == len(odd) - 1:
        return f"from about row {first[0]:,} on", first
    if run and index[0] == 0:
        end = int(rows.number[p.bounds[index[-1]][1] - 1]) + 1
        return f"up to about row {end:,}", first
    return f"in {len(index):,} of {len(odd):,} {'episodes' if p.whole else 'pieces of the log'}", first


def _scale(rows: Rows, p: Pieces, name: str, others: Sequence[str]) -> Finding | None:
    """Steps, width and the range of all pieces together larger by one factor: units, gains, wiring."""
    moving = (p.step[name] > 0) & (p.width[name] > 0)
    if moving.sum() < _FEWEST:
        return None
    step, width = np.log10(p.step[name][moving]), np.log10(p.width[name][moving])
    group = apart(step, 0.5)
    if group is None:
        return None
    factor = float(np.median(step[group]) - np.median(step[~group]))
    by_width = float(np.median(width[group]) - np.median(width[~group]))
    odd = np.zeros(len(moving), bool)
    odd[np.flatnonzero(moving)[group]] = True
    pooled = [_pooled(rows, p, name, chosen) for chosen in (odd, ~odd & moving)]
    by_range = float(np.log10(max(pooled[0], 1e-30) / max(pooled[1], 1e-30)))
    if abs(by_width - factor) > 0.5 or abs(by_range - factor) > 0.5 or abs(factor) < 0.5:
        return None
    if _shared(odd[moving], [np.log10(np.maximum(p.step[o][moving], 1e-30)) for o in others]):
        return None
    where, first = _where(rows, p, odd)
    return Finding(
        kind="scale-change", state="bad", columns=(name,), rows=first,
        what=f"{name} moves {10**factor:.3g} times as much {where}: another unit?",
        fix="bring the whole log to one unit", figures={"pieces": int(odd.sum()), "factor": 10**factor})


def _pooled(rows: Rows, p: Pieces, name: str, chosen: Array) -> float:
    values = np.concatenate([_finite(rows.values[name][slice(*p.bounds[i])]) for i in np.flatnonzero(chosen)])
    return float(np.subtract(*np.quantile(values, [0.95, 0.05])))


def _level(rows: Rows, p: Pieces, name: str, others: Sequence[str]) -> Finding | None:
    """Two groups of pieces far apart: an offset."""
    level, width = p.level[name], max(float(np.median(p.width[name])), 1e-30)
    odd = apart(level, 0.0)
    if odd is None:
        return None
    low, high = np.sort([np.median(level[odd]), np.median(level[~odd])])
    inner = max(float(np.ptp(level[group])) if group.sum() > 1 else 0.0 for group in (odd, ~odd))
    if high - low < 3 * (width + inner) or _shared(odd, [p.level[o] for o in others]):
        return None
    where, first = _where(rows, p, odd)
    return Finding(
        kind="level-change", state="bad", columns=(name,), rows=first,
        what=f"{name} lies around {np.median(level[odd]):.4g} {where}, and around {np.median(level[~odd]):.4g} "
             "otherwise: an offset or another unit?",
        fix="bring the whole log to one zero", figures={"pieces": int(odd.sum()), "by": float(high - low)})


def _noise(rows: Rows, p: Pieces, name: str, others: Sequence[str]) -> Finding | None:
    """Two groups of pieces that are rough and smooth, as wide as each other."""
    moving = (p.bend[name] > 0) & (p.width[name] > 0)
    if moving.sum() < max(_FEWEST, 0.8 * len(moving)):
        return None
    bend, width = np.log10(p.bend[name][moving]), np.log10(p.width[name][moving])
    group = apart(bend, 0.5)
    if group is None or group.sum() < 3 or abs(np.median(width[group]) - np.median(width[~group])) > 0.3:
        return None
    if _shared(group, [np.log10(np.maximum(p.bend[o][moving], 1e-30)) for o in others]):
        return None
    odd = np.zeros(len(moving), bool)
    odd[np.flatnonzero(moving)[group]] = True
    rough = np.median(bend[group]) > np.median(bend[~group])
    where, first = _where(rows, p, odd)
    return Finding(
        kind="noise-change", state="warn", columns=(name,), rows=first,
        what=f"{name} is much {'noisier' if rough else 'smoother'} {where}: a filter, a wire or a setting changed",
        fix="find out what changed; train on one kind, or log what tells them apart",
        figures={"pieces": int(odd.sum())})


# Drift -----------------------------------------------------------------------------------------------------------


def _drift(p: Pieces, name: str, others: Sequence[str]) -> Iterator[Finding]:
    strength, by = _trend(p, name)
    if strength < 1 or by < 0.4 or any(_trend(p, o)[0] > 0.6 * strength for o in others):
        return
    yield Finding(
        kind="drift", state="warn", columns=(name,),
        what=f"{name} drifts: from the first pieces of the log to the last its level moves by {by:.1f} times its usual "
             "width, and nothing else does",
        fix="calibrate the sensor, subtract the drift, or log what causes it",
        figures={"by": by, "evidence": strength})


def _trend(p: Pieces, name: str) -> tuple[float, float]:
    """How surely the level moves one way through the log (1: enough to say so), and how far, in usual widths.

    Pieces that begin anew: Spearman's ρ·√(P-1) beside 4.7 standard errors. Pieces of one recording, beside 6: a level
    that wanders has trends by chance, so the whole way is compared with what its steps from piece to piece would make.
    """
    level = p.level[name]
    count = len(level)
    ends = max(2, count // 8)
    way = float(np.median(level[-ends:]) - np.median(level[:ends]))
    by = abs(way) / max(float(np.median(p.width[name])), 1e-30)
    if p.whole and count >= 20:
        rank = np.argsort(np.argsort(level))
        rho = float(np.corrcoef(rank, np.arange(count))[0, 1]) if np.ptp(level) > 0 else 0.0
        return abs(rho) * float(np.sqrt(count - 1)) * (abs(rho) > 0.75) / 4.7, by
    steps = np.diff(level)
    spread = max(float(steps.std()), 1e-30)
    return abs(float(steps.mean())) / spread * float(np.sqrt(len(steps))) / 6, by
