"""How far an agent has come that acts for days: one small file, replaced whole, from which it goes on when it was
stopped, and by which people see what it is doing. Never imports torch.

    RUN/living.json
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from steersman.core.errors import RunError
from steersman.runs.files import atomic_write, parse_json, pretty, read_capped

NAME = "living.json"
FORMAT = 1
_SAMPLES = 256


class Living(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Counts of all that was done since the beginning, across every stop.

    env, goal, keep, seed  what was asked for, in words; who goes on must ask for the same
    asked        steps that are to be taken in all
    begun        times that it was begun, or gone on with; waves  batches of episodes that were begun
    steps        actions of the world; decisions  each for one episode; episodes  that ended, reached their goal, did
                 what is forbidden
    returned     sum of rewards of ended episodes, where the world has such
    infeasible   decisions for which no plan met every guardrail; refused  guardrail -> candidates that it vetoed
    alarms       decisions at which surprise stood above the threshold; surprise  that stands, or that of the last
                 moment; threshold  None: nobody watches it
    updates      that the weights hold since their checkpoint
    seconds      of acting; rate  decisions a second, lately
    reason       of the last decision, in words
    resident     (steps, bytes of memory) of the process that acts, now and then: at most 256 of them
    pid, when    who wrote this, and when: seconds since 1970
    """

    format: int = FORMAT
    env: str
    goal: str
    keep: tuple[str, ...] = ()
    seed: int = 0
    asked: int
    begun: int = 1
    waves: int = 0
    steps: int = 0
    decisions: int = 0
    episodes: int = 0
    reached: int = 0
    violated: int = 0
    returned: float | None = None
    infeasible: int = 0
    refused: dict[str, int] = {}
    alarms: int = 0
    surprise: float | None = None
    threshold: float | None = None
    updates: int = 0
    seconds: float = 0.0
    rate: float | None = None
    reason: str = ""
    resident: tuple[tuple[int, int], ...] = ()
    pid: int = 0
    when: float = 0.0

    @property
    def done(self) -> bool:
        """Whether as many steps were taken as were asked for."""
        return self.steps >= self.asked


def read_living(run: Path) -> Living | None:
    """What stands in a run; None: nobody lived there yet.

    Raises:
        RunError: a damaged file, or one of a later format.
    """
    path = run / NAME
    if not path.is_file():
        return None
    try:
        content = parse_json(read_capped(path), dict[str, object])
        if int(str(content.get("format", 0))) > FORMAT:
            raise RunError(f"a life of format {FORMAT} or earlier in {path}", f"{content['format']}",
                           "update steersman")
        return msgspec.convert(content, Living)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise RunError(f"what was lived, in {path}", f"{error}", "restore the file, or remove it and begin anew"
                       ) from error


def write_living(run: Path, living: Living) -> None:
    """Replace it; it is on disk, whole, when the call returns.

    Raises:
        StorageError: the disk refused; the old one stands.
    """
    atomic_write(run / NAME, pretty(living))


def sampled(samples: tuple[tuple[int, int], ...], steps: int) -> tuple[tuple[int, int], ...]:
    """The samples with one of now, if it is time: (steps, bytes of this process's memory that are in RAM). They lie a
    256th of all steps apart at least, and are thinned by half whenever there are too many. As they were where the
    system does not say."""
    if samples and steps - samples[-1][0] < max(1, steps // _SAMPLES):
        return samples
    now = resident()
    if now is None:
        return samples
    return (*(samples[::2] if len(samples) >= _SAMPLES else samples), (steps, now))


def resident() -> int | None:
    """Bytes of this process's memory that are in RAM; None: this system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def slope(samples: tuple[tuple[int, int], ...], warm: float = 0.25) -> float | None:
    """Bytes a step by which memory grew, after a share `warm` of the steps: the median of all slopes between two
    samples (Theil 1950; Sen 1968), which a single jump does not move. None: fewer than three samples.

    >>> slope(((0, 0), (10, 500), (20, 500), (30, 500), (40, 504)))
    0.16666666666666666
    """
    last = samples[-1][0] if samples else 0
    begun = samples[0][0] if samples else 0
    late = [x for x in samples if x[0] >= begun + warm * (last - begun)]
    slopes = sorted((b - a) / (n - m) for i, (m, a) in enumerate(late) for n, b in late[i + 1 :] if n > m)
    if len(late) < 3 or not slopes:
        return None
    middle = len(slopes) // 2
    return slopes[middle] if len(slopes) % 2 else (slopes[middle - 1] + slopes[middle]) / 2
