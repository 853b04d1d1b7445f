"""What training asks of a dataset, and which windows it takes from it: uniform over windows, or by prediction error.

A draw is a pure function of the seed, the step and the errors reported so far, so every process of a distributed
run draws the same, and a resumed run draws what the interrupted one would have drawn.

Shapes: B windows of the batch, E episodes.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from steersman.core.errors import DataError
from steersman.core.signature import Signature
from steersman.core.types import Window


class WindowSource(Protocol):
    """The part of `data.Dataset` that training uses."""

    @property
    def signature(self) -> Signature: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def lengths(self) -> Any:
        """(E,) steps of each episode."""

    def windows(self, episode: Tensor, start: Tensor, length: int) -> Window:
        """episode (B,), start (B,) int64 -> B windows of `length` steps."""


class Sampler:
    """Draws windows of one length from a source.

    Uniform over all windows; with `prioritise`, episode e weighs clip(error_e / mean error, .2, 10) times as much,
    error_e being the last prediction error reported for it (an episode not seen yet counts as average).
    """

    LOW, HIGH = 0.2, 10.0

    def __init__(self, lengths: Any, window: int, batch: int, seed: int, prioritise: bool) -> None:
        lengths = np.asarray(lengths, dtype=np.int64)
        self._fitting = np.maximum(lengths - window + 1, 0)
        if not len(lengths) or not self._fitting.any():
            longest = f"the longest has {lengths.max()}" if len(lengths) else "no episode"
            raise DataError(f"an episode of at least {window} steps", longest, "shorten `window` or record for longer")
        self._batch, self._seed, self._prioritise = batch, seed, prioritise
        self._uniform = np.cumsum(self._fitting, dtype=np.float64)
        self.errors = np.full(len(lengths), np.nan, dtype=np.float64)

    def draw(self, step: int, batch: int | None = None) -> tuple[Tensor, Tensor]:
        """The windows of step 0, 1, …: episode (B,), start (B,)."""
        key = np.array([self._seed, step & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64)
        u, v = np.random.Generator(np.random.Philox(key=key)).random((2, batch or self._batch))
        total = np.cumsum(self._fitting * self.weights()) if self._prioritise else self._uniform
        episode = np.searchsorted(total, u * total[-1], side="right").clip(max=len(total) - 1)
        start = (v * self._fitting[episode]).astype(np.int64)
        return torch.from_numpy(episode), torch.from_numpy(start)

    def weights(self) -> np.ndarray[Any, Any]:
        """(E,) how often an episode is drawn, relative to uniform."""
        seen = ~np.isnan(self.errors)
        mean = self.errors[seen].mean() if seen.any() else 0.0
        if mean <= 0:
            return np.ones_like(self.errors)
        return np.where(seen, (self.errors / mean).clip(self.LOW, self.HIGH), 1.0)

    def report(self, episode: Tensor, error: Tensor) -> None:
        """Remember the prediction errors (B,) of windows from `episode` (B,)."""
        self.errors[episode.numpy()] = error.numpy()
