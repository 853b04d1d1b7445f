"""The tree as NumPy arrays, an operation for all problems at once: the reference of the compiled form, and what
searches where no compiler is installed. Shapes: B problems, N nodes each, R choices, O outcomes, L levels of a walk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from steersman.actor.tree.rules import Bools, Floats, Ints, Rule, better_known, most_visited
from steersman.actor.tree.tree import Line, Tree, Walk


@dataclass(frozen=True)
class _Way(Walk):
    """path (L, B) nodes on the way, `on_way` (L, B) bool: not below the leaf."""

    path: Ints
    on_way: Bools


class ArrayTree(Tree):
    """The last column of every array is scratch, where what does not count goes.

    visits, energy (R, B·N) of each choice, the energy summed over visits; raw (B·N,) thought to come of a new node,
    exact for a known one; arrived (B·N,) energy of the step that led here; closed (R, B·N) bool: not allowed; shut
    (R, B·N) bool: closed, or leads to known nodes only. An edge is choice · columns + node; child (edges, O) are the
    nodes that it leads to.
    """

    def __init__(
        self, problems: int, simulations: int, choices: int, outcomes: int, depth: int, rule: Rule,
        prior: Floats | None = None,
    ) -> None:
        super().__init__(problems, simulations, choices, outcomes, depth)
        self.rule, self.columns = rule, problems * self.size + 1
        columns = self.columns
        self.scratch = columns - 1
        self.visits, self.energy = np.zeros((choices, columns)), np.zeros((choices, columns))
        self.raw, self.arrived = np.zeros(columns), np.zeros(columns)
        self.child = np.full((choices * columns, outcomes), -1, np.int64)
        self.depth, self.came = np.zeros(columns, np.int64), np.full(columns, -1, np.int64)
        self.best, self.follow = np.zeros(columns, np.int64), np.arange(columns)
        self.closed, self.shut = np.zeros((choices, columns), np.bool_), np.zeros((choices, columns), np.bool_)
        self.known, self.any_shut = np.zeros(columns, np.bool_), False
        self.probability = np.ones((choices * columns, outcomes)) if outcomes > 1 else None
        self.entered = np.zeros(columns) if outcomes > 1 else None
        self.deepest = 0
        self._path, self._level = np.empty((depth + 1, problems), np.int64), np.arange(depth + 1)[:, None]
        self._uniform = np.full((choices, 1), 1 / choices)
        self._prior = None if prior is None else np.ascontiguousarray(prior.transpose(2, 0, 1))
        self._owner = np.minimum(np.arange(columns) // self.size, problems - 1)
        self._refresh(self.roots)

    def walk(self) -> _Way:
        path = self._path[: self.deepest + 1]
        path[0] = self.roots
        for level in range(self.deepest):
            self.follow.take(path[level], out=path[level + 1], mode="clip")
        leaf = path[-1]
        depth = self.depth[leaf]
        on_way = self._level[: len(path)] <= depth
        over: Bools = np.asarray(self.shut[:, self.roots].all(0))
        return _Way(leaf, self.best[leaf], depth, over, path, on_way)

    def grow(self, walk: Walk, energy: Floats, to_come: Floats, probability: Floats | None, counts: Bools) -> None:
        o = self.outcomes
        new = self.roots[:, None] + np.arange(self.filled, self.filled + o)
        self.filled += o
        edge = walk.choice * self.columns + np.where(counts, walk.leaf, self.scratch)
        self.arrived[new], self.raw[new] = energy, to_come
        self.depth[new], self.came[new] = (walk.depth + 1)[:, None], edge[:, None]
        self.child[edge] = new
        self.known[new] = (walk.depth + 1 >= self.horizon)[:, None]
        if self.probability is not None:
            self.probability[edge] = probability
        if self._prior is not None:
            flat = new.ravel()
            self.best[flat] = self._at(flat).argmax(0)
        self.deepest = max(self.deepest, int(((walk.depth + 1) * counts).max()))

    def back_up(self, walk: Walk, returned: Floats, counts: Bools) -> None:
        assert isinstance(walk, _Way)
        met = self.arrived[walk.path]
        met *= walk.on_way
        passed = met.cumsum(0)
        total = passed[-1] + returned - passed
        on_way = walk.on_way if counts.all() else walk.on_way & counts
        nodes = walk.path[on_way]
        edges = self.best[nodes] * self.columns + nodes
        self.visits.reshape(-1)[edges] += 1
        self.energy.reshape(-1)[edges] += total[on_way]
        if self.entered is not None:
            self.entered[nodes] += 1
        self._settle((walk.choice * self.columns + walk.leaf)[counts])
        self._refresh(walk.path[walk.on_way])

    def _settle(self, edges: Ints) -> None:
        """Edges (K,) that were just tried: which of them, and which ways up from there, are known exactly by now."""
        while len(edges):
            below = self.child[edges]
            p = np.ones(below.shape) if self.probability is None else self.probability[edges]
            done = (self.known[below] | (p <= 0)).all(1)
            edges, below, p = edges[done], below[done], p[done]
            whole = np.where(p > 0, self.arrived[below] + self.raw[below], 0)
            self.energy.reshape(-1)[edges] = (whole * p).sum(1) * self.visits.reshape(-1)[edges]
            self.shut.reshape(-1)[edges] = self.any_shut = True
            edges = self._known(edges % self.columns)

    def _known(self, nodes: Ints) -> Ints:
        """Marks those of the nodes (K,) that have nothing left to try; the edges that lead to them."""
        nodes = nodes[self.shut[:, nodes].all(0)]
        mean = self.energy[:, nodes] / np.maximum(self.visits[:, nodes], 1)
        self.raw[nodes] = np.where(self.closed[:, nodes], np.inf, mean).min(0)
        self.known[nodes] = True
        edges = self.came[nodes]
        return edges[edges >= 0]

    def close(self, walk: Walk, refused: Bools) -> None:
        edge = (walk.choice * self.columns + walk.leaf)[refused]
        while len(edge):
            self.closed.reshape(-1)[edge] = self.shut.reshape(-1)[edge] = self.any_shut = True
            node = edge % self.columns
            blocked = self.closed[:, node].all(0)
            self._settle(self._known(node[~blocked]))
            edge = self.came[node[blocked]]
            edge = edge[edge >= 0]

    def dead(self) -> Bools:
        return np.asarray(self.closed[:, self.roots].all(0))

    def line(self) -> Line:
        shape = (self.problems, self.horizon)
        path, entered = np.full(shape, -1), np.full(shape, -1)
        share = np.full((*shape, self.choices), 1 / self.choices)
        at, going = self.roots.copy(), np.ones(self.problems, np.bool_)
        for step in range(self.horizon):
            choice = self._decide(at, step == 0)
            visits = self.visits[:, at].T
            below = self._likely(at, choice)
            going &= below >= 0
            total = visits.sum(1, keepdims=True)
            share[:, step] = np.where(going[:, None] & (total > 0), visits / np.maximum(total, 1), share[:, step])
            path[going, step], entered[going, step] = choice[going], below[going]
            at = np.where(going, below, at)
        first = self._decide(self.roots, root=True)
        return Line(path, entered, share, self.visits[first, self.roots], self.energy[first, self.roots])

    def _decide(self, nodes: Ints, root: bool) -> Ints:
        """The choice to take at nodes (B,)."""
        visits, energy, closed = self.visits[:, nodes], self.energy[:, nodes], self.closed[:, nodes]
        if root:
            choice = self.rule.final(visits, energy, self.raw[nodes], self._at(nodes), closed)
        else:
            choice = most_visited(visits, energy, closed)
        return better_known(choice, visits, energy, self.shut[:, nodes] & ~closed)

    def _likely(self, nodes: Ints, choice: Ints) -> Ints:
        """Where choices (B,) at nodes (B,) most probably lead, -1 if they were not tried."""
        edge = choice * self.columns + nodes
        outcome = 0 if self.probability is None else self.probability[edge].argmax(1)
        below: Ints = self.child[edge, outcome]
        return below

    def _at(self, nodes: Ints) -> Floats:
        """The prior at nodes (M,): (R, M), or (R, 1) if it is the same everywhere."""
        if self._prior is None:
            return self._uniform
        prior: Floats = self._prior[:, self._owner[nodes], np.minimum(self.depth[nodes], self.horizon - 1)]
        return prior

    def _refresh(self, nodes: Ints) -> None:
        """What to try next at nodes (M,), the roots first."""
        visits, energy = self.visits.take(nodes, 1), self.energy.take(nodes, 1)
        raw, prior = self.raw[nodes], self._at(nodes)
        shut = self.shut[:, nodes] if self.any_shut else None
        best = self.rule.inner(visits, energy, raw, prior, shut)
        if self.rule.rooted:
            b = self.problems
            top = None if shut is None else shut[:, :b]
            best[:b] = self.rule.root(visits[:, :b], energy[:, :b], raw[:b], prior[:, :b], top)
        self.best[nodes] = best
        edge = best * self.columns + nodes
        below = self.child[edge, 0] if self.outcomes == 1 else self._in_turn(edge)
        self.follow[nodes] = np.where(below < 0, nodes, below)

    def _in_turn(self, edge: Ints) -> Ints:
        """The outcome that was entered least for its probability and is not known, of edges (M,): its node."""
        assert self.probability is not None
        assert self.entered is not None
        nodes = self.child[edge]
        due = self.probability[edge] / (self.entered[nodes] + 1)
        turn = np.where(self.known[nodes] & (nodes >= 0), -1, due).argmax(1)
        below: Ints = nodes[np.arange(len(edge)), turn]
        return below
