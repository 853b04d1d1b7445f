"""A piece of an agent's experience in memory, read as windows: what a corrector learns from, without a cache on disk.

Shapes: B windows, L steps, E episodes, R moments of all of them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from steersman.core.errors import DataError
from steersman.core.records import join
from steersman.core.types import Episode, Window
from steersman.runs.experience import ExperienceReader


class ExperienceWindows:
    """The episodes that moments `since` to before `through` of a log make up; the same whatever was logged later, and
    whatever earlier has gone since.

    signature    what every episode looks like
    fingerprint  which moments of which log
    lengths      (E,) int64 steps in each episode
    """

    def __init__(self, folder: Path, since: int = 0, through: int | None = None) -> None:
        """Raises RunError: no log there, or a damaged one."""
        reader = ExperienceReader(folder)
        episodes = [Episode.of(recording) for recording in reader.recordings(since, through)]
        self.signature = reader.signature
        self.fingerprint = f"experience {since}:{through} of {reader.index.run}"
        self.lengths = torch.tensor([len(e) for e in episodes], dtype=torch.int64)
        self._rows = (self.lengths + 1).cumsum(0) - self.lengths - 1  # first moment of each episode
        self._steps = self.lengths.cumsum(0) - self.lengths
        if episodes:
            self._all = join(episodes)

    def __len__(self) -> int:
        return len(self.lengths)

    def windows(self, episode: Tensor, start: Tensor, length: int) -> Window:
        """episode (B,), start (B,) -> B windows of L = `length` steps. One gather per field.

        Raises:
            DataError: a window that would leave its episode.
        """
        if not len(self) or bool(((start < 0) | (start + length > self.lengths[episode])).any()):
            raise DataError(f"windows of {length} steps inside their episodes", "one outside", "draw from `lengths`")
        rows = (self._rows[episode] + start)[:, None] + torch.arange(length + 1)
        steps = (self._steps[episode] + start)[:, None] + torch.arange(length)
        every = self._all
        return Window(
            {name: value[rows] for name, value in every.observations.items()}, every.actions[steps],
            None if every.exogenous is None else every.exogenous[steps], episode.clone(), start.clone(),
            {name: value[rows] for name, value in every.measured.items()},
        )
