"""What the doctor says about a log, as plain structures: findings, columns, dynamics, a verdict. Json-able."""

from __future__ import annotations

from typing import Literal

import msgspec

from steersman.core.signature import Pace
from steersman.data.schema import Schema

State = Literal["bad", "warn", "note"]


class Finding(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One thing that is the matter.

    kind     which check it is, e.g. "missing-values"; stable, for programs
    state    bad: a model learns something wrong from this, or the log is refused; warn: it learns less than it could;
             note: good to know
    what     in plain words
    fix      what to do about it
    columns  that it is about
    rows     of the file (from 1, the header aside), the first few
    figures  what was measured
    """

    kind: str
    state: State
    what: str
    fix: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    figures: dict[str, float] = {}


class ColumnFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One column over all rows: its schema's words and what was measured. Empty cells are left out of the figures."""

    name: str
    role: str
    unit: str = ""
    empty: float = 0.0
    mean: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None
    histogram: tuple[int, ...] = ()


class ObservationFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One observation that is no column of numbers (pictures, a field, a waveform, tokens): what was measured, in words
    and in figures."""

    name: str
    kind: str
    shape: tuple[int, ...]
    words: str = ""
    figures: dict[str, float] = {}


class Effect(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How one observed column moves from a row to the next. Errors are squared, held out, relative to the variance of
    the change; 1 is no better than its mean.

    alone      predicted from the observation
    acted      from the observation and the action
    past       from those and the rows before
    gain       1 - acted / alone: how much better the action predicts than none
    evidence   of that gain, in standard errors over blocks of the log (normal quantile)
    """

    name: str
    alone: float
    acted: float
    past: float
    gain: float
    evidence: float


class Horizon(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Errors `steps` ahead, held out, averaged over columns, relative to their variance: of a model that knows the
    actions, of saying that nothing changes, and skill = 1 - model / the better of no change and the mean."""

    steps: int
    model: float
    still: float
    skill: float


class Dynamics(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the log says about how the world moves.

    effects          of each observed vector column
    controllability  mean gain of the columns in which the action shows (0: it shows in none)
    controlled       columns in which the action shows
    delay            rows from an action to where it shows first; None: it does not show
    lags             (rows, gain) of an action that many rows back, alone beside the observation
    determinism      1 - the share of a step's change that neither observation, action nor past explain
    history          rows of the past that help (0: the observation tells the state)
    followed         how well the observation predicts the action (held-out R², the largest of the action's entries)
    horizon          steps ahead over which a model explains at least half of what could be explained
    horizons         the same, step by step
    memory           steps after which a row says little about the present: an embargo between parts of the log
    transitions      looked at
    """

    effects: tuple[Effect, ...] = ()
    controllability: float = 0.0
    controlled: tuple[str, ...] = ()
    delay: int | None = None
    lags: tuple[tuple[int, float], ...] = ()
    determinism: float | None = None
    history: int = 0
    followed: float = 0.0
    horizon: int = 0
    horizons: tuple[Horizon, ...] = ()
    memory: int = 0
    transitions: int = 0


class Stride(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How well three pictures `rows` apart tell the mean action between the last two, held out.

    told   of what the action before does not tell of it, the share that the pictures do (R²; 0: guessing)
    error  standard error of that, over blocks of the log
    floor  the same for the actions of elsewhere in the log: what chance gives
    """

    rows: int
    told: float
    error: float
    floor: float


class Growth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How `told` grows with the length of the log: measured on nested parts of it, and for longer ones guessed by
    1 - told = a + b·rows^-c.

    rows, told, error  of each part, the last one is the whole log
    more               times as long as the log -> told, and its 80% interval over blocks of the log
    words              the same for people
    """

    rows: tuple[int, ...]
    told: tuple[float, ...]
    error: tuple[float, ...]
    more: dict[str, tuple[float, float, float]]
    words: str


class Visibility(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """After how many rows an action shows in the pictures, and the pace of a model that follows from that and from how
    long the log holds an action.

    image    observation that was looked at
    strides  measured, from few rows to many
    visible  rows after which an action shows; 0: it never does
    told     after so many
    step, frames, apart  of that pace (`core.Pace`)
    delay    rows from an action to the first row that it shows in, beyond the next
    held     rows that an action is held, on average
    shown    actions that show; (): none does
    words    for people
    """

    image: str
    strides: tuple[Stride, ...]
    visible: int
    told: float
    step: int
    frames: int
    apart: int
    delay: int
    held: float
    shown: tuple[str, ...]
    words: str
    growth: Growth | None = None

    @property
    def pace(self) -> Pace:
        """Of a model; every row is a moment where no action shows."""
        return Pace(step=self.step, frames=self.frames, apart=self.apart)


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One log, examined.

    rate      rows per unit of the time column (timestamps: per second), or None without one
    lengths   shortest, median, longest episode in steps, gaps in time cut
    verdict   in plain words: can something be learned from this?
    advice    what to log next, or how
    observations  those that are no columns of numbers
    trainable  whether `steersman train` would read the log as it is
    visibility  when an action shows in the pictures, of a log with some and with actions
    schema    as it would be read
    """

    path: str
    format: str
    rows: int
    episodes: int
    steps: int
    lengths: tuple[int, int, int]
    rate: float | None
    columns: tuple[ColumnFacts, ...]
    findings: tuple[Finding, ...]
    dynamics: Dynamics
    verdict: str
    advice: tuple[str, ...]
    trainable: bool
    schema: Schema | None
    seconds: float = 0.0
    observations: tuple[ObservationFacts, ...] = ()
    visibility: Visibility | None = None

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """Findings that are more than a note."""
        return tuple(f for f in self.findings if f.state != "note")


def some(rows: list[int]) -> tuple[int, ...]:
    """The first few rows of a finding, as the file counts them."""
    return tuple(int(r) + 1 for r in rows[:5])
