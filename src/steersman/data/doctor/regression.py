"""Held-out regression that is fast and honest: linear and random Fourier features, folds of whole blocks of the log,
and a test of whether one set of inputs predicts better than another. Arrays only; knows no log.

Shapes: n rows, d inputs, c targets, m features, K folds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from steersman.core.recording import Array

FOLDS = 5
FEATURES = 160
_RIDGES = (1e-6, 1e-4, 1e-2, 1.0)
_LIMIT = 8.0


def standardised(x: Array) -> Array:
    """(n, d) with mean 0 and deviation 1, extremes pulled in to 8 deviations (a broken sensor must not blind the rest);
    a constant column becomes 0."""
    low, high = np.quantile(x, [0.001, 0.999], axis=0)
    core = np.clip(x, low, high)
    mean, std = core.mean(0), core.std(0)
    good = std > 1e-9 * (np.abs(mean) + 1e-30)
    return np.asarray(np.clip(np.where(good, (x - mean) / np.where(good, std, 1.0), 0.0), -_LIMIT, _LIMIT), np.float32)


def features(x: Array, seed: int = 0, count: int = FEATURES) -> Array:
    """(n, d) standardised -> (n, d + count): the inputs and √(2/count)·cos(xW/ℓ + b), W ~ N(0, 1), ℓ = √d·{½, 1, 2}.

    Random Fourier features of Gaussian kernels (Rahimi & Recht 2007), a third of them for each width.
    """
    if not x.shape[1]:
        return x
    generator = np.random.default_rng(seed)
    width = math.sqrt(x.shape[1]) * np.repeat([0.5, 1.0, 2.0], -(-count // 3))[:count]
    weight = (generator.standard_normal((x.shape[1], count)) / width).astype(np.float32)
    phase = generator.uniform(0, 2 * np.pi, count).astype(np.float32)
    return np.concatenate([x, np.cos(x @ weight + phase)], 1)


@dataclass(frozen=True)
class Blocks:
    """Which block of the log each row belongs to, and which fold each block.

    block  (n,) 0, 1, …; rows of one block are near each other in time
    fold   (n,) 0..K-1
    """

    block: Array
    fold: Array

    @property
    def count(self) -> int:
        return int(self.block.max()) + 1 if len(self.block) else 0


def blocked(block: Array) -> Blocks:
    """Folds of whole blocks, as even as it goes."""
    _, block = np.unique(block, return_inverse=True)
    count = int(block.max()) + 1
    order = np.random.default_rng(0).permutation(count)
    fold = np.empty(count, int)
    fold[order] = np.arange(count) % FOLDS
    return Blocks(block, fold[block])


def held_out(
    parts: Sequence[Array], targets: Array, blocks: Blocks, ridges: Sequence[float] = _RIDGES,
    precision: type[np.floating[Any]] = np.float64,
) -> Array:
    """(n, c) what ridge regression on the features of `parts` side by side leaves of the targets, each row predicted
    from the folds that it is not in. The ridge is the best of `ridges` for each target; `precision` of the solution:
    half is enough, and faster, where no ridge is small.

        W = (ΦᵀΦ + λ n I)⁻¹ ΦᵀY on centred features and targets
    """
    order = np.argsort(blocks.fold, kind="stable")
    edges = np.searchsorted(blocks.fold[order], np.arange(FOLDS + 1))
    phi = np.concatenate([*parts, np.ones((len(targets), 1), np.float32)], 1)[order]
    y = np.asarray(targets, np.float32)[order]
    folds = [slice(a, b) for a, b in pairwise(edges.tolist())]
    grams = [(phi[rows].T @ phi[rows]).astype(np.float64) for rows in folds]
    crosses = [(phi[rows].T @ y[rows]).astype(np.float64) for rows in folds]
    gram, cross = np.sum(grams, 0), np.sum(crosses, 0)
    rest = np.empty((len(ridges), *y.shape), np.float32)
    free = phi.shape[1] - 1  # the constant is not shrunk
    for rows, own, met in zip(folds, grams, crosses, strict=True):
        n = len(y) - (rows.stop - rows.start)
        g, x = np.asarray(gram - own), np.asarray(cross - met)
        mean, centre = g[:free, -1] / n, x[-1] / n
        spread, common = g[:free, :free] - n * np.outer(mean, mean), x[:free] - n * np.outer(mean, centre)
        spread, common = spread.astype(precision), common.astype(precision)
        for i, ridge in enumerate(ridges):
            weight = np.linalg.solve(spread + ridge * n * np.eye(free, dtype=precision), common)
            constant = (centre - mean @ weight).astype(np.float32)
            rest[i, rows] = y[rows] - constant - phi[rows, :free] @ weight.astype(np.float32)
    best = np.square(rest, dtype=np.float64).mean(1).argmin(0)
    left: Array = np.empty(y.shape)
    left[order] = np.take_along_axis(rest, best[None, None, :], 0)[0]
    return left


@dataclass(frozen=True)
class Gain:
    """How much smaller errors became: share (c,) = 1 - after / before; evidence (c,) in standard errors over blocks,
    as a normal quantile (Student's t with blocks - 1 degrees of freedom, converted)."""

    share: Array
    evidence: Array


def gain(before: Array, after: Array, blocks: Blocks) -> Gain:
    """(n, c) what is left before and after -> Gain in squared error. Rows of one block count as one observation."""
    count, before, after = blocks.count, before**2, after**2
    difference = np.stack([np.bincount(blocks.block, d, count) for d in (before - after).T], 1)
    total = np.maximum(before.sum(0), 1e-30)
    spread = difference.std(0, ddof=1) * math.sqrt(count) if count > 1 else np.full(len(total), np.inf)
    t = difference.sum(0) / np.maximum(spread, 1e-12 * total)
    return Gain(difference.sum(0) / total, _normal(t, max(count - 1, 1)))


def _normal(t: Array, freedom: int) -> Array:
    """Student's t as a normal quantile (Wallace 1959): z = (8ν+1)/(8ν+3)·√(ν ln(1 + t²/ν))."""
    z: Array = (8 * freedom + 1) / (8 * freedom + 3) * np.sqrt(freedom * np.log1p(t * t / freedom))
    signed: Array = np.sign(t) * z
    return signed


def needed(columns: int) -> float:
    """Evidence that counts when `columns` are looked at: 4, and more for many (Bonferroni, about)."""
    return 4.0 + 0.25 * math.log2(max(columns, 1))
