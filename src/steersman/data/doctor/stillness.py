"""Frames that repeat the one before: a camera that froze, frames that were filled in, a camera slower than the log, or
a world that stood still. What was done meanwhile, or measured beside, tells one from the other.

Shapes: R rows, n rows with a frame before them, A actions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from steersman.data.doctor.pictures import Album
from steersman.data.doctor.report import Finding, some
from steersman.data.doctor.rows import Array, Rows

_LONG = 5
"""Repetitions in a row that may be a camera that froze."""
_SURPRISE = 8.0
"""Nats by which such a run is unlikelier than a world that stands still as often as it does under these actions."""
_LEAP = 1.3
"""How much more than in a usual step the picture changes when a frozen camera goes on."""
_BINS = 8


def examine(rows: Rows, name: str, album: Album) -> Iterator[Finding]:
    """Findings about repeated frames of one image."""
    at = np.flatnonzero(rows.inner & (album.index >= 0) & np.append(False, album.index[:-1] >= 0))
    if len(at) < 10:
        return
    same = album.code[album.index[at]] == album.code[album.index[at - 1]]
    if not same.any():
        return
    frozen = _frozen(rows, album, at, same)
    if frozen is not None:
        rest, longest = frozen
        yield _finding(
            rows, name, "frozen-images", at[rest], f"shows one and the same frame in {_share(rest, album)}, for "
            f"{longest:,} rows at the longest, while actions vary and the world moves on: the camera froze",
            "drop those rows", state="warn" if rest.mean() < 0.2 else "bad", longest=longest)
        return
    if same.mean() > 0.3:
        yield from _often(rows, name, at, same)
        return
    moved = _motion(rows, at)
    if moved is not None:
        wrong = same & (moved > np.median(moved))
        if wrong.sum() < 2 or wrong.sum() < 0.1 * same.sum():  # what hardly moves looks alike
            return
    elif same.mean() >= 0.03 or _by_action(rows, at, same):
        return
    longest = max(stop - start for start, stop in _runs(at, same)) + 1
    long = longest >= 8 and (moved is not None or not rows.acted)
    yield _finding(
        rows, name, "frozen-images" if long else "repeated-images", at[same],
        f"repeats the frame before in {_share(same, album)}"
        + (", while what is measured beside it moves on" if moved is not None else "")
        + (f"; once for {longest:,} rows: the camera stood still" if long else ": frames were lost and filled in"),
        "drop those rows", state="warn" if moved is not None or long else "note", longest=longest)


def _often(rows: Rows, name: str, at: Array, same: Array) -> Iterator[Finding]:
    """Many frames repeat: by a rhythm, or by what is done, or who knows why."""
    sizes = np.array([stop - start for start, stop in _runs(at, same)]) + 1
    usual = int(np.bincount(sizes).argmax())
    if (sizes == usual).mean() > 0.8 and same.mean() > 0.8 * (1 - 1 / usual):
        yield _finding(
            rows, name, "repeated-images", at[same], f"shows a new frame in every {usual}. row only: the camera is "
            "slower than the log", f"log at the camera's rate, or train with model steps of {usual} rows",
            state="warn", every=usual)
    elif not _by_action(rows, at, same):
        yield _finding(
            rows, name, "repeated-images", at[same], f"repeats the frame before in {same.mean():.0%} of the frames "
            "looked at: the camera is slower than the log, or stood still", "log at the camera's rate", state="warn")


def _finding(rows: Rows, name: str, kind: str, at: Array, what: str, fix: str, state: Any, **figures: float) -> Finding:
    return Finding(kind=kind, columns=(name,), rows=some(rows.number[at].tolist()), what=f"{name} {what}", fix=fix,
                   state=state, figures={"frames": len(at), **figures})


def _share(found: Array, album: Album) -> str:
    return f"{int(found.sum()):,} of the {len(album.code):,} frames looked at"


def _runs(at: Array, same: Array) -> list[tuple[int, int]]:
    """(start, stop) in `at` of repetitions that follow each other."""
    apart = np.append(True, np.diff(at) != 1)
    starts = np.flatnonzero(same & (apart | ~np.append(False, same[:-1])))
    stops = np.flatnonzero(same & np.append((apart | ~same)[1:], True)) + 1
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def _motion(rows: Rows, at: Array) -> Array | None:
    """How much the columns of numbers change there, in their own habits; None without any."""
    sizes = []
    for name in rows.observed:
        size = np.abs(rows.change(name)[at])
        usual = np.nanmean(size) if np.isfinite(size).any() else 0.0
        if usual > 0 and name not in rows.every:
            sizes.append(np.nan_to_num(size / usual))
    return np.asarray(np.mean(sizes, 0)) if sizes else None


# What was done meanwhile -----------------------------------------------------------------------------------------


def _done(rows: Rows, at: Array) -> Array:
    """(n, A) which of a few choices, or of eight ranges of an amount, led to each of these rows; -1: unknown."""
    found = []
    for name in rows.acted:
        values = rows.values[name][at - 1]
        good = np.isfinite(values)
        levels = np.unique(values[good])
        if len(levels) > 32:
            levels = np.unique(np.quantile(values[good], np.linspace(0, 1, _BINS + 1)[:-1]))
        found.append(np.where(good, np.searchsorted(levels, values, "right") - 1, -1))
    return np.stack(found, 1) if found else np.zeros((len(at), 0), int)


def _rates(done: Array, same: Array) -> list[Array]:
    """For each action, how often the picture stays as it is after each of its choices."""
    rates = []
    if not len(same):
        return [np.ones(1)] * done.shape[1]
    for column in done.T:
        known = column >= 0
        count = np.bincount(column[known], minlength=1)
        rates.append((np.bincount(column[known], same[known], len(count)) + 0.5) / (count + 1))
    return rates


def _wide(rate: Array, column: Array) -> Array:
    """Rates for all choices of an action: of those that were never met, 1."""
    return np.append(rate, np.ones(max(0, int(column.max(initial=0)) + 1 - len(rate))))


def _by_action(rows: Rows, at: Array, same: Array) -> bool:
    """Whether the picture stays as it is after some choices and changes after others: the world stands still."""
    done = _done(rows, at)
    for column, rate in zip(done.T, _rates(done, same), strict=True):
        often = rate[np.bincount(column[column >= 0], minlength=1) >= 20]
        if len(often) > 1 and often.max() - often.min() > 0.4:
            return True
    return False


def _frozen(rows: Rows, album: Album, at: Array, same: Array) -> tuple[Array, int] | None:
    """(n,) which repetitions are those of a camera that froze, and the longest run; None: none, or nobody acts.

    A run counts if what was done in it, each choice once, hardly ever leaves the picture as it is outside of such runs,
    and if the picture leaps when the run is over.
    """
    done = _done(rows, at)
    long = [(a, b) for a, b in _runs(at, same) if b - a >= _LONG]
    if not done.shape[1] or not long:
        return None
    brief = np.ones(len(at), bool)
    for a, b in long:
        brief[a:b] = False
    rates = [_wide(rate, column) for rate, column in zip(_rates(done[brief], same[brief]), done.T, strict=True)]
    least = _SURPRISE + max(0.0, float(np.log(len(long) / 100)))
    unlikely = [
        (a, b) for a, b in long
        if max(float(-np.log(rate[np.unique(column[a:b][column[a:b] >= 0])]).sum())
               for column, rate in zip(done.T, rates, strict=True)) > least
    ]
    if not unlikely:
        return None
    change = np.abs(album.small[album.index[at]] - album.small[album.index[at - 1]]).mean((1, 2, 3))
    usual = float(np.median(change[~same])) if (~same).any() else 0.0
    ends = [b for _, b in unlikely if b < len(at) and at[b] == at[b - 1] + 1]
    if ends and np.median(change[ends]) < _LEAP * usual:
        return None
    found = np.zeros(len(at), bool)
    for a, b in unlikely:
        found[a:b] = True
    return found, max(b - a for a, b in unlikely) + 1
