"""One ledger of all that changes: how often each level was written to, counted against the data that went by.

What counts is said by whoever writes; nothing here looks at tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from steersman.core.levels import Level


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One level, as declared and as counted.

    points  data points that went by while it was there
    writes  how often it was written to
    """

    level: Level
    points: int = 0
    writes: int = 0

    @property
    def period(self) -> float:
        """Measured data points between updates; infinity where there was none."""
        return self.points / self.writes if self.writes else math.inf


class Ledger:
    """Counts for every level that was declared.

    >>> ledger = Ledger()
    >>> ledger.declare(Level("critic", "parameters", "regression", "memory", 4))
    >>> for _ in range(8):
    ...     ledger.count("critic", points=1, writes=0)
    >>> ledger.count("critic", points=0, writes=2)
    >>> ledger.entries["critic"].period
    4.0
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def declare(self, level: Level) -> None:
        """From now on `level.name` is counted. Declared again, it goes on with what was counted; declared otherwise, it
        begins anew, because what was counted belongs to the other declaration."""
        old = self.entries.get(level.name)
        if old is None or old.level != level:
            self.entries[level.name] = Entry(level)

    def count(self, name: str, *, points: int, writes: int) -> None:
        """So many data points went by, and so many updates were made of them."""
        old = self.entries[name]
        self.entries[name] = Entry(old.level, old.points + points, old.writes + writes)

    def since(self, before: Mapping[str, Entry]) -> dict[str, tuple[int, int]]:
        """Name -> (points, writes) since the entries were `before`; all of it where the level is declared otherwise."""
        found = {}
        for name, now in self.entries.items():
            then = before.get(name, Entry(now.level))
            then = then if then.level == now.level else Entry(now.level)
            found[name] = (now.points - then.points, now.writes - then.writes)
        return found

    def state(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return {name: {"level": level_form(entry.level), "points": entry.points, "writes": entry.writes}
                for name, entry in self.entries.items()}

    def load(self, stored: Mapping[str, Any]) -> None:
        """Go on counting from what `state` gave, for the levels that are declared."""
        for name, entry in stored.items():
            if name in self.entries:
                declared = self.entries[name].level
                self.entries[name] = Entry(declared, int(entry["points"]), int(entry["writes"]))


def read_entries(stored: Mapping[str, Any]) -> dict[str, Entry]:
    """What `Ledger.state` gave, from a file.

    Raises:
        KeyError, TypeError, msgspec.ValidationError: it is of another form.
    """
    return {name: Entry(level_of(entry["level"]), int(entry["points"]), int(entry["writes"]))
            for name, entry in stored.items()}


def level_form(level: Level) -> dict[str, Any]:
    """A level as plain values; JSON has no infinity, a period that never ends is None."""
    form: dict[str, Any] = msgspec.to_builtins(level)
    return form | {"period": None if level.period == math.inf else level.period}


def level_of(form: Mapping[str, Any]) -> Level:
    """What `level_form` gave.

    Raises:
        KeyError, TypeError, msgspec.ValidationError: it is of another form.
    """
    period = form["period"]
    return msgspec.convert({**form, "period": math.inf if period is None else float(period)}, Level)
