"""What a tree search selects by: PUCT or Gumbel MuZero, as the numbers that its loops look up.

The rules themselves are `kernels.puct`, `gumbel_root` and `gumbel_inner`. Shapes: B problems, R choices, T steps.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Rules(NamedTuple):
    """gumbel: which rule; schedule: for Gumbel the visits of a choice in turn, by open choices and simulations, for
    PUCT a row of its pull by visits; roots (B, 2, R): Gumbel's draws, logits of the prior; prior (B, T, R) by depth, or
    (1, 1, R) where it is the same everywhere, above 0."""

    gumbel: bool
    schedule: Any
    roots: Any
    prior: Any


def puct(choices: int, simulations: int, prior: Floats | None, c1: float = 1.25, c2: float = 19652.0) -> Rules:
    """pull(N) = √N (c1 + ln((N + c2 + 1) / c2)), N visits of a node, itself counted (Schrittwieser et al. 2020). In the
    end the choice that was visited most, the better one in a tie. prior None: uniform."""
    number = np.arange(simulations + 2.0)
    pull = np.sqrt(number) * (c1 + np.log((number + (c2 + 1)) / c2))
    return Rules(False, pull[None], np.zeros((1, 2, choices)), _known(choices, prior))


def gumbel(draws: Floats, simulations: int, considered: int, prior: Floats | None) -> Rules:
    """Gumbel MuZero (Danihelka et al. 2022): at the root sequential halving of `considered` choices drawn without
    replacement by draws (B, R), below it a deterministic rule. The draws decide which choices are considered and no
    more: a plan wants the best choice, where a learner wants a sample of good ones."""
    choices, known = draws.shape[1], _known(draws.shape[1], prior)
    roots = np.empty((len(draws), 2, choices))
    roots[:, 0] = draws
    roots[:, 1] = 0.0 if prior is None else np.log(known[:, 0] / known[:, 0].max(1, keepdims=True))
    return Rules(True, _table(min(considered, choices), simulations), roots, known)


def _known(choices: int, prior: Floats | None) -> Floats:
    return np.full((1, 1, choices), 1 / choices) if prior is None else np.ascontiguousarray(prior)


@cache
def _table(most: int, simulations: int) -> Floats:
    """(most + 1, simulations): `considered_visits` of every number of open choices."""
    return np.array([considered_visits(number, simulations) for number in range(most + 1)], float)


def considered_visits(considered: int, simulations: int) -> list[int]:
    """Sequential halving (Karnin et al. 2013): the visits that a choice in turn has, for each simulation."""
    if considered <= 1:
        return list(range(simulations))
    rounds = math.ceil(math.log2(considered))
    sequence: list[int] = []
    visits, number = 0, considered
    while len(sequence) < simulations:
        for _ in range(max(1, simulations // (rounds * number))):
            sequence += [visits] * number
            visits += 1
        number = max(2, number // 2)
    return sequence[:simulations]
