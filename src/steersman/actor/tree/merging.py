"""Equal states found in batches: which of many imagined states are the same up to a resolution.

Exact up to collisions of 64-bit hashes (one in 10^13 for a thousand states). Shapes: B problems, K states, S kept, D.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_OFFSET = 0.3719  # cell borders lie where no round number does
_LAST = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class Merged:
    """place (B, K): slot of each state, -1 if it was dropped; first (B, S): a state of each slot; live (B, S) bool;
    dropped (B,) different states for which there was no slot."""

    place: Tensor
    first: Tensor
    live: Tensor
    dropped: Tensor


def keys(states: Tensor, resolution: float) -> Tensor:
    """(B, K, D) -> (B, K) int64, equal for states in the same cell of a grid with that spacing."""
    cell = torch.floor(states.double() / resolution + _OFFSET).to(torch.int64)
    generator = torch.Generator().manual_seed(0)
    odd = torch.randint(-(2**62), 2**62, (states.shape[-1],), generator=generator).to(states.device) * 2 + 1
    key = (cell * odd).sum(-1)
    key = (key ^ ((key >> 31) & ((1 << 33) - 1))) * -7723592293110705685
    return key.clamp(max=_LAST - 1)


def first_of_each(states: Tensor, resolution: float) -> Tensor:
    """(B, K, D) -> (B, K) bool: no state before it is the same."""
    key = keys(states, resolution)
    ordered, index = key.sort(dim=1, stable=True)
    return torch.zeros_like(key, dtype=torch.bool).scatter_(1, index, _changes(ordered))


def merged(key: Tensor, valid: Tensor, worth: Tensor, limit: int) -> Merged:
    """Give a slot to each different key (B, K) among the valid ones; beyond `limit`, those of least `worth` get one."""
    key = key.masked_fill(~valid, _LAST)
    ordered, index = key.sort(dim=1, stable=True)
    there = ordered != _LAST
    group = _changes(ordered).cumsum(1) - 1
    number = torch.where(there, group + 1, 0).amax(1)  # different states of each problem
    rows = torch.arange(len(key), device=key.device)[:, None]
    best = torch.full_like(worth, torch.inf).scatter_reduce_(1, group, worth.gather(1, index), "amin")
    best = best.masked_fill(torch.arange(key.shape[1], device=key.device) >= number[:, None], torch.inf)
    rank = torch.empty_like(group).scatter_(1, best.argsort(dim=1, stable=True), torch.arange(
        key.shape[1], device=key.device).expand_as(group))
    crowded = (number > limit)[:, None]
    slot = torch.where(crowded, rank.gather(1, group), group)
    slot = torch.where(there & (slot < limit), slot, -1)
    size = max(1, min(limit, int(number.max())))
    first = torch.zeros(len(key), size + 1, dtype=torch.int64, device=key.device)
    target = torch.where(_changes(ordered) & (slot >= 0), slot, size)
    first.scatter_(1, target, index)
    place = torch.empty_like(slot).scatter_(1, index, slot)
    live = torch.arange(size, device=key.device) < number.clamp(max=limit)[:, None]
    return Merged(place, first[:, :size].masked_fill(~live, 0), live, (number - limit).clamp(min=0)[rows[:, 0]])


def _changes(ordered: Tensor) -> Tensor:
    """(B, K) sorted -> bool: differs from the one before it."""
    return torch.cat([torch.ones_like(ordered[:, :1], dtype=torch.bool), ordered[:, 1:] != ordered[:, :-1]], 1)
