"""Waveforms of a log: clipped, silent, off centre, with holes or seams, and which frequency they hold most of.

Shapes: n moments, S samples of a moment, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from steersman.core.recording import Array
from steersman.core.signature import ObservationSpec
from steersman.data.doctor.report import Finding, ObservationFacts, some
from steersman.data.doctor.watching import Repeats, Unsound, Watch

_RUN = 3
"""Equal samples at the end of the range, one after the other, that are clipping and not a peak."""
_HOLE = 16
_SEGMENT = 1024


class WaveformWatch(Watch):
    """What the sound or vibration of one observation looks like."""

    title = "waveforms"

    def __init__(self, name: str, spec: ObservationSpec) -> None:
        super().__init__(name, spec)
        self.unsound, self.repeats = Unsound(), Repeats()
        channels = spec.shape[1]
        self.samples = 0
        self.sum, self.squares = np.zeros(channels), np.zeros(channels)
        self.low, self.high = np.full(channels, np.inf), np.full(channels, -np.inf)
        self.clipped = np.zeros((2, channels))
        self.power: Array | None = None
        self.loud: list[Array] = []
        self.row: list[Array] = []
        self.holes: list[int] = []
        self.seams, self.steps = [0.0, 0], [0.0, 0]

    def look(self, values: Array, row: int) -> None:
        self.repeats.add(values, row)
        sound, rows = self.unsound.without(values, row)
        if not len(sound):
            return
        x = sound.astype(np.float64)
        self.samples += x.shape[0] * x.shape[1]
        self.sum += x.sum((0, 1))
        self.squares += np.square(x).sum((0, 1))
        self.loud.append(np.sqrt(np.square(x - x.mean(1, keepdims=True)).mean(1)))
        whole = len(sound) == len(values)
        self.row.append(rows)
        flat = x.reshape(-1, x.shape[-1])
        self._ends(flat)
        self._spectrum(flat)
        zero = (flat == 0).all(1)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], zero.astype(np.int8), [0]])))
        begin, length = edges[::2], edges[1::2] - edges[::2]
        inside = (length >= _HOLE) & (begin > 0) & (begin + length < len(flat)) & whole
        self.holes += (row + begin[inside] // x.shape[1]).tolist()
        if whole and len(x) > 1:
            step = np.abs(np.diff(flat, axis=0)).mean(1)
            seam = np.arange(1, len(x)) * x.shape[1] - 1
            self.seams = [self.seams[0] + step[seam].sum(), self.seams[1] + len(seam)]
            self.steps = [self.steps[0] + step.sum() - step[seam].sum(), self.steps[1] + len(step) - len(seam)]

    def _ends(self, x: Array) -> None:
        """Runs of equal samples at the ends of the range so far."""
        for side, extreme, better in ((0, x.min(0), np.less), (1, x.max(0), np.greater)):
            kept = self.low if side == 0 else self.high
            self.clipped[side][better(extreme, kept)] = 0
            kept[:] = np.where(better(extreme, kept), extreme, kept)
            at = x == kept
            run = at.copy()
            for lag in range(1, _RUN):
                run[:-lag] &= at[lag:]
                run[-lag:] = False
            self.clipped[side] += run.sum(0)

    def _spectrum(self, x: Array) -> None:
        """Power of Hann-windowed segments, added up (Welch 1967). All segments are as long as the first episode lets
        them be."""
        length = min(len(x), max(_SEGMENT, self.spec.shape[0])) if self.power is None else 2 * (len(self.power) - 1)
        length -= length % 2
        count = len(x) // length if length else 0
        if not count or length < 8:
            return
        parts = x[: count * length].reshape(count, length, -1)
        parts = (parts - parts.mean(1, keepdims=True)) * np.hanning(length)[:, None]
        power = np.square(np.abs(np.fft.rfft(parts, axis=1))).sum(0)
        self.power = power if self.power is None else self.power + power

    # What it comes to ------------------------------------------------------------------------------------------------

    @property
    def peak(self) -> float:
        """The frequency that holds most power: in Hz where the rate is known, else as a share of the sample rate; 0 if
        there is too little to say."""
        if self.power is None or not self.power.any():
            return 0.0
        at = int(self.power.sum(1)[1:].argmax()) + 1
        return at / (2 * (len(self.power) - 1)) * (self.spec.rate or 1.0)

    @property
    def level(self) -> Array:
        """(C,) root mean square."""
        return np.asarray(np.sqrt(self.squares / max(self.samples, 1)))

    def facts(self) -> ObservationFacts:
        offset = np.abs(self.sum / max(self.samples, 1)) / np.maximum(self.level, 1e-300)
        figures = {"moments": float(self.rows), "level": float(self.level.max()), "offset": float(offset.max()),
                   "peak_frequency": self.peak, "silent": float(self._silent().mean()) if self.loud else 0.0}
        unit = "Hz" if self.spec.rate else "of the sample rate"
        words = [f"{self.spec.shape[0]} samples a moment, {self.spec.shape[1]} channels",
                 f"level {figures['level']:.3g}", f"most power at {self.peak:.4g} {unit}"]
        return ObservationFacts(name=self.name, kind="waveform", shape=self.spec.shape, words="; ".join(words),
                                figures=figures)

    def _silent(self) -> Array:
        """(n,) moments far below the usual level, in every channel."""
        loud = np.concatenate(self.loud).max(1)
        return np.asarray(loud <= 1e-4 * max(float(np.sqrt(np.square(loud).mean())), 1e-30))

    def findings(self) -> Iterator[Finding]:
        yield from self.unsound.findings(self.name, self.rows)
        yield from self.repeats.findings(self.name, "waveform")
        if not self.samples:
            return
        named = self.spec.channels or tuple(f"channel {i}" for i in range(self.spec.shape[1]))
        deviation = np.sqrt(np.maximum(np.square(self.level) - np.square(self.sum / self.samples), 0))
        for i, channel in enumerate(named):
            what = f"{channel} of {self.name}"
            if deviation[i] <= 1e-7 * max(self.level[i], 1e-30):
                yield self.finding("silent-channel", "bad", f"{what} never moves (it is {self.low[i]:g})",
                                  "check the sensor and its line", {})
                continue
            yield from self._of_channel(what, i, deviation[i])
        yield from self._of_moments()

    def _of_channel(self, what: str, i: int, deviation: float) -> Iterator[Finding]:
        share = float(self.clipped[:, i].sum() / self.samples)
        if self.clipped[:, i].sum() >= 3 and share > 1e-4:
            yield self.finding(
                "clipped", "warn", f"{what} stays at its end ({self.low[i]:g} or {self.high[i]:g}) for {_RUN} samples "
                f"and more, {share:.2%} of the time: it is clipped", "record it less loud", {"share": share})
        offset = float(abs(self.sum[i] / self.samples) / deviation)
        if offset > 0.1:
            yield self.finding(
                "offset", "warn" if offset > 1 else "note", f"{what} is off centre by {offset:.2g} deviations",
                "take the mean away (a sensor of acceleration shows gravity so)", {"offset": offset})

    def _of_moments(self) -> Iterator[Finding]:
        silent, rows = self._silent(), np.concatenate(self.row)
        if 0 < silent.sum() < len(silent):
            share = float(silent.mean())
            yield self.finding("silence", "warn" if share > 0.2 else "note", f"{self.name} is silent in {share:.1%} of "
                              "the moments", "drop them, if silence is not what should be learned", {"share": share},
                              some(rows[silent].tolist()))
        if self.holes:
            yield self.finding("holes", "warn", f"{self.name} is exactly 0 for {_HOLE} samples and more in "
                              f"{len(self.holes):,} places, and sounds before and after: samples were lost",
                              "drop those moments", {"holes": float(len(self.holes))}, some(self.holes))
        if self.seams[1] >= 4 and self.steps[1] and self.steps[0]:
            leap = float(self.seams[0] / self.seams[1] / (self.steps[0] / self.steps[1]))
            if leap > 3:
                yield self.finding(
                    "seams", "bad", f"{self.name} leaps between moments, {leap:.1f} times as far as between samples: "
                    "the moments do not follow each other",
                    "cut it so that each moment begins where the one before ends", {"leap": leap})
        top = (self.spec.rate or 1.0) / 2
        if self.peak > 0.9 * top:
            yield self.finding("near-limit", "warn", f"{self.name} holds most power at {self.peak / top:.0%} of the "
                              "highest frequency that its rate can hold: what is higher is folded down",
                              "record at a higher rate, or filter before sampling", {"share": self.peak / top})
