"""What a run is doing, on one page, from its files alone. Never imports torch.

What was counted is in `runs.living`; beside it stand the recorder's last session, the experience, the journal of
updates, and what all of it takes on the disk.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from steersman.core.errors import RunError
from steersman.runs.decisions import session_at, sessions
from steersman.runs.experience import FOLDER as EXPERIENCE
from steersman.runs.experience import INDEX, ExperienceReader
from steersman.runs.files import size_of
from steersman.runs.living import Living, read_living, slope
from steersman.runs.run import Run
from steersman.runs.updates import Correction, Journal

_LATE = 60.0


@dataclass(frozen=True)
class Status:
    """What is known of a run.

    living       counts of what it did; None: it was never begun with --steps
    heard        seconds since it last wrote; acting  whether that is less than a minute
    growth       bytes a step by which its memory grows after warm-up; None: not enough samples
    sessions     of the recorder; decisions  in the last of them that are still there
    last         of the last recorded decision: the reasons, and the surprise of each episode
    moments      of experience that are still there; made_room  that are gone
    changes      of the weights since the checkpoint that they began from, the latest last
    disk         folder of the run -> bytes
    warnings     what could not be read
    """

    living: Living | None
    heard: float | None = None
    acting: bool = False
    growth: float | None = None
    sessions: int = 0
    decisions: int = 0
    last: tuple[str, ...] = ()
    surprise: tuple[float | None, ...] = ()
    moments: int = 0
    made_room: int = 0
    changes: tuple[Correction, ...] = ()
    disk: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def status_of(run: Run, now: float | None = None) -> Status:
    """The status of a run; what cannot be read is said in `warnings`."""
    path, warnings = run.path, list[str]()
    living = None
    try:
        living = read_living(path)
    except RunError as error:
        warnings.append(str(error))
    heard = None if living is None else max(0.0, (time.time() if now is None else now) - living.when)
    count = reasons = surprise = None
    there = sessions(path)
    if there:
        try:
            reader = session_at(path)
            span = reader.span()
            count = len(span)
            if span:
                record = reader.read(span[-1])
                reasons, surprise = record.reason, record.surprise
        except RunError as error:
            warnings.append(str(error))
    moments, gone, changes = 0, 0, tuple[Correction, ...]()
    if (path / EXPERIENCE / INDEX).is_file():
        try:
            experience = ExperienceReader(path / EXPERIENCE)
            moments, gone = len(experience.span()), experience.index.first
            changes = tuple(Journal(path / EXPERIENCE).all())
        except RunError as error:
            warnings.append(str(error))
    return Status(
        living, heard, heard is not None and heard < _LATE and living is not None and not living.done,
        None if living is None else slope(living.resident), len(there), count or 0, reasons or (), surprise or (),
        moments, gone, changes, _disk(path), tuple(warnings))


def _disk(path: Path) -> dict[str, int]:
    """Bytes of each folder, and of the files beside them; what goes while it is counted is not."""
    found: dict[str, int] = {}
    for one in sorted(path.iterdir()):
        try:
            size = size_of(one)
        except OSError:
            continue
        name = one.name if one.is_dir() else "files"
        found[name] = found.get(name, 0) + size
    return found
