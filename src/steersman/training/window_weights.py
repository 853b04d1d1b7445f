"""Which windows are worth more: those in which more happens than usual, so that rare contacts are met often enough.

Knows a log by its signature and its windows. Shapes: E episodes, T steps of one, L steps of a window, W windows of the
log, C columns.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.signature import Signature
from steersman.core.types import Window
from steersman.training.source import WindowSource

_BYTES = 64 << 20
"""Of observations that are looked at together."""
_PIXELS = 32
"""Longest side of a picture whose pixels are all compared; of larger ones every second, third, …"""


class WindowWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Draw a window in proportion to how much happens in it.

        p(window at start i) ∝ clip(e_i / mean_i e_i, low, high),    e_i = mean_{t=i..i+L-1} max(0, c_t - median_t c_t)

    with c_t how much changes in step t: of pictures, the mean absolute difference of the newest frame to that of the
    moment before; of `columns`, the mean over them of |Δx| in units of each column's standard deviation of Δx. The
    median is what is usual in this log (an agent that moves all the time); what counts is what goes beyond it (a block
    that is pushed). A log in which nothing does is drawn evenly.

    image      the pictures that are looked at ("": the only ones), where no columns are named
    columns    names of vector columns to look at instead
    low, high  a window is drawn at least and at most so many times as often as the average one before normalisation

    Scores are worked out once, when a training begins or goes on, in one pass over the log. It shifts what the model
    sees: errors in rare events fall, those of the ordinary rise a little.
    """

    image: str = ""
    columns: tuple[str, ...] = ()
    low: float = 0.2
    high: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.low <= 1 <= self.high:
            raise ConfigError("0 < low <= 1 <= high", f"{self.low}, {self.high}", "use .2 and 10")


def window_weights(source: WindowSource, length: int, config: WindowWeights) -> np.ndarray[Any, Any]:
    """(W,) weights of all windows of `length` steps, episode by episode in order of their start.

    Raises:
        ConfigError: an image or a column that the log does not have.
    """
    lengths = np.asarray(source.lengths, dtype=np.int64)
    change = _changes(source, lengths, length, config)
    fitting = [row for row in change if len(row) >= length]
    if not fitting:
        return np.ones(0)
    usual = np.median(np.concatenate(fitting))
    score = np.concatenate([_means(np.maximum(row - usual, 0.0), length) for row in fitting])
    mean = score.mean()
    if mean <= 0:
        return np.ones_like(score)
    weights: np.ndarray[Any, Any] = (score / mean).clip(config.low, config.high)
    return weights


def _means(row: np.ndarray[Any, Any], length: int) -> np.ndarray[Any, Any]:
    """(T,) -> (T - length + 1,): the mean of each stretch."""
    sums = np.concatenate([[0.0], np.cumsum(row)])
    means: np.ndarray[Any, Any] = (sums[length:] - sums[:-length]) / length
    return means


def _changes(
    source: WindowSource, lengths: np.ndarray[Any, Any], length: int, config: WindowWeights
) -> list[np.ndarray[Any, Any]]:
    """c_t of every step, float64, episode by episode; episodes too short for a window are left at 0."""
    names = _columns(source.signature, config.columns) if config.columns else []
    image = "" if names else source.signature.image(config.image)
    parts = [np.zeros(int(t)) for t in lengths]
    deltas = [np.zeros((int(t), len(names))) for t in lengths]
    tiles = [(e, start) for e, t in enumerate(lengths) if t >= length
             for start in [*range(0, int(t) - length, length), int(t) - length]]
    for batch in _batches(source, tiles, length):
        episodes, starts = torch.tensor(batch).unbind(1)
        window = source.windows(episodes, starts, length)
        found = _moved(window, names) if names else _changed(window, source.signature, image)
        for (episode, start), row in zip(batch, found.numpy(), strict=True):
            (deltas if names else parts)[episode][start : start + length] = row
    if not names:
        return parts
    every = np.concatenate(deltas)
    spread = every.std(0)
    unit = np.where(spread > 1e-12, spread, 1.0)
    return [np.abs(delta / unit).mean(1) for delta in deltas]


def _batches(source: WindowSource, tiles: list[tuple[int, int]], length: int) -> list[list[tuple[int, int]]]:
    """Tiles, as many together as their observations' bytes allow."""
    if not tiles:
        return []
    bytes_of = {"image": 1, "field": 4, "vector": 4, "waveform": 4, "tokens": 4}
    each = (length + 1) * sum(
        bytes_of[spec.kind] * int(np.prod(spec.shape)) for spec in source.signature.observations.values())
    count = max(1, _BYTES // each)
    return [tiles[i : i + count] for i in range(0, len(tiles), count)]


def _columns(signature: Signature, columns: tuple[str, ...]) -> list[tuple[str, int]]:
    """(observation, entry) of every named column."""
    known = {column: (name, i) for name, spec in signature.observations.items() for i, column in
             enumerate(spec.columns)}
    missing = [column for column in columns if column not in known]
    if missing:
        raise ConfigError(f"columns among {', '.join(known) or 'none, as no observation names any'}",
                          ", ".join(missing), "correct `columns`, or leave them out to look at pictures")
    return [known[column] for column in columns]


def _moved(window: Window, names: list[tuple[str, int]]) -> Tensor:
    """(B, L, C) float64: change of the columns in every step."""
    return torch.stack([window.observations[name][..., i] for name, i in names], -1).double().diff(dim=1)


def _changed(window: Window, signature: Signature, image: str) -> Tensor:
    """(B, L) float64: mean absolute difference of neighbouring pictures, of 1."""
    spec = signature.observations[image].single
    stride = max(1, -(-max(spec.shape[:2]) // _PIXELS))
    pictures = window.observations[image][:, :, ::stride, ::stride, : spec.shape[2]].to(torch.int16)
    return pictures.diff(dim=1).abs().flatten(2).double().mean(-1) / 255
