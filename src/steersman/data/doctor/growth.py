"""How what pictures tell of the actions grows with the length of a log, and what more of it would bring: a cheap
regression on nested parts, and a power law through what it leaves. A guess about the log, not about a trained model.

Shapes: n transitions, A action entries, N parts of the log, D draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from steersman.core.recording import Array
from steersman.data.doctor import regression as r
from steersman.data.doctor.report import Growth, Visibility
from steersman.data.doctor.sight import features
from steersman.data.doctor.visibility import RIDGES, Filmed, transitions

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
MORE = (2.0, 4.0)
"""Times as long as the log for which a guess is given."""
_MOST = 12_000
_POWERS = (0.25, 0.5, 1.0)
_DRAWS = 200
_LITTLE = 0.05


def measure(log: Filmed, v: Visibility, second: float | None = None) -> Growth | None:
    """The learning curve for the actions between pictures `v.visible` rows apart; `second`: rows in one, for words in
    minutes. None: nothing shows, or too little to cut into parts."""
    if not v.shown:
        return None
    step = v.visible
    at = transitions(log, step, v.delay, step)
    if len(at) > _MOST:
        at = at[np.sort(np.random.default_rng(0).choice(len(at), _MOST, replace=False))]
    blocks = r.blocked(log.blocks[at]) if len(at) else None
    if blocks is None or len(at) < 640 or blocks.count < 20:
        return None
    entries = [c for name in v.shown for c in log.entries[name]]
    sums, _ = log.sums
    mean, earlier = (sums[at + step] - sums[at]) / step, (sums[at] - sums[at - step]) / step
    y = ((mean - mean.mean(0)) / np.maximum(mean.std(0), 1e-9))[:, entries]
    known, place = r.standardised(earlier), log.place
    seen = features(log.film, *(place[at + v.delay + k] for k in (-step, 0, step)))
    before = r.held_out((known,), y, blocks)
    base = np.bincount(blocks.block, (before**2).sum(1), blocks.count)
    left = _left((known, *seen), before, blocks)
    rows = tuple(round(share * len(log.place)) for share in SHARES)
    drawn = np.random.default_rng(0).integers(0, blocks.count, (_DRAWS, blocks.count))
    drawn[0] = np.arange(blocks.count)
    curves = 1 - left[:, drawn].sum(2) / np.maximum(base[drawn].sum(1), 1e-12)
    told, error = curves[:, 0], curves[:, 1:].std(1)
    guesses = {m: np.array([_beyond(rows, curve, m * rows[-1]) for curve in curves.T]) for m in MORE}
    more = {f"{m:g}": _interval(told[-1], guesses[m]) for m in MORE}
    return Growth(rows=rows, told=tuple(told.tolist()), error=tuple(error.tolist()), more=more,
                  words=_words(rows, told, more, second))


def _left(parts: Sequence[Array], rest: Array, blocks: r.Blocks) -> Array:
    """(N, blocks) squared error on each block of what is left of the action, learned from a share of the blocks of the
    other folds; a larger share holds the smaller ones."""
    phi = np.concatenate(parts, 1)
    found = np.zeros((len(SHARES), blocks.count))
    rank = np.random.default_rng(0).permutation(blocks.count)[blocks.block] / blocks.count
    for i, share in enumerate(SHARES):
        for fold in range(r.FOLDS):
            own = np.flatnonzero((blocks.fold != fold) & (rank < share))
            met = np.flatnonzero(blocks.fold == fold)
            error = (rest[met] - _predicted(phi[own], rest[own], phi[met], blocks.block[own])) ** 2
            found[i] += np.bincount(blocks.block[met], error.sum(1), blocks.count)
    return found


def _predicted(phi: Array, y: Array, asked: Array, block: Array) -> Array:
    """Ridge regression on centred features, its ridge chosen on a fourth of the blocks that is held back."""
    kept = block % 4 == 0
    if min(kept.sum(), (~kept).sum()) < 10:
        return np.zeros((len(asked), y.shape[1]))
    tried = _fits(phi[~kept], y[~kept], RIDGES)
    errors = [float(((y[kept] - _said(fit, phi[kept])) ** 2).sum()) for fit in tried]
    (best,) = _fits(phi, y, (RIDGES[int(np.argmin(errors))],))
    return _said(best, asked)


Fit = tuple[Array, Array, Array]
"""Weights (F, c), and means of inputs and targets."""


def _fits(phi: Array, y: Array, ridges: Sequence[float]) -> list[Fit]:
    """One fit for each ridge; of few rows by their Gram matrix, which is the smaller one then."""
    mean, centre = phi.mean(0), y.mean(0).astype(np.float32)
    x, rest = phi - mean, y.astype(np.float32) - centre
    few = len(x) < x.shape[1]
    gram, common = (x @ x.T, rest) if few else (x.T @ x, x.T @ rest)
    found = []
    for ridge in ridges:
        weight = np.linalg.solve(gram + np.float32(ridge * len(x)) * np.eye(len(gram), dtype=np.float32), common)
        found.append((x.T @ weight if few else weight, mean, centre))
    return found


def _said(fit: Fit, phi: Array) -> Array:
    weight, mean, centre = fit
    found: Array = (phi - mean) @ weight + centre
    return found


# What more would bring -------------------------------------------------------------------------------------------


def _beyond(rows: Sequence[int], told: Array, asked: float) -> float:
    """1 - told = a + b·rows^-c with a, b >= 0, the best of a few c, at more rows; never less than what is told now."""
    left, x = 1 - told, np.asarray(rows, float)
    best, error = told[-1], np.inf
    for power in _POWERS:
        basis = np.stack([np.ones(len(x)), x**-power], 1)
        a, b = np.linalg.lstsq(basis, left, rcond=None)[0]
        if a < 0:
            a, b = 0.0, float((basis[:, 1] * left).sum() / (basis[:, 1] ** 2).sum())
        b = max(float(b), 0.0)
        wrong = float(((basis @ np.array([a, b]) - left) ** 2).sum())
        if wrong < error:
            drift = told[-1] - (1 - a - b * x[-1] ** -power)
            best, error = 1 - a - b * asked**-power + drift, wrong
    return float(np.clip(max(best, told[-1]), -1, 1))


def _interval(now: float, guesses: Array) -> tuple[float, float, float]:
    low, high = np.quantile(guesses[1:], [0.1, 0.9])
    return float(guesses[0]), float(min(low, guesses[0])), float(max(high, guesses[0]))


def _words(
    rows: Sequence[int], told: Array, more: dict[str, tuple[float, float, float]], second: float | None
) -> str:
    def long(count: float) -> str:
        minutes = 0.0 if second is None else count / second / 60
        return f"{count:,.0f} rows" if second is None else f"{minutes:.1f} minutes" if minutes < 10 else \
            f"{minutes:.0f} minutes"

    known = ", ".join(f"{long(rows[i])}: R² {told[i]:.2f}" for i in (0, 2, 4))
    times, (guess, low, high) = list(more.items())[-1]
    gain = guess - told[-1]
    last = "more gives little" if gain < _LITTLE else "more would help"
    return f"{known}; {times} times as much would give about {guess:.2f} ({low:.2f} to {high:.2f}): {last}"
