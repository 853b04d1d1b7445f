"""Tree search beside a plain loop, and what it does with what it knows exactly."""

from __future__ import annotations

import math

import pytest
import torch
from test_tree_planners import regret, tabular

from steersman.actor import MCTS
from steersman.worlds import TabularMDP


def test_tree_search_visits_what_a_plain_loop_visits():
    mdp = TabularMDP.random(5, 3, seed=0, outcomes=1)
    search = MCTS.Config(simulations=60, select="puct", horizon=4).build()
    share = search.plan(tabular(mdp, torch.arange(5), 4)).warm.share[:, 0]
    for state in range(5):
        visits = plain_search(mdp, state, 60, 4)
        torch.testing.assert_close(share[state], torch.tensor(visits, dtype=share.dtype) / sum(visits))


def plain_search(mdp, start, simulations, horizon, c1=1.25, c2=19652.0):
    """Visits of the root's choices by PUCT, one problem, one dictionary a node; what is known is not searched again."""
    to = mdp.transition.argmax(-1)

    def fresh(state, depth, raw):
        return {"state": state, "depth": depth, "raw": raw, "n": [0] * 3, "e": [0.0] * 3, "below": [None] * 3,
                "sure": [False] * 3, "known": depth == horizon}

    root = fresh(start, 0, 0.0)
    for _ in range(simulations):
        if root["known"]:
            break
        node, way = root, []
        while True:
            number = sum(node["n"]) + 1
            value = (node["raw"] + sum(node["e"])) / number
            cost = [e / n if n else value for e, n in zip(node["e"], node["n"], strict=True)]
            low, high = min(*cost, value), max(*cost, value)
            pull = math.sqrt(number) * (c1 + math.log((number + c2 + 1) / c2)) / 3
            score = [
                ((high - c) / max(high - low, 1e-8) if n else 0) + pull / (n + 1)
                for c, n in zip(cost, node["n"], strict=True)
            ]
            score = [-math.inf if sure else x for x, sure in zip(score, node["sure"], strict=True)]
            a = score.index(max(score))
            step = float(mdp.energies[node["state"], a])
            way.append((node, a, step))
            if node["below"][a] is None:
                depth = node["depth"] + 1
                node["below"][a] = fresh(int(to[a, node["state"]]), depth, step * (horizon - depth))
                returned = node["below"][a]["raw"]
                break
            node = node["below"][a]
        for node, a, step in reversed(way):
            returned += step
            node["n"][a] += 1
            node["e"][a] += returned
        for node, a, step in reversed(way):
            if not node["below"][a]["known"]:
                break
            node["sure"][a], node["e"][a] = True, (step + node["below"][a]["raw"]) * node["n"][a]
            if not all(node["sure"]):
                break
            node["known"], node["raw"] = True, min(e / n for e, n in zip(node["e"], node["n"], strict=True))
    return root["n"]


@pytest.mark.parametrize("select", ["puct", "gumbel"])
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
