"""The tree of a batched tree search: who leads where, how often, at what energy. No problem's tree sees another's.

A node's next choice is kept with it and only recomputed where a simulation passed, so that walking down is one look-up
a level. Shapes: B problems, N nodes each, M = B·N, R choices, O outcomes, T steps to the horizon.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from steersman.actor.tree import kernels
from steersman.actor.tree.rules import Bools, Floats, Ints, Rules
from steersman.core.compiled import run


class Nodes(NamedTuple):
    """edges (M, 3, R): visits of each choice, energy summed over them, its mean; closed (M, R) bool: not allowed; shut
    (M, R) bool: closed, or leads to known nodes only; values (M, 3): thought to come of a new node, exact for a known
    one, energy of the step that led here, times entered; places (M, 5): depth, best choice to try next, node that it
    leads to (itself: none yet), edge node · R + choice that led here, whether it is known; child, probability
    (M, R, O)."""

    edges: Any
    closed: Any
    shut: Any
    values: Any
    places: Any
    child: Any
    probability: Any


@dataclass(frozen=True)
class Walk:
    """Where a simulation's walk ended: leaf (B,) nodes, the choice (B,) to try there, how deep (B,) they lie; `over`
    (B,) bool: nothing is left to try, leaf and choice mean nothing."""

    leaf: Ints
    choice: Ints
    depth: Ints
    over: Bools


@dataclass(frozen=True)
class Line:
    """The choices that a search takes in the end: choice (B, T), -1 where the tree ends; node (B, T) that each most
    probably leads to, -1 where it ends; share (B, T, R) of visits; visits and energy (B,) of the first choice, summed
    over visits."""

    choice: Ints
    node: Ints
    share: Floats
    visits: Floats
    energy: Floats


class Tree:
    """Nodes of problem b are columns b·N …, the first one its root. A simulation is `walk`, then `tell`.

    A node at the horizon is known exactly, and so is one whose every choice is closed or leads to known nodes only: its
    value is the least of its choices', not a mean over visits, and no walk leads there again. A tree whose root is
    known is over: it is the answer of value iteration. (Winands, Björnsson & Saito 2008, "Monte-Carlo tree search
    solver"; for planning with chance Keller & Helmert 2013.)
    """

    def __init__(
        self, problems: int, simulations: int, choices: int, outcomes: int, depth: int, rules: Rules
    ) -> None:
        """depth: steps to the horizon."""
        self.problems, self.size, self.rules = problems, 1 + simulations * outcomes, rules
        self.choices, self.outcomes, self.horizon = choices, outcomes, depth
        self.roots, self.filled = np.arange(problems) * self.size, 1
        columns = problems * self.size
        self.nodes = Nodes(
            edges=np.zeros((columns, 3, choices)), closed=np.zeros((columns, choices), np.bool_),
            shut=np.zeros((columns, choices), np.bool_), values=np.zeros((columns, 3)),
            places=np.zeros((columns, 5), np.int64), child=np.full((columns, choices, outcomes), -1, np.int64),
            probability=np.ones((columns if outcomes > 1 else 0, choices, outcomes)),
        )
        self.nodes.places[:, kernels.FOLLOW], self.nodes.places[:, kernels.CAME] = np.arange(columns), -1
        self._path, self._score = np.empty((problems, depth + 1), np.int64), np.empty(choices)
        run(kernels.begin, self.nodes, rules, self.size, self._score, problems)

    def walk(self) -> Walk:
        """Down every tree to a choice that was not tried yet."""
        b = self.problems
        walk = Walk(np.empty(b, np.int64), np.empty(b, np.int64), np.empty(b, np.int64), np.empty(b, np.bool_))
        run(kernels.walk_all, self.nodes, self.size, self._path, walk.leaf, walk.choice, walk.depth, walk.over)
        return walk

    def tell(
        self, walk: Walk, energy: Floats, to_come: Floats, probability: Floats, returned: Floats, refused: Bools
    ) -> None:
        """What came of a walk's choices: energy, to_come, probability (B, O) of the outcomes, which are hung under the
        leaf; returned (B,) from the leaf on, told the way back. Where a choice was refused (B,) it is closed instead,
        and every way to a node that has no open choice left. Trees that are over stay as they are."""
        run(kernels.tell_all, self.nodes, self.rules, self.horizon, self._score, self._path, walk.depth, walk.choice,
            self.roots + self.filled, energy, to_come, probability, returned, refused, walk.over)
        self.filled += self.outcomes

    def dead(self) -> Bools:
        """(B,): problems that have no open choice at the root."""
        return np.asarray(self.nodes.closed[self.roots].all(1))

    def line(self) -> Line:
        """The plan so far."""
        b, t = self.problems, self.horizon
        line = Line(np.full((b, t), -1), np.full((b, t), -1), np.full((b, t, self.choices), 1 / self.choices),
                    np.empty(b), np.empty(b))
        run(kernels.main_line, self.nodes, self.rules, self.size, self._score, line.choice, line.node, line.share,
            line.visits, line.energy)
        return line
