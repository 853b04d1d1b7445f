"""The tree over compiled loops: every problem walks down and back on its own, in one call for all of them.

Shapes: B problems, M nodes of all problems, R choices, O outcomes, T steps to the horizon.
"""

from __future__ import annotations

import numpy as np

from steersman.actor.tree import kernels
from steersman.actor.tree.rules import PUCT, Bools, Floats, Gumbel, Rule
from steersman.actor.tree.tree import Line, Tree, Walk
from steersman.core import PartError

_NONE = np.zeros((0, 0))


class CompiledTree(Tree):
    """`nodes` and `rules` are what the loops work on: the same counts and sums as `ArrayTree`'s, choices last."""

    def __init__(
        self, problems: int, simulations: int, choices: int, outcomes: int, depth: int, rule: Rule,
        prior: Floats | None = None,
    ) -> None:
        super().__init__(problems, simulations, choices, outcomes, depth)
        columns, places = problems * self.size, np.zeros((problems * self.size, 5), np.int64)
        places[:, kernels.FOLLOW], places[:, kernels.CAME] = np.arange(columns), -1
        self.nodes = kernels.Nodes(
            edges=np.zeros((columns, 3, choices)), closed=np.zeros((columns, choices), np.bool_),
            shut=np.zeros((columns, choices), np.bool_),
            values=np.zeros((columns, 3)), places=places, child=np.full((columns, choices, outcomes), -1, np.int64),
            probability=np.ones((columns if outcomes > 1 else 0, choices, outcomes)),
        )
        self.rules = _rules(rule, problems, choices, simulations, prior)
        self._path = np.empty((problems, depth + 1), np.int64)
        self._path[:, 0] = self.roots
        kernels.refresh_way(self.nodes, self.rules, self._path, np.zeros(problems, np.int64))

    def walk(self) -> Walk:
        b = self.problems
        leaf, choice, depth = np.empty(b, np.int64), np.empty(b, np.int64), np.empty(b, np.int64)
        over = np.empty(b, np.bool_)
        kernels.walk_all(self.nodes, self.size, self._path, leaf, choice, depth, over)
        return Walk(leaf, choice, depth, over)

    def grow(self, walk: Walk, energy: Floats, to_come: Floats, probability: Floats | None, counts: Bools) -> None:
        listed = _NONE if probability is None else probability
        kernels.grow_all(
            self.nodes, self.rules, self.size, self.horizon, walk.leaf, walk.choice, self.filled, energy, to_come,
            listed, counts)
        self.filled += self.outcomes

    def back_up(self, walk: Walk, returned: Floats, counts: Bools) -> None:
        kernels.back_up_all(self.nodes, self._path, walk.depth, walk.choice, returned, counts)
        kernels.refresh_way(self.nodes, self.rules, self._path, walk.depth)

    def close(self, walk: Walk, refused: Bools) -> None:
        kernels.close_all(self.nodes, walk.leaf, walk.choice, refused)

    def dead(self) -> Bools:
        return np.asarray(self.nodes.closed[self.roots].all(1))

    def line(self) -> Line:
        b, t = self.problems, self.horizon
        line = Line(np.full((b, t), -1), np.full((b, t), -1), np.full((b, t, self.choices), 1 / self.choices),
                    np.empty(b), np.empty(b))
        kernels.main_line(
            self.nodes, self.rules, self.size, line.choice, line.node, line.share, line.visits, line.energy)
        return line


def _rules(rule: Rule, problems: int, choices: int, simulations: int, prior: Floats | None) -> kernels.Rules:
    known = np.full((1, 1, choices), 1 / choices) if prior is None else np.ascontiguousarray(prior)
    if isinstance(rule, PUCT):
        return kernels.Rules(False, rule.pull(np.arange(simulations + 2.0))[None], np.zeros((1, 2, choices)), known)
    if not isinstance(rule, Gumbel):
        raise PartError("PUCT or Gumbel", type(rule).__name__, "search with the arrays' form of the tree")
    roots = np.empty((problems, 2, choices))
    roots[:, 0] = rule.gumbel.T
    roots[:, 1] = 0.0 if prior is None else np.log(known[:, 0] / known[:, 0].max(1, keepdims=True))
    return kernels.Rules(True, rule.table, roots, known)
