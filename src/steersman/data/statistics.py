"""Mean, spread and range of every column of a log, and how often each token occurs, fitted on whatever part of it is
handed in. Json-able.

Shapes: R rows, C columns, N tokens a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec
import torch
from torch import Tensor


class Columns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One number per column: a vector's entries, the channels of an image (in units of 0..255), a field or a waveform.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    rows: int

    def tensors(self) -> tuple[Tensor, Tensor]:
        """(mean, std), each (C,) float32; a constant column has std 1, so that dividing by it changes nothing."""
        std = torch.tensor(self.std)
        return torch.tensor(self.mean), torch.where(std > 1e-8, std, torch.ones_like(std))


class Tokens(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often each token occurs: `counts[i]` times `tokens[i]`, the most frequent first; those that never do are left
    out. A mean of tokens would mean nothing.
    """

    vocabulary: int
    tokens: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.counts)

    @property
    def entropy(self) -> float:
        """Bits a token, each drawn alone by its frequency: 0 for a single one, log2(vocabulary) for even use."""
        return -sum(n / self.total * math.log2(n / self.total) for n in self.counts)


class Statistics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Statistics of a dataset: observation name -> columns; the action (none, where nobody acts); the exogenous inputs;
    observation name -> counts of its tokens."""

    observations: dict[str, Columns]
    action: Columns
    exogenous: Columns | None = None
    tokens: dict[str, Tokens] = {}


def fit(blocks: Iterable[Tensor]) -> Columns:
    """Blocks (R, C) -> statistics over all rows, in float64 by Chan's parallel update (stable for large offsets)."""
    count = 0
    mean = m2 = low = high = torch.zeros(0, dtype=torch.float64)
    for block in blocks:
        x = block.to(torch.float64)
        n, block_mean = len(x), x.mean(0)
        block_m2 = (x - block_mean).square().sum(0)
        if not count:
            count, mean, m2, low, high = n, block_mean, block_m2, x.amin(0), x.amax(0)
            continue
        delta = block_mean - mean
        m2 = m2 + block_m2 + delta.square() * (count * n / (count + n))
        mean = mean + delta * (n / (count + n))
        low, high, count = torch.minimum(low, x.amin(0)), torch.maximum(high, x.amax(0)), count + n
    std = (m2 / max(count, 1)).sqrt()
    mean_, std_, low_, high_ = (tuple(t.tolist()) for t in (mean, std, low, high))
    return Columns(mean_, std_, low_, high_, count)


def count(blocks: Iterable[Tensor], vocabulary: int) -> Tokens:
    """Blocks (R, N) of tokens -> how often each occurs."""
    tokens = counts = torch.zeros(0, dtype=torch.int64)
    for block in blocks:
        found, often = block.unique(return_counts=True)
        tokens, place = torch.cat([tokens, found.long()]).unique(return_inverse=True)
        counts = torch.zeros(len(tokens), dtype=torch.int64).index_add_(0, place, torch.cat([counts, often]))
    order = counts.argsort(descending=True, stable=True)
    return Tokens(vocabulary, tuple(tokens[order].tolist()), tuple(counts[order].tolist()))
