"""Lines of `metrics.jsonl` -> figures: loss and its parts, collapse gauges, probe, gradient. Knows names, not meanings.

A metric named "group/part" is drawn with its group; one that this file does not know gets a figure of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from steersman.runs.artefacts import Line, Lines

BUCKETS = 150
"""A curve with more points than this is drawn as the median of each bucket, with a band from its 10% to its 90%."""


class Kind(msgspec.Struct, frozen=True):
    """How a group of metrics is drawn."""

    title: str
    y_title: str
    caption: str
    log: bool = False
    factor: float = 1.0
    least: float = -math.inf


_KINDS: dict[str, Kind] = {
    "loss": Kind("Loss", "weighted sum", "What is descended: all objectives, weighted.", log=True),
    "part": Kind("Parts of the loss", "before weighting", "Each objective by itself.", log=True),
    "gauge/error_vs_still": Kind("Prediction error against no change", "ratio of squared errors",
                                 "Below 1 the model knows more than that nothing moves.", log=True),
    "held_out": Kind("Error on episodes never trained on", "mean squared error of the latent", "", log=True),
    "gauge/std": Kind("Spread of the latent", "standard deviation",
                      "Per dimension, over a batch: mean and least. A latent that collapses goes to zero here."),
    "gauge/effective_rank": Kind("Effective rank of the latent", "dimensions",
                                 "exp(entropy of the normalised singular values): how many dimensions are in use."),
    "gauge/within_share": Kind("Variance within windows", "share of the variance",
                               "How much of the latent's variance is change inside a window. Near 0 it only tells "
                               "windows apart: a background, or a world that slow."),
    "probe": Kind("Online probe, error", "root mean square, in the column's unit",
                  "A ridge regression from latent to columns, fitted on half of a batch and scored on the other. "
                  "The columns are never trained on.", log=True),
    "probe_r2": Kind("Online probe, R²", "R²",
                     "1 is perfect, 0 no better than the mean; below −1 is drawn as −1.", least=-1.0),
    "rate/gradient": Kind("Gradient", "norm before clipping", "", log=True),
    "rate/learning_rate": Kind("Learning rate", "× 10⁻³", "", factor=1e3),
    "speed/windows_per_second": Kind("Speed", "windows a second", ""),
    "speed/data_wait": Kind("Waiting for data", "% of the time", "", factor=100.0),
}

Points = dict[str, list[tuple[float, float | None]]]


def metric_figures(rows: Sequence[Mapping[str, Any]]) -> list[Lines]:
    """The figures of one run's metrics over optimiser steps, in reading order."""
    series: dict[str, Points] = {}
    for row in rows:
        step = _number(row.get("step"))
        for name, value in row.items():
            if step is not None and name not in ("step", "seconds") and (value is None or _number(value) is not None):
                figure, curve = _place(name)
                series.setdefault(figure, {}).setdefault(curve, []).append((step, _number(value)))
    order = [*_KINDS, *sorted(set(series) - set(_KINDS))]
    return [_figure(name, series[name]) for name in order if name in series]


def _place(name: str) -> tuple[str, str]:
    """(figure, curve) of a metric.

    >>> _place("gauge/std_mean"), _place("part/prediction"), _place("loss")
    (('gauge/std', 'mean'), ('part', 'prediction'), ('loss', ''))
    """
    group, slash, part = name.partition("/")
    if group == "gauge" and part.startswith("std_"):
        return "gauge/std", part.removeprefix("std_")
    if name in _KINDS or group in ("gauge", "rate", "speed") or not slash:
        return name, ""
    return group, part


def _number(value: Any) -> float | None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None


def _figure(group: str, parts: Points) -> Lines:
    kind = _KINDS.get(group, Kind(group.split("/")[-1].replace("_", " ").capitalize(), "", ""))
    role = "actual" if len(parts) == 1 else "other"
    lines = tuple(_line(name.replace("_", " "), points, kind, role) for name, points in parts.items())
    return Lines(name="curves", title=kind.title, caption=kind.caption, x_title="optimiser step", y_title=kind.y_title,
                 lines=lines, log_y=kind.log, alt=f"{kind.title} over optimiser steps")


def _line(label: str, points: Sequence[tuple[float, float | None]], kind: Kind, role: Any) -> Line:
    """A curve as recorded; one with many points as its median and band."""
    scaled = [(x, None if y is None else max(y * kind.factor, kind.least)) for x, y in points]
    if len(scaled) <= BUCKETS:
        return Line(label=label, x=tuple(x for x, _ in scaled), y=tuple(y for _, y in scaled), role=role)
    size = math.ceil(len(scaled) / BUCKETS)
    xs, rows = [], []
    for start in range(0, len(scaled), size):
        piece = scaled[start : start + size]
        xs.append(piece[-1][0])
        known = sorted(y for _, y in piece if y is not None)
        rows.append([known[round(share * (len(known) - 1))] if known else None for share in (0.1, 0.5, 0.9)])
    low, middle, high = (tuple(column) for column in zip(*rows, strict=True))
    return Line(label=label, x=tuple(xs), y=middle, low=low, high=high, role=role)
