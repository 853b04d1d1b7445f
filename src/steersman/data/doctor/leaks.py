"""What tells more than it should: episodes that occur twice, columns that hold the future.

Shapes: R rows, C columns.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from steersman.data.doctor import regression as r
from steersman.data.doctor.moves import beside
from steersman.data.doctor.report import Finding, some
from steersman.data.doctor.rows import Array, Rows
from steersman.data.doctor.transitions import Steps

_STRETCH = 16


def examine(rows: Rows, s: Steps | None) -> Iterator[Finding]:
    """Findings about leakage between parts of a log, and from later rows to earlier ones."""
    yield from _twice(rows)
    if s is not None:
        shifted = list(_shifted(s))
        yield from shifted
        yield from _knows_action(s, {name for finding in shifted for name in finding.columns})


def _twice(rows: Rows) -> Iterator[Finding]:
    """Episodes, or stretches of rows, that occur more than once."""
    names = [*rows.observed, *rows.acted]
    if not names:
        return
    matrix = np.nan_to_num(np.clip(rows.matrix(names), -3e38, 3e38)).astype(np.float32)
    weight = np.random.default_rng(0).integers(1, 2**62, matrix.shape[1], dtype=np.uint64) | np.uint64(1)
    bits = matrix.view(np.uint32).astype(np.uint64)
    code = (bits * weight).sum(1, dtype=np.uint64)
    code = (code ^ (code >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    few = len(np.unique(code[:100_000])) < 0.3 * min(len(code), 100_000)
    seen: dict[tuple[int, bytes], int] = {}
    again: list[int] = []
    for start, stop in rows.bounds:
        if stop - start < 5:
            continue
        key = (stop - start, matrix[start:stop - 1].tobytes()) if stop - start < 64 else (
            stop - start, code[start:stop - 1].tobytes())
        if key in seen:
            again.append(start)
        seen.setdefault(key, start)
    whole = sum(stop - start >= 5 for start, stop in rows.bounds)
    if again and not few:
        yield Finding(
            kind="duplicate-episodes", state="bad", rows=some(rows.number[again].tolist()),
            what=f"{len(again):,} of {whole:,} episodes are copies of others: what is held out would be known already",
            fix="drop the copies", figures={"episodes": len(again), "share": len(again) / max(whole, 1)})
        return
    if few:
        return
    overlaps = list(_overlaps(rows, code))
    yield from overlaps or _alike(rows, matrix)


def _alike(rows: Rows, matrix: Array) -> Iterator[Finding]:
    """Episodes that are copies of others but for a little noise or rounding."""
    lengths = np.array([stop - start for start, stop in rows.bounds])
    reach = int(min(np.median(lengths) - 1, 63))
    starts = np.array([start for start, _ in rows.bounds])[lengths > reach]
    if reach < 9 or len(starts) < 2:
        return
    spread = matrix.std(0, dtype=np.float64)
    fine = spread > 0
    looked = (matrix[starts[:, None] + np.linspace(0, reach, 10).astype(int)][..., fine] / spread[fine]).reshape(
        len(starts), -1)
    order = np.argsort(looked @ np.random.default_rng(0).normal(size=looked.shape[1]))
    twins: set[int] = set()
    for apart in (1, 2, 3):
        first, second = order[:-apart], order[apart:]
        close = np.sqrt(np.square(looked[first] - looked[second]).mean(1)) < 0.003
        twins |= set(np.maximum(first[close], second[close]).tolist())
    if twins:
        again = sorted(int(starts[i]) for i in twins)
        yield Finding(
            kind="duplicate-episodes", state="bad", rows=some(rows.number[again].tolist()),
            what=f"{len(again):,} of {len(rows.bounds):,} episodes are copies of others but for a little noise: what "
                 "is held out would be known already",
            fix="drop the copies", figures={"episodes": len(again), "share": len(again) / len(rows.bounds)})


def _overlaps(rows: Rows, code: Array) -> Iterator[Finding]:
    """Stretches of 16 rows that occur in two places."""
    if len(code) < 4 * _STRETCH:
        return
    windows = np.zeros(len(code) - _STRETCH + 1, np.uint64)
    for i in range(_STRETCH):
        windows = windows * np.uint64(0x9E3779B97F4A7C15) + code[i : len(code) - _STRETCH + 1 + i]
    moving = np.zeros(len(windows), bool)
    moving |= code[: len(windows)] != code[_STRETCH - 1 :]
    fits = np.zeros(len(windows), bool)
    for start, stop in rows.bounds:
        fits[start : max(start, stop - _STRETCH)] = True
    at = np.flatnonzero(moving & fits)
    _, index, counts = np.unique(windows[at], return_index=True, return_counts=True)
    double = int((counts - 1).sum())
    if double > 0.002 * len(at) and double >= _STRETCH // 2:
        first = at[np.sort(index[counts > 1])]
        yield Finding(
            kind="repeated-stretches", state="bad", rows=some(rows.number[first].tolist()),
            what=f"{double / len(at):.1%} of the log occurs twice, row by row: what is held out would be known already",
            fix="drop the copies", figures={"share": double / len(at)})


def _shifted(s: Steps) -> Iterator[Finding]:
    """A column that is another one, a few rows early."""
    step = np.maximum(np.abs(s.change()).mean(0), 1e-30)
    for ahead in (1, 2, 3):
        at = s.at[s.at + ahead <= s.last[s.at]]
        if len(at) < 200:
            return
        now, later = s.x[at], s.x[at + ahead]
        whole = np.isfinite(later).all(1)
        now, later = now[whole], later[whole]
        spread = now.std(0)
        z = (now - now.mean(0)) / np.where(spread > 0, spread, 1.0)
        y = (later - later.mean(0)) / np.maximum(later.std(0), 1e-30)
        noise = np.sqrt(np.maximum(1 - ((z.T @ y) / len(z)) ** 2, 0)) * spread[None, :]
        same = np.sqrt(np.maximum(1 - ((z.T @ z) / len(z)) ** 2, 0)) * spread[None, :]
        for i, name in enumerate(s.names):
            for j, other in enumerate(s.names):
                close = i != j and noise[i, j] < 0.1 * step[j] and noise[i, j] < 0.2 * same[i, j]
                if close and step[j] > 1e-9 * max(spread[j], 1e-30):
                    yield Finding(
                        kind="future-column", state="bad", columns=(name, other),
                        what=f"{name} is {other} of {ahead} {'row' if ahead == 1 else 'rows'} later"
                             f" (or {other} is late): it holds the future",
                        fix=f"ignore {name}, unless {other} is meant to be an earlier value of it",
                        figures={"rows": ahead})


def _knows_action(s: Steps, known: set[str]) -> Iterator[Finding]:
    """A column that is told by the action of its own row, which nobody who observes it knows yet: a reward, the next
    state, or something computed from them."""
    if not s.actions.shape[1]:
        return
    before = r.standardised(np.concatenate([s.x[s.at - 1], s.actions[s.at - 1], s.exogenous[s.at]], 1))
    own = r.standardised(s.actions[s.at])
    spread = np.maximum(s.x[s.at].std(0), 1e-30)
    target = (s.x[s.at] - s.x[s.at].mean(0)) / spread
    base = (r.features(before, 0), beside(before, own[:, :0], 1))
    after = (base[0], own, beside(before, own, 1))
    first, second = r.held_out(base, target, s.blocks), r.held_out(after, target, s.blocks)
    gain = r.gain(first, second, s.blocks)
    rest = (second**2).mean(0)
    for i, name in enumerate(s.names):
        sure = gain.evidence[i] > r.needed(len(s.names)) + 1
        if name not in known and sure and gain.share[i] > 0.7 and rest[i] < 0.1:
            yield Finding(
                kind="knows-action", state="bad", columns=(name,),
                what=f"{name} tells the action of its own row: it was computed after the action (a reward, the next "
                     "state)",
                fix=f"ignore {name}", figures={"gain": float(gain.share[i])})
