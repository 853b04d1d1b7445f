"""Deliberation: what a gate spends, whom it gives it to, and that limits hold whatever is spent."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from problems import Limit, reach

from steersman.actor import ICEM, Deliberate, Gate
from steersman.actor.deliberation.deliberate import Begun
from steersman.actor.deliberation.gate import gate_of, power, rank
from steersman.core import ConfigError, MismatchError, PlanningError, Policy, UsageError

PLANNER = ICEM.Config(samples=32, iterations=2, elites=4, horizon=6)
FULL = 6 * (32 + 24)


class Straight(Policy):
    """Half of what is left, within reach of one step."""

    def propose(self, belief, task):
        return (0.5 * (task.goal.latent.state - belief.state)).clamp(-1, 1)[:, None]


class Astray(Policy):
    """Always the same push."""

    def propose(self, belief, task):
        return torch.ones(len(belief), 1, belief.state.shape[1])


def _problem(count=12, **more):
    start = 4 * torch.rand(count, 4, generator=torch.Generator().manual_seed(0)) - 2
    return reach(start, torch.tensor([[2.0, -2.0, 1.0, 2.0]]), **more)


def _planner(share, policy=None, gate=None, **more):
    return Deliberate(PLANNER.build(), policy or Straight(), gate or Gate(calls=FULL), share, **more)


def _energy(plan):
    return torch.stack([part.sum(1) for part in plan.energy.values()]).sum(0)


def _practised(share=0.25, policy=None, **more):
    """A gate for the signal "habit" as it is at second decisions, and the problem of one."""
    reading = Gate(calls=FULL, signals={"habit": (0.0, 0.0)})
    problem = _problem(200)
    first = _planner(share, policy, reading).plan(problem)
    second = replace(problem, decision=problem.decision + 1, warm=first.warm)
    signals = _planner(share, policy, reading).plan(second).signals["habit"]
    return gate_of({"habit": signals}, FULL, **more), second


def test_none_is_the_policy_along_its_own_way() -> None:
    problem = _problem()
    plan = _planner(0.0).plan(problem)
    assert torch.allclose(plan.actions[:, 0], Straight().propose(problem.belief, problem.task)[:, 0])
    assert plan.calls.tolist() == [6] * 12
    assert all(words.startswith("by habit") and "2% of the full budget" in words for words in plan.reason)


def test_all_plans_with_the_whole_budget_and_does_no_worse_than_habit() -> None:
    problem = _problem()
    habit, plan = _planner(0.0, Astray()).plan(problem), _planner(1.0, Astray()).plan(problem)
    assert FULL - 12 < int(plan.calls.min()) <= int(plan.calls.max()) <= FULL
    assert bool((_energy(plan) <= _energy(habit) + 1e-5).all())
    assert float(_energy(plan).mean()) < 0.5 * float(_energy(habit).mean())


@pytest.mark.parametrize("share", [0.1, 0.25, 0.4, 0.7])
def test_a_share_between_is_met_on_average_and_never_exceeded_by_a_budget(share) -> None:
    spent = _planner(share).plan(_problem(600)).signals["share"]
    assert abs(float(spent.mean()) - share) < 0.05
    assert float(spent.max()) <= 1


def test_what_is_left_of_the_last_plan_is_one_of_habits_ways() -> None:
    problem = _problem()
    good = _planner(1.0).plan(problem)
    again = replace(problem, decision=problem.decision + 1, warm=good.warm, passed=0)
    kept = _planner(0.0, Astray()).plan(again)
    assert isinstance(kept.warm, Begun)
    assert torch.equal(kept.actions, good.actions)
    assert kept.calls.tolist() == [12] * 12


def test_a_calibrated_gate_spends_what_was_wanted_where_its_signal_is_high() -> None:
    gate, problem = _practised(policy=Astray())
    for share in (0.1, 0.25, 0.5):
        plan = _planner(share, Astray(), gate).plan(problem)
        spent, signal = plan.signals["share"], plan.signals["habit"]
        assert abs(float(spent.mean()) - share) < 0.06
        high = signal >= signal.median()
        assert float(spent[high].mean()) > 1.5 * float(spent[~high].mean())
    assert any("habit above" in words for words in plan.reason)


def test_a_plan_does_not_depend_on_its_neighbours() -> None:
    gate, problem = _practised()
    every = _planner(0.3, None, gate).plan(problem)
    for row in (0, 3, 77):
        index = torch.tensor([row])
        one = replace(problem.rows(index), warm=Begun(problem.warm.actions[index]))
        alone = _planner(0.3, None, gate).plan(one)
        assert torch.allclose(alone.actions[0], every.actions[row], atol=1e-6)
        assert int(alone.calls[0]) == int(every.calls[row])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_a_guardrail_holds_at_every_share(share) -> None:
    problem = _problem(40, guardrails=(Limit(0, 0.5),))
    start_inside = problem.belief.state[:, 0] <= 0.5
    plan = _planner(share).plan(problem)
    held = plan.imagined.states[:, 0, 1:, 0].amax(1) <= 0.5 + 1e-6
    assert bool(held[plan.feasible].all())
    refused = ~_planner(0.0, None, Gate(calls=FULL, vetoed=0.0)).plan(problem).feasible
    assert bool(refused[start_inside].any())
    assert bool(plan.feasible[start_inside].all())


def test_with_nothing_to_spend_on_a_veto_the_fallback_acts() -> None:
    problem = _problem(40, guardrails=(Limit(0, 0.5),))
    plan = _planner(0.0, None, Gate(calls=FULL, vetoed=0.0)).plan(problem)
    assert bool((plan.actions[~plan.feasible] == 0).all())
    assert all("a guardrail refused habit's way" in words
               for words, good in zip(plan.reason, plan.feasible.tolist(), strict=True) if not good)


def test_ranks_and_the_power_that_meets_a_share() -> None:
    table = torch.tensor([0.0, 0.0, 1.0, 3.0, 3.0], dtype=torch.float64)
    values = torch.tensor([-torch.inf, -1.0, 0.0, 0.5, 2.0, 3.0, 9.0, torch.nan], dtype=torch.float64)
    assert rank(table, values).tolist() == [0, 0, 0, 0.375, 0.625, 0.75, 1, 1]
    u = torch.linspace(0, 1, 1001, dtype=torch.float64)
    for share in (0.1, 0.25, 0.6):
        assert abs(float((u ** power(share, 0.05, u)).clamp_min(0.05).mean()) - share) < 1e-3


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_outside_of_0_and_1_is_refused_in_words(share) -> None:
    with pytest.raises(ConfigError, match=r"share of the planner's calls within \[0, 1\]"):
        _planner(share)


def test_signals_that_are_not_there_or_that_the_agent_lacks_are_named() -> None:
    with pytest.raises(UsageError, match="a signal of"):
        _planner(0.2, None, Gate(calls=FULL, signals={"mood": (0.0, 1.0)})).plan(_problem())
    for name, words in (("disagreement", "several members"), ("critic", "fitted critic"), ("margin", "guardrails"),
                        ("surprise", "decisions from observations"), ("intrinsic", "intrinsic cost")):
        with pytest.raises(PlanningError, match=words):
            _planner(0.2, None, Gate(calls=FULL, signals={name: (0.0, 1.0)})).plan(_problem())
    with pytest.raises(MismatchError, match="habit"):
        Gate(calls=1, signals={"habit": (0.0, 1.0)}, urgency=(0.0, 1.0)).urgencies({})


@pytest.mark.parametrize("wrong", [
    {"calls": 0}, {"calls": 9, "signals": {"habit": (1.0, 0.0)}}, {"calls": 9, "signals": {"habit": (1.0,)}},
    {"calls": 9, "worth": {"habit": 1.0}}, {"calls": 9, "urgency": (0.0, 1.0)}, {"calls": 9, "vetoed": 2.0},
])
def test_a_gate_that_is_none_is_refused(wrong) -> None:
    with pytest.raises(ConfigError):
        Gate(**wrong)
    with pytest.raises(ConfigError, match="at least 20"):
        gate_of({"habit": torch.zeros(5)}, 9)
