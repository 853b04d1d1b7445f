"""What is wrong with single columns and with pairs of them: empty, constant, copied, stuck, spiked, torn, saturated.

Robust statistics: what is unusual is judged against the column's own habits, not against fixed sizes.

Shapes: R rows, C columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from steersman.data.doctor.report import ColumnFacts, Finding, some
from steersman.data.doctor.rows import Array, Rows

_LARGEST = float(np.finfo(np.float32).max)
_SAMPLE = 20_000


def facts(rows: Rows) -> tuple[ColumnFacts, ...]:
    """Every column that is used, described."""
    found = []
    for name, column in rows.schema.columns.items():
        if name not in rows.values or column.role in ("ignored", "episode", "time"):
            continue
        values = rows.values[name]
        good = values[np.isfinite(values)]
        empty = 1 - len(good) / max(len(values), 1)
        if not len(good):
            found.append(ColumnFacts(name=name, role=column.role, unit=column.unit, empty=empty))
            continue
        low, high = float(good.min()), float(good.max())
        counts = np.histogram(good, 24, (low, high))[0] if low < high and high - low < _LARGEST else np.array([])
        found.append(ColumnFacts(
            name=name, role=column.role, unit=column.unit, empty=empty, mean=float(good.mean()), std=float(good.std()),
            low=low, high=high, histogram=tuple(counts.tolist())))
    return tuple(found)


def examine(rows: Rows) -> Iterator[Finding]:
    """Findings about columns, one check after the other."""
    yield from _missing(rows)
    yield from _out_of_range(rows)
    constant = [n for n in (*rows.observed, *rows.acted, *rows.schema.exogenous) if _is_constant(rows, n)]
    yield from _constant(rows, constant)
    live = [n for n in rows.observed if n not in constant]
    yield from _slow(rows)
    repeated = list(_repeated_rows(rows, live))
    yield from repeated
    for name in live:
        if name not in rows.every:
            yield from _sentinel(rows, name)
            yield from _spikes_and_jumps(rows, name)
            if not repeated:
                yield from _stuck(rows, name)
            yield from _counter(rows, name)
            yield from _scales(rows, name)
    yield from _copies(rows, live)
    yield from _actions(rows, [n for n in rows.acted if n not in constant])


# One column ------------------------------------------------------------------------------------------------------


def _missing(rows: Rows) -> Iterator[Finding]:
    last = np.zeros(len(rows.number), bool)
    last[[stop - 1 for _, stop in rows.bounds]] = True
    last[[stop - 1 for _, stop in rows.recorded]] = True
    for name in (*rows.observed, *rows.acted, *(n for n in rows.schema.exogenous if n in rows.values)):
        if name in rows.every:
            continue
        bad = ~(np.abs(rows.values[name]) <= _LARGEST)
        if rows.schema.columns[name].role != "observation":
            bad &= ~last
        at = np.flatnonzero(bad)
        if not len(at):
            continue
        share = len(at) / len(bad)
        endless = int(np.isinf(rows.values[name][at]).sum())
        what = "infinite" if endless == len(at) else "empty or not a number"
        yield Finding(
            kind="missing-values", state="bad", columns=(name,), rows=some(rows.number[at].tolist()),
            what=f"{name} is {what} in {len(at):,} rows ({share:.1%})",
            fix="repair those rows, or drop the column; if it is measured less often than rows are written, say so "
                "(update_period in the schema)",
            figures={"rows": len(at), "share": share})


def _out_of_range(rows: Rows) -> Iterator[Finding]:
    for name, column in rows.schema.columns.items():
        if column.range is None or name not in rows.values:
            continue
        low, high = column.range
        slack = 1e-5 * (high - low)
        outside = np.flatnonzero((rows.values[name] < low - slack) | (rows.values[name] > high + slack))
        if len(outside):
            yield Finding(
                kind="out-of-range", state="bad", columns=(name,), rows=some(rows.number[outside].tolist()),
                what=f"{name} leaves its range [{low:g}, {high:g}] in {len(outside):,} rows",
                fix="correct the log or the range", figures={"rows": len(outside)})


def _is_constant(rows: Rows, name: str) -> bool:
    values = rows.values.get(name)
    if values is None:
        return False
    good = values[np.isfinite(values)]
    return len(good) > 1 and bool(good.max() - good.min() <= 1e-12 * np.abs(good).max())


def _constant(rows: Rows, names: Sequence[str]) -> Iterator[Finding]:
    for name in names:
        role = rows.schema.columns[name].role
        fix = "let it vary in the log: a model cannot learn what it does" if role == "action" else "ignore the column"
        yield Finding(
            kind="constant-action" if role == "action" else "constant-column",
            state="bad" if role == "action" else "warn", columns=(name,),
            what=f"{name} never changes (it is {np.nanmin(rows.values[name]):g})", fix=fix)


def _slow(rows: Rows) -> Iterator[Finding]:
    for name, every in rows.every.items():
        if rows.schema.columns[name].update_period is None:
            yield Finding(
                kind="slow-column", state="warn", columns=(name,),
                what=f"{name} is measured once in {every} rows; the rows between are no measurements",
                fix="nothing: they are left out of losses. Write update_period into the schema to make sure",
                figures={"every": every})


def _changes(rows: Rows, values: Array) -> tuple[Array, Array]:
    """Rows that have a row before them in their episode, and by how much the value changed there."""
    at = np.flatnonzero(rows.inner)
    change = values[at] - values[at - 1]
    good = np.isfinite(change)
    return at[good], change[good]


def _sentinel(rows: Rows, name: str) -> Iterator[Finding]:
    """One value, met several times, far outside of all others: a code for "no value" (-999, 9999, 0 in kelvin)."""
    values = rows.values[name]
    good = values[np.isfinite(values)]
    for extreme, side in ((good.min(), 1), (good.max(), -1)):
        count = int((good == extreme).sum())
        rest = good[good != extreme]
        if count < 3 or count > 0.2 * len(good) or len(rest) < 20:
            continue
        nearest, far = (rest.min(), rest.max()) if side > 0 else (rest.max(), rest.min())
        if abs(nearest - extreme) > 2 * abs(far - nearest):
            at = np.flatnonzero(values == extreme)
            yield Finding(
                kind="sentinel-values", state="bad", columns=(name,), rows=some(rows.number[at].tolist()),
                what=f"{name} is exactly {extreme:g} in {count:,} rows and otherwise between {rest.min():g} and "
                     f"{rest.max():g}: this looks like a code for a missing value",
                fix="make these cells empty and repair or drop the rows", figures={"value": extreme, "rows": count})


def _spikes_and_jumps(rows: Rows, name: str) -> Iterator[Finding]:
    """Changes far beyond the column's habits: there and back at once (a spike), or to stay (a jump)."""
    values = rows.values[name]
    at, change = _changes(rows, values)
    if len(change) < 50:
        return
    size = np.abs(change)
    usual = np.quantile(size, [0.9, 0.99])
    span = float(np.subtract(*np.nanquantile(values, [0.995, 0.005])))
    limit = min(max(12 * usual[0], 5 * usual[1]), max(3 * usual[1], 1.3 * span))
    wide = at[size > limit] if limit > 0 else at[:0]
    if not len(wide) or len(wide) > 0.05 * len(at):
        return
    step = dict(zip(at.tolist(), change.tolist(), strict=True))
    back = [r for r in wide.tolist() if abs(step.get(r + 1, 0.0) + step[r]) < 0.3 * abs(step[r]) and r + 1 in step]
    code = [r for r in back if values[r] in (np.nanmin(values), np.nanmax(values)) and
            (values == values[r]).sum() >= 3]
    spikes = sorted(set(back) - set(code))
    if spikes:
        yield Finding(
            kind="spikes", state="warn", columns=(name,), rows=some(rows.number[spikes].tolist()),
            what=f"{name} leaps away and back within a row in {len(spikes):,} places, by up to "
                 f"{max(abs(step[r]) for r in spikes) / max(usual[0], 1e-30):,.0f} times its usual change",
            fix="repair those rows: a glitch of the sensor is not the world's doing", figures={"rows": len(spikes)})
    returned = {r + 1 for r in back}
    rest = [r for r in wide.tolist() if r not in returned and r not in back]
    span = float(np.nanmax(values) - np.nanmin(values))
    wrapped = [r for r in rest if abs(step[r]) > 0.9 * span]
    if len(wrapped) > 0.8 * len(rest) and len(wrapped) >= 2 and _is_turn(span):
        yield Finding(
            kind="wrapped-angle", state="warn", columns=(name,), rows=some(rows.number[wrapped].tolist()),
            what=f"{name} leaps by {span:.4g} in {len(wrapped):,} places: an angle that starts anew",
            fix="log its sine and cosine instead", figures={"rows": len(wrapped), "turn": span})


def _is_turn(span: float) -> bool:
    return any(abs(span - turn) < 0.05 * turn for turn in (2 * np.pi, 360.0, 1.0, 24.0))


def _stuck(rows: Rows, name: str) -> Iterator[Finding]:
    """A long stretch of one value in a column that otherwise changes with every row."""
    values = rows.values[name]
    at, change = _changes(rows, values)
    begin, length = _dead(change == 0, at)
    # pauses at the column's lowest or highest value are walls, not failures
    inner = ~np.isin(values[begin], [np.nanmin(values), np.nanmax(values)])
    begin, length = begin[inner], length[inner]
    if len(begin):
        yield Finding(
            kind="stuck-sensor", state="warn", columns=(name,), rows=some(rows.number[begin].tolist()),
            what=f"{name} keeps one value for up to {int(length.max()) + 1:,} rows ({len(begin):,} times), and "
                 "otherwise changes with almost every row: a sensor or its line was dead",
            fix="drop those rows", figures={"stretches": len(begin), "longest": float(length.max() + 1)})


def _dead(still: Array, at: Array) -> tuple[Array, Array]:
    """Rows where long stretches of stillness begin, and how long they are; none where stillness is a habit.

    Long: at least 12 rows and six times what is usual; a habit: more than 3% of the other rows are still, too.
    """
    none = np.zeros(0, int)
    if len(still) < 100:
        return none, none
    edges = np.flatnonzero(np.diff(np.concatenate([[0], still.astype(np.int8), [0]])))
    begin, length = edges[::2], edges[1::2] - edges[::2]
    long = length >= 12
    if not long.any():
        return none, none
    resting = (still.sum() - length[long].sum()) / max(len(still) - length[long].sum(), 1)
    habit = np.quantile(length[~long], 0.99) if (~long).any() else 1.0
    long &= length >= 6 * habit
    if resting > 0.03 or not long.any():
        return none, none
    return at[begin[long]], length[long]


def _counter(rows: Rows, name: str) -> Iterator[Finding]:
    _, change = _changes(rows, rows.values[name])
    if len(change) < 20:
        return
    middle = float(np.median(change))
    if middle != 0 and (np.abs(change - middle) <= 1e-4 * abs(middle)).mean() > 0.99:
        yield Finding(
            kind="counter", state="warn", columns=(name,),
            what=f"{name} grows by {middle:g} with every row: it counts rows or tells the time",
            fix=f"give it the role of time, or ignore it (--time {name})", figures={"step": middle})


def _scales(rows: Rows, name: str) -> Iterator[Finding]:
    """Episodes in which a column moves on another scale, or around a level far from all others: units, wiring."""
    pieces = [(s, e) for s, e in rows.bounds if e - s >= 12]
    if len(pieces) < 8:
        return
    values = rows.values[name]
    spread = np.array([np.nanmedian(np.abs(np.diff(values[s:e]))) for s, e in pieces])
    level = np.array([np.nanmedian(values[s:e]) for s, e in pieces])
    width = np.array([np.subtract(*np.nanquantile(values[s:e], [0.95, 0.05])) for s, e in pieces])
    moving = spread > 0
    if moving.sum() < 8:
        return
    ratio = np.log10(spread[moving] / np.median(spread[moving]))
    spanned = np.log10(np.maximum(width[moving], 1e-30) / np.median(width[moving]))
    tail = 4 * np.subtract(*np.quantile(ratio, [0.8, 0.2])) + 0.5
    odd = np.flatnonzero((np.abs(ratio) > tail) & (np.abs(spanned) > tail) & (np.sign(ratio) == np.sign(spanned)))
    if len(odd) and len(odd) < 0.5 * len(ratio):
        where = np.flatnonzero(moving)[odd]
        factor = 10 ** float(np.median(ratio[odd]))
        yield Finding(
            kind="scale-change", state="bad", columns=(name,),
            rows=some(rows.number[[pieces[i][0] for i in where]].tolist()),
            what=f"{name} moves {factor:.3g} times as much in {len(odd):,} of {len(pieces):,} episodes: another unit?",
            fix="bring all episodes to one unit", figures={"episodes": len(odd), "factor": factor})
        return
    centre = np.median(level)
    near = np.quantile(np.abs(level - centre), 0.7) + np.median(width)
    far = np.flatnonzero(np.abs(level - centre) > 8 * near)
    if len(far) and len(far) < 0.3 * len(level):
        yield Finding(
            kind="level-change", state="bad", columns=(name,),
            rows=some(rows.number[[pieces[i][0] for i in far]].tolist()),
            what=f"{name} lies around {np.median(level[far]):g} in {len(far):,} of {len(pieces):,} episodes, and "
                 f"around {centre:g} in the others: an offset or another unit?",
            fix="bring all episodes to one zero", figures={"episodes": len(far)})


# Several columns -------------------------------------------------------------------------------------------------


def _repeated_rows(rows: Rows, live: Sequence[str]) -> Iterator[Finding]:
    """Rows that repeat the one before in everything that is observed."""
    if not live:
        return
    matrix = np.stack([rows.values[n] for n in live], 1)
    at = np.flatnonzero(rows.inner)
    same = (matrix[at] == matrix[at - 1]).all(1)
    share = float(same.mean()) if len(same) else 0.0
    acted = np.stack([rows.values[n] for n in rows.acted], 1) if rows.acted else np.zeros((len(matrix), 0))
    copied = same & (acted[at] == acted[at - 1]).all(1) if rows.acted else same
    exact, varied = int(copied.sum()), _varied(acted)
    begin, length = _dead(same, at)
    if share > 0.4 and _regular(same, at):
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


def _regular(same: Array, at: Array) -> bool:
    fresh = np.flatnonzero(~same)
    apart = np.diff(fresh)
    if len(apart) < 20:
        return False
    counts = np.bincount(apart)
    return bool(counts.max() > 0.7 * len(apart) and counts.argmax() > 1)


def _copies(rows: Rows, live: Sequence[str]) -> Iterator[Finding]:
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
    close = np.abs(z.T @ z) / len(z)
    noise = 1 - np.square(close)
    taken: set[str] = set()
    for i, first in enumerate(names):
        for j in range(i + 1, len(names)):
            second = names[j]
            if noise[i, j] > 1e-4 or second in taken or not spread[i] or not spread[j]:
                continue
            sign = np.sign((z[:, i] * z[:, j]).sum())
            if np.sqrt(np.mean((z[:, i] - sign * z[:, j]) ** 2)) > 1e-3:
                continue
            acts = [n for n in (first, second) if n in rows.acted]
            taken.add(second)
            if len(acts) == 1:
                seen = second if first in acts else first
                yield Finding(
                    kind="action-in-observation", state="bad", columns=(seen, acts[0]),
                    what=f"{seen} holds the action of its own row ({acts[0]}): who acts cannot know it yet",
                    fix=f"ignore {seen}")
            elif len(acts) == 2:
                yield Finding(
                    kind="tied-actions", state="warn", columns=(first, second),
                    what=f"{first} and {second} always move together: what each of them does cannot be told apart",
                    fix="vary them independently")
            else:
                same = bool(np.allclose(sample[:, i], sample[:, j], rtol=1e-6, atol=0))
                yield Finding(
                    kind="duplicate-column", state="warn", columns=(first, second),
                    what=f"{second} is {first}" + ("" if same else " in another unit"), fix=f"ignore {second}")


# Actions ---------------------------------------------------------------------------------------------------------


def _actions(rows: Rows, names: Sequence[str]) -> Iterator[Finding]:
    used = np.ones(len(rows.number), bool)
    used[[stop - 1 for _, stop in rows.bounds]] = False
    for name in names:
        values = rows.values[name][used]
        values = values[np.isfinite(values)]
        if len(values) < 20:
            continue
        levels, counts = np.unique(values, return_counts=True)
        if len(levels) <= 32 and (levels == np.round(levels)).all():
            yield from _choices(name, levels, counts)
            continue
        share = counts / len(values)
        ends = share[0] + share[-1]
        between = 1 - ends
        if ends > 0.1 and min(share[0], share[-1]) < 1 and between > 0.02 and len(levels) > 12 and \
                max(share[0], share[-1]) > 20 * np.median(share):
            yield Finding(
                kind="saturated-actions", state="warn", columns=(name,),
                what=f"{name} sits at its limit ({levels[0]:g} or {levels[-1]:g}) in {ends:.0%} of rows",
                fix="act more gently, so that the log shows what lies between", figures={"share": float(ends)})
        elif share.max() > 0.8 and len(levels) > 2:
            yield Finding(
                kind="idle-actions", state="warn", columns=(name,),
                what=f"{name} is {levels[share.argmax()]:g} in {share.max():.0%} of rows",
                fix="act more often: what is hardly tried is hardly learned", figures={"share": float(share.max())})
        stated = rows.schema.columns[name].range
        low, high = stated or (levels[0], levels[-1])
        inner = np.subtract(*np.quantile(values, [0.95, 0.05]))
        if inner < 0.1 * (high - low) and share.max() <= 0.8:
            yield Finding(
                kind="narrow-actions", state="warn", columns=(name,),
                what=f"{name} stays within {inner / (high - low):.1%} of [{low:g}, {high:g}] nine times of ten",
                fix="use more of the range: a model knows only what was tried",
                figures={"share": float(inner / (high - low))})


def _choices(name: str, levels: Array, counts: Array) -> Iterator[Finding]:
    total, choices = counts.sum(), int(levels[-1] - levels[0]) + 1
    full = {int(x): 0 for x in range(int(levels[0]), int(levels[0]) + choices)} | {
        int(k): int(c) for k, c in zip(levels, counts, strict=True)
    }
    rare = [k for k, c in full.items() if c < 0.05 * total / choices]
    if rare and choices <= 32 and total >= 20 * choices:
        yield Finding(
            kind="rare-choices", state="warn", columns=(name,),
            what=f"{name} is hardly ever {', '.join(map(str, rare[:6]))}: "
                 f"{sum(full[k] for k in rare):,} of {total:,} rows",
            fix="try every choice often enough", figures={"choices": len(rare)})
    if counts.max() > 0.9 * total and choices > 1 and not rare:
        yield Finding(
            kind="idle-actions", state="warn", columns=(name,),
            what=f"{name} is {levels[counts.argmax()]:g} in {counts.max() / total:.0%} of rows",
            fix="act more often", figures={"share": float(counts.max() / total)})
