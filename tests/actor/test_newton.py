"""Newton steps: the exact solution of linear problems, limits that plans rest on, bounds, neighbours, budget."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import Limit, LinearWorld, reach

from steersman import check_planner
from steersman.actor import Newton
from steersman.core import (
    ActionSpec,
    Belief,
    Budget,
    CallableGoal,
    ConfigError,
    Guardrail,
    PlanningError,
    Problem,
    Task,
)
from steersman.world_model import LinearModel
from steersman.worlds import LQR, LQRCost

WORLD = LQR.double_integrator()


class Ceiling(Guardrail):
    """Position at most `limit`."""

    name = "ceiling"

    def __init__(self, limit):
        self.limit = limit

    def margin(self, imagined, actions):
        return imagined.states[:, :, 1:, 0] - self.limit


def lqr(starts, bound=100.0, guardrails=(), horizon=10, **changes):
    goal = CallableGoal(lambda columns, imagined: imagined.states[:, :, 1:, 0])
    task = Task(goal, {"lqr": 1.0}, guardrails, horizon=horizon, **changes)
    return Problem(
        LinearModel(WORLD.transition, WORLD.control), Belief(starts), (LQRCost(WORLD),), task,
        ActionSpec("continuous", (-bound,), (bound,)), torch.arange(len(starts)),
        torch.zeros(len(starts), dtype=torch.int64),
    )


def starts(count=6):
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(3))


def energy(plan):
    return plan.energy["lqr"].sum(1)


def test_two_iterations_solve_lqr_and_the_second_changes_little():
    best = WORLD.optimal_energy(starts(), 10).float()
    reached = energy(Newton.Config(iterations=2).build().plan(lqr(starts())))
    assert bool((reached >= best * (1 - 1e-4)).all())
    assert bool((reached <= 1.001 * best).all()), (reached / best).tolist()


def test_a_plan_that_rests_on_bounds_meets_projected_gradient_descent():
    problem = lqr(starts(), bound=0.5)
    ours = Newton.Config(iterations=1).build().plan(problem)
    actions = torch.zeros(6, 1, 10, 1, requires_grad=True)
    for _ in range(500):
        total = problem.costs[0].energy(problem.model.imagine(problem.belief, actions), actions, problem.task).sum()
        (slope,) = torch.autograd.grad(total, actions)
        actions = (actions - 0.05 * slope).clamp(-0.5, 0.5).detach().requires_grad_()
    imagined = problem.model.imagine(problem.belief, actions)
    theirs = problem.costs[0].energy(imagined, actions, problem.task).sum(2)[:, 0].detach()
    assert float(ours.actions.abs().max()) <= 0.5
    assert bool((energy(ours) <= 1.002 * theirs + 1e-4).all()), (energy(ours) / theirs).tolist()


def test_a_plan_that_rests_on_a_guardrail_is_feasible_and_close_to_the_solution():
    """From x = -1 the unguarded optimum overshoots; the ceiling is where it would still be at its peak's half."""
    start = torch.tensor([[-1.0, 1.5]])
    free = Newton.Config(iterations=3).build().plan(lqr(start, bound=5.0, horizon=20))
    peak = float(free.imagined.states[0, 0, :, 0].max())
    assert peak > 0
    limit = peak / 2
    plan = Newton.Config(iterations=1).build().plan(lqr(start, bound=5.0, guardrails=(Ceiling(limit),), horizon=20))
    assert bool(plan.feasible.all())
    assert float(plan.imagined.states[0, 0, 1:, 0].max()) <= limit
    best = solved_by_quadratic_programming(start, limit)
    assert float(energy(free)) <= best * 1.001
    assert float(energy(plan)) <= 1.001 * best


def solved_by_quadratic_programming(start, limit):
    """The least energy under the ceiling, by SciPy."""
    optimise = pytest.importorskip("scipy.optimize")
    horizon = 20

    exact, begin = WORLD.map(lambda x: x.double()), start[0].double()

    def positions(u):
        states, x = [], begin
        for a in u:
            x = exact.transition @ x + exact.control @ a[None]
            states.append(x[0])
        return torch.stack(states)

    zero = torch.zeros(horizon, dtype=torch.float64)
    rows = torch.autograd.functional.jacobian(positions, zero)  # positions are linear in the actions
    total = lambda u: exact.energy(begin, u[:, None])  # noqa: E731
    hessian = torch.autograd.functional.hessian(total, zero)
    slope = torch.autograd.functional.jacobian(total, zero)
    found = optimise.minimize(
        lambda u: 0.5 * u @ hessian.numpy() @ u + slope.numpy() @ u, zero.numpy(), method="SLSQP",
        jac=lambda u: hessian.numpy() @ u + slope.numpy(), options={"maxiter": 300, "ftol": 1e-12},
        constraints={"type": "ineq", "fun": lambda u: (limit - positions(zero)).numpy() - rows.numpy() @ u,
                     "jac": lambda u: -rows.numpy()},
    )
    assert found.success
    return float(total(torch.as_tensor(found.x)))


@settings(max_examples=15)
@given(
    low=st.floats(-1e3, 1e3), width=st.floats(1e-3, 1e3), goal=st.floats(-1e4, 1e4), seed=st.integers(0, 2**40),
)
def test_no_action_leaves_its_bounds_and_the_model_never_sees_one_that_does(low, width, goal, seed):
    high, seen = low + width, []

    class Watching(LinearWorld):
        def imagine(self, belief, actions, exogenous=None, u=None):
            seen.append(actions)
            return super().imagine(belief, actions, exogenous, u)

    problem = reach([[0.0]], [[goal]], low=low, high=high, seeds=[seed], model=Watching(torch.eye(1), torch.eye(1)))
    plan = Newton.Config(iterations=2, samples=8, horizon=4).build().plan(problem)
    for actions in [*seen, plan.actions]:
        assert float(actions.detach().min().double()) >= low
        assert float(actions.detach().max().double()) <= high


@pytest.mark.parametrize("guarded", [False, True])
def test_a_plan_is_the_same_alone_and_among_others(guarded):
    rails = (Ceiling(0.3),) if guarded else ()
    whole, method = lqr(starts(), bound=2.0, guardrails=rails), Newton.Config(iterations=2, samples=8).build()
    together = method.plan(whole)
    for b in (0, 5):
        row = slice(b, b + 1)
        alone = replace(whole, belief=whole.belief[row], seeds=whole.seeds[row], decision=whole.decision[row])
        torch.testing.assert_close(method.plan(alone).actions[0], together.actions[b], rtol=1e-4, atol=5e-5)


def test_it_keeps_what_every_planner_promises():
    check_planner(Newton.Config(iterations=1, samples=4).build())


def test_what_no_action_can_keep_ends_in_the_fallback_and_says_so():
    problem = lqr(torch.tensor([[5.0, 5.0]]), bound=1.0, guardrails=(Ceiling(0.0),), fallback=torch.tensor([-1.0]))
    plan = Newton.Config(iterations=2).build().plan(problem)
    assert not bool(plan.feasible.any())
    assert bool((plan.actions == -1.0).all())
    assert plan.reason[0].startswith("INFEASIBLE")


def test_budget_and_calls():
    method = Newton.Config(iterations=3, samples=8).build()
    for calls in (10, 100, 400, 1000):
        assert int(method.plan(lqr(starts(1), budget=Budget(calls=calls))).calls.max()) <= calls
    assert int(method.plan(lqr(starts(1))).calls) == 10 * (8 + 3 * (2 * 11 + 8))


def test_what_it_cannot_do_is_refused():
    with pytest.raises(ConfigError, match="spread >= 0"):
        Newton.Config(spread=-1.0)
    with pytest.raises(PlanningError, match="continuous"):
        Newton().plan(replace(lqr(starts(1)), action=ActionSpec("discrete", choices=2)))


@pytest.mark.parametrize("size", [1, 3])
def test_an_odd_number_of_unknowns_gives_the_same_bits_in_every_place_of_a_batch(size):
    """Matrices of 15 x 15 and 45 x 45 numbers lie at addresses of two kinds in memory."""
    g = torch.Generator().manual_seed(4)
    start, goal = 3 * torch.randn(24, size, generator=g), 3 * torch.randn(24, size, generator=g)
    limit = Limit(below=1.0)
    planner = Newton.Config(horizon=15, samples=4, iterations=2).build()
    whole = planner.plan(reach(start, goal, guardrails=(limit,)))
    for b in (1, 2, 7, 23):
        alone = planner.plan(reach(start[b : b + 1], goal[b : b + 1], guardrails=(limit,), seeds=[b]))
        assert torch.equal(alone.actions[0], whole.actions[b])
