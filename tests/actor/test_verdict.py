"""The one judge against loops and exact answers: ranking, weighted terms, scenarios, errors of parts; noise."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from problems import Limit, LinearWorld, reach
from torch import Tensor

from steersman.actor import Bounds, feasibility_first, score, verdict, weighted_terms
from steersman.actor.ground.verdict import imagine
from steersman.actor.sampling.distributions import Categorical, fitted, shifted
from steersman.actor.sampling.noise import coloured_basis
from steersman.core import (
    ActionError,
    ActionSpec,
    Belief,
    ConfigError,
    Cost,
    Imagined,
    Latent,
    LatentGoal,
    PlanningError,
    Problem,
    Risk,
    Streams,
    Task,
    WorldModel,
)
from steersman.cost import EffortCost, GoalCost, Sealed
from steersman.world_model.latent_variable import Noise
from steersman.worlds import Corridor

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


# Chance folds ---------------------------------------------------------------------------------------------------------


class Lottery(LinearWorld):
    """s' = s + a + 3 where the step's u lies below a quarter, else s + a."""

    def __init__(self):
        super().__init__(torch.eye(1), torch.eye(1))
        self.latent_variable = Noise(1)

    def imagine(self, belief, actions, exogenous=None, u=None):
        calm = super().imagine(belief, actions).states
        won = torch.zeros_like(calm[:, :, 1:]) if u is None else 3.0 * (u < 0.25)
        return Imagined(calm + torch.nn.functional.pad(won.cumsum(2), (0, 0, 1, 0)))


def gamble(guardrails=(), **risk) -> Problem:
    problem = reach([[0.0], [1.0]], [[0.0]], model=Lottery(), guardrails=guardrails)
    return replace(problem, task=replace(problem.task, risk=Risk(**risk)))


def loop(problem: Problem, actions: Tensor, scenarios: int):
    """Energies (B, K, S) of one future after the other, with the draws that the judge makes."""
    futures = imagine(problem, actions).states
    energy = torch.zeros(*actions.shape[:2], scenarios, dtype=torch.float64)
    for b in range(actions.shape[0]):
        for k in range(actions.shape[1]):
            for s in range(scenarios):
                way = futures[b, k * scenarios + s, 1:, 0].double()
                energy[b, k, s] = (way - problem.task.goal.latent.state[0, 0].double()).square().sum()
    return energy


@pytest.mark.parametrize(("over", "tail"), [("mean", 0.1), ("worst", 0.1), ("cvar", 0.1), ("cvar", 0.25), ("cvar", 1.0),
                                            ("cvar", 0.01)])
def test_scenarios_are_folded_and_reduced_as_a_loop_would(over, tail):
    problem = gamble(scenarios=12, over=over, tail=tail)
    actions = torch.rand(2, 5, 3, 1, generator=torch.Generator().manual_seed(0)) - 0.5
    each = loop(problem, actions, 12).sort(2, descending=True).values
    left, expected = (1.0 if over == "worst" else max(tail * 12, 1.0)), torch.zeros(2, 5, dtype=torch.float64)
    size = left
    for r in range(12):
        share = 1 / 12 if over == "mean" else min(left, 1.0) / size
        expected, left = expected + share * each[..., r], max(left - 1, 0.0)
    found = score(problem, actions)
    torch.testing.assert_close(found.energy.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.stack(list(found.parts.values())).sum((0, 3)), found.energy)
    assert found.energy.shape == (2, 5)


def test_all_candidates_of_a_problem_meet_the_same_chance_and_a_problem_meets_its_own_alone():
    problem = gamble(scenarios=6)
    still = torch.zeros(2, 4, 3, 1)
    futures = imagine(problem, still).states.unflatten(1, (4, 6))
    assert torch.equal(futures[:, :1].expand_as(futures), futures)
    assert not torch.equal(futures[0, 0] - futures[0, 0, :, :1], futures[1, 0] - futures[1, 0, :, :1])
    assert torch.equal(imagine(problem.rows(torch.tensor([1])), still[1:]).states, imagine(problem, still).states[1:])


def test_nobodys_cost_changes_its_shapes():
    seen = []

    class Shaped(Cost):
        name = "goal"

        def energy(self, imagined, actions, task):
            seen.append((tuple(imagined.states.shape), tuple(actions.shape)))
            return imagined.states[:, :, 1:, 0] + actions[..., 0]

    problem = replace(gamble(scenarios=5), costs=(Shaped(),))
    score(problem, torch.zeros(2, 3, 4, 1))
    assert seen == [((2, 15, 5, 1), (2, 15, 4, 1))]


def test_a_limit_holds_in_all_but_the_stated_share_of_scenarios():
    actions = torch.zeros(2, 1, 2, 1)
    limit = Limit(below=3.5)
    futures = imagine(gamble(scenarios=40), actions).states[..., 1:, 0] - 3.5
    share = (futures > 0).any(2).float().mean(1)  # (B,)
    for broken in (0.0, float(share[0]) - 0.02, float(share[0]) + 0.001):
        found = score(gamble((limit,), scenarios=40, broken=max(broken, 0.0)), actions)
        assert bool(found.feasible[0, 0]) == (float(share[0]) <= max(broken, 0.0))
        assert bool(found.feasible[0, 0]) == bool((found.margins["limit"][0, 0] <= 0).all())


@pytest.mark.parametrize(("over", "tail"), [("mean", 0.5), ("worst", 0.5), ("cvar", 0.5)])
def test_in_the_corridor_each_attitude_to_risk_finds_its_route(over, tail):
    world = Corridor()

    class Wind(WorldModel):
        def __init__(self):
            super().__init__()
            self.latent_variable = Noise(1)

        def begin(self, latent, actions, exogenous=None):
            return Belief(latent.state[:, -1])

        def imagine(self, belief, actions, exogenous=None, u=None):
            state = belief.state[:, None].expand(-1, actions.shape[1], -1)
            states, energies = [state], []
            for t in range(actions.shape[2]):
                state, energy = world.step(state, actions[:, :, t], u[:, :, t, 0])
                states.append(state)
                energies.append(energy)
            return Imagined(torch.stack(states, 2), disagreement=torch.stack(energies, 2))

    class Told(Cost):
        name = "goal"

        def energy(self, imagined, actions, task):
            return imagined.disagreement

    length = world.config.length
    task = Task(LatentGoal(Latent(torch.zeros(1, 2))), risk=Risk(scenarios=200, over=over, tail=tail))
    problem = Problem(Wind(), Belief(world.start(20)), (Told(),), task, world.signature.action, torch.arange(20),
                      torch.zeros(20, dtype=torch.int64))
    routes = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1).expand(20, -1, length, -1)  # bridge, round
    right = {"bridge": 0, "round": 1}[world.best(tail if over == "cvar" else over)]
    assert bool((score(problem, routes).energy.argmin(1) == right).all())


# Intrinsic costs, and what comes after -----------------------------------------------------------------------------


def test_an_intrinsic_cost_weighs_1_in_its_own_unit_unless_the_task_says_otherwise():
    class Half(EffortCost):
        unit = 0.5

    plain = reach([[0.0]], [[1.0]])
    cost = Sealed(Half(plain.action))
    problem = replace(plain, costs=(GoalCost(), cost))
    actions = torch.full((1, 1, 2, 1), 0.5)
    assert score(problem, actions).parts["effort"].tolist() == [[[0.5, 0.5]]]
    assert problem.silenced == ()
    silent = replace(problem, task=replace(problem.task, weights={"goal": 1.0, "effort": 0.0}))
    assert "effort" not in score(silent, actions).parts
    assert silent.silenced == ("effort",)
    double = replace(problem, task=replace(problem.task, weights={"goal": 1.0, "effort": 2.0}))
    assert score(double, actions).parts["effort"].tolist() == [[[1.0, 1.0]]]


def test_two_guardrails_of_one_name_are_counted_apart():
    problem = reach([[0.0]], [[1.0]], guardrails=(Limit(below=0.5), Limit(below=-0.5)))
    found = score(problem, torch.zeros(1, 1, 2, 1))
    assert {name: bool(hit[0, 0]) for name, hit in found.refused.items()} == {"limit": False, "limit (2)": True}


def test_what_comes_after_the_horizon_is_one_more_term_of_the_last_step():
    problem = reach([[0.0]], [[1.0]])
    actions = torch.zeros(1, 2, 3, 1)
    found = verdict(problem, imagine(problem, actions), actions, torch.tensor([[4.0, 5.0]]))
    assert found.parts["value"].tolist() == [[[0, 0, 4], [0, 0, 5]]]
    torch.testing.assert_close(found.energy, score(problem, actions).energy + torch.tensor([[4.0, 5.0]]))


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -float("inf"), "1", None])
def test_a_weight_that_is_not_finite_is_refused(weight):
    problem = reach([[0.0]], [[1.0]])
    with pytest.raises(PlanningError, match="weights that are finite"):
        score(replace(problem, task=replace(problem.task, weights={"goal": weight})), torch.zeros(1, 1, 2, 1))


@pytest.mark.parametrize("wrong", [{"over": "median"}, {"scenarios": 2.5}, {"scenarios": 0}, {"broken": float("nan")}])
def test_a_risk_that_nobody_can_weigh_is_refused(wrong):
    with pytest.raises(ConfigError, match="mean"):
        Risk(**wrong)
