"""One seed, and a seed of its own for each use of it: no evaluated layout repeats a draw of the log's.

The demo and `steersman evaluate` both derive theirs here, so that the same `--seed` means the same episodes.
"""

from __future__ import annotations

from steersman.core import UsageError

LOG, FRAMES, GUARD = 4, 5, 6
"""Streams of what is drawn beside the episodes of protocols: a log, frames to look at, labelled frames."""
_STREAMS = 16


def derived(seed: int, stream: int) -> int:
    """The seed of one stream of `seed`.

    >>> derived(3, 0), derived(3, LOG)
    (48, 52)

    Raises:
        UsageError: there is no such stream.
    """
    if not 0 <= stream < _STREAMS:
        raise UsageError(f"a stream from 0 to {_STREAMS - 1}", f"{stream}", "choose another one")
    return _STREAMS * (seed % 2**31) + stream
