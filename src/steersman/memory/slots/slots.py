"""Key-value slots with a soft match: what is alike is overwritten softly, what is new gets a slot of its own.

Knows no world model and no file. Shapes: B problems, K candidates, N slots, n writes, D size of keys, V size of values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import msgspec
import torch
from torch import Tensor
from torch.nn import functional as F

from steersman.core import ConfigError, Memory, register
from steersman.core.records import TensorRecord

Similarity = Literal["cosine", "distance"]


@dataclass(frozen=True)
class Slots(TensorRecord):
    """What a memory of N slots holds: a base that all candidates of a problem read, and what each of them wrote.

    keys, values      (B, N, D), (B, N, V): the base
    used              (B, K, N) int64: number of the write that a slot was last used by, counted from 1; 0: it is empty.
                      K = 1 as long as no candidate has written
    writes            (B,) int64: writes so far
    written, results  n tensors (B, K, D) and (B, K, V): the keys and values of the writes, the first one first
    owner             (B, K, N) int64, or None: which of the n writes gave a slot its key; -1: the base
    share             (B, K, N), or None: how much of the base's value is left in a slot
    mixed             (B, K, N, n), or None: how much of each written value there is in a slot

    The base is never copied: the value of slot j is share_j v_j + Σ_i mixed_ji r_i. K candidates that wrote n times
    take K (N (n + 3) + n (D + V)) numbers, where copies would take K N (D + V).
    """

    keys: Tensor
    values: Tensor
    used: Tensor
    writes: Tensor
    written: tuple[Tensor, ...] = ()
    results: tuple[Tensor, ...] = ()
    owner: Tensor | None = None
    share: Tensor | None = None
    mixed: Tensor | None = None

    def alike(self, query: Tensor, similarity: Similarity) -> Tensor:
        """How like each slot's key a query is: (B, K, D) -> (B, K, N); of empty slots something meaningless."""
        found = _each_with_all(query, self.keys, similarity)
        if self.owner is None:
            return found
        new = torch.stack([_row_by_row(query, key, similarity) for key in self.written], -1)
        owner = self.owner.expand_as(found)
        return torch.where(owner < 0, found, new.gather(-1, owner.clamp(min=0)))

    def mix(self, weights: Tensor) -> Tensor:
        """Σ_j c_j v_j: weights c (B, K, N) -> (B, K, V)."""
        if self.share is None or self.mixed is None:
            return weights @ self.values
        found = (weights * self.share) @ self.values
        parts = (weights[..., None, :] @ self.mixed).squeeze(-2)
        for i, result in enumerate(self.results):
            found = torch.addcmul(found, parts[..., i : i + 1], result)
        return found

    def with_write(self, weights: Tensor, new: Tensor, key: Tensor, value: Tensor) -> Slots:
        """Value and, where a slot is new, key of one write.

        weights, new  (B, K, N): c_j of v_j ← c_j r + (1 - c_j) v_j; bool: the slot that takes the key, c_j = 1 there
        """
        kept, n = 1 - weights, len(self.written)
        owner = self.used.new_full(new.shape, -1) if self.owner is None else self.owner
        share = kept if self.share is None else self.share * kept
        mixed = weights[..., None]
        if self.mixed is not None:
            mixed = torch.cat([self.mixed * kept[..., None], mixed], -1)
        writes = self.writes + 1
        best = F.one_hot(weights.argmax(-1), weights.shape[-1]).bool()
        return replace(
            self, used=torch.where(best, writes[:, None, None], self.used), writes=writes,
            written=(*self.written, key), results=(*self.results, value),
            owner=torch.where(new, n, owner), share=share, mixed=mixed)

    def merged(self) -> Slots:
        """The same of one candidate, K = 1, with all that it wrote in the base: a copy of (B, N, D + V)."""
        if self.owner is None or self.share is None or self.mixed is None:
            return self
        assert self.owner.shape[1] == 1, self.owner.shape
        written, results = torch.cat(self.written, 1), torch.cat(self.results, 1)
        owner = self.owner[:, 0, :, None]
        taken = written.gather(1, owner.clamp(min=0).expand(-1, -1, written.shape[-1]))
        keys = torch.where(owner < 0, self.keys, taken)
        values = self.share[:, 0, :, None] * self.values + self.mixed[:, 0] @ results
        return Slots(keys, values, self.used, self.writes)


def _row_by_row(query: Tensor, key: Tensor, similarity: Similarity) -> Tensor:
    """(B, K, D), (B, K, D) -> (B, K)."""
    if similarity == "cosine":
        return (F.normalize(query, dim=-1) * F.normalize(key, dim=-1)).sum(-1)
    return -((query - key) ** 2).mean(-1)


def _each_with_all(query: Tensor, keys: Tensor, similarity: Similarity) -> Tensor:
    """(B, K, D), (B, N, D) -> (B, K, N)."""
    if similarity == "cosine":
        return F.normalize(query, dim=-1) @ F.normalize(keys, dim=-1).mT
    squares = (query**2).sum(-1, keepdim=True) + (keys**2).sum(-1)[:, None] - 2 * query @ keys.mT
    return -squares.clamp(min=0) / query.shape[-1]


class SlotMemory(Memory):
    """N slots (k_j, v_j), read and written by a soft match.

        c̃_j = β sim(k_j, q)     c = softmax(c̃) over the slots that are filled
        read    Σ_j c_j v_j, and 0 of an empty memory
        write   v_j ← c_j r + (1 - c_j) v_j                       where max_j sim(k_j, q) >= threshold
                the pair (q, r) gets a slot of its own             where nothing is as like as that

    sim is the cosine of two keys, or minus the mean squared difference of their numbers. A new pair takes an empty
    slot, and where there is none, the one that was used least recently: used is the slot that a write matched best, or
    took. A read leaves no trace. Candidates share what they read, and only what each wrote is its own (`Slots`).

    slots       N
    similarity  "cosine" for learned latents, whose length says little; "distance" for places and measurements
    sharpness   β. The default makes a slot that is .1 less alike weigh e⁻⁵ as much
    threshold   what is less alike is new; None: .9 of the cosine, or a mean squared difference of .1, which is a tenth
                of the variance of a latent of unit variance

    Source: Graves et al. 2014 (content addressing); LeCun 2022, section 4.7 (short-term memory); defaults are ours.

    Raises:
        ConfigError: no slot, no size, a sharpness that is not positive and finite, a threshold above the best match.
    """

    @register(Memory)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="slots"):
        """As `SlotMemory`."""

        slots: int = 64
        similarity: Similarity = "cosine"
        sharpness: float = 50.0
        threshold: float | None = None

        def build(self, keys: int, values: int) -> SlotMemory:
            return SlotMemory(keys, values, slots=self.slots, similarity=self.similarity, sharpness=self.sharpness,
                              threshold=self.threshold)

    def __init__(
        self, keys: int, values: int, *, slots: int = 64, similarity: Similarity = "cosine", sharpness: float = 50.0,
        threshold: float | None = None,
    ) -> None:
        super().__init__()
        if min(keys, values, slots) < 1 or not 0 < sharpness < math.inf:
            raise ConfigError("positive sizes, a slot and a positive sharpness",
                              f"{keys}, {values}, {slots} slots, {sharpness:g}", "correct the memory")
        best, usual = {"cosine": (1.0, 0.9), "distance": (0.0, -0.1)}[similarity]
        limit = usual if threshold is None else threshold
        if not limit <= best:
            raise ConfigError(f"a threshold of at most {best:g}, as like as a key is itself, for {similarity}",
                              f"{limit:g}", "lower it: above, every write would be a new slot")
        self.keys, self.values, self.slots = keys, values, slots
        self.similarity, self.sharpness, self.threshold = similarity, sharpness, limit

    def initial(self, batch: int) -> Slots:
        return Slots(torch.zeros(batch, self.slots, self.keys), torch.zeros(batch, self.slots, self.values),
                     torch.zeros(batch, 1, self.slots, dtype=torch.int64), torch.zeros(batch, dtype=torch.int64))

    def weights(self, state: Slots, query: Tensor) -> Tensor:
        """c of a read: (B, K, D) -> (B, K, N), which sums to 1, or to 0 where nothing is filled."""
        return self._soft(state.alike(query, self.similarity), state.used > 0)

    def read(self, state: Slots, query: Tensor) -> Tensor:
        return state.mix(self.weights(state, query))

    def write(self, state: Slots, key: Tensor, value: Tensor) -> Slots:
        filled = (state.used > 0).expand(*key.shape[:2], -1)
        alike = state.alike(key, self.similarity)
        matched = (filled & (alike >= self.threshold)).any(-1, keepdim=True)
        spare = F.one_hot(state.used.expand_as(filled).argmin(-1), self.slots).bool()
        new = spare & ~matched
        weights = torch.where(matched, self._soft(alike, filled), new.to(alike.dtype))
        return state.with_write(weights, new, key, value)

    def settle(self, state: Slots) -> Slots:
        return state.merged()

    def _soft(self, alike: Tensor, filled: Tensor) -> Tensor:
        scores = (self.sharpness * alike).masked_fill(~filled, -math.inf)
        return torch.where(filled.any(-1, keepdim=True), scores, torch.zeros_like(scores)).softmax(-1) * filled
