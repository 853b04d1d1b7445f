"""A log on an even grid of times, and an account of what that took. By role: actions, inputs and what is measured less
often than rows are written hold, other vectors and fields are interpolated, images and tokens are the nearest. Gaps are
bridged, not cut: the account names the largest. Waveforms are refused: their samples fill the time between two rows.

Shapes: T steps before, K steps after.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from msgspec import structs

from steersman.core.errors import DataError, UsageError
from steersman.core.recording import Array, Recording
from steersman.core.signature import Signature
from steersman.data.schema import Schema
from steersman.data.source import ReadOptions, Source, fingerprint

_SAME = 0.01
"""Share of a period by which a row may be off the grid and still count as being on it."""
_MOST = 1000
"""Times more rows than there were: a wrong unit of time, then."""


@dataclass
class Account:
    """What resampling did, added up over the episodes that have been read so far.

    kept, moved, made  rows that were on the grid, within half a period of it, or further: made from their neighbours
    dropped            rows of the log that are nearest to no row of the grid
    left_out           episodes shorter than a period
    largest_gap        seconds between two rows of the log
    """

    period: float
    before: int = 0
    after: int = 0
    kept: int = 0
    moved: int = 0
    made: int = 0
    dropped: int = 0
    left_out: int = 0
    largest_gap: float = 0.0

    def words(self) -> str:
        """One line for people."""
        line = (
            f"resampled to {self.period:g} s: {self.before:,} rows became {self.after:,} ({self.kept:,} kept, "
            f"{self.moved:,} moved, {self.made:,} made, {self.dropped:,} dropped); largest gap {self.largest_gap:.4g} s"
        )
        return line + (f"; {self.left_out} episodes shorter than a period left out" if self.left_out else "")

    def facts(self) -> dict[str, Any]:
        """The same for machines."""
        return asdict(self)


@dataclass
class Resampled:
    """A source on the grid, and the account, which is whole once the source has been read."""

    source: Source
    account: Account


def resample(source: Source, period: float, unit: float = 1.0) -> Resampled:
    """`source` with rows every `period` seconds, starting at the first row of each episode.

    unit  seconds in one unit of the log's times (0.001 for milliseconds)

    Raises:
        UsageError: a period or unit that is not positive; a log with waveforms.
        DataError: (while reading) a log without times, or a thousand times more rows than there were.
    """
    for name, value in (("period", period), ("unit of time", unit)):
        if not 0 < value < float("inf"):
            raise UsageError(f"a positive {name} in seconds", f"{value}", "correct it")
    sounding = [name for name, spec in source.signature.observations.items() if spec.kind == "waveform"]
    if sounding:
        raise UsageError("a log without waveforms to resample", ", ".join(sounding), "read the waveform at another hop")
    done = Resampled(source, Account(period))

    def stream() -> Iterator[Recording]:
        done.account = Account(period)
        for number, recording in enumerate(source.recordings()):
            even = on_grid(recording, period, unit, done.account, f"episode {number} of {source.path}")
            if even is not None:
                yield replace(even, measured={name: even.measured[name] for name in done.source.signature.slow})

    content = fingerprint("resampled", f"{source.fingerprint} {period!r} {unit!r}", ReadOptions())
    signature, schema = _paced(source, period, unit)
    done.source = replace(
        source, stream=stream, steps=None, fingerprint=content, signature=signature, schema=schema)
    return done


def _paced(source: Source, period: float, unit: float) -> tuple[Signature, Schema | None]:
    """Signature and schema of the log on the grid: other rows to an update, other periods."""
    schema = source.schema
    if schema is None or schema.sampling_period is None:
        return source.signature, schema
    columns = {
        name: structs.replace(c, update_period=None if c.update_period is None else c.update_period * unit)
        for name, c in schema.columns.items()
    }
    ratio = schema.sampling_period * unit / period
    observations = {
        name: structs.replace(spec, rows_per_update=max(1, round(spec.rows_per_update * ratio)))
        if spec.rows_per_update > 1 else spec for name, spec in source.signature.observations.items()
    }
    return (
        structs.replace(source.signature, observations=observations),
        structs.replace(schema, columns=columns, sampling_period=period),
    )


def on_grid(recording: Recording, period: float, unit: float, account: Account, where: str) -> Recording | None:
    """One recording on the grid, None if it is shorter than a period; what was done is added to `account`."""
    if recording.times is None:
        raise DataError(f"times of the rows in {where}, to resample them", "none", "name their column (--time)")
    times = (recording.times - recording.times[0]) * unit
    count = int(np.floor(times[-1] / period + _SAME)) + 1
    account.before += len(times)
    account.largest_gap = max(account.largest_gap, float(np.diff(times).max(initial=0.0)))
    if count < 2:
        account.left_out += 1
        account.dropped += len(times)
        return None
    if count > _MOST * len(times):
        got = f"{times[-1]:.6g} s in {len(times)} rows"
        raise DataError(f"at most {_MOST} times more rows in {where}", got, "check the period and the unit of time")
    grid = np.minimum(np.arange(count) * period, times[-1])
    nearest = _nearest(times, grid)
    distance = np.abs(times[nearest] - grid)
    kept, moved = distance <= _SAME * period, distance <= (0.5 + _SAME) * period
    account.after += count
    account.kept += int(kept.sum())
    account.moved += int((moved & ~kept).sum())
    account.made += int((~moved).sum())
    account.dropped += len(times) - len(np.unique(nearest[moved]))
    slack = _SAME * period  # a row just after its place on the grid is the one that acts there
    before = np.searchsorted(times, grid + slack, "right") - 1
    held = np.clip(before[:-1], 0, len(recording) - 1)
    observed = {
        name: value[nearest] if value.dtype != np.float32 else value[before] if name in recording.measured
        else _interpolated(times, value, grid, nearest, kept)
        for name, value in recording.observations.items()
    }
    measured = {name: _fresh(known, before) for name, known in recording.measured.items()}
    inputs = None if recording.exogenous is None else recording.exogenous[held]
    moments = recording.times[0] * unit + np.arange(count) * period
    return replace(recording, observations=observed, actions=recording.actions[held], exogenous=inputs, times=moments,
                   measured=measured)


def _fresh(measured: Array, rows: Array) -> Array:
    """Which of `rows` are the first to show a measurement."""
    latest = np.maximum.accumulate(np.where(measured, np.arange(len(measured)), 0))[rows]
    first: Array = np.append(True, np.diff(latest) > 0)
    return first


def _nearest(times: Array, grid: Array) -> Array:
    right = np.clip(np.searchsorted(times, grid), 1, len(times) - 1)
    nearer = np.where(grid - times[right - 1] <= times[right] - grid, right - 1, right)
    result: Array = nearer
    return result


def _interpolated(times: Array, values: Array, grid: Array, nearest: Array, kept: Array) -> Array:
    """Linear between neighbours; a row that is on the grid stays as it is, to the bit."""
    right = np.clip(np.searchsorted(times, grid, "right"), 1, len(times) - 1)
    wide = (-1, *[1] * (values.ndim - 1))
    before = values[right - 1].astype(np.float64)
    slope = (values[right] - before) / (times[right] - times[right - 1]).reshape(wide)
    between = slope * (grid - times[right - 1]).reshape(wide) + before
    result: Array = np.where(kept.reshape(wide), values[nearest], between).astype(np.float32)
    return result
