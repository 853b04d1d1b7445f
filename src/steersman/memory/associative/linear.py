"""A matrix that is written to while it is read, shared by all candidates that imagine with it until one of them writes.

Knows no world model. Shapes: B problems, K candidates, n writes, D size of keys, V size of values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
import torch
from torch import Tensor

from steersman.core import ConfigError, Memory, register
from steersman.core.records import TensorRecord


@dataclass(frozen=True)
class FastWeights(TensorRecord):
    """M_bk = base_b + Σ_i v_bki k_bkiᵀ, never made: what each candidate wrote stays apart from what all of them read.

    base    (B, V, D): one for all candidates of a problem
    keys    n tensors (B, K, D), values n tensors (B, K, V): what each candidate wrote, the first write first

    Reading costs K (V D + n (V + D)) multiplications. K n (V + D) numbers of memory take the place of K V D, and no
    write copies an earlier one.
    """

    base: Tensor
    keys: tuple[Tensor, ...] = ()
    values: tuple[Tensor, ...] = ()

    def read(self, query: Tensor) -> Tensor:
        """M q: (B, K, D) -> (B, K, V)."""
        found = query @ self.base.mT
        for key, value in zip(self.keys, self.values, strict=True):
            found = torch.addcmul(found, (query * key).sum(-1, keepdim=True), value)
        return found

    def add(self, key: Tensor, value: Tensor) -> FastWeights:
        """M + v kᵀ: key (B, K, D), value (B, K, V)."""
        return FastWeights(self.base, (*self.keys, key), (*self.values, value))

    def merged(self) -> FastWeights:
        """The same of one candidate, K = 1, with all that it wrote in the base: a copy of (B, V, D)."""
        if not self.keys:
            return self
        keys, values = (torch.cat(x, 1) for x in (self.keys, self.values))
        assert len(self.keys) == keys.shape[1], keys.shape
        return FastWeights(torch.baddbmm(self.base, values.mT, keys))


class LinearMemory(Memory):
    """Fast weights with one of two rules of writing, both a step down an energy of the matrix M.

        hebbian   M' = M + η v kᵀ              E = -⟨v, M k⟩
        delta     M' = M + η (v - M k) kᵀ      E = ½ |v - M k|²

    With keys of length 1 and η = 1 the delta rule stores v under k exactly, and forgets what stood there; Hebb's adds.
    The matrix begins at zero.

    Source: Widrow & Hoff 1960; as fast weights: Schmidhuber 1992, Schlag et al. 2021.

    Raises:
        ConfigError: sizes or a rate that are not positive.
    """

    @register(Memory)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="linear"):
        """rule: how it is written to; rate: η."""

        rule: Literal["hebbian", "delta"] = "delta"
        rate: float = 1.0

        def build(self, keys: int, values: int) -> LinearMemory:
            return LinearMemory(keys, values, self.rule, self.rate)

    def __init__(self, keys: int, values: int, rule: Literal["hebbian", "delta"] = "delta", rate: float = 1.0) -> None:
        super().__init__()
        if min(keys, values) < 1 or not rate > 0:
            raise ConfigError("positive sizes and a positive rate", f"{keys}, {values}, {rate}", "correct the memory")
        self.keys, self.values, self.rule, self.rate = keys, values, rule, rate

    def initial(self, batch: int) -> FastWeights:
        return FastWeights(torch.zeros(batch, self.values, self.keys))

    def read(self, state: FastWeights, query: Tensor) -> Tensor:
        return state.read(query)

    def write(self, state: FastWeights, key: Tensor, value: Tensor) -> FastWeights:
        new = value if self.rule == "hebbian" else value - state.read(key)
        return state.add(key, self.rate * new)
