"""What training asks of a dataset, and which windows it takes: at random, by prediction error, or piece after piece.

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
    error_e being the last prediction error reported for it (an episode not seen yet counts as average). With `weights`,
    one for each window that fits, episode by episode in order of their start, a window is drawn in proportion to its
    own.
    """

    LOW, HIGH = 0.2, 10.0

    def __init__(
        self, lengths: Any, window: int, batch: int, seed: int, prioritise: bool,
        weights: np.ndarray[Any, Any] | None = None,
    ) -> None:
        lengths = np.asarray(lengths, dtype=np.int64)
        self._fitting = np.maximum(lengths - window + 1, 0)
        if not len(lengths) or not self._fitting.any():
            longest = f"the longest has {lengths.max()}" if len(lengths) else "no episode"
            fix = "shorten `window` or record for longer"
            if len(lengths) and not lengths.max():
                fix = "learn from single moments: window=0 and views of them, as `--recipe pictures` does"
            raise DataError(f"an episode of at least {window} steps", longest, fix)
        self._batch, self._seed, self._prioritise = batch, seed, prioritise
        self._uniform = np.cumsum(self._fitting, dtype=np.float64)
        self.errors = np.full(len(lengths), np.nan, dtype=np.float64)
        self._weighted = None if weights is None else np.cumsum(weights, dtype=np.float64)

    def draw(self, step: int, batch: int | None = None) -> tuple[Tensor, Tensor]:
        """The windows of step 0, 1, …: episode (B,), start (B,)."""
        key = np.array([self._seed, step & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64)
        u, v = np.random.Generator(np.random.Philox(key=key)).random((2, batch or self._batch))
        if self._weighted is not None:
            return self._by_weight(u, self._weighted)
        total = np.cumsum(self._fitting * self.weights()) if self._prioritise else self._uniform
        episode = np.searchsorted(total, u * total[-1], side="right").clip(max=len(total) - 1)
        start = (v * self._fitting[episode]).astype(np.int64)
        return torch.from_numpy(episode), torch.from_numpy(start)

    def _by_weight(self, u: np.ndarray[Any, Any], total: np.ndarray[Any, Any]) -> tuple[Tensor, Tensor]:
        """u (B,) in [0, 1), total (W,) sums of weights -> the windows that they fall on."""
        index = np.searchsorted(total, u * total[-1], side="right").clip(max=len(total) - 1)
        first = np.cumsum(self._fitting) - self._fitting
        episode = np.searchsorted(first, index, side="right") - 1
        return torch.from_numpy(episode), torch.from_numpy(index - first[episode])

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


class Streams:
    """B streams, each read piece after piece of L = `window` steps; what it draws is a pure function of seed and step.

    In every pass the episodes stand in another order, one behind the other, each cut into whole pieces from a row that
    is drawn anew (so that the steps that no piece holds, fewer than L an episode, are others in the next pass). Stream
    b reads the b-th of B equal stretches of all pieces; where a stretch begins inside an episode, that stream begins
    there. Pieces that follow one another inside an episode begin where the last one ended.

    Raises:
        DataError: fewer pieces than streams.
    """

    def __init__(self, lengths: Any, window: int, batch: int, seed: int) -> None:
        self._lengths = np.asarray(lengths, dtype=np.int64)
        self._window, self._batch, self._seed = window, batch, seed
        self._pieces = self._lengths // window
        total = int(self._pieces.sum())
        if total < batch:
            raise DataError(f"at least {batch} pieces of {window} steps, one a stream",
                            f"{total} in {len(self._lengths)} episodes", "shorten `window`, lower `batch_size` or "
                            "record for longer")
        self.each = total // batch
        """Pieces of each stream in a pass: steps of the training."""
        self._pass: tuple[int, Any, Any, Any] | None = None

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """The pieces of step 0, 1, …: episode (B,), start (B,)."""
        number, within = divmod(step, self.each)
        order, first, offset = self._ordered(number)
        piece = np.arange(self._batch) * self.each + within
        place = np.searchsorted(first, piece, side="right") - 1
        episode = order[place]
        start = offset[episode] + (piece - first[place]) * self._window
        return torch.from_numpy(episode), torch.from_numpy(start)

    def _ordered(self, number: int) -> tuple[Any, Any, Any]:
        """Of one pass: the episodes that hold a piece, in order; the number of the first piece of each; the row at
        which each episode's first piece begins."""
        if self._pass is None or self._pass[0] != number:
            key = np.array([self._seed, (1 << 63) | number], dtype=np.uint64)
            random = np.random.Generator(np.random.Philox(key=key))
            order = random.permutation(np.flatnonzero(self._pieces))
            first = np.cumsum(self._pieces[order]) - self._pieces[order]
            spare = self._lengths - self._pieces * self._window
            offset = (random.random(len(self._lengths)) * (spare + 1)).astype(np.int64)
            self._pass = (number, order, first, offset)
        return self._pass[1:]
