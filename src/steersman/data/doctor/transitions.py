"""Which steps of a log are looked at: a sample of transitions, with what is observed and done in the rows around them.

Shapes: R rows, n transitions, C observed columns, A action entries, E exogenous inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steersman.data.doctor import regression as r
from steersman.data.doctor.rows import Array, Rows
from steersman.data.timing import stretches

MOST = 12_000
"""Transitions looked at, at most."""
LAGS = 10
FEWEST = 200
_COLUMNS = 32
_CHOICES = 32


@dataclass(frozen=True)
class Steps:
    """Transitions row -> row + 1 of a log.

    names      of the C observed columns
    x          (R, C) observations of all rows
    actions    (R, A) actions, choices as one-hot
    exogenous  (R, E)
    entries    name of each action -> its columns in `actions`
    at         (n,) rows where transitions start, with enough rows before and after them
    blocks     which of them belong together
    first      (R,) first row of each row's episode
    last       (R,) its last row
    """

    names: tuple[str, ...]
    x: Array
    actions: Array
    exogenous: Array
    entries: dict[str, tuple[int, ...]]
    at: Array
    blocks: r.Blocks
    first: Array
    last: Array

    def change(self, ahead: int = 1, at: Array | None = None) -> Array:
        """(n, C) x[t + ahead] - x[t]."""
        rows = self.at if at is None else at
        change: Array = self.x[rows + ahead] - self.x[rows]
        return change

    @property
    def before(self) -> Array:
        """(n, C) x[t] - x[t - 1]."""
        change: Array = self.x[self.at] - self.x[self.at - 1]
        return change


def steps(rows: Rows, skip: Sequence[str]) -> Steps | None:
    """The transitions to look at; None: too few, or nothing observed or chosen."""
    names = tuple(n for n in rows.observed if n not in skip)[:_COLUMNS]
    acted = [n for n in rows.acted if n not in skip]
    if not names:
        return None
    x = rows.matrix(names)
    parts, entries, width = [], {}, 0
    for name in acted:
        part = one_hot(rows.values[name])
        entries[name] = tuple(range(width, width + part.shape[1]))
        parts.append(part)
        width += part.shape[1]
    actions = np.concatenate(parts, 1) if parts else np.zeros((len(x), 0))
    exogenous = rows.matrix([n for n in rows.schema.exogenous if n in rows.values and n not in skip])
    first, last = rows.ends
    index = np.arange(len(x))
    median = int(np.median([stop - start for start, stop in rows.bounds]))
    lags = max(1, min(LAGS, median // 3))
    fine = np.asarray(np.isfinite(x).all(1))
    good = (index - first >= lags) & (index + 2 <= last) & fine
    good &= np.append(fine[1:], False) & np.append(False, fine[:-1])
    if actions.shape[1]:
        whole = np.isfinite(actions).all(1)
        good &= whole & np.append(False, whole[:-1]) & np.append(whole[1:], False)
    at = np.flatnonzero(good)
    if len(at) < FEWEST:
        return None
    block = _blocks(rows, at)
    if len(at) > MOST:
        drawn = np.zeros(len(at), bool)
        drawn[np.random.default_rng(0).choice(len(at), MOST, replace=False)] = True
        drawn |= _sudden(rows, names)[at + 1]
        at, block = at[drawn], block[drawn]
    return Steps(names, x, np.nan_to_num(actions), np.nan_to_num(exogenous), entries, at, r.blocked(block),
                 first, last)


def one_hot(values: Array) -> Array:
    """Whole numbers from a few choices as one-hot, amounts as they are."""
    good = values[np.isfinite(values)]
    levels = np.unique(good[:100_000])
    if 2 < len(levels) <= _CHOICES and (levels == np.round(levels)).all():
        return np.where(np.isfinite(values)[:, None], values[:, None] == levels[None, :], np.nan).astype(float)
    return values[:, None]


def _blocks(rows: Rows, at: Array) -> Array:
    """Episodes, the long ones cut so that there are about 40 blocks at least."""
    starts = [start for start, _ in stretches(rows.bounds, 10)]
    block: Array = np.searchsorted(starts, at, "right")
    return block


def _sudden(rows: Rows, names: Sequence[str]) -> Array:
    """(R,) bool: the few rows where most columns leap at once; none of a log where many do."""
    count = np.zeros(len(rows.number), int)
    for name in names:
        size = np.abs(rows.change(name))
        good = size[np.isfinite(size)]
        with np.errstate(invalid="ignore"):
            count += size > 3 * np.quantile(good[:: max(1, len(good) // 50_000)], 0.95) if len(good) else False
    found = count >= max(2, 0.5 * len(names))
    return found if found.sum() <= 500 else np.zeros(len(found), bool)
