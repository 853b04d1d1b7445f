"""How far moments lie from what was foreseen. Knows no world model.

Shapes: B rows, T moments, P ages of predictions, D latent size, N tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from steersman.core.records import apply
from steersman.core.types import Surprise


def surprise_of(
    foreseen: Tensor, state: Tensor, horizon: int, measured: Tensor | None = None, reset: Tensor | None = None
) -> Surprise:
    """Of one moment, P = 1: foreseen and state (B, D) or (B, N, D), measured bool that broadcasts to them, reset (B,).

    horizon: steps ahead from which it was foreseen; 0: it was not.
    """
    known = torch.ones_like(state, dtype=torch.bool) if measured is None else measured.expand_as(state)
    fresh = torch.zeros(len(state), dtype=torch.bool, device=state.device) if reset is None else reset
    if not horizon:
        fresh = torch.ones_like(fresh)
    known = known & ~fresh.view(-1, *[1] * (state.dim() - 1))
    energy = torch.where(known, (state - foreseen).square(), 0.0)
    if state.dim() == 3:
        energy, known = energy.sum(2) / known.sum(2).clamp(min=1), known.any(2)
    age = torch.where(fresh, 0, horizon)
    return Surprise(energy[:, None], known[:, None], age[:, None])


def nothing_foreseen(state: Tensor) -> Surprise:
    """Of a moment of which nothing was foreseen, or in which nothing was measured: state (B, D) or (B, N, D)."""
    return surprise_of(state, state, 0)


def begun_since(reset: Tensor | None, first: int, last: int) -> Tensor | None:
    """(B,) bool: rows in which an episode began after moment `first`, up to moment `last`; reset (B, T)."""
    return None if reset is None else reset[:, first + 1 : last + 1].any(1)


def with_older(surprise: Surprise, older: Sequence[Surprise], ages: int) -> Surprise:
    """One moment's surprise (B, 1, …) and those by older predictions, the youngest first -> (B, `ages`, …), padded
    with what is not known."""
    nothing = surprise.map(torch.zeros_like)
    every = [surprise, *older, *[nothing] * (ages - 1 - len(older))]
    return apply(lambda *x: torch.cat(x, 1), *every)
