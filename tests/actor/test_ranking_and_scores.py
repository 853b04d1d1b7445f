"""Ranking against a sort by Python, weighted sums of terms, errors of parts, noise."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from problems import Limit, reach

from steersman.actor import Bounds, feasibility_first, score, weighted_terms
from steersman.actor.sampling.distributions import Categorical, fitted, shifted
from steersman.actor.sampling.noise import coloured_basis
from steersman.core import ActionError, ActionSpec, ConfigError, Cost, PlanningError, Streams

candidate = st.tuples(st.booleans(), st.integers(-3, 3), st.integers(0, 3))


@given(st.lists(st.lists(candidate, min_size=5, max_size=5), min_size=1, max_size=4))
def test_feasible_by_energy_then_infeasible_by_violation(rows):
    feasible = torch.tensor([[c[0] for c in row] for row in rows])
    energy = torch.tensor([[float(c[1]) for c in row] for row in rows])
    violation = torch.tensor([[float(c[2]) for c in row] for row in rows])
    expected = [
        sorted(range(5), key=lambda k, row=row: (not row[k][0], row[k][1] if row[k][0] else row[k][2], k))
        for row in rows
    ]
    assert feasibility_first(energy, violation, feasible).tolist() == expected


def test_scores_equal_a_loop_over_candidates_and_steps():
    problem = reach([[0.0, 0.0], [1.0, 1.0]], [[2.0, 0.0]], weights={"goal": 2.0, "effort": 0.1},
                    guardrails=[Limit(0, 0.5, "a"), Limit(1, 1.2, "a")])
    actions = torch.rand(2, 7, 4, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    scores = score(problem, actions)
    assert set(scores.refused) == {"a", "a (2)"}
    for b in range(2):
        for k in range(7):
            state, energy, violation = problem.belief.state[b], 0.0, 0.0
            for t in range(4):
                state = state + actions[b, k, t]
                energy += 2.0 * float((state - torch.tensor([2.0, 0.0])).square().mean())
                energy += 0.1 * float(actions[b, k, t].square().mean())
                violation += max(0.0, float(state[0]) - 0.5) + max(0.0, float(state[1]) - 1.2)
            assert math.isclose(float(scores.energy[b, k]), energy, rel_tol=1e-5)
            assert math.isclose(float(scores.violation[b, k]), violation, rel_tol=1e-4, abs_tol=1e-5)
            assert bool(scores.feasible[b, k]) == (violation == 0)


def test_a_weight_for_a_term_that_does_not_exist_is_refused():
    problem = reach([[0.0]], [[1.0]], weights={"goal": 1.0, "efort": 1.0})
    with pytest.raises(PlanningError, match="efort"):
        score(problem, torch.zeros(1, 2, 3, 1))


def test_terms_without_weight_are_not_computed():
    class Never(Cost):
        name = "never"

        def energy(self, imagined, actions, task):
            raise AssertionError

    problem = reach([[0.0]], [[1.0]], weights={"goal": 1.0, "never": 0.0})
    problem = replace(problem, costs=(*problem.costs, Never()))
    assert set(score(problem, torch.zeros(1, 2, 3, 1)).parts) == {"goal"}
    nothing = replace(problem, task=replace(problem.task, weights={"never": 0.0}))
    with pytest.raises(PlanningError, match="at least one cost term"):
        score(nothing, torch.zeros(1, 2, 3, 1))


def test_parts_of_the_wrong_shape_are_refused():
    class Total(Cost):
        name = "total"

        def energy(self, imagined, actions, task):
            return imagined.states.sum((2, 3))

    class Short(Limit):
        def margin(self, imagined, actions):
            return super().margin(imagined, actions)[..., :1]

    problem = reach([[0.0]], [[1.0]])
    imagined = problem.model.imagine(problem.belief, torch.zeros(1, 2, 3, 1))
    with pytest.raises(PlanningError, match=r"\(1, 2, 3\)"):
        weighted_terms(replace(problem, costs=(Total(),), task=replace(problem.task, weights={"total": 1.0})), imagined,
                       torch.zeros(1, 2, 3, 1))
    guarded = replace(problem, task=replace(problem.task, guardrails=(Short(),)))
    with pytest.raises(PlanningError, match="guardrail 'limit'"):
        score(guarded, torch.zeros(1, 2, 3, 1))


def test_a_forecast_that_ends_too_early_is_refused():
    problem = reach([[0.0]], [[1.0]], exogenous=torch.zeros(1, 2, 1))
    with pytest.raises(PlanningError, match="exogenous inputs for 3 steps"):
        score(problem, torch.zeros(1, 2, 3, 1))


@given(st.floats(-1e6, 1e6), st.floats(0.1, 1e6))
def test_bounds_in_float32_lie_within_bounds_in_float64(low, width):
    bounds = Bounds(ActionSpec("continuous", (low,), (low + width,)), torch.zeros(1))
    assert float(bounds.low.double()) >= low
    assert float(bounds.high.double()) <= low + width
    assert bool(bounds.clamp(torch.tensor([torch.inf, -torch.inf])).isfinite().all())


def test_bounds_without_a_float32_number_between_them_are_refused():
    with pytest.raises(ActionError, match="a float32 number within the bounds of action 1"):
        Bounds(ActionSpec("continuous", (0.0, 0.1 + 2e-9), (1.0, 0.1 + 3e-9)), torch.zeros(1))


@pytest.mark.parametrize(("low", "high"), [(-3e38, 3e38), (1e-30, 3e-30), (5.0, 5.000001), (-7.0, -1.0)])
def test_units_of_half_the_range_neither_overflow_nor_leave_it(low, high):
    bounds = Bounds(ActionSpec("continuous", (low,), (high,)), torch.zeros(1))
    actions = bounds.action(torch.linspace(-1, 1, 9)[:, None])
    assert bool(actions.isfinite().all())
    assert float(actions.double().min()) >= low
    assert float(actions.double().max()) <= high
    torch.testing.assert_close(bounds.action(bounds.unit(actions)), actions, rtol=1e-6, atol=0)


def test_entries_that_hold_whole_numbers_are_rounded():
    spec = ActionSpec("continuous", (-1.5, 0.0), (2.5, 1.0), whole=(0,))
    actions = Bounds(spec, torch.zeros(1)).clamp(torch.tensor([[-1.4, 0.4], [0.6, 0.4], [9.0, 9.0]]))
    assert torch.equal(actions, torch.tensor([[-1.0, 0.4], [1.0, 0.4], [2.0, 1.0]]))


@pytest.mark.parametrize(("whole", "low", "high"), [((2,), 0.0, 1.0), ((0,), 0.2, 0.8), ((0,), 0.0, 1e9)])
def test_whole_entries_that_cannot_be_are_refused(whole, low, high):
    with pytest.raises(ConfigError, match="whole"):
        ActionSpec("continuous", (low, 0.0), (high, 1.0), whole=whole)


@pytest.mark.parametrize("horizon", [1, 2, 5, 16, 33])
def test_coloured_noise_has_unit_variance_and_the_spectrum_asked_for(horizon):
    basis = coloured_basis(horizon, 2.0)
    torch.testing.assert_close(basis.square().sum(0), torch.ones(horizon))
    noise = Streams(torch.tensor([1])).normal(20000, len(basis))[0] @ basis
    assert abs(float(noise.var()) - 1) < 0.05
    if horizon >= 16:
        power = torch.fft.rfft(noise).abs().square().mean(0)[1 : (horizon + 1) // 2]
        expected = torch.arange(1, len(power) + 1) ** -2.0
        torch.testing.assert_close(power / power[0], expected, rtol=0.1, atol=1e-3)
    white = coloured_basis(16, 0.0)
    gram = white.mT @ white
    assert float((gram - torch.eye(16)).abs().max()) < 0.15


def test_choices_are_drawn_with_their_probabilities():
    distribution = Categorical(1, 2, ActionSpec("discrete", choices=3), torch.device("cpu"))
    distribution.probabilities = torch.tensor([[[0.7, 0.0, 0.3], [0.0, 0.0, 1.0]]])
    drawn = distribution.actions(Streams(torch.tensor([3])).uniform(20000, 2))
    share = torch.nn.functional.one_hot(drawn[0, :, :, 0], 3).float().mean(0)
    torch.testing.assert_close(share, distribution.probabilities[0], atol=0.02, rtol=0)
    distribution.refit(drawn[:, :50], 0.5, 0.1)
    assert bool((distribution.probabilities >= 0.1 / 3 - 1e-6).all())
    torch.testing.assert_close(distribution.probabilities.sum(-1), torch.ones(1, 2))


def test_plans_are_moved_and_fitted_to_the_horizon():
    plan = torch.arange(4.0)[None, :, None]
    assert shifted(plan, 1).flatten().tolist() == [1, 2, 3, 3]
    assert fitted(plan, 2).flatten().tolist() == [0, 1]
    assert fitted(plan, 6).flatten().tolist() == [0, 1, 2, 3, 3, 3]
