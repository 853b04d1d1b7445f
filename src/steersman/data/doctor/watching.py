"""What looks at an observation that is no column of numbers: it takes the moments of a log, episode after episode,
keeps little of them, and says at the end what is the matter. One file for each kind: `fields`, `waveforms`, `tokens`.

Shapes: n moments of an episode, C channels.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from steersman.core.recording import Array
from steersman.core.signature import ObservationSpec
from steersman.data.doctor.report import Finding, ObservationFacts, State, some

MOST = 1 << 27
"""Numbers of one observation that are looked at; of what follows, the first moments of each episode."""
CHUNK = 1 << 21
"""Numbers that are worked on together."""


class Watch(ABC):
    """Takes the episodes of one observation and describes them. `title`: what it watches, in the plural."""

    title: ClassVar[str]

    def __init__(self, name: str, spec: ObservationSpec) -> None:
        self.name, self.spec = name, spec
        self.rows = self.numbers = 0

    def add(self, values: Array) -> None:
        """The next episode, (n, *shape)."""
        few = self.numbers >= MOST
        looked = values[:8] if few else values
        self.numbers += looked.size
        self.look(looked, self.rows)
        self.rows += len(values)

    def finding(
        self, kind: str, state: State, what: str, fix: str, figures: dict[str, float], rows: tuple[int, ...] = ()
    ) -> Finding:
        """One finding about this observation."""
        return Finding(
            kind=kind, state=state, columns=(self.name,), what=what, fix=fix, figures=figures, rows=rows)

    @abstractmethod
    def look(self, values: Array, row: int) -> None:
        """Moments that follow each other, (n, *shape); the first is row `row` of the log."""

    @abstractmethod
    def findings(self) -> Iterator[Finding]:
        """What is the matter."""

    @abstractmethod
    def facts(self) -> ObservationFacts:
        """What was measured, sound or not."""


class Repeats:
    """Moments that are bit for bit what an earlier one was, by checksum; those of one value all over are left out."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.flat: list[bool] = []
        self.begins: list[int] = []
        self.numbers: list[int] = []

    def add(self, values: Array, row: int) -> None:
        """An episode, or its first moments; the first is row `row` of the log."""
        self.begins.append(len(self.codes))
        self.numbers += range(row, row + len(values))
        self.codes += [zlib.crc32(np.ascontiguousarray(v).data.cast("B")) for v in values]
        moments = values.reshape(len(values), -1)
        self.flat += (moments.max(1) == moments.min(1)).tolist()

    def findings(self, name: str, what: str) -> Iterator[Finding]:
        """Moments that repeat the one before, and copies of moments elsewhere. `what`: "field", "waveform"."""
        codes, flat, number = np.array(self.codes), np.array(self.flat), np.array(self.numbers)
        if len(codes) < 2:
            return
        held = np.append(False, codes[1:] == codes[:-1]) & ~flat
        held[self.begins] = False
        if (codes == codes[0]).all():
            yield Finding(kind=f"constant-{what}", state="bad", columns=(name,), fix="check what records it",
                          what=f"{name} is one and the same {what} in all {len(codes):,} moments")
            return
        inner = len(codes) - len(self.begins)
        if inner >= 10 and held.sum() > 0.05 * inner:
            yield Finding(
                kind=f"repeated-{what}s", state="warn", columns=(name,), rows=some(number[held].tolist()),
                what=f"{name} repeats the {what} before in {held.sum() / inner:.0%} of the steps: it stood still, or "
                     "is recorded faster than it changes",
                fix="keep one moment of each, or find out what froze", figures={"share": float(held.sum() / inner)})
        fresh = ~held & ~flat
        yield from copies(name, what, codes[fresh], number[fresh])


def copies(name: str, what: str, codes: Array, number: Array) -> Iterator[Finding]:
    """Moments whose checksum (n,) an earlier one has; number (n,) is their row of the log."""
    again = np.ones(len(codes), bool)
    again[np.unique(codes, return_index=True)[1]] = False
    if again.any():
        share = float(again.mean())
        yield Finding(
            kind=f"duplicate-{what}s", state="bad" if share > 0.05 else "warn", columns=(name,),
            rows=some(number[again].tolist()),
            what=f"{name}: {again.sum():,} of {len(codes):,} moments show a {what} that was there before: what is held "
                 "out would be known already",
            fix="drop the copies", figures={"copies": float(again.sum()), "share": share})


class Unsound:
    """Moments with NaN or infinity."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def without(self, values: Array, row: int) -> tuple[Array, Array]:
        """The moments that are sound, and their rows; the others are noted."""
        sound = np.isfinite(values).reshape(len(values), -1).all(1)
        self.rows += (row + np.flatnonzero(~sound)).tolist()
        return (values if sound.all() else values[sound]), row + np.flatnonzero(sound)

    def findings(self, name: str, total: int) -> Iterator[Finding]:
        if self.rows:
            yield Finding(
                kind="missing-values", state="bad", columns=(name,), rows=some(self.rows),
                what=f"{name} holds NaN or infinity in {len(self.rows):,} of {total:,} moments",
                fix="repair or drop those moments", figures={"rows": len(self.rows)})
