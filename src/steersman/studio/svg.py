"""Small vector charts as strings: lines with bands and limits, whiskers, bars. Colours are CSS classes of the page.

Everything that comes from a run is escaped here; nothing is measured, only drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from steersman.runs.artefacts import Line, Lines

POINTS = 320
"""Most points that a curve is drawn with; more are reduced to the extremes of each bucket."""
DECADES = 1e6
"""What a logarithmic axis spans at most; what is smaller lies on its lower edge."""
_LETTER = 6.1  # width of a letter of the charts' 11 px type, for the room that labels need


@dataclass(frozen=True)
class Scale:
    """Values low..high -> pixels start..end, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        at = math.log10(max(value, self.low)) if self.log else value
        return round(self.start + (at - low) / (high - low) * (self.end - self.start), 1)

    def ticks(self, count: int) -> list[float]:
        """About `count` round values, and two at least if there are two."""
        values = log_ticks(self.low, self.high, count) if self.log else ticks(self.low, self.high, count)
        return values if len(values) > 1 else ticks(self.low, self.high, 2 * count)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers within [low, high], about `count` of them.

    >>> ticks(0, 1, 5), ticks(-3, 97, 4)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.0, 50.0])
    """
    rough = (high - low) / max(1, count)
    if rough < 1e-300:  # powers of ten end there
        return [low, high]
    digits = -math.floor(math.log10(rough))
    power = 10.0 ** -digits
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, max(digits, 0)) for i in range(first, last + 1)]


def log_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Powers of ten within [low, high]; with 2 and 5 between them where there are few.

    >>> log_ticks(0.01, 10), log_ticks(0.5, 4)
    ([0.01, 0.1, 1.0, 10.0], [0.5, 1.0, 2.0])
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = [m * 10.0**i for i in range(first, last + 1) for m in (1, 2, 5)]
    every = [x for x in every if low * 0.999 <= x <= high * 1.001]
    decades = [x for x in every if math.log10(x).is_integer()]
    return decades[:: math.ceil(len(decades) / count)] if len(decades) >= 3 else every


def short(value: float) -> str:
    """A tick's label.

    >>> [short(x) for x in (0, 0.05, 1.0, 2500, 20000, 3e6, 1e-4, -0.5)]
    ['0', '0.05', '1', '2,500', '20k', '3M', '1e-4', '−0.5']
    """
    size = abs(value)
    if size >= 1e6:
        text = f"{size / 1e6:g}M"
    elif size >= 1e4:
        text = f"{size / 1e3:g}k"
    elif 0 < size < 1e-3:
        text = f"{size:.0e}".replace("e-0", "e-")
    else:
        text = f"{size:,g}" if size >= 1000 else f"{size:g}"
    return f"−{text}" if value < 0 else text


def thinned(
    x: Sequence[float], y: Sequence[float | None], most: int = POINTS
) -> tuple[list[float], list[float | None]]:
    """At most about `most` points that keep every bucket's lowest and highest value, so that no spike is lost."""
    if len(x) <= most:
        return list(x), list(y)
    keep: set[int] = {0, len(x) - 1}
    bucket = math.ceil(2 * len(x) / most)
    for start in range(0, len(x), bucket):
        rows = [i for i in range(start, min(start + bucket, len(x))) if y[i] is not None]
        if rows:
            keep |= {min(rows, key=lambda i: y[i] or 0.0), max(rows, key=lambda i: y[i] or 0.0)}
        else:
            keep.add(start)
    order = sorted(keep)
    return [x[i] for i in order], [y[i] for i in order]


def _finite(values: Sequence[float | None], positive: bool = False) -> list[float]:
    return [v for v in values if v is not None and math.isfinite(v) and (v > 0 or not positive)]


def _pieces(xs: Sequence[float], ys: Sequence[float | None], sx: Scale, sy: Scale) -> list[list[tuple[float, float]]]:
    """Runs of drawable points between gaps. What a logarithm cannot show (0 and below) lies on the lower edge."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(xs, ys, strict=True):
        if y is None or not math.isfinite(y):
            pieces.append([])
        else:
            pieces[-1].append((sx(x), sy(y)))
    return [piece for piece in pieces if piece]


def _points(piece: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in piece)


def colours(lines: Sequence[Line]) -> list[str]:
    """A CSS class for each line: its role's, or one of a cycle where the role says nothing."""
    count, classes = 0, []
    for line in lines:
        if line.role in ("other", "start"):
            classes.append(f"s{count % 6}")
            count += 1
        else:
            classes.append(f"r-{line.role}")
    return classes


def chart(figure: Lines, width: int = 640, height: int = 260) -> str:
    """Curves over a common axis with labels at their ends, limits with their forbidden side shaded."""
    log = figure.log_y and any(_finite(line.y, positive=True) for line in figure.lines)
    every = [v for ln in figure.lines for v in (*_finite(ln.y, log), *_finite(ln.low, log), *_finite(ln.high, log))]
    every += [limit.y for limit in figure.limits if limit.y > 0 or not log]
    across = [x for line in figure.lines for x in _finite(line.x)]
    if not every or not across:
        return '<p class="absent">nothing was recorded</p>'
    left, top, bottom = 46, 14, height - 34
    log = log and max(every) > 3 * min(every)
    labels = [line.label for line in figure.lines if line.label] + [limit.label for limit in figure.limits]
    room = min(width * 0.3, max((len(label) for label in labels), default=0) * _LETTER + 12)
    right = width - max(14, room)
    lowest = max(min(every), max(every) / DECADES) if log else min(every)
    low, high = _padded(lowest, max(every), log)
    x0, x1 = min(across), max(across)
    sx = Scale(x0, x1 if x1 > x0 else x0 + 1, left, right)
    sy = Scale(low, high, bottom, top, log)
    parts = [*_axes(figure, sx, sy, left, right, top, bottom)]
    ends: list[tuple[float, str, str]] = []
    for limit in figure.limits:
        y = min(max(sy(limit.y), top), bottom)
        edge = top if limit.forbidden == "above" else bottom
        parts.append(f'<rect class="shade" x="{left}" y="{min(y, edge)}" width="{right - left:g}" '
                     f'height="{abs(y - edge):g}"/>'
                     f'<line class="r-limit limit" x1="{left}" x2="{right:g}" y1="{y}" y2="{y}"/>')
        ends.append((y, limit.label, "r-limit"))
    for line, colour in zip(figure.lines, colours(figure.lines), strict=True):
        body, end = _curve(line, colour, sx, sy)
        parts += body
        if end is not None and line.label:
            ends.append((end, line.label, colour))
    parts += _end_labels(ends, right + 6, bottom, width)
    return _svg(width, height, "".join(parts), figure.alt or figure.caption or figure.title)


def _padded(low: float, high: float, log: bool) -> tuple[float, float]:
    if log:
        return low / 1.15, high * 1.15 if high > low else low * 10
    if low == high:
        pad = abs(low) * 0.1 or 1.0
        return low - pad, high + pad
    pad = 0.05 * (high - low)
    return (0.0 if 0 <= low < 0.4 * high else low - pad), high + pad


def _axes(figure: Lines, sx: Scale, sy: Scale, left: float, right: float, top: float, bottom: float) -> list[str]:
    parts = []
    for value in sy.ticks(4):
        y = sy(value)
        kind = "zero" if value == 0 and sy.low < 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{left}" x2="{right:g}" y1="{y}" y2="{y}"/>'
                     f'<text class="tick" x="{left - 6}" y="{y + 3.5:g}" text-anchor="end">{short(value)}</text>')
    count = max(2, int((right - left) / 90))
    for value in sx.ticks(count):
        parts.append(f'<text class="tick" x="{sx(value)}" y="{bottom + 15}" text-anchor="middle">{short(value)}</text>')
    below = f'x="{right:g}" y="{bottom + 30}" text-anchor="end"'
    parts.append(f'<text class="axis" {below}>{escape(figure.x_title)}</text>')
    parts.append(f'<text class="axis" x="{left - 40}" y="{top - 4}">{escape(figure.y_title)}</text>')
    return parts


def _curve(line: Line, colour: str, sx: Scale, sy: Scale) -> tuple[list[str], float | None]:
    """A curve with its band, and the height at which it ends."""
    parts = []
    if line.low and line.high:
        top = _pieces(*thinned(line.x, line.high), sx, sy)
        floor = _pieces(*thinned(line.x, line.low), sx, sy)
        for upper, lower in zip(top, floor, strict=False):
            parts.append(f'<polygon class="{colour} band" points="{_points([*upper, *reversed(lower)])}"/>')
    pieces = _pieces(*thinned(line.x, line.y), sx, sy)
    for piece in pieces:
        if len(piece) == 1:
            parts.append(f'<circle class="{colour} dot" cx="{piece[0][0]:g}" cy="{piece[0][1]:g}" r="2.5"/>')
        else:
            parts.append(f'<polyline class="{colour} curve" points="{_points(piece)}"/>')
    return parts, pieces[-1][-1][1] if pieces else None


def _end_labels(ends: list[tuple[float, str, str]], x: float, bottom: float, width: float) -> list[str]:
    """Labels beside the curves' ends, moved apart so that none covers another."""
    ends = sorted(ends)
    gap = 13.0
    ys = [y for y, _, _ in ends]
    for i in range(1, len(ys)):
        ys[i] = max(ys[i], ys[i - 1] + gap)
    overflow = ys[-1] - bottom if ys else 0.0
    if overflow > 0:
        ys[-1] -= overflow
        for i in range(len(ys) - 2, -1, -1):
            ys[i] = min(ys[i], ys[i + 1] - gap)
    letters = max(4, int((width - x) / _LETTER))
    parts = []
    for y, (_, label, colour) in zip(ys, ends, strict=True):
        text = label if len(label) <= letters else label[: letters - 1] + "…"
        parts.append(f'<text class="{colour} end" x="{x:g}" y="{y + 3.5:.1f}">{escape(text)}</text>')
    return parts


def _svg(width: float, height: float, body: str, alt: str) -> str:
    return (f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" role="img" '
            f'aria-label="{escape(alt, quote=True)}" preserveAspectRatio="xMidYMid meet">{body}</svg>')


def whisker(value: float | None, low: float | None, high: float | None, target: float | None, kind: str,
            width: int = 120) -> str:
    """A share on its 0..1 line: dot, interval, and a tick where the target is. Decoration beside the number."""
    if value is None or not 0 <= value <= 1:
        return ""
    s = Scale(0, 1, 4, width - 4)
    parts = [f'<line class="grid" x1="4" x2="{width - 4}" y1="7" y2="7"/>']
    if target is not None:
        parts.append(f'<line class="target" x1="{s(target)}" x2="{s(target)}" y1="1" y2="13"/>')
    if low is not None and high is not None:
        parts.append(f'<line class="{kind} span" x1="{s(low)}" x2="{s(high)}" y1="7" y2="7"/>')
    parts.append(f'<circle class="{kind} dot" cx="{s(value)}" cy="7" r="3.4"/>')
    return f'<svg class="whisker" viewBox="0 0 {width} 14" aria-hidden="true">{"".join(parts)}</svg>'


def sparkline(values: Sequence[float | None], width: int = 240, height: int = 36) -> str:
    """A small curve without axes; x runs over the whole width, so that a cursor can be laid over it."""
    good = _finite(values)
    if len(good) < 2:
        return ""
    low, high = min([*good, 0.0]), max(good)
    sx = Scale(0, max(1, len(values) - 1), 0, width)
    sy = Scale(low, high if high > low else low + 1, height - 3, 3)
    body = "".join(f'<polyline class="r-imagined curve" points="{_points(p)}"/>'
                   for p in _pieces(range(len(values)), values, sx, sy))
    return (f'<svg class="spark" viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true">'
            f"{body}</svg>")


def stages(seconds: dict[str, float], width: int = 640) -> str:
    """Stages of work as one bar."""
    total = sum(seconds.values())
    if total <= 0:
        return ""
    parts, x = [], 0.0
    for i, value in enumerate(seconds.values()):
        wide = value / total * width
        parts.append(f'<rect class="s{i % 6} bar" x="{x:.1f}" y="0" width="{max(0.5, wide - 1.5):.1f}" height="8"/>')
        x += wide
    head = f'<svg class="stages" viewBox="0 0 {width} 8" preserveAspectRatio="none" aria-hidden="true">'
    return f"{head}{''.join(parts)}</svg>"
