"""Which actions were tried: at their limits, hardly ever, hardly varied, to one side only, never for long.

Shapes: R rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from steersman.data.doctor.report import Finding
from steersman.data.doctor.rows import Array, Rows


def examine(rows: Rows, names: Sequence[str]) -> Iterator[Finding]:
    """Findings about the coverage of each action that varies."""
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
        else:
            yield from _amounts(rows, name, values, levels, counts / len(values))
        yield from _rhythm(rows, name)


def _amounts(rows: Rows, name: str, values: Array, levels: Array, share: Array) -> Iterator[Finding]:
    ends = share[0] + share[-1]
    if ends > 0.1 and min(share[0], share[-1]) < 1 and 1 - ends > 0.02 and len(levels) > 12 and \
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
    bottom, top = np.quantile(values, [0.05, 0.95])
    inner = (top - bottom) / (high - low)
    if inner < 0.1 and share.max() <= 0.8:
        yield Finding(
            kind="narrow-actions", state="warn", columns=(name,),
            what=f"{name} stays within {inner:.1%} of [{low:g}, {high:g}] nine times of ten; the few rows beyond are "
                 "rare trials, or glitches",
            fix="use more of the range: a model knows only what was tried; repair glitches",
            figures={"share": float(inner)})
    yield from _one_sided(name, low, high, levels, stated is not None)


def _one_sided(name: str, low: float, high: float, levels: Array, stated: bool) -> Iterator[Finding]:
    """Half of the stated range that was not tried; without one, amounts that begin or end at zero."""
    middle = (low + high) / 2 if stated else 0.0
    unused = stated and min(levels[-1] - middle, middle - levels[0]) < 0.05 * (high - low)
    if unused or (not stated and low * high >= 0 and min(abs(low), abs(high)) < 0.02 * (high - low)):
        side = "below" if levels[-1] - middle > middle - levels[0] else "above"
        yield Finding(
            kind="one-sided-actions", state="warn" if unused else "note", columns=(name,),
            what=f"{name} never goes {side} {middle:g}: the log shows one side only of what "
                 "it can do, if it can do the other",
            fix="log the other side, too, if there is one; state the range in the schema",
            figures={"low": float(levels[0]), "high": float(levels[-1])})


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


def _rhythm(rows: Rows, name: str) -> Iterator[Finding]:
    """Actions that hardly ever change while an episode lasts."""
    values = rows.values[name]
    at = np.flatnonzero(rows.inner & np.append(rows.inner[1:], False))  # an episode's last action leads nowhere
    if len(at) < 50:
        return
    changed = float((values[at] != values[at - 1]).mean())
    usual = np.unique(values[np.isfinite(values)], return_counts=True)[1].max() / len(values)
    if changed < 0.02 and usual < 0.8:
        yield Finding(
            kind="held-actions", state="warn", columns=(name,),
            what=f"{name} changes in {changed:.1%} of steps only: what it does can hardly be told from what happens "
                 "anyway",
            fix="change the action more often within an episode", figures={"share": changed})
