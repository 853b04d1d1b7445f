"""Lines of `metrics.jsonl` -> figures: loss and its parts, collapse gauges, probe, gradient. Knows names, not meanings.

A gauge named "group/part" is drawn with its group; a gauge that this file does not know gets a figure of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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


_SPREAD = Kind("Spread of the latent", "standard deviation",
               "Per dimension, over a batch: the mean and the least. A latent that collapses goes to zero here.")
_KINDS: dict[str, Kind] = {
    "loss": Kind("Loss", "weighted sum", "What is descended: all objectives, weighted.", log=True),
    "parts": Kind("Parts of the loss", "before weighting", "Each objective by itself.", log=True),
    "std": _SPREAD,
    "effective_rank": Kind("Effective rank of the latent", "dimensions",
                           "exp(entropy of the normalised singular values): how many dimensions are in use."),
    "probe": Kind("Online probe", "R²",
                  "A ridge regression from latent to columns, fitted on half of a batch and scored on the other. "
                  "1 is perfect, 0 no better than the mean. Never trained on."),
    "probe_error": Kind("Online probe, error", "root mean square, in the column's unit", "The same probe.", log=True),
    "gradient": Kind("Gradient", "norm before clipping", "", log=True),
    "lr": Kind("Learning rate", "× 10⁻³", "", factor=1e3),
    "data_wait": Kind("Waiting for data", "% of the time", "", factor=100.0),
}

Points = dict[str, list[tuple[float, float | None]]]


def metric_figures(rows: Sequence[Mapping[str, Any]]) -> list[Lines]:
    """The figures of one run's metrics over optimiser steps, in reading order."""
    series: dict[str, Points] = {}
    for row in rows:
        step = row.get("step")
        if isinstance(step, (int, float)):
            for group, part, value in _values(row):
                series.setdefault(group, {}).setdefault(part, []).append((step, value))
    order = [*_KINDS, *sorted(set(series) - set(_KINDS))]
    return [_figure(group, series[group]) for group in order if group in series]


def _values(row: Mapping[str, Any]) -> Iterator[tuple[str, str, float | None]]:
    """(figure, curve, value) of everything numeric in one line."""
    for name in ("loss", "gradient", "lr", "data_wait"):
        if name in row:
            yield name, "", _number(row[name])
    for name, value in _mapping(row.get("parts")):
        yield "parts", name, value
    for name, value in _mapping(row.get("gauges")):
        group, slash, part = name.partition("/")
        if slash:
            yield group, part, value
        elif name.startswith("std_"):
            yield "std", name.removeprefix("std_"), value
        else:
            yield name, "", value


def _mapping(value: Any) -> Iterator[tuple[str, float | None]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield str(name), _number(inner)


def _number(value: Any) -> float | None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None


def _figure(group: str, parts: Points) -> Lines:
    kind = _KINDS.get(group, Kind(group.replace("_", " ").capitalize(), "", ""))
    role = "actual" if len(parts) == 1 else "other"
    lines = tuple(_line(name.replace("_", " "), points, kind, role) for name, points in parts.items())
    return Lines(name="curves", title=kind.title, caption=kind.caption, x_title="optimiser step", y_title=kind.y_title,
                 lines=lines, log_y=kind.log, alt=f"{kind.title} over optimiser steps")


def _line(label: str, points: Sequence[tuple[float, float | None]], kind: Kind, role: Any) -> Line:
    """A curve as recorded; one with many points as its median and band."""
    scaled = [(x, None if y is None else y * kind.factor) for x, y in points]
    if len(scaled) <= BUCKETS:
        return Line(label=label, x=tuple(x for x, _ in scaled), y=tuple(y for _, y in scaled), role=role)
    size = math.ceil(len(scaled) / BUCKETS)
    xs, rows = [], []
    for start in range(0, len(scaled), size):
        piece = scaled[start : start + size]
        xs.append(piece[-1][0])
        known = sorted(y for _, y in piece if y is not None)
        at = lambda share, known=known: known[round(share * (len(known) - 1))] if known else None  # noqa: E731
        rows.append((at(0.1), at(0.5), at(0.9)))
    low, middle, high = (tuple(column) for column in zip(*rows, strict=True))
    return Line(label=label, x=tuple(xs), y=middle, low=low, high=high, role=role)
