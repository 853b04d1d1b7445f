"""The exception tree: every mistake that a user can make raises one of these.

An error says what was expected, what came, and what to do. Knows nothing of torch; the command line prints
`str(error)` on one line and exits with `error.exit_code` (1 failed, 2 usage).
"""

from __future__ import annotations


class SteersmanError(Exception):
    """Base of every error that steersman raises on purpose.

    >>> print(DataError("a column named 'action'", "columns: time, torque", "name the action columns with --action"))
    expected a column named 'action'; got columns: time, torque; name the action columns with --action
    """

    exit_code = 1

    def __init__(self, expected: str, got: str, fix: str) -> None:
        self.expected, self.got, self.fix = expected, got, fix
        super().__init__(expected, got, fix)

    def __str__(self) -> str:
        return " ".join(f"expected {self.expected}; got {self.got}; {self.fix}".split())


class UsageError(SteersmanError):
    """The words of a call are off: an unknown recipe, an impossible option."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration does not fit its schema, or its parts do not fit together."""


class PartError(ConfigError):
    """A configuration names a part that nobody registered in this process (`core.register`)."""


class DataError(SteersmanError):
    """A log cannot be read as episodes: missing column, wrong shape, NaN, empty file, one-step episode."""


class ActionError(SteersmanError):
    """An action lies outside its declared bounds or has the wrong shape."""


class MismatchError(SteersmanError):
    """Two things that must describe the same world do not: a model and a dataset, an agent and an environment."""


class RunError(SteersmanError):
    """A run directory is missing, unreadable, foreign or of a future format."""


class LockedError(RunError):
    """Another process is writing to this run."""


class CheckpointError(RunError):
    """A checkpoint is truncated, altered, foreign, or of a future format."""


class StorageError(SteersmanError):
    """The file system refused: full, read-only, no permission, no such folder."""


class DivergedError(SteersmanError):
    """Training met NaN or infinity and stopped; the last good checkpoint stands."""


class PlanningError(SteersmanError):
    """A planning problem is ill-posed: no goal, an empty horizon, a part that returned the wrong shape."""


class SealError(SteersmanError):
    """A sealed cost is not what it was when the agent was built, or somebody tried to change it."""


class PromiseError(SteersmanError):
    """A part breaks a promise of its box; raised by the public checks (`core.checks`).

    expected  the promise
    case      in which situation it was broken
    """

    def __init__(self, expected: str, got: str, fix: str, case: str = "") -> None:
        super().__init__(expected, f"{got} (case: {case})" if case else got, fix)
        self.case = case
