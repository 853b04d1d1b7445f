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
    foreseen: Tensor, state: Tensor, horizon: int, measured: Tensor | None = None, fresh: Tensor | None = None
) -> Surprise:
    """Of one moment, P = 1: foreseen and state (B, D) or (B, N, D), measured bool that broadcasts to them.

    horizon: steps ahead from which it was foreseen; 0: it was not. fresh (B,): rows of which nothing was foreseen.
    """
    known = torch.ones_like(state, dtype=torch.bool) if measured is None else measured.expand_as(state)
    if fresh is None or not horizon:
        fresh = torch.full((len(state),), not horizon, device=state.device)
    known = known & ~fresh.view(-1, *[1] * (state.dim() - 1))
    energy = torch.where(known, (state - foreseen).square(), 0.0)
    if state.dim() == 3:
        energy, known = energy.sum(2) / known.sum(2).clamp(min=1), known.any(2)
    return Surprise(energy[:, None], known[:, None], torch.where(fresh, 0, horizon)[:, None])


def nothing_foreseen(state: Tensor) -> Surprise:
    """Of a moment of which nothing was foreseen, or in which nothing was measured: state (B, D) or (B, N, D)."""
    return surprise_of(state, state, 0)


def begun_since(reset: Tensor | None, first: int, last: int) -> Tensor | None:
    """(B,) bool: rows in which an episode began after moment `first`, up to moment `last`; reset (B, T)."""
    return None if reset is None else reset[:, first + 1 : last + 1].any(1)


def by_age(surprises: Sequence[Surprise]) -> Surprise:
    """Surprises of one moment (B, 1, …), by the youngest prediction first -> (B, P, …)."""
    first, *older = surprises
    return apply(lambda *x: torch.cat(x, 1), first, *older)


def by_moment(surprises: Sequence[Surprise]) -> Surprise:
    """Surprises of moments (B, P, …), the earliest first -> (B, T, P, …)."""
    first, *later = surprises
    return apply(lambda *x: torch.stack(x, 1), first, *later)
