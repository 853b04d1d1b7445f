"""Fields of a log: NaN, blow-ups, constant channels, detail that the grid cannot hold, edges that are not as they are
said to be, a mean that is conserved or not, moments too far apart.

Shapes: n moments, X… grid points along each axis, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from steersman.core.recording import Array
from steersman.core.signature import ObservationSpec
from steersman.data.doctor.report import Finding, ObservationFacts, some
from steersman.data.doctor.watching import CHUNK, Repeats, Unsound, Watch

_HIGH = 2 / 3
"""Share of the grid's highest frequency from which detail counts as unresolved (the 2/3 rule of spectral methods)."""


class FieldWatch(Watch):
    """What the fields of one observation look like."""

    title = "fields"

    def __init__(self, name: str, spec: ObservationSpec) -> None:
        super().__init__(name, spec)
        self.unsound, self.repeats = Unsound(), Repeats()
        channels, axes = spec.shape[-1], spec.grid
        self.axes = tuple(range(1, len(axes) + 1))
        self.count = 0
        self.sum, self.squares = np.zeros(channels), np.zeros(channels)
        self.energy, self.high, self.weighted = np.zeros(channels), np.zeros(channels), np.zeros(channels)
        self.means: list[Array] = []
        self.size: list[Array] = []
        self.rows_measured: list[Array] = []
        self.change: list[Array] = []
        self.row: list[int] = []
        self.across, self.within = np.zeros((len(axes), channels)), np.zeros((len(axes), channels))
        self.frequency = _frequency(axes)
        self.window = np.ones((*axes, 1), np.float32)
        for axis, size in enumerate(axes):
            if size > 3 and not (spec.periodic and spec.periodic[axis]):
                shape = [1] * (len(axes) + 1)
                shape[axis] = size
                self.window = self.window * np.hanning(size + 2)[1:-1].reshape(shape).astype(np.float32)

    def look(self, values: Array, row: int) -> None:
        self.repeats.add(values, row)
        sound, rows = self.unsound.without(values, row)
        self.rows_measured.append(rows)
        means = []
        step = max(1, CHUNK // sound[0].size) if len(sound) else 1
        for start in range(0, len(sound), step):
            means.append(self._measured(sound[start : start + step].astype(np.float64)))
        if len(sound) > 1 and len(sound) == len(values):
            flat = sound.reshape(len(sound), -1, sound.shape[-1])
            for start in range(0, len(sound) - 1, step):
                part = flat[start : start + step + 1].astype(np.float64)
                self.change.append(np.square(np.diff(part, axis=0)).mean(1))
            self.means.append(np.concatenate(means))
            self.row.append(row)

    def _measured(self, x: Array) -> Array:
        """Everything that is summed up over moments (n, X…, C); their means (n, C)."""
        mean = x.mean(self.axes)
        self.count += len(x)
        self.sum += mean.sum(0)
        squares = np.square(x).mean(self.axes)
        self.squares += squares.sum(0)
        self.size.append(np.sqrt(squares.max(1)))
        centred = (x - mean.reshape(len(x), *[1] * len(self.axes), -1)) * self.window
        power = np.square(np.abs(np.fft.fftn(centred, axes=self.axes))).sum(0).reshape(-1, x.shape[-1])
        self.energy += power.sum(0)
        self.high += power[self.frequency.reshape(-1) >= _HIGH].sum(0)
        self.weighted += self.frequency.reshape(-1) @ power
        for i, axis in enumerate(self.axes):
            if x.shape[axis] > 3:
                self.across[i] += np.abs(x.take(0, axis) - x.take(-1, axis)).reshape(-1, x.shape[-1]).sum(0)
                self.within[i] += np.abs(np.diff(x, axis=axis)).sum(self.axes).sum(0) / (x.shape[axis] - 1)
        return np.asarray(mean)

    # What it comes to ------------------------------------------------------------------------------------------------

    @property
    def deviation(self) -> Array:
        """(C,) over grid and moments."""
        count = max(self.count, 1)
        return np.asarray(np.sqrt(np.maximum(self.squares / count - np.square(self.sum / count), 0)))

    @property
    def unresolved(self) -> Array:
        """(C,) share of the spatial variance above two thirds of the grid's highest frequency."""
        return np.asarray(self.high / np.maximum(self.energy, 1e-300))

    @property
    def points(self) -> Array:
        """(C,) grid points of a wave of the mean frequency, weighted by energy."""
        return np.asarray(2 * self.energy / np.maximum(self.weighted, 1e-300))

    @property
    def changed(self) -> Array:
        """(C,) how far a moment lies from the one before, where two that know nothing of each other are 1 apart."""
        if not self.change:
            return np.zeros(len(self.sum))
        found = np.sqrt(np.concatenate(self.change).mean(0) / 2)
        return np.asarray(found / np.maximum(self.deviation, 1e-300))

    @property
    def drift(self) -> Array:
        """(episodes, C) how far the mean over the grid moves within an episode at the most, in deviations."""
        found = [np.abs(m - m[0]).max(0) for m in self.means]
        return np.stack(found) / np.maximum(self.deviation, 1e-300) if found else np.zeros((0, len(self.sum)))

    def facts(self) -> ObservationFacts:
        grid = "×".join(map(str, self.spec.grid))
        figures = {
            "moments": float(self.rows), "unresolved": float(self.unresolved.max()),
            "change": float(self.changed.max()),
            "points_per_wave": float(self.points.min()) if self.energy.any() else 0.0,
        }
        words = [f"{grid} points", f"{figures['points_per_wave']:.3g} points to a mean wave",
                 f"{figures['unresolved']:.2%} of the variance near the grid's limit"]
        if self.change:
            figures["mean_drift"] = float(np.median(self.drift, 0).max())
            words += [f"a step changes {figures['change']:.2%} of what two moments of different episodes differ by",
                      f"the mean moves by {figures['mean_drift']:.2g} deviations within an episode"]
        return ObservationFacts(name=self.name, kind="field", shape=self.spec.shape, words="; ".join(words),
                                figures=figures)

    def findings(self) -> Iterator[Finding]:
        yield from self.unsound.findings(self.name, self.rows)
        yield from self.repeats.findings(self.name, "field")
        if not self.count:
            return
        named = self.spec.channels or tuple(f"channel {i}" for i in range(self.spec.shape[-1]))
        level = np.abs(self.sum / self.count)
        for i, channel in enumerate(named):
            what = f"{channel} of {self.name}"
            if self.deviation[i] <= 1e-7 * max(level[i], 1e-30):
                yield self.finding("constant-channel", "warn", f"{what} is the same everywhere and always",
                                  "leave it out: it tells nothing", {})
                continue
            yield from self._resolution(what, i)
            yield from self._mean(what, i)
        yield from self._blown_up()
        yield from self._edges()

    def _resolution(self, what: str, i: int) -> Iterator[Finding]:
        share, points = float(self.unresolved[i]), float(self.points[i])
        if share > 0.1 and max(self.spec.grid) > 3:
            yield self.finding(
                "unresolved-field", "warn", f"{share:.0%} of the variance of {what} is above two thirds of the grid's "
                "highest frequency: noise, or detail that the grid cannot hold",
                "filter it, or record on a finer grid", {"share": share})
        elif share < 1e-7 and points > 32 and max(self.spec.grid) >= 32:
            yield self.finding(
                "fine-grid", "note", f"{what} is smooth: a mean wave has {points:.0f} points",
                "every second point would do, at a fraction of the time", {"points": points})
        if self.change and self.changed[i] > 0.85:
            yield self.finding(
                "moments-apart", "warn", f"{what} has as little to do with the moment before as with any other",
                "record more often than it changes", {"change": float(self.changed[i])})

    def _mean(self, what: str, i: int) -> Iterator[Finding]:
        """A mean over the grid that is conserved, in all episodes or in all but a few."""
        drift = self.drift[:, i]
        if not len(drift):
            return
        usual, odd = float(np.median(drift)), drift > 1e-2
        if usual < 1e-4 and odd.any():
            rows = some(np.array(self.row)[odd].tolist())
            yield self.finding(
                "mean-not-conserved", "warn", f"the mean of {what} is conserved in most episodes (to {usual:.1g} "
                f"deviations), but moves by up to {drift.max():.2g} in {odd.sum():,}", "look at those episodes",
                {"usual": usual, "most": float(drift.max())}, rows)
        elif usual < 1e-4:
            yield self.finding("conserved-mean", "note", f"the mean of {what} is conserved (to {usual:.1g} "
                              "deviations): a model should conserve it, too", "", {"usual": usual})

    def _blown_up(self) -> Iterator[Finding]:
        size = np.concatenate(self.size)
        odd = np.flatnonzero(size > 30 * max(float(np.median(size)), 1e-30))
        if len(odd) and np.median(size) > 0:
            yield self.finding(
                "blow-up", "bad", f"{self.name} is up to {size.max() / np.median(size):,.0f} times its usual size in "
                f"{len(odd):,} moments: a simulation that blew up, or another unit", "drop those episodes",
                {"moments": float(len(odd))}, some(np.concatenate(self.rows_measured)[odd].tolist()))

    def _edges(self) -> Iterator[Finding]:
        """Whether ends of the grid meet, as is said or not."""
        for axis, size in enumerate(self.spec.grid):
            inner = self.within[axis].sum()
            if size < 8 or not inner:
                continue
            leap = float(self.across[axis].sum() / inner)
            said, letter = bool(self.spec.periodic and self.spec.periodic[axis]), "xyz"[axis]
            if said and leap > 4:
                yield self.finding(
                    "not-periodic", "bad", f"axis {letter} of {self.name} is said to be periodic, but its ends differ "
                    f"{leap:.1f} times as much as neighbours do", "leave it out of --periodic", {"leap": leap})
            elif not said and leap < 1.2:
                yield self.finding(
                    "looks-periodic", "note", f"ends of axis {letter} of {self.name} differ no more than neighbours",
                    f"say so if it is periodic: --periodic {letter}", {"leap": leap})


def _frequency(axes: tuple[int, ...]) -> Array:
    """(X…) largest frequency of each mode along any axis, 1 at the grid's highest; axes of up to 3 points count not."""
    grids = [np.abs(np.fft.fftfreq(n)) * 2 if n > 3 else np.zeros(n) for n in axes]
    return np.asarray(np.max(np.stack(np.meshgrid(*grids, indexing="ij")), 0))
