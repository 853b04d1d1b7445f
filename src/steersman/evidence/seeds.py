"""From cells to rows: figures of one row over its seeds, with what is to be believed of them. Knows no experiment."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from steersman.evidence.cell import Results
from steersman.runs.artefacts import Column, Figure, Row, Table

_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Student's t, 97.5%, of 1 to 10 degrees of freedom."""


def over_seeds(results: Results) -> dict[str, dict[str, list[Any]]]:
    """row -> key -> the values of every cell that measured it, in the order of the cells. What is None is left out."""
    found: dict[str, dict[str, list[Any]]] = {}
    for one in results:
        for row, figures in one.kept.figures.items():
            for key, value in figures.items():
                values = found.setdefault(row, {}).setdefault(key, [])
                values += [] if value is None else [value]
    return found


def spread(values: Sequence[float]) -> Figure:
    """Mean of a few seeds with its 95% interval, mean ± t s / √n (Student's t of n - 1 degrees of freedom).

    >>> found = spread([1.0, 2.0, 3.0]); round(found.low, 2), found.value, round(found.high, 2), found.n
    (-0.48, 2.0, 4.48, 3)

    Of a single value there is no interval, of none no value.
    """
    n = len(values)
    if n < 2:
        return Figure(value=values[0] if n else None, n=n)
    t = _QUANTILES[n - 2] if n - 2 < len(_QUANTILES) else 1.96 + 2.7 / (n - 1)
    middle, half = statistics.fmean(values), t * statistics.stdev(values) / n**0.5
    return Figure(value=middle, low=middle - half, high=middle + half, n=n)


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are known; None: none is.

    >>> mean([1.0, None, 3.0])
    2.0
    """
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def worst(values: Sequence[float], better: Literal["higher", "lower", ""]) -> float | None:
    """The worst of the values; None: there is none, or neither way is better."""
    return None if not values or not better else min(values) if better == "higher" else max(values)


def by_row(
    results: Results, name: str, title: str, columns: Sequence[Column], *,
    kinds: Mapping[str, Literal["agent", "baseline", "ablation"]] | None = None, notes: tuple[str, ...] = (),
    protocol: Mapping[str, Any] | None = None,
) -> tuple[dict[str, dict[str, Any]], Table]:
    """The plain summary of an experiment whose cells are rows times seeds: its figures and its table.

    Figures: `key` is the mean over seeds (of yes and no: whether all say yes), and with two seeds or more `key_low`,
    `key_high` (`spread`) and, for a column that says which way is better, `key_worst`.

    columns  of the table; figures without a column are printed as well
    kinds    label -> kind of its row in the table, where it is no agent
    """
    better = {column.key: column.better for column in columns}
    figures: dict[str, dict[str, Any]] = {}
    rows = []
    for label, keys in over_seeds(results).items():
        out, cells = figures.setdefault(label, {}), {}
        for key, values in keys.items():
            if not all(isinstance(value, int | float) for value in values):
                out[key] = values[0] if len(values) == 1 else values
                continue
            if values and all(isinstance(value, bool) for value in values):
                out[key] = all(values)
                continue
            cells[key] = figure = spread(values)
            out[key] = figure.value
            if figure.low is not None:
                out |= {f"{key}_low": figure.low, f"{key}_high": figure.high}
                if (least := worst(values, better.get(key, ""))) is not None:
                    out[f"{key}_worst"] = least
        shown = {column.key: cells[column.key] for column in columns if column.key in cells}
        rows.append(Row(label=label or name, kind=(kinds or {}).get(label, "agent"), figures=shown))
    said = ("Intervals: 95%, Student's t over seeds.", *notes)
    table = Table(name=name, title=title, columns=tuple(columns), rows=tuple(rows), notes=said,
                  protocol=dict(protocol or {}))
    return figures, table
