"""RUN:STEP, the name of a recorded decision on the command line."""

from __future__ import annotations

from pathlib import Path

from steersman.core.errors import UsageError


def place(text: str) -> tuple[Path, int | None]:
    """"runs/x:12" -> the run and the number; "runs/x" -> the run and None.

    Raises:
        UsageError: what follows the colon is no number.
    """
    path, colon, number = text.rpartition(":")
    if not colon or Path(text).is_dir():
        return Path(text), None
    if not number.isdecimal() or not path:
        raise UsageError("RUN:STEP, e.g. runs/pendulum:12", repr(text), "count the decisions from 0")
    return Path(path), int(number)
