"""Tree search beside a plain one, written from the papers for a single problem, and what it does with what it knows
exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import pytest
import torch
from problems import Limit
from test_tree_planners import regret, tabular

from steersman.actor import MCTS
from steersman.actor.tree.rules import considered_visits
from steersman.core import Streams
from steersman.core.compiled import compiler, compiling
from steersman.worlds import TabularMDP

select = pytest.mark.parametrize("select", ["puct", "gumbel"])
form = pytest.mark.parametrize("fast", [
    pytest.param(True, marks=pytest.mark.skipif(not compiler(), reason="numba is not installed")), False,
], ids=["compiled", "plain"])


@form
@select
@pytest.mark.parametrize("outcomes", [1, 3])
@pytest.mark.parametrize("forbidden", [None, 2], ids=["open", "guarded"])
def test_tree_search_visits_what_a_plain_search_visits(select, fast, outcomes, forbidden):
    visited = 0
    for seed in range(4):
        mdp, horizon = exact(seed, outcomes), 4
        asked = tabular(mdp, torch.arange(6), horizon)
        if forbidden is not None:
            asked = replace(asked, task=replace(asked.task, guardrails=(Limit(forbidden, 0.5),)))
        draws = -torch.log(-torch.log(Streams(asked.seeds, asked.decision).uniform(3).double()))
        config = MCTS.Config(simulations=70, select=select, horizon=horizon)
        with compiling(fast):
            plan = config.build().plan(asked)
        for state in range(6):
            root = Textbook(mdp, select, 70, horizon, draws[state].tolist(), forbidden).searched(state)
            assert bool(plan.feasible[state]) == (not all(root.closed))
            if not all(root.closed):
                visited += sum(root.n)
                share = torch.tensor(root.n, dtype=torch.float64) / sum(root.n)
                torch.testing.assert_close(plan.warm.share[state, 0], share)
    assert visited > 100


def exact(seed: int, outcomes: int) -> TabularMDP:
    """Energies and probabilities whose sums have no rounding: what is equal is equal whichever way it was summed."""
    g = torch.Generator().manual_seed(seed)
    target = torch.rand(3, 6, 6, generator=g).argsort(2)[..., :outcomes]
    chance = torch.tensor({1: [1.0], 3: [0.5, 0.3125, 0.1875]}[outcomes]).expand(3, 6, -1)
    energies = torch.randint(1, 64, (6, 3), generator=g) / 64
    return TabularMDP(torch.zeros(3, 6, 6).scatter_(2, target, chance), energies)


@dataclass
class Node:
    """e: energies summed over visits; below: nodes by choice; shut: closed by the guardrail, or leads to what is
    known; entered: walks that came through."""

    state: int
    depth: int
    arrived: float = 0.0
    raw: float = 0.0
    above: tuple[Node, int] | None = None
    known: bool = False
    entered: int = 0
    n: list[int] = field(default_factory=lambda: [0] * 3)
    e: list[float] = field(default_factory=lambda: [0.0] * 3)
    below: list[list[Node]] = field(default_factory=lambda: [[]] * 3)
    shut: list[bool] = field(default_factory=lambda: [False] * 3)
    closed: list[bool] = field(default_factory=lambda: [False] * 3)

    def costs(self, unseen: float) -> list[float]:
        return [e / n if n else unseen for e, n in zip(self.e, self.n, strict=True)]


class Textbook:
    """PUCT and Gumbel MuZero for one problem of three choices, without prior, one object a node. What is known exactly
    is not searched again; a chance node's outcomes are all imagined at once."""

    def __init__(self, mdp, select, simulations, horizon, draws, forbidden) -> None:
        self.mdp, self.select, self.simulations, self.horizon = mdp, select, simulations, horizon
        self.draws, self.forbidden = draws, forbidden

    def searched(self, start: int) -> Node:
        root = Node(start, 0)
        for _ in range(self.simulations):
            if all(root.shut):
                break
            node = root
            way = [(node, self.choice(node))]
            while node.below[way[-1][1]]:
                node = self.outcome(*way[-1])
                way.append((node, self.choice(node)))
            leaf, tried = way[-1]
            chances = self.chances(leaf.state, tried)
            if any(state == self.forbidden for state, _ in chances):
                self.close(leaf, tried)
                continue
            step, depth = float(self.mdp.energies[leaf.state, tried]), leaf.depth + 1
            leaf.below[tried] = [Node(state, depth, step, step * (self.horizon - depth), (leaf, tried),
                                      depth == self.horizon) for state, _ in chances]
            returned = step + step * (self.horizon - depth)
            for node, choice in reversed(way):
                node.n[choice] += 1
                node.e[choice] += returned
                node.entered += 1
                returned += node.arrived
            self.learn(leaf, tried)
        return root

    def chances(self, state: int, choice: int) -> list[tuple[int, float]]:
        """Where a choice may lead, the most probable first."""
        column = self.mdp.transition[choice, state].tolist()
        return sorted(((s, p) for s, p in enumerate(column) if p > 0), key=lambda x: -x[1])

    def outcome(self, node: Node, choice: int) -> Node:
        """Entered least for its probability."""
        open_ = [(node_, p) for node_, (_, p) in zip(node.below[choice], self.chances(node.state, choice), strict=True)
                 if not node_.known]
        return max(open_, key=lambda x: x[1] / (x[0].entered + 1))[0]

    def close(self, node: Node, choice: int) -> None:
        node.closed[choice] = node.shut[choice] = True
        if not all(node.closed):
            self.finish(node)
        elif node.above is not None:
            self.close(*node.above)

    def learn(self, node: Node, choice: int) -> None:
        """A choice that leads to known nodes only is worth their expectation."""
        if all(below.known for below in node.below[choice]):
            chances = self.chances(node.state, choice)
            worth = sum(p * (b.arrived + b.raw) for b, (_, p) in zip(node.below[choice], chances, strict=True))
            node.shut[choice], node.e[choice] = True, worth * node.n[choice]
            self.finish(node)

    def finish(self, node: Node) -> None:
        """A node that has nothing left to try is worth the least of its choices."""
        if all(node.shut):
            node.known = True
            node.raw = min(c for c, closed in zip(node.costs(math.inf), node.closed, strict=True) if not closed)
            if node.above is not None:
                self.learn(*node.above)

    def choice(self, node: Node) -> int:
        scores = self.puct(node) if self.select == "puct" else self.gumbel(node)
        return max((a for a in range(3) if not node.shut[a]), key=lambda a: scores[a], default=0)

    def puct(self, node: Node) -> list[float]:
        number = sum(node.n) + 1
        value = (node.raw + sum(node.e)) / number
        cost = node.costs(value)
        low, high = min(*cost, value), max(*cost, value)
        pull = math.sqrt(number) * (1.25 + math.log((number + 19652 + 1) / 19652)) / 3
        return [((high - c) / max(high - low, 1e-8) if n else 0) + pull / (n + 1)
                for c, n in zip(cost, node.n, strict=True)]

    def gumbel(self, node: Node) -> list[float]:
        number, seen = sum(node.n), [e / n for e, n in zip(node.e, node.n, strict=True) if n]
        mixed = (node.raw + number * (sum(seen) / len(seen) if seen else 0)) / (number + 1)
        cost = node.costs(mixed)
        scale = (50 + max(node.n)) * 0.1 / max(max(cost) - min(cost), 1e-8)
        sigma = [(max(cost) - c) * scale for c in cost]
        if node.depth:
            policy = [0 if shut else math.exp(s - max(sigma)) for s, shut in zip(sigma, node.shut, strict=True)]
            return [p / max(sum(policy), 1e-300) - n / (1 + number) for p, n in zip(policy, node.n, strict=True)]
        turn = considered_visits(node.shut.count(False), self.simulations)[number]
        scores = [s + (0 if n else g) for s, n, g in zip(sigma, node.n, self.draws, strict=True)]
        now = any(n == turn and not shut for n, shut in zip(node.n, node.shut, strict=True))
        return [s if n == turn or not now else -math.inf for s, n in zip(scores, node.n, strict=True)]


def test_sequential_halving_gives_every_choice_that_is_left_the_same_visits():
    assert considered_visits(4, 10) == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3]  # 10 // (2 rounds · 4) = 1, then 2 of two each
    assert considered_visits(3, 7) == [0, 0, 0, 1, 1, 2, 2]
    assert considered_visits(1, 3) == [0, 1, 2]


@select
@pytest.mark.parametrize("outcomes", [1, 2])
def test_a_tree_that_is_known_whole_is_value_iteration_and_ends_the_search(select, outcomes):
    for seed in range(6):
        mdp, horizon = TabularMDP.random(7, 3, seed, outcomes=outcomes), 3
        plan = MCTS.Config(simulations=2000, select=select).build().plan(tabular(mdp, torch.arange(7), horizon))
        assert float(regret(mdp, plan, horizon).max()) < 1e-6
        branches = 3 * outcomes
        assert int(plan.kept.max()) <= 3 * (1 + branches + branches**2)
        some = tabular(mdp, torch.arange(7)[2:3], horizon)
        alone = MCTS.Config(simulations=2000, select=select).build().plan(some)
        assert (int(alone.calls), alone.reason[0]) == (int(plan.calls[2]), plan.reason[2])
