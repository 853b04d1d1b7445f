"""The clock that planners read, so that a decision which time cut short can be made again: what it read is a tape.

No algorithm. A planner that reads another clock plans as well; only its replay under a limit of seconds is not exact.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Tape:
    """Readings of one decision, in order: being written, or played."""

    def __init__(self, readings: tuple[float, ...] | None = None) -> None:
        self.playing = readings is not None
        self.readings = list(readings or ())
        self._next = 0

    def read(self) -> float:
        if not self.playing:
            self.readings.append(time.perf_counter())
            return self.readings[-1]
        at = min(self._next, len(self.readings) - 1)  # beyond the end time stands still: nothing was asked then
        self._next += 1
        return self.readings[at] if self.readings else 0.0


_tape: ContextVar[Tape | None] = ContextVar("tape", default=None)


def now() -> float:
    """Seconds of a clock that only goes on; from the tape that is being played, if there is one."""
    tape = _tape.get()
    return time.perf_counter() if tape is None else tape.read()


@contextmanager
def taped(readings: tuple[float, ...] | None = None) -> Iterator[Tape]:
    """Within, `now` writes down what it returns; given readings, it returns those.

    >>> with taped() as first:
    ...     a = now(), now()
    >>> with taped(tuple(first.readings)):
    ...     b = now(), now()
    >>> a == b
    True
    """
    tape = Tape(readings)
    token = _tape.set(tape)
    try:
        yield tape
    finally:
        _tape.reset(token)
