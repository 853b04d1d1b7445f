"""One seed, and a seed of its own for each use of it: no evaluated layout repeats a draw of the log's.

The demo and `steersman evaluate` both derive theirs here, so that the same `--seed` means the same episodes.
"""

from __future__ import annotations

from steersman.core import UsageError

USES = ("two-rooms", "held-out", "three-rooms", "guarded", "log", "frames", "guard", "guarded-held-out")
"""Names of protocols, and what else the demo draws. Append only: the place decides the seed."""
_ROOM = 16


def derived(seed: int, use: str) -> int:
    """The seed of one use of `seed`.

    >>> derived(3, "two-rooms"), derived(3, "log")
    (48, 52)

    Raises:
        UsageError: there is no such use.
    """
    if use not in USES:
        raise UsageError(f"a use of {', '.join(USES)}", repr(use), "add it to evaluation.seeds.USES")
    return _ROOM * (seed % 2**31) + USES.index(use)
