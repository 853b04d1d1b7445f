"""The nearest of many keys: exactly as long as they are few, by an index of lists above.

Knows no file. Shapes: n keys held, m queries, D size of keys, V size of values, k nearest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steersman.core import ConfigError, MismatchError, TensorRecord
from steersman.core.extras import require

EXACT = 100_000
"""Keys that are searched one by one, by default."""
PROBES = 16
"""Lists of the index that a query looks into, by default."""
_GROWTH, _TRAINING, _BLOCK = 4, 64, 1 << 24


@dataclass(frozen=True)
class Near(TensorRecord):
    """What is nearest to each of m queries, the nearest first.

    number    (m, k) int64 as it was added; -1 where fewer are held
    distance  (m, k) squared; infinite where fewer are held
    values    (m, k, V) of those keys; 0 where fewer are held
    """

    number: Tensor
    distance: Tensor
    values: Tensor


class NearestKeys:
    """Keys with values under growing numbers, searched by squared distance.

    Up to `exact` keys, every query is held against every key. Above, an inverted file (Jégou et al. 2011) of faiss
    takes over: keys lie in 4 √n lists around centres that were found by k-means, and a query looks into the `probes`
    lists of the nearest centres. It is made again, with as many more lists, whenever there are 4 times as many keys.
    Both hold float32 numbers on the CPU; the index holds them a second time.

    size, values  D and V
    exact   keys up to which the search is exact; math.inf: always
    probes  lists that are looked into: more of them find more, and cost as much more

    Raises:
        ConfigError: sizes below 1. UsageError: above `exact` keys without faiss, which `steersman[search]` installs.
    """

    def __init__(self, size: int, values: int, *, exact: float = EXACT, probes: int = PROBES) -> None:
        if min(size, values, probes) < 1:
            raise ConfigError("sizes and lists of at least 1", f"{size}, {values}, {probes}", "correct the search")
        self.size, self.exact, self.probes = size, exact, probes
        self._keys, self._values = torch.empty(0, size), torch.empty(0, values)
        self._squares, self._numbers = torch.empty(0), torch.empty(0, dtype=torch.int64)
        self._first = self._count = 0  # the rows [first, count) are held, what lies before has gone
        self._index: Any = None
        self._trained = 0

    def __len__(self) -> int:
        return self._count - self._first

    def add(self, numbers: Tensor, keys: Tensor, values: Tensor) -> None:
        """numbers (n,) int64, ascending and above all that were added; keys (n, D); values (n, V).

        Raises:
            MismatchError: other shapes, or numbers that do not grow.
        """
        n, last = len(numbers), int(self._numbers[self._count - 1]) if self._count else -1
        if keys.shape != (n, self.size) or values.shape != (n, self._values.shape[1]):
            raise MismatchError(f"keys ({n}, {self.size}) and values ({n}, {self._values.shape[1]})",
                                f"{tuple(keys.shape)} and {tuple(values.shape)}", "give one of each for each number")
        if n and (int(numbers[0]) <= last or bool((numbers.diff() <= 0).any())):
            raise MismatchError(f"growing numbers above {last}", f"{numbers[:5].tolist()} …", "add each key once")
        keys, values = keys.detach().float().cpu(), values.detach().float().cpu()
        self._reserve(n)
        to = slice(self._count, self._count + n)
        self._keys[to], self._values[to], self._numbers[to] = keys, values, numbers
        self._squares[to] = (keys**2).sum(1)
        self._count += n
        if self._index is not None and len(self) < _GROWTH * self._trained:
            self._index.add_with_ids(keys.contiguous().numpy(), numbers.numpy())

    def forget(self, before: int) -> None:
        """Let go of every number below `before`."""
        held = self._numbers[self._first : self._count]
        gone = int(torch.searchsorted(held, torch.tensor(before)))
        if gone == 0:
            return
        self._first += gone
        if self._index is not None:
            faiss = require("faiss", "search")
            self._index.remove_ids(faiss.IDSelectorRange(0, before))

    def nearest(self, query: Tensor, k: int = 1) -> Near:
        """query (m, D) -> the k nearest of each.

        Raises:
            UsageError: more than `exact` keys, and faiss is not installed.
            MismatchError: queries of another size.
        """
        if query.dim() != 2 or query.shape[1] != self.size:
            raise MismatchError(f"queries (m, {self.size})", f"{tuple(query.shape)}", "flatten them")
        asked, found = query.detach().float().cpu().contiguous(), min(k, len(self))
        place = torch.full((len(asked), k), -1)
        distance = torch.full((len(asked), k), math.inf)
        if found and len(asked):
            rows, near = self._in_lists(asked, found) if len(self) > self.exact else self._exactly(asked, found)
            place[:, :found], distance[:, :found] = rows, near
        missing = place < 0
        taken = place.clamp(min=0)
        if not self._count:
            return Near(place, distance, torch.zeros(*place.shape, self._values.shape[1]))
        return Near(self._numbers[taken].masked_fill(missing, -1), distance.masked_fill(missing, math.inf),
                    self._values[taken].masked_fill(missing[..., None], 0))

    def _exactly(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Rows (m, k) and squared distances."""
        held = slice(self._first, self._count)
        parts = []
        for some in query.split(max(1, _BLOCK // len(self))):
            apart = torch.addmm(self._squares[held], some, self._keys[held].T, alpha=-2)
            parts.append(apart.topk(k, largest=False))
        rows = torch.cat([part.indices for part in parts]) + self._first
        return rows, ((self._keys[rows] - query[:, None]) ** 2).sum(-1)

    def _in_lists(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        if self._index is None or len(self) >= _GROWTH * self._trained:
            self._build()
        distance, numbers = (torch.from_numpy(x) for x in self._index.search(query.numpy(), k))
        rows = torch.searchsorted(self._numbers[: self._count], numbers.contiguous())
        return torch.where(numbers < 0, -1, rows), distance

    def _build(self) -> None:
        """Lists for what is held now, with room for 4 times as many keys."""
        faiss = require("faiss", "search")
        held, lists = slice(self._first, self._count), max(1, int(4 * math.sqrt(len(self))))
        keys = self._keys[held].numpy()
        index = faiss.IndexIVFFlat(faiss.IndexFlatL2(self.size), self.size, lists)
        index.cp.niter, index.cp.max_points_per_centroid = 8, _TRAINING
        stride = max(1, len(keys) // (lists * _TRAINING))
        index.train(keys[::stride].copy())
        index.add_with_ids(keys, self._numbers[held].numpy())
        index.nprobe = self.probes
        self._index, self._trained = index, len(self)

    def _reserve(self, more: int) -> None:
        """Room for so many rows more; what has gone makes place first."""
        if self._count + more <= len(self._keys):
            return
        held = slice(self._first, self._count)
        room = max(2 * len(self), len(self) + more, 1024)
        for name in ("_keys", "_values", "_squares", "_numbers"):
            old = getattr(self, name)
            new = old.new_empty(room, *old.shape[1:])
            new[: len(self)] = old[held]
            setattr(self, name, new)
        self._first, self._count = 0, len(self)
