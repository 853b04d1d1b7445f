"""Every level of a run, declared beside measured: what training counted, and what was counted while acting.

Read from checkpoints and recorded decisions. Knows no tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from steersman.core.errors import RunError
from steersman.core.ledger import Entry, level_of, read_entries
from steersman.core.levels import Level
from steersman.runs.decisions import DecisionReader, sessions
from steersman.runs.run import Run


@dataclass(frozen=True)
class Levels:
    """Name -> what was declared and counted.

    training  up to the checkpoint that was read
    acting    in all decisions that are still recorded; what was declared otherwise at another time stands apart, under
              its name and a number
    """

    training: Mapping[str, Entry]
    acting: Mapping[str, Entry]


def levels_of(run: Run, checkpoint: str = "latest") -> Levels:
    """The levels of a run.

    Raises:
        RunError, CheckpointError: no checkpoint, or something damaged.
    """
    file = run.checkpoint(checkpoint)
    try:
        training = read_entries(file.manifest.state.get("levels", {}))
        counted: dict[Level, Entry] = {}
        for path in sessions(run.path):
            for record in DecisionReader(path).all():
                for form, points, writes in record.levels.values():
                    before = counted.get(level := level_of(form), Entry(level))
                    counted[level] = Entry(level, before.points + points, before.writes + writes)
    except (KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
        raise RunError(f"levels in {run.path}", f"{error}", "update steersman, or restore a copy") from error
    return Levels(training, _named(counted))


def _named(counted: Mapping[Level, Entry]) -> dict[str, Entry]:
    """Under the name of each level; the second declaration of a name is "plan, 2"."""
    found: dict[str, Entry] = {}
    for level, entry in counted.items():
        same = sum(other.level.name == level.name for other in found.values())
        found[f"{level.name}, {same + 1}" if same else level.name] = entry
    return found


def against_slowest(entries: Mapping[str, Entry]) -> dict[str, float]:
    """Name -> how often it is written to while the slowest of these that changes at all is written to once: the unit in
    which nested learning counts frequencies (Behrouz et al. 2025). 0 for what never changes."""
    frequency = {name: 1 / entry.period for name, entry in entries.items()}
    least = min((x for x in frequency.values() if x > 0), default=1.0)
    return {name: x / least for name, x in frequency.items()}
