"""Numbers as people read them: the same in the terminal and in the report. Knows nothing of either."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from steersman.runs.artefacts import Column, Figure

MISSING = "–"


def decimals(values: Iterable[float | None]) -> int:
    """Digits after the point that show three significant digits of the largest value, at most 3."""
    largest = max((abs(v) for v in values if v is not None and math.isfinite(v)), default=0.0)
    return 0 if largest >= 1000 else 1 if largest >= 100 else 2 if largest >= 10 else 3


def number(value: float | None, form: str = "number", places: int | None = None) -> str:
    """One value in one of the forms "share", "number", "count", "seconds", without its unit.

    >>> number(0.975, "share"), number(20000, "count"), number(0.2137), number(-1153.2), number(None)
    ('97.5%', '20,000', '0.214', '-1,153', '–')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if form == "share":
        return f"{100 * value:.1f}%"
    if form == "count":
        return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
    if value != 0 and abs(value) < 5e-4 and places is None:
        return f"{value:.1e}"
    return f"{value:,.{decimals([value]) if places is None else places}f}"


def interval(figure: Figure, form: str = "number", places: int | None = None) -> str:
    """The interval of a figure, or "".

    >>> interval(Figure(value=0.975, low=0.943, high=0.989), "share")
    '94.3–98.9'
    """
    if figure.low is None or figure.high is None:
        return ""
    low, high = (number(x, form, places).rstrip("%") for x in (figure.low, figure.high))
    return f"{low}–{high}" if figure.low >= 0 else f"{low} to {high}"


def column_places(column: Column, figures: Iterable[Figure | None]) -> int | None:
    """One number of decimals for a whole column, or None where the form decides."""
    if column.form in ("share", "count"):
        return None
    return decimals(x for f in figures if f is not None for x in (f.value, f.low, f.high))


def mean(values: Sequence[float]) -> Figure:
    """The mean with its 95% interval, normal approximation; of a single value no interval but itself.

    >>> interval(mean([1.0, 2.0, 3.0]))
    '0.868–3.132'
    """
    middle = statistics.fmean(values)
    half = 1.96 * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return Figure(value=middle, low=middle - half, high=middle + half, n=len(values))


def heading(column: Column) -> str:
    """A column's title with its unit.

    >>> heading(Column(key="t", title="planning", form="seconds")), heading(Column(key="s", title="success"))
    ('planning (s)', 'success')
    """
    unit = column.unit or ("s" if column.form == "seconds" else "")
    return f"{column.title} ({unit})" if unit else column.title


def duration(seconds: float) -> str:
    """
    >>> duration(0.0042), duration(4.24), duration(61), duration(3725), duration(200000)
    ('4.2 ms', '4.2 s', '1 min 01 s', '1 h 02 min', '2 d 7 h')
    """
    if seconds < 1:
        return f"{1000 * seconds:.1f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def clock(seconds: float) -> str:
    """A remaining time, as on a stop watch.

    >>> clock(7), clock(83), clock(3725)
    ('0:07', '1:23', '1:02:05')
    """
    whole = max(0, round(seconds))
    minutes = f"{whole // 60 % 60}:{whole % 60:02d}"
    return minutes if whole < 3600 else f"{whole // 3600}:{minutes:0>5}"


def size(count: float) -> str:
    """Bytes.

    >>> size(512), size(2.5e6), size(3 * 2**30)
    ('512 B', '2.4 MiB', '3.0 GiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
