"""Rows that repeat the row before, and columns that repeat another one.

Shapes: R rows, C columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from steersman.data.doctor.report import Finding, some
from steersman.data.doctor.rows import Array, Rows
from steersman.data.doctor.sensors import dead

_SAMPLE = 20_000


def repeated_rows(rows: Rows, live: Sequence[str]) -> Iterator[Finding]:
    """Rows that repeat the one before in everything that is observed."""
    if not live:
        return
    at = np.flatnonzero(rows.inner)
    same = np.ones(len(at), bool)
    for name in live:
        same &= rows.values[name][at] == rows.values[name][at - 1]
    share = float(same.mean()) if len(same) else 0.0
    acted = np.stack([rows.values[n] for n in rows.acted], 1) if rows.acted else np.zeros((len(rows.number), 0))
    copied = same & (acted[at] == acted[at - 1]).all(1) if rows.acted else same
    exact, varied = int(copied.sum()), _varied(acted)
    begin, length = dead(same, at)
    if share > 0.4 and _regular(same):
        yield Finding(
            kind="repeated-rows", state="bad", rows=some(rows.number[at[same]].tolist()),
            what=f"{share:.0%} of rows repeat the one before, at a steady rhythm: the log was written faster than the "
                 "world was measured",
            fix="keep one row of each measurement", figures={"share": share})
    elif exact >= 3 and varied and share < 0.3 and not len(begin):
        yield Finding(
            kind="duplicated-rows", state="bad", rows=some(rows.number[at[copied]].tolist()),
            what=f"{exact:,} rows are written twice: action and observation repeat the row before",
            fix="drop the second of each", figures={"rows": exact})
    elif len(begin) and varied:
        yield Finding(
            kind="frozen-rows", state="bad", rows=some(rows.number[begin].tolist()),
            what=f"nothing that is observed changes for up to {int(length.max()) + 1:,} rows while the action does: "
                 "the recorder stood still",
            fix="drop those rows", figures={"longest": float(length.max() + 1), "stretches": len(begin)})


def _varied(acted: Array) -> bool:
    """Whether the action takes so many values that an exact repetition means something."""
    if not acted.shape[1] or len(acted) < 20:
        return False
    sample = acted[:_SAMPLE]
    same = (sample[1:] == sample[:-1]).all(1).mean()
    return bool(same < 0.2)


def _regular(same: Array) -> bool:
    fresh = np.flatnonzero(~same)
    apart = np.diff(fresh)
    if len(apart) < 20:
        return False
    counts = np.bincount(apart)
    return bool(counts.max() > 0.7 * len(apart) and counts.argmax() > 1)


def copies(rows: Rows, live: Sequence[str]) -> Iterator[Finding]:
    """Columns that are a copy of another: the same numbers, or the same in another unit."""
    names = [*live[:200], *rows.acted]
    if len(names) < 2:
        return
    matrix = rows.matrix(names)
    good = np.flatnonzero(np.isfinite(matrix).all(1))
    if len(good) < 20:
        return
    sample = matrix[good[np.linspace(0, len(good) - 1, min(len(good), _SAMPLE)).astype(int)]]
    spread = sample.std(0)
    z = (sample - sample.mean(0)) / np.where(spread > 0, spread, 1.0)
    noise = 1 - np.square(np.abs(z.T @ z) / len(z))
    taken: set[str] = set()
    for i, first in enumerate(names):
        for j in range(i + 1, len(names)):
            second = names[j]
            if noise[i, j] > 1e-4 or second in taken or not spread[i] or not spread[j]:
                continue
            sign = np.sign((z[:, i] * z[:, j]).sum())
            if np.sqrt(np.mean((z[:, i] - sign * z[:, j]) ** 2)) > 1e-3:
                continue
            taken.add(second)
            same = bool(np.allclose(sample[:, i], sample[:, j], rtol=1e-6, atol=0))
            yield _copy(first, second, same, [n for n in (first, second) if n in rows.acted])


def _copy(first: str, second: str, same: bool, acts: Sequence[str]) -> Finding:
    if len(acts) == 1:
        seen = second if first in acts else first
        return Finding(
            kind="action-in-observation", state="bad", columns=(seen, acts[0]), fix=f"ignore {seen}",
            what=f"{seen} holds the action of its own row ({acts[0]}): who acts cannot know it yet")
    if len(acts) == 2:
        return Finding(
            kind="tied-actions", state="warn", columns=(first, second), fix="vary them independently",
            what=f"{first} and {second} always move together: what each of them does cannot be told apart")
    return Finding(
        kind="duplicate-column", state="warn", columns=(first, second), fix=f"ignore {second}",
        what=f"{second} is {first}" + ("" if same else " in another unit"))
