"""The experiment on planners: its figures, in small; thousands of random cases, a few of them here."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman import evidence
from steersman.actor import (
    CEM,
    ICEM,
    MPPI,
    AugmentedLagrangian,
    DynamicProgramming,
    Gradient,
    Greedy,
    PredictiveSampling,
)
from steersman.core import Planner
from steersman.core.checks.many import Tally, try_batch
from steersman.evidence import planners
from steersman.evidence import planners_oracles as oracles

SMALL = {"samples": 12, "iterations": 2}
OURS = [
    CEM.Config(**SMALL, elites=3), ICEM.Config(**SMALL, elites=3), MPPI.Config(**SMALL),
    PredictiveSampling.Config(**SMALL), Greedy.Config(), Gradient.Config(restarts=2, steps=3),
    AugmentedLagrangian.Config(restarts=2, outer=1, inner=3, fan=4),
]


@pytest.mark.parametrize("config", OURS, ids=lambda config: config.__struct_config__.tag)
@settings(max_examples=3)
@given(seed=st.integers(0, 2**40))
def test_no_random_case_breaks_a_promise(config, seed):
    tally = try_batch(config.build(), seed, largest=12)
    assert (tally.outside, tally.dependent, tally.broken) == (0, 0, 0)


class Careless(Planner):
    """What many cases are there to find."""

    def __init__(self, fault):
        self.inner, self.fault = CEM.Config(**SMALL, elites=3).build(), fault

    def plan(self, problem):
        plan = self.inner.plan(problem)
        if self.fault == "bounds" and problem.action.kind == "continuous":
            return replace(plan, actions=plan.actions + torch.tensor(problem.action.high))
        if self.fault == "neighbours":
            return replace(plan, actions=plan.actions.flip(0))
        if self.fault == "guardrails":
            return replace(plan, feasible=torch.ones_like(plan.feasible))
        return plan


@pytest.mark.parametrize(
    ("fault", "count"), [("bounds", "outside"), ("neighbours", "dependent"), ("guardrails", "broken")]
)
def test_careless_planners_are_found(fault, count):
    tally = sum((try_batch(Careless(fault), seed) for seed in range(12)), Tally())
    assert getattr(tally, count) > 0
    assert tally.cases > 10


def test_the_oracles_know_exact_planners_from_greedy_ones():
    exact, greedy = DynamicProgramming.Config().build(), Greedy.Config().build()
    for outcomes in (1, 2):
        assert oracles.tables(exact, 3, outcomes).worst < 1e-6
    assert oracles.tables(greedy, 3, 2).worst > 0.01
    assert oracles.choices(exact, 3).worst < 1e-5
    assert oracles.riccati(greedy, 3)[0] is None
    assert oracles.riccati(CEM.Config().build(), 3)[0].worst < 0.01


def test_the_figures_have_the_names_that_are_promised(tmp_path, monkeypatch):
    monkeypatch.setattr(planners.oracles, "GRAPHS", 20)
    few = {"cem": CEM.Config(**SMALL, elites=3), "gradient": Gradient.Config(restarts=1, steps=3)}
    monkeypatch.setattr(planners, "_buildable", lambda: few)
    monkeypatch.setattr(planners, "EFFORT", {"cem": CEM.Config()})
    cases = planners.Cases(cases=20, largest=8)
    small = evidence.Experiment("planners", lambda seed: planners.cells(seed, cases), planners.summary)
    result, outcome = evidence.perform(small, tmp_path / "run")
    figures = result.figures
    assert figures["cem"]["lqr_gap"] < 0.01
    for tag in few:
        assert figures[tag]["bounds_violations"] == 0
        assert figures[tag]["batch_invariant"] is True
    assert figures["cem"]["choices_gap"] >= 0
    assert figures["cem"]["tables_gap"] >= 0
    assert figures["gradient"]["choices_gap"] is None
    assert figures["all"]["graphs_unlike_networkx"] == 0
    assert figures["all"]["cases"] >= 20
    assert [row.label for row in outcome.tables[0].rows] == ["cem", "gradient"]
