"""The tree of a batched tree search: who leads where, how often, at what energy. No problem's tree sees another's.

A node's next choice is kept with it and only recomputed where a simulation passed, so that walking down is one look-up
a level for all problems. Shapes: B problems, N nodes each, R choices, O outcomes, L levels of the deepest walk.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from steersman.actor.tree.rules import Bools, Floats, Ints


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


class Tree(ABC):
    """Nodes of problem b are columns b·N …, the first one its root.

    A node at the horizon is known exactly, and so is one whose every choice is closed or leads to known nodes only: its
    value is the least of its choices', not a mean over visits, and no walk leads there again. A tree whose root is
    known is over: it is the answer of value iteration. (Winands, Björnsson & Saito 2008, "Monte-Carlo tree search
    solver"; for planning with chance Keller & Helmert 2013.)

    A simulation is `walk`, then `grow` or `close`, then `back_up`. Two forms: `ArrayTree`, the reference, and one that
    is compiled (`compiled.CompiledTree`).
    """

    def __init__(self, problems: int, simulations: int, choices: int, outcomes: int, depth: int) -> None:
        """depth: steps to the horizon."""
        self.problems, self.size = problems, 1 + simulations * outcomes
        self.choices, self.outcomes, self.horizon = choices, outcomes, depth
        self.roots = np.arange(problems) * self.size
        self.filled = 1

    @abstractmethod
    def walk(self) -> Walk:
        """Down every tree to a choice that was not tried yet."""

    @abstractmethod
    def grow(self, walk: Walk, energy: Floats, to_come: Floats, probability: Floats | None, counts: Bools) -> None:
        """Hang the outcomes of what was tried under the leaves: energy, to_come, probability (B, O). Where `counts`
        (B,) is False nothing is hung; the columns stay empty."""

    @abstractmethod
    def back_up(self, walk: Walk, returned: Floats, counts: Bools) -> None:
        """Tell the way back what the walk returned (B,): the energy from the leaf on, and what is known exactly by now.
        Where `counts` (B,) is False the way stays as it was."""

    @abstractmethod
    def close(self, walk: Walk, refused: Bools) -> None:
        """Close the choices that were refused (B,), and every way to a node that has no open choice left."""

    @abstractmethod
    def dead(self) -> Bools:
        """(B,): problems that have no open choice at the root."""

    @abstractmethod
    def line(self) -> Line:
        """The plan so far."""
