"""A moment of a log, as the command line names it: an episode and its row, or a row counted over all episodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steersman.core.errors import UsageError

if TYPE_CHECKING:
    from steersman.data import Dataset


def moment(dataset: Dataset, episode: int | None, row: int) -> tuple[int, int]:
    """Which episode and which of its rows is meant.

    Raises:
        UsageError: none of the log.
    """
    import torch

    if episode is not None:
        if not 0 <= episode < len(dataset):
            raise UsageError(f"an episode in 0..{len(dataset) - 1}", f"{episode}", "correct the episode")
        last = int(dataset.lengths[episode])
        if not 0 <= row <= last:
            raise UsageError(f"a row in 0..{last} of episode {episode}", f"{row}", "correct the row")
        return episode, row
    ends = (dataset.lengths + 1).cumsum(0)
    if not 0 <= row < int(ends[-1]):
        raise UsageError(f"a row in 0..{int(ends[-1]) - 1} of the log", f"{row}", "correct the row")
    found = int(torch.searchsorted(ends, torch.tensor(row), right=True))
    return found, row - (int(ends[found - 1]) if found else 0)
