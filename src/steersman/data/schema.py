"""What every column of a log is: role, unit, range, update period; and how time cuts the log. No file format.

Inferred, shown (`steersman data schema`), edited, handed back: as TOML, or in Python as the structures below.
"""

from __future__ import annotations

import math
import re
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec
import tomli_w

from steersman.core.errors import ConfigError, DataError, SteersmanError

Role = Literal["observation", "action", "exogenous", "ignored", "episode", "time"]
VECTOR = "vector"
"""Name of the observation that columns without another belong to."""
_PREFIXED = re.compile(
    r"(?:observations?|obs|state|actions?|act|exogenous|exo|disturbance)(?:[._\[\s]+(?P<rest>.*?)\]?|\d*)",
    re.IGNORECASE,
)


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One column.

    role           observation: measured; action: chosen by whoever controls; exogenous: known in advance and not
                   chosen; episode: tells episodes apart; time: orders the rows of an episode; ignored
    observation    the named observation that it is an entry of
    label          how people call it (default: its name without a prefix that says the role; "": no name)
    unit           for people
    range          lowest and highest possible value: the bounds of an action; elsewhere a value outside is refused
    update_period  time between new measurements, in the unit of the time column (without one: in rows). The rows
                   between repeat the last measurement, or are empty, and do not count in any loss
    choices        of an action that is one of the choices 0, 1, …: how many there are
    whole          of an action: it takes whole numbers only
    shape          (H, W, C) of an image kept as bytes; of a field, a waveform or tokens: that of one moment
    """

    role: Role
    observation: str = ""
    label: str | None = None
    unit: str = ""
    range: tuple[float, float] | None = None
    update_period: float | None = None
    choices: int = 0
    whole: bool = False
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.range is not None:
            low, high = self.range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ConfigError("a finite range with low < high", f"[{low:g}, {high:g}]", "state the real limits")
        if self.update_period is not None and not 0 < self.update_period < math.inf:
            raise ConfigError("an update_period above 0", f"{self.update_period:g}", "correct it, or leave it out")
        if self.choices < 0 or (self.choices and self.role != "action"):
            raise ConfigError("choices of an action", f"{self.choices} of {self.role}", "leave choices out")


class Schema(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A log, described. Columns of the log that are not named here are ignored.

    columns          name -> Column, in the order in which entries of a vector follow each other
    sampling_period  time between rows, in the unit of the time column (default: the median)
    gap              rows further apart than this many sampling periods belong to different episodes; None: inferred
                     from how regular the time is; 0: time never ends an episode
    no_action        nobody acts, or nobody wrote it down: no column is an action, and an episode may be a single row
    sort             bring rows into the order of episode and time first, instead of refusing another order
    embargo          steps that are left out between a part of the log and the next part in time (training, held out)

    >>> schema = Schema(columns={"x": Column(role="observation", unit="m"), "push": Column(role="action")})
    >>> print(schema.toml(), end="")
    [columns]
    "x" = { role = "observation", unit = "m" }
    "push" = { role = "action" }
    >>> Schema.parse(schema.toml()) == schema
    True
    """

    columns: dict[str, Column]
    sampling_period: float | None = None
    gap: float | None = None
    no_action: bool = False
    sort: bool = False
    embargo: int = 0

    def __post_init__(self) -> None:
        for role in ("episode", "time"):
            if len(self.of(role)) > 1:
                raise ConfigError(f"at most one {role} column", ", ".join(self.of(role)), "ignore the others")
        if self.no_action and self.action:
            raise ConfigError("no action column where no_action = true", ", ".join(self.action), "correct either")
        if self.sampling_period is not None and not 0 < self.sampling_period < math.inf:
            raise ConfigError("a sampling_period above 0", f"{self.sampling_period:g}", "leave it out: it is measured")
        if self.gap is not None and not (self.gap == 0 or 1 < self.gap < math.inf):
            raise ConfigError("a gap of more than 1 sampling period, or 0", f"{self.gap:g}", "1.5 splits at a lost row")
        if self.embargo < 0:
            raise ConfigError("an embargo of at least 0 steps", f"{self.embargo}", "correct it")

    # Columns by role -----------------------------------------------------------------------------------------------

    def of(self, role: str) -> tuple[str, ...]:
        """Columns of one role."""
        return tuple(name for name, column in self.columns.items() if column.role == role)

    @property
    def episode(self) -> str | None:
        return next(iter(self.of("episode")), None)

    @property
    def time(self) -> str | None:
        return next(iter(self.of("time")), None)

    @property
    def action(self) -> tuple[str, ...]:
        return self.of("action")

    @property
    def exogenous(self) -> tuple[str, ...]:
        return self.of("exogenous")

    @property
    def observations(self) -> dict[str, tuple[str, ...]]:
        """Named observation -> its columns, in order."""
        groups: dict[str, list[str]] = {}
        for name in self.of("observation"):
            groups.setdefault(self.columns[name].observation or VECTOR, []).append(name)
        return {name: tuple(members) for name, members in groups.items()}

    @property
    def numeric(self) -> tuple[str, ...]:
        """Columns whose values are used: observed, chosen, known in advance."""
        return (*self.of("observation"), *self.action, *self.exogenous)

    def label(self, name: str) -> str:
        """How people call a column."""
        stated = self.columns[name].label if name in self.columns else None
        return label(name) if stated is None else stated

    def labels(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Labels of several columns; none if they are only numbers or not there."""
        found = tuple(self.label(name) for name in names)
        numbers = all(text == "" or text.rpartition(".")[2] == str(i) for i, text in enumerate(found))
        return () if numbers else found

    def units(self) -> dict[str, str]:
        """Label -> unit, where one is stated."""
        return {self.label(name): column.unit for name, column in self.columns.items() if column.unit}

    # Text ------------------------------------------------------------------------------------------------------------

    def toml(self, comments: tuple[str, ...] = ()) -> str:
        """As a file to edit, one line a column."""
        top: dict[str, Any] = msgspec.to_builtins(self)
        columns = top.pop("columns")
        lines = [f"# {' '.join(comment.split())}" for comment in comments]
        lines += [""] if comments else []
        lines += [f"{key} = {_value(value)}" for key, value in top.items()]
        lines += ["", "[columns]"] if top else ["[columns]"]
        for name, column in columns.items():
            inner = ", ".join(f"{key} = {_value(value)}" for key, value in column.items())
            lines.append(f"{_value(name)} = {{ {inner} }}")
        return "\n".join(lines) + "\n"

    @classmethod
    def parse(cls, text: str | bytes, where: str = "the schema") -> Schema:
        """From TOML.

        Raises:
            DataError: no TOML, an unknown field, a value of the wrong type or an impossible one.
        """
        try:
            plain = tomllib.loads(text if isinstance(text, str) else text.decode())
            return msgspec.convert(plain, cls)
        except (ValueError, RecursionError, SteersmanError) as error:
            raise bad(where, error) from error

    @classmethod
    def load(cls, path: str | Path) -> Schema:
        """From a TOML file.

        Raises:
            DataError: not readable, or see `parse`.
        """
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise DataError(f"a readable schema at {path}", f"{error.strerror}", "check the path") from error
        return cls.parse(text, str(path))


def bad(where: str, error: Exception) -> DataError:
    """What is said about a description that cannot be used."""
    fix = "correct it, or delete it: `steersman data schema LOG` infers one"
    return DataError(f"a valid description in {where}", f"{error}", fix)


def label(column: str) -> str:
    """How people call a column: its name without the prefix that says its role."""
    found = _PREFIXED.fullmatch(column)
    return found["rest"] if found and found["rest"] and not found["rest"].isdigit() else column


def _value(value: Any) -> str:
    """One value in TOML, on one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")
