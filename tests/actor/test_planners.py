"""Sampling planners: bounds, neighbours, oracles, guardrails, fallback, budget, what a plan reports."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import MOVES, Limit, LinearWorld, SquareCost, choose, point, reach

from steersman.actor import CEM, ICEM, MPPI, PredictiveSampling
from steersman.core import (
    ActionError,
    ActionSpec,
    Belief,
    Budget,
    CallableGoal,
    ConfigError,
    Imagined,
    Latent,
    ObservationSpec,
    PlanningError,
    Problem,
    Signature,
    Task,
)
from steersman.world_model import ResidualModel, TransformerModel

PLANNERS = {
    "cem": CEM.Config(samples=40, iterations=3, elites=6, horizon=6),
    "cem-held": CEM.Config(samples=40, iterations=3, elites=6, horizon=6, hold=2, momentum=0.2, floor=0.05),
    "icem": ICEM.Config(samples=40, iterations=3, elites=6, horizon=6),
    "mppi": MPPI.Config(samples=40, iterations=3, horizon=6, answer="best"),
    "mppi-coloured": MPPI.Config(
        samples=40, iterations=3, horizon=6, beta=2.0, elites=12, normalise="range", answer="best"
    ),
    "predictive-sampling": PredictiveSampling.Config(samples=40, iterations=3, horizon=6, knots=3, spline="cubic"),
}
LEAST = {"mppi": 12, "mppi-coloured": 12}  # calls: a candidate, and the weighted mean
planner = pytest.mark.parametrize("name", PLANNERS)


@planner
@settings(max_examples=40)
@given(
    low=st.floats(-1e3, 1e3), width=st.floats(1e-3, 1e3), goal=st.floats(-1e4, 1e4), spread=st.floats(0.1, 10),
    seed=st.integers(0, 2**40),
)
def test_no_action_leaves_its_bounds_and_the_model_never_sees_one_that_does(name, low, width, goal, spread, seed):
    high = low + width
    seen = []

    class Watching(LinearWorld):
        def imagine(self, belief, actions, exogenous=None, u=None):
            seen.append(actions)
            return super().imagine(belief, actions, exogenous, u)

    problem = reach([[0.0]], [[goal]], low=low, high=high, seeds=[seed], model=Watching(torch.eye(1), torch.eye(1)))
    plan = replace_config(name, spread=spread).build().plan(problem)
    for actions in [*seen, plan.actions]:
        assert float(actions.double().min()) >= low
        assert float(actions.double().max()) <= high


def replace_config(name, **changes):
    config = PLANNERS[name]
    own = {f: getattr(config, f) for f in config.__struct_fields__}
    return type(config)(**own | {f: value for f, value in changes.items() if f in own})


@planner
@pytest.mark.parametrize("model", ["residual", "transformer"])
def test_a_plan_is_the_same_alone_and_among_24(name, model):
    torch.manual_seed(0)
    signature = signature_of(2, 3)
    config = ResidualModel.Config(width=24) if model == "residual" else TransformerModel.Config(width=32, depth=1)
    world = config.build(signature, (3,), None).eval()
    start, history = torch.randn(24, 4, 3), torch.rand(24, 3, 2) * 2 - 1
    belief = world.begin(Latent(start), history)
    together_problem = replace(reach(torch.zeros(24, 2), torch.zeros(1, 2)), model=world, belief=belief)
    goal = CallableGoal(lambda columns, imagined: imagined.states[:, :, 1:].square().mean(-1))
    together_problem = replace(together_problem, task=replace(together_problem.task, goal=goal))
    method = PLANNERS[name].build()
    together = method.plan(together_problem)
    again = method.plan(replace(together_problem, warm=together.warm, decision=torch.ones(24, dtype=torch.int64)))
    for b in (0, 17, 23):
        row = slice(b, b + 1)
        problem = replace(
            together_problem, belief=belief[row], seeds=together_problem.seeds[row], decision=torch.zeros(1).long()
        )
        alone = method.plan(problem)
        assert torch.equal(alone.actions[0], together.actions[b])
        later = method.plan(replace(problem, warm=alone.warm, decision=torch.ones(1).long()))
        assert torch.equal(later.actions[0], again.actions[b])


def signature_of(actions, columns):
    spec = ActionSpec("continuous", (-1.0,) * actions, (1.0,) * actions)
    return Signature({"state": ObservationSpec("vector", (columns,))}, spec)


def riccati(a, b, q, r, horizon):
    """Least cost-to-go matrix of Σ_{t<H} x_{t+1}ᵀQx_{t+1} + u_tᵀRu_t, by dynamic programming."""
    p = torch.zeros_like(q)
    for _ in range(horizon):
        s = q + p
        gain = torch.linalg.solve(r + b.mT @ s @ b, b.mT @ s @ a)
        p = (a - b @ gain).mT @ s @ (a - b @ gain) + gain.mT @ r @ gain
    return p


@pytest.mark.parametrize(
    "config",
    [CEM.Config(horizon=10), ICEM.Config(samples=300, iterations=30, elites=30, horizon=10, decay=1.0, beta=0.0)],
    ids=["cem", "icem"],
)
@pytest.mark.parametrize("bound", [5.0, 10.0])
def test_lqr_within_one_percent_of_riccati(config, bound):
    """A double integrator from eight starts. Coloured noise (β = 2) explores slow plans and ends 2 to 30% above."""
    a, b = torch.tensor([[1.0, 0.2], [0.0, 1.0]]), torch.tensor([[0.02], [0.2]])
    q, r = torch.eye(2), 0.1 * torch.eye(1)
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(3))
    problem = Problem(
        LinearWorld(a, b), Belief(x), (SquareCost(q, r),), Task(CallableGoal(lambda c, i: i), {"lqr": 1.0}),
        ActionSpec("continuous", (-bound,), (bound,)), torch.arange(8), torch.zeros(8, dtype=torch.int64),
    )
    plan = config.build().plan(problem)
    best = torch.einsum("bi,ij,bj->b", x, riccati(a, b, q, r, 10), x)
    reached = plan.energy["lqr"].sum(1)
    assert bool((reached >= best * (1 - 1e-4)).all())
    assert bool((reached <= 1.01 * best).all()), (reached / best).tolist()


@planner
def test_energies_of_terms_belong_to_the_plan_and_sum(name):
    problem = reach([[0.0, 0.0], [1.0, 2.0]], [[2.0, -1.0]], weights={"goal": 2.0, "effort": 0.5})
    plan = PLANNERS[name].build().plan(problem)
    assert plan.actions.shape == (2, 6, 2)
    assert plan.action.shape == (2, 2)
    imagined = problem.model.imagine(problem.belief, plan.actions[:, None])
    torch.testing.assert_close(imagined.states, plan.imagined.states)
    for cost in problem.costs:
        expected = problem.task.weights[cost.name] * cost.energy(imagined, plan.actions[:, None], problem.task)[:, 0]
        torch.testing.assert_close(plan.energy[cost.name], expected)
    assert bool(plan.feasible.all())
    assert plan.reason[0].startswith("lowest energy of")


@planner
def test_a_guardrail_is_never_traded_against_the_task(name):
    limit = Limit(0, 0.5, "right wall")
    free = reach([[0.0, 0.0]], [[3.0, 0.0]])
    assert float(PLANNERS[name].build().plan(free).imagined.states[..., 0].max()) > 0.5
    plan = PLANNERS[name].build().plan(replace(free, task=replace(free.task, guardrails=(limit,))))
    assert bool(plan.feasible.all())
    assert float(plan.imagined.states[:, :, 1:, 0].max()) <= 0.5
    assert int(plan.vetoed["right wall"]) > 0
    scored = int(plan.kept) + int(plan.vetoed["right wall"])
    assert int(plan.calls) == scored * 6
    assert "right wall refused" in plan.reason[0]


@planner
def test_where_nothing_is_feasible_the_fallback_is_taken_and_said(name):
    limits = (Limit(0, -50.0, "impossible"), Limit(1, 100.0, "harmless"))
    fallback = torch.tensor([0.25, -0.5])
    start = [[0.0, 0.0], [-100.0, 0.0]]  # the second problem is feasible
    problem = reach(start, [[1.0, 0.0]], guardrails=limits, fallback=fallback)
    plan = PLANNERS[name].build().plan(problem)
    assert plan.feasible.tolist() == [False, True]
    assert torch.equal(plan.actions[0], fallback.expand(6, 2))
    assert plan.kept[0] == 0
    assert plan.vetoed["harmless"].tolist() == [0, 0]
    assert plan.reason[0].startswith("INFEASIBLE")
    assert "impossible refused" in plan.reason[0]
    imagined = problem.model.imagine(problem.belief[:1], fallback.expand(1, 1, 6, 2))
    torch.testing.assert_close(plan.imagined.states[0], imagined.states[0])
    torch.testing.assert_close(
        plan.energy["goal"][0], problem.costs[0].energy(imagined, fallback.expand(1, 1, 6, 2), problem.task)[0, 0]
    )
    assert int(plan.calls[0]) == int(plan.calls[1]) + 6


@planner
def test_without_a_declared_fallback_the_middle_of_the_range_is_taken(name):
    problem = reach([[0.0]], [[1.0]], low=1.0, high=3.0, guardrails=[Limit(0, -50.0)])
    assert torch.equal(PLANNERS[name].build().plan(problem).actions, torch.full((1, 6, 1), 2.0))


@planner
def test_infeasible_candidates_are_ranked_by_violation(name):
    """The search moves towards feasibility even if at first no candidate is feasible."""
    inside = Limit(0, -2.5, "far left")
    problem = reach([[0.0, 0.0]], [[9.0, 0.0]], guardrails=[LateLimit(inside)])
    plan = replace_config(name, iterations=12).build().plan(problem)
    assert bool(plan.feasible.all())


class LateLimit(Limit):
    """Judges the end of the horizon only."""

    def __init__(self, inner):
        super().__init__(inner.index, inner.below, inner.title)

    def margin(self, imagined, actions):
        margin = super().margin(imagined, actions)
        return torch.cat([torch.full_like(margin[..., :-1], -1.0), margin[..., -1:]], -1)


@planner
def test_a_model_that_diverges_is_infeasible_not_best(name):
    class Diverging(LinearWorld):
        def imagine(self, belief, actions, exogenous=None, u=None):
            imagined = super().imagine(belief, actions, exogenous, u)
            bad = actions[..., 0].amax(-1) > 0
            return Imagined(torch.where(bad[..., None, None], torch.nan, imagined.states))

    model = Diverging(torch.eye(1), torch.eye(1))
    plan = replace_config(name, samples=200).build().plan(reach([[0.0]], [[1.0]], model=model))
    assert bool(plan.feasible.all())
    assert float(plan.actions.max()) <= 0

    class Hopeless(LinearWorld):
        def imagine(self, belief, actions, exogenous=None, u=None):
            return Imagined(super().imagine(belief, actions, exogenous, u).states * torch.nan)

    plan = PLANNERS[name].build().plan(reach([[0.0]], [[1.0]], model=Hopeless(torch.eye(1), torch.eye(1))))
    assert not bool(plan.feasible.any())
    assert "finite energy" in plan.reason[0]
    assert torch.equal(plan.actions, torch.zeros(1, 6, 1))


def test_a_margin_that_is_not_a_number_is_a_violation():
    class Broken(Limit):
        def margin(self, imagined, actions):
            return torch.full(actions.shape[:3], torch.nan)

    plan = PLANNERS["cem"].build().plan(reach([[0.0]], [[1.0]], guardrails=[Broken()]))
    assert plan.feasible.tolist() == [False]


@planner
@pytest.mark.parametrize("calls", [0, 100, 240, 300, 719, 720, 10_000])
def test_the_budget_of_calls_is_kept(name, calls):
    calls = calls or LEAST.get(name, 6)
    problem = reach([[0.0, 0.0]] * 3, [[2.0, 0.0]], budget=Budget(calls=calls))
    plan = PLANNERS[name].build().plan(problem)
    assert problem.model.calls <= calls
    assert plan.calls.tolist() == [problem.model.calls] * 3
    if calls < 10_000:
        assert calls - problem.model.calls < 240, "most of the budget is used"


@planner
def test_a_budget_for_no_candidate_is_refused(name):
    least = LEAST.get(name, 6)
    with pytest.raises(PlanningError, match=f"at least {least} predictor calls"):
        PLANNERS[name].build().plan(reach([[0.0]], [[1.0]], budget=Budget(calls=least - 1)))


@planner
def test_the_time_budget_is_kept(name):
    class Slow(LinearWorld):
        def imagine(self, belief, actions, exogenous=None, u=None):
            time.sleep(0.03)
            return super().imagine(belief, actions, exogenous, u)

    model = Slow(torch.eye(1), torch.eye(1))
    problem = reach([[0.0]], [[1.0]], model=model, budget=Budget(seconds=0.2))
    plan = replace_config(name, iterations=1000).build().plan(problem)
    assert plan.seconds <= 0.25
    assert model.calls >= 2 * 40 * 6


@planner
def test_warm_start_goes_on_within_an_episode_and_not_across(name):
    config = replace_config(name, iterations=8)
    method = config.build()
    first = reach([[0.0, 0.0]] * 2, [[20.0, -20.0]])
    warm = method.plan(first).warm
    short = replace_config(name, iterations=1, samples=6, elites=6).build()
    decision = torch.tensor([1, 0])
    plan = short.plan(replace(first, warm=warm, decision=decision))
    cold = short.plan(replace(first, decision=decision))
    assert float(plan.energy["goal"][0].sum()) < 0.98 * float(cold.energy["goal"][0].sum())
    assert torch.equal(plan.actions[1], cold.actions[1])


@pytest.mark.parametrize("name", [name for name in PLANNERS if name != "cem-held"])  # one block: the same when moved
def test_a_plan_of_which_no_step_has_passed_is_not_moved_on(name):
    config = replace_config(name, iterations=8)
    first = reach([[0.0, 0.0]], [[20.0, -20.0]])
    warm = config.build().plan(first).warm
    moved = [replace(first, warm=warm, decision=torch.tensor([1]), passed=passed) for passed in (0, 1, None)]
    few = replace_config(name, iterations=1, samples=6, elites=6).build()
    a, b, c = (few.plan(problem).actions for problem in moved)
    assert torch.equal(b, c)
    assert not torch.equal(a, b)


@planner
def test_a_policys_proposal_competes(name):
    best = torch.ones(1, 6, 2) * torch.tensor([1.0, -1.0])
    problem = reach([[0.0, 0.0]], [[50.0, -50.0]], proposal=best * 3)
    plan = replace_config(name, iterations=1, samples=12, elites=6).build().plan(problem)
    assert torch.equal(plan.actions, best)


@planner
def test_seeds_and_decisions_decide_all_randomness(name):
    method = PLANNERS[name].build()
    torch.manual_seed(1)
    a = method.plan(reach([[0.0]], [[1.0]], seeds=[5])).actions
    torch.manual_seed(2)
    assert torch.equal(a, method.plan(reach([[0.0]], [[1.0]], seeds=[5])).actions)
    assert not torch.equal(a, method.plan(reach([[0.0]], [[1.0]], seeds=[6])).actions)
    later = reach([[0.0]], [[1.0]], seeds=[5], decision=torch.ones(1, dtype=torch.int64))
    assert not torch.equal(a, method.plan(later).actions)


@pytest.mark.parametrize("method", [
    CEM.Config(samples=200, iterations=10, elites=20, horizon=4),
    ICEM.Config(samples=200, iterations=10, elites=20, horizon=4),
])
def test_choices_reach_the_best_of_all_sequences(method):
    problem = choose([[0.0, 0.0], [3.0, 1.0]], [[2.0, -2.0]], MOVES)
    plan = method.build().plan(problem)
    assert plan.actions.dtype == torch.int64
    assert plan.actions.shape == (2, 4, 1)
    every = torch.tensor(list(itertools.product(range(5), repeat=4)))[None, :, :, None].expand(2, -1, -1, -1)
    imagined = problem.model.imagine(problem.belief, every)
    best = problem.costs[0].energy(imagined, every, problem.task).sum(2).amin(1)
    torch.testing.assert_close(plan.energy["goal"].sum(1), best)


def test_choices_alone_and_among_others_are_the_same():
    starts = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    problem = choose(starts, [[2.0, -2.0]], MOVES)
    method = CEM.Config(samples=30, iterations=3, elites=5, horizon=5, hold=2).build()
    together = method.plan(problem)
    for b in range(16):
        alone = method.plan(replace(
            problem, belief=problem.belief[b : b + 1], seeds=problem.seeds[b : b + 1], decision=problem.decision[:1]
        ))
        assert torch.equal(alone.actions[0], together.actions[b])


def test_choices_fall_back():
    problem = choose([[0.0, 0.0]], [[2.0, 0.0]], MOVES, guardrails=(Limit(0, -50.0),), fallback=torch.tensor([3]))
    plan = PLANNERS["cem"].build().plan(problem)
    assert plan.actions.flatten().tolist() == [3] * 6
    assert not bool(plan.feasible.any())


@pytest.mark.parametrize("fallback", [[2.0], [0.0, 0.0], [float("nan")]])
def test_a_fallback_that_is_no_action_is_refused(fallback):
    problem = reach([[0.0]], [[1.0]], guardrails=[Limit(0, -50.0)], fallback=torch.tensor(fallback))
    with pytest.raises(ActionError, match="fallback"):
        PLANNERS["cem"].build().plan(problem)


def test_the_tasks_horizon_wins():
    problem = reach([[0.0]], [[1.0]])
    problem = replace(problem, task=replace(problem.task, horizon=3))
    assert PLANNERS["icem"].build().plan(problem).actions.shape == (1, 3, 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CEM.Config(samples=5, elites=6),
        lambda: CEM.Config(iterations=0),
        lambda: CEM.Config(spread=0.0),
        lambda: ICEM.Config(decay=0.5),
        lambda: ICEM.Config(keep=2.0),
    ],
)
def test_impossible_configurations_are_refused(make):
    with pytest.raises(ConfigError):
        make()


def test_point_world_is_what_the_tests_think():
    imagined = point(1).imagine(Belief(torch.zeros(1, 1)), torch.ones(1, 1, 3, 1))
    assert imagined.states.flatten().tolist() == [0, 1, 2, 3]
