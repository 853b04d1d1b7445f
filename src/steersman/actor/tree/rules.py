"""Which choice a tree search tries next, and which it takes in the end: PUCT and Gumbel MuZero.

Knows counts and sums only. They live in NumPy arrays on the host: they are small, and an operation on a few hundred of
them costs a third of a tensor operation; states and the model stay where they are. Choices come first in every array,
because sums over a leading axis are several times as fast.

Shapes: R choices, M nodes, B problems.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_TINY = 1e-8
_LOW = -1e9


class Rule(ABC):
    """Columns are nodes: visits (R, M) of each choice, energy (R, M) summed over them, raw (M,) what it was thought
    to cost when new, prior (R, M) or (R, 1), probabilities above 0, closed (R, M) bool or None: choices not
    allowed. `rooted`: another rule holds at the roots.
    """

    rooted = False

    @abstractmethod
    def inner(self, visits: Floats, energy: Floats, raw: Floats, prior: Floats, closed: Bools | None) -> Ints:
        """The choice (M,) to try next below the root."""

    def root(self, visits: Floats, energy: Floats, raw: Floats, prior: Floats, closed: Bools | None) -> Ints:
        """The same at the roots (B,)."""
        return self.inner(visits, energy, raw, prior, closed)

    @abstractmethod
    def final(self, visits: Floats, energy: Floats, raw: Floats, prior: Floats, closed: Bools | None) -> Ints:
        """The choice (B,) to take when the search is over."""


class PUCT(Rule):
    """argmax q(a) + p(a) √N / (1 + n(a)) · (c1 + ln((N + c2 + 1) / c2))   (Schrittwieser et al. 2020)

    q is the mean return, scaled to [0, 1] between the least and the greatest of the node's value and its children's;
    unvisited choices have 0. In the end the choice that was visited most, the better one in a tie.
    """

    def __init__(self, c1: float = 1.25, c2: float = 19652.0) -> None:
        self.c1, self.c2 = c1, c2

    def inner(self, visits: Floats, energy: Floats, raw: Floats, prior: Floats, closed: Bools | None) -> Ints:
        number = visits.sum(0) + 1
        value = (energy.sum(0) + raw) / number
        seen = visits > 0
        cost = np.where(seen, energy / np.maximum(visits, 1), value)
        high = np.maximum(cost.max(0), value)
        span = np.maximum(high - np.minimum(cost.min(0), value), _TINY)
        score = (high - cost) / span
        score *= seen
        score += prior * self.pull(number) / (visits + 1)
        if closed is not None:
            score[closed] = -np.inf
        return score.argmax(0)

    def pull(self, number: Floats) -> Floats:
        """√N (c1 + ln((N + c2 + 1) / c2))."""
        pull: Floats = np.sqrt(number) * (self.c1 + np.log((number + (self.c2 + 1)) / self.c2))
        return pull

    def final(self, visits: Floats, energy: Floats, raw: Floats, prior: Floats, closed: Bools | None) -> Ints:
        return most_visited(visits, energy, closed)


class Gumbel(Rule):
    """Gumbel MuZero (Danihelka et al. 2022): at the root sequential halving of `considered` choices drawn without
    replacement, below it the deterministic rule

        argmax π'(a) - n(a) / (1 + N),   π' = softmax(logits + σ(q)),   σ(q) = (50 + max n) · 0.1 · q

    q completed by the mixed value where a choice was not visited, and scaled to [0, 1]. The draws decide which choices
    are considered and no more: a plan wants the best choice, where a learner wants a sample of good ones.
    """

    rooted = True

    def __init__(self, simulations: int, considered: int, gumbel: Floats) -> None:
        """gumbel (R, B): one draw for each choice of each root."""
        self.gumbel = gumbel
        self.most = min(considered, len(gumbel))
        self.table = _table(self.most, simulations)

    def inner(self, visits: Floats, energy: Floats, raw: Floats, prior: Floats, closed: Bools | None) -> Ints:
        number = visits.sum(0)
        policy = prior * np.exp(self._completed(visits, energy, raw, prior, number))
        if closed is not None:
            policy[closed] = 0
        score = policy / np.maximum(policy.sum(0), 1e-300)
        score -= visits / (1 + number)
        if closed is not None:
            score[closed] = -np.inf
        return score.argmax(0)

    def root(self, visits: Floats, energy: Floats, raw: Floats, prior: Floats, closed: Bools | None) -> Ints:
        total = visits.sum(0)
        open_ = self.most if closed is None else np.minimum((~closed).sum(0), self.most)
        wanted = self.table[open_, np.minimum(total.astype(np.int64), self.table.shape[1] - 1)]
        score = self._score(visits, energy, raw, prior, closed, total)
        now = np.where(visits == wanted, score, -np.inf)
        if closed is not None:
            lost = now.max(0) == -np.inf  # the choices whose turn it was were closed meanwhile
            now[:, lost] = score[:, lost]
        return now.argmax(0)

    def final(self, visits: Floats, energy: Floats, raw: Floats, prior: Floats, closed: Bools | None) -> Ints:
        score = self._score(visits, energy, raw, prior, closed, visits.sum(0))
        counted = visits if closed is None else np.where(closed, -1, visits)
        return np.where(counted == counted.max(0), score, -np.inf).argmax(0)

    def _score(
        self, visits: Floats, energy: Floats, raw: Floats, prior: Floats, closed: Bools | None, number: Floats
    ) -> Floats:
        logits = np.log(prior / prior.max(0))
        drawn = self.gumbel * (visits == 0)
        score = np.maximum(_LOW, drawn + logits + self._completed(visits, energy, raw, prior, number))
        return score if closed is None else np.where(closed, -np.inf, score)

    @staticmethod
    def _completed(visits: Floats, energy: Floats, raw: Floats, prior: Floats, number: Floats) -> Floats:
        """σ(q) (R, M), 0 for the best choice and less for others: only differences between choices matter."""
        seen = visits > 0
        share = prior * seen
        cost = energy / np.maximum(visits, 1)
        weighted = (share * cost).sum(0) / np.maximum(share.sum(0), 1e-300)
        cost = np.where(seen, cost, (raw + number * weighted) / (number + 1))
        low = cost.min(0)
        scale = (5 + 0.1 * visits.max(0)) / np.maximum(cost.max(0) - low, _TINY)
        scaled: Floats = (low - cost) * scale
        return scaled


def most_visited(visits: Floats, energy: Floats, closed: Bools | None) -> Ints:
    """The choice (M,) that was visited most, in a tie the one of less energy."""
    counted = visits if closed is None else np.where(closed, -1, visits)
    mean = np.where(visits > 0, energy / np.maximum(visits, 1), np.inf)
    return np.where(counted == counted.max(0), mean, np.inf).argmin(0)


@cache
def _table(most: int, simulations: int) -> Floats:
    """(most + 1, simulations): `considered_visits` of every number of open choices."""
    return np.array([considered_visits(number, simulations) for number in range(most + 1)], float)


def better_known(choice: Ints, visits: Floats, energy: Floats, known: Bools) -> Ints:
    """A choice (M,), or, if it is better, the best of those whose value is known exactly, bool (R, M): a mean over
    visits counts what was tried on the way as well."""
    mean = energy / np.maximum(visits, 1)
    sure = np.where(known, mean, np.inf)
    best = sure.argmin(0)
    column = np.arange(len(choice))
    held = np.where(visits[choice, column] > 0, mean[choice, column], np.inf)
    return np.where(sure[best, column] < held, best, choice)


def considered_visits(considered: int, simulations: int) -> list[int]:
    """Sequential halving (Karnin et al. 2013): the visits that a choice in turn has, for each simulation."""
    if considered <= 1:
        return list(range(simulations))
    rounds = math.ceil(math.log2(considered))
    sequence: list[int] = []
    visits, number = [0] * considered, considered
    while len(sequence) < simulations:
        for _ in range(max(1, simulations // (rounds * number))):
            sequence += visits[:number]
            visits[:number] = [count + 1 for count in visits[:number]]
        number = max(2, number // 2)
    return sequence[:simulations]
