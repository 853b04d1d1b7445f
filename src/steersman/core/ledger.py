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
        """From now on `level.name` is counted. Declared again, it goes on with what was counted."""
        old = self.entries.get(level.name, Entry(level))
        self.entries[level.name] = Entry(level, old.points, old.writes)

    def count(self, name: str, *, points: int, writes: int) -> None:
        """So many data points went by, and so many updates were made of them."""
        old = self.entries[name]
        self.entries[name] = Entry(old.level, old.points + points, old.writes + writes)

    def state(self) -> dict[str, Any]:
        """Plain values, for a file."""
        found: dict[str, Any] = msgspec.to_builtins(self.entries, enc_hook=None)
        for entry in found.values():
            if entry["level"]["period"] == math.inf:
                entry["level"]["period"] = None  # JSON has no infinity
        return found

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
    found = {}
    for name, entry in stored.items():
        period = entry["level"]["period"]
        level = Level(**{**entry["level"], "period": math.inf if period is None else float(period)})
        found[name] = Entry(level, int(entry["points"]), int(entry["writes"]))
    return found
