"""What states cost, remembered beyond the process: triplets (τ, s_τ, IC(s_τ)) from which a critic learns.

Knows no agent; files are `runs.triplets`. Shapes: B episodes side by side, n triplets, m queries, D numbers of a state,
C intrinsic costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steersman.core import TensorRecord, UsageError
from steersman.memory.slots.search import EXACT, PROBES, Near, NearestKeys
from steersman.runs.triplets import FIRST, RETAINED, TERMINAL, Rows, TripletReader, TripletWriter


@dataclass(frozen=True)
class Triplets(TensorRecord):
    """n triplets, those of one uninterrupted episode after each other and in the order of time.

    time      (n,) int64 actions since the episode began
    states    (n, D)
    costs     (n,) intrinsic cost of each state: Σ u_i IC_i
    episode   (n,) int64, one number for each uninterrupted piece
    last      (n,) bool: nothing of this piece is known beyond
    terminal  (n,) bool: the world ended the episode here; where `last` alone holds, it went on unseen
    began     (n,) bool: the world's episode began here; a piece whose beginning made room begins without
    number    (n,) int64 in the memory; updates (n,) int64 of the weights, when the state was made
    """

    time: Tensor
    states: Tensor
    costs: Tensor
    episode: Tensor
    last: Tensor
    terminal: Tensor
    began: Tensor
    number: Tensor
    updates: Tensor

    def __len__(self) -> int:
        return len(self.time)


class TripletMemory:
    """Triplets in a folder, appended to by this process alone until it is closed, and continued where it is opened
    again. What was appended survives `kill -9`; the oldest go first (`runs.triplets`).

    >>> memory = TripletMemory(Path("triplets"), 16, ("effort",))                           # doctest: +SKIP
    >>> memory.append(states, costs, first=first)                                           # doctest: +SKIP
    >>> critic.fit(memory.triplets())                                                       # doctest: +SKIP
    """

    def __init__(
        self, folder: Path, size: int, costs: tuple[str, ...], *, run: str = "", weights: str = "",
        retain: int = RETAINED, age: float = float("inf"), exact: float = EXACT, probes: int = PROBES,
    ) -> None:
        """size     D; costs  names of the C intrinsic costs
        run, weights  whose states these are
        retain   bytes that stay; age  seconds that triplets stay
        exact, probes  of the search by state, as `NearestKeys`

        Raises:
            LockedError: another process is writing. StorageError: the disk refused. UsageError: limits below 1.
            MismatchError: what is there holds states of other weights or size, or other costs. RunError: it is damaged.
        """
        self._writer = TripletWriter(folder, size, costs, run=run, weights=weights, retain=retain, age=age)
        self.folder, self.size, self.names = folder, size, costs
        self._exact, self._probes = exact, probes
        self._search: NearestKeys | None = None

    @property
    def count(self) -> int:
        """Triplets that were ever appended."""
        return self._writer.count

    def append(
        self, states: Tensor, costs: Tensor, *, first: Tensor | None = None, terminal: Tensor | None = None,
        stream: Tensor | None = None, steps: int = 1, updates: int = 0, durable: bool = False,
    ) -> range:
        """B triplets: states (B, …) of D numbers each, costs (B, C) unweighted; the rest as `TripletWriter.append`.

        Raises:
            DataError: other shapes, NaN or infinity. StorageError: the disk refused. None of them is written.
        """
        flat, each = (x.detach().float().cpu().flatten(1) for x in (states, costs))
        flags = {"first": first, "terminal": terminal, "stream": stream}
        numbers = self._writer.append(
            flat.contiguous().numpy(), each.contiguous().numpy(), steps=steps, updates=updates, durable=durable,
            **{name: None if x is None else x.cpu().numpy() for name, x in flags.items()})
        if self._search is not None:
            self._search.add(torch.arange(numbers.start, numbers.stop), flat, each)
            self._search.forget(self._writer.index.first)
        return numbers

    def triplets(
        self, since: int = 0, through: int | None = None, *, weights: Mapping[str, float] | None = None,
        skip_damaged: bool = False,
    ) -> Triplets:
        """Those with numbers `since` to before `through`; see `read_triplets`."""
        return read_triplets(self.folder, since, through, weights=weights, skip_damaged=skip_damaged)

    def nearest(self, query: Tensor, k: int = 1) -> Near:
        """The k triplets whose states are nearest to each of m queries (m, …) of D numbers: numbers, squared distances
        and the C costs. The first call reads what is there; from then on the states are held in memory.

        Raises:
            UsageError: more than `exact` triplets, and faiss is not installed. RunError: damaged triplets.
        """
        if self._search is None:
            search = NearestKeys(self.size, len(self.names), exact=self._exact, probes=self._probes)
            rows = TripletReader(self.folder).read()
            search.add(*(torch.from_numpy(x) for x in (rows.number, rows.states, rows.costs)))
            self._search = search
        return self._search.nearest(query.flatten(1), k)

    def flush(self) -> None:
        """Wait until everything is on disk. Raises StorageError: the disk refused."""
        self._writer.flush()

    def close(self) -> None:
        """Wait until everything is on disk, and let others append. Raises StorageError: the disk refused."""
        self._writer.close()


def read_triplets(
    folder: Path, since: int = 0, through: int | None = None, *, weights: Mapping[str, float] | None = None,
    skip_damaged: bool = False,
) -> Triplets:
    """The triplets in a folder with numbers `since` to before `through`, whoever writes there meanwhile.

    weights       name -> u_i of the intrinsic costs; what is not named weighs 1, as in a task
    skip_damaged  without those that were altered or cut, where a piece ends then; else they are an error

    Raises:
        UsageError: a weight for a cost that was not remembered.
        RunError: no triplets, or damaged ones; it says which.
    """
    reader = TripletReader(folder)
    names = reader.index.costs
    if unknown := sorted(set(weights or {}) - set(names)):
        raise UsageError(f"weights of {', '.join(names)}", ", ".join(unknown), "name intrinsic costs of this memory")
    rows = reader.read(since, through, skip_damaged=skip_damaged)
    u = np.array([(weights or {}).get(name, 1.0) for name in names], np.float32)
    order = np.lexsort((rows.row, rows.episode))
    pieces = _pieces(rows, order)
    last = np.append(pieces[1:] != pieces[:-1], True)[: len(order)]
    ends = (rows.marks & TERMINAL) > 0
    began = (rows.marks & FIRST) > 0

    def tensor(x: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(x))

    return Triplets(
        tensor(rows.time[order]), tensor(rows.states[order]), tensor((rows.costs @ u)[order]), tensor(pieces),
        tensor(last), tensor(ends[order]), tensor(began[order]), tensor(rows.number[order]),
        tensor(rows.updates[order]))


def _pieces(rows: Rows, order: Any) -> Any:
    """(n,) int64: the number of the first row of each uninterrupted piece, in this order."""
    episode, row = rows.episode[order], rows.row[order]
    begins = np.ones(len(order), bool)
    begins[1:] = (np.diff(episode) != 0) | (np.diff(row) != 1)
    return rows.number[order][np.flatnonzero(begins)][np.cumsum(begins) - 1]
