"""Planners that follow gradients: KKT solutions, Riccati, bounds, budgets, inference mode, neighbours."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from problems import MOVES, Limit, LinearWorld, SquareCost, choose, reach

from steersman.actor import AugmentedLagrangian, Gradient
from steersman.core import (
    ActionSpec,
    Belief,
    Budget,
    CallableGoal,
    ConfigError,
    Cost,
    Guardrail,
    Imagined,
    Latent,
    LatentGoal,
    ObservationSpec,
    PlanningError,
    Problem,
    Signature,
    Task,
)
from steersman.world_model import ResidualModel

GRADIENT = Gradient.Config(horizon=5)
LAGRANGIAN = AugmentedLagrangian.Config(horizon=5)
both = pytest.mark.parametrize("config", [GRADIENT, LAGRANGIAN], ids=["gradient", "lagrangian"])


def changed(config, **changes):
    return type(config)(**{f: getattr(config, f) for f in config.__struct_fields__} | changes)


class Quadratic(Cost):
    """½ xᵀ P x + qᵀ x of the state after the only step: a quadratic programme in disguise."""

    name = "quadratic"

    def __init__(self, p, q):
        self.p, self.q = p, q

    def energy(self, imagined, actions, task):
        x = imagined.states[:, :, 1:]  # (B, K, 1, 3), with p (B, 3, 3) and q (B, 3)
        return ((x @ self.p[:, None]) * x).sum(-1) / 2 + (x * self.q[:, None, None]).sum(-1)


class HalfSpace(Guardrail):
    def __init__(self, normal, offset, name="half-space"):
        self.normal, self.offset, self.title = normal, offset, name

    @property
    def name(self):
        return self.title

    def margin(self, imagined, actions):
        return (imagined.states[:, :, 1:] * self.normal[:, None, None]).sum(-1) - self.offset[:, None, None]


def quadratic_programme(p, q, normals, offsets):
    """min ½ xᵀPx + qᵀx, N x <= o, by trying every active set: x and multipliers that meet the KKT conditions."""
    size, count = len(q), len(offsets)
    for number in range(size + 1):
        for active in itertools.combinations(range(count), number):
            n, o = normals[list(active)], offsets[list(active)]
            system = torch.zeros(size + number, size + number, dtype=p.dtype)
            system[:size, :size], system[:size, size:], system[size:, :size] = p, n.mT, n
            try:
                solution = torch.linalg.solve(system, torch.cat([-q, o]))
            except torch.linalg.LinAlgError:
                continue
            x, price = solution[:size], solution[size:]
            if bool((price >= -1e-9).all()) and bool((normals @ x <= offsets + 1e-9).all()):
                multipliers = torch.zeros(count, dtype=p.dtype)
                multipliers[list(active)] = price
                return x, multipliers
    raise AssertionError("no KKT point")


def test_the_lagrangian_meets_the_kkt_point_of_quadratic_programmes():
    """Forty at once: 3 unknowns, 3 half-spaces, bounds; scaled as nobody would scale them."""
    g, count = torch.Generator().manual_seed(5), 40
    draw = lambda *shape: torch.randn(count, *shape, generator=g, dtype=torch.float64)  # noqa: E731
    root, q, normals, offsets = draw(3, 3), 3 * draw(3), draw(3, 3), 0.2 + 0.2 * draw(3).abs()
    p = root @ root.mT + 0.5 * torch.eye(3)
    box = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    exact = [
        quadratic_programme(p[b], q[b], torch.cat([normals[b], box]), torch.cat([offsets[b], torch.ones(6)]))
        for b in range(count)
    ]
    x, prices = (torch.stack(part) for part in zip(*exact, strict=True))
    held = (prices > 1e-6).long()
    assert set(held[:, :3].sum(1).tolist()) >= {0, 1, 2}  # guardrails that hold the solution
    assert set(held[:, 3:].sum(1).tolist()) >= {0, 1}  # bounds that do
    units = 10.0 ** torch.tensor([0, 2, -2])
    rails = tuple(
        HalfSpace((unit * normals[:, i]).float(), (unit * offsets[:, i]).float(), f"{i}")
        for i, unit in enumerate(units)
    )
    problem = reach(torch.zeros(count, 3), torch.zeros(1, 3), guardrails=rails)
    for scale in (1e-3, 1e3):
        task = replace(problem.task, weights={"quadratic": scale}, horizon=1)
        plan = LAGRANGIAN.build().plan(replace(problem, costs=(Quadratic(p.float(), q.float()),), task=task))
        assert bool(plan.feasible.all())
        assert float((plan.actions[:, 0] - x).abs().max()) < 1e-3
        found = plan.warm.multipliers[:, :, 0].double() * units / scale
        torch.testing.assert_close(found, prices[:, :3], rtol=0.03, atol=0.03)


@pytest.mark.parametrize(("start", "solution", "prices"), [
    (0.0, [0.4, 0.4, 0.2, 0.0, 0.0], [0.0, 0.0, 2.0, 2.0, 2.0]),  # at the bound, then along the limit
    (1.3, [-0.3, 0.0, 0.0, 0.0, 0.0], [2.0] * 5),  # it begins beyond the limit
])
def test_the_lagrangian_follows_a_limit_step_by_step(start, solution, prices):
    problem = reach([[start]], [[2.0]], low=-0.4, high=0.4, guardrails=[Limit(0, 1.0)])
    plan = LAGRANGIAN.build().plan(problem)
    assert bool(plan.feasible)
    assert float(plan.imagined.states[:, :, 1:].max()) <= 1.0
    torch.testing.assert_close(plan.actions.flatten(), torch.tensor(solution), atol=1e-3, rtol=0)
    torch.testing.assert_close(plan.warm.multipliers.flatten(), torch.tensor(prices), atol=0.01, rtol=0)


def riccati(a, b, q, r, horizon):
    p = torch.zeros_like(q)
    for _ in range(horizon):
        s = q + p
        gain = torch.linalg.solve(r + b.mT @ s @ b, b.mT @ s @ a)
        p = (a - b @ gain).mT @ s @ (a - b @ gain) + gain.mT @ r @ gain
    return p


@both
@pytest.mark.parametrize("bound", [5.0, 10.0])
def test_lqr_within_one_percent_of_riccati(config, bound):
    a, b = torch.tensor([[1.0, 0.2], [0.0, 1.0]]), torch.tensor([[0.02], [0.2]])
    q, r = torch.eye(2), 0.1 * torch.eye(1)
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(3))
    problem = Problem(
        LinearWorld(a, b), Belief(x), (SquareCost(q, r),), Task(CallableGoal(lambda c, i: i), {"lqr": 1.0}, horizon=10),
        ActionSpec("continuous", (-bound,), (bound,)), torch.arange(8), torch.zeros(8, dtype=torch.int64),
    )
    best = torch.einsum("bi,ij,bj->b", x, riccati(a, b, q, r, 10), x)
    reached = config.build().plan(problem).energy["lqr"].sum(1)
    assert bool((reached <= 1.01 * best).all()), (reached / best).tolist()


@both
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.1, 0.3), (-3e38, 3e38), (5.0, 5.000001)])
def test_no_action_leaves_its_bounds(config, low, high):
    problem = reach([[0.0, 0.0]] * 2, [[9.0, -9.0]], low=low, high=high)
    for changes in [{}, {"keep_within": "tanh"}, {"optimiser": "sgd", "rate": 1e3}]:
        if changes and config is LAGRANGIAN:
            continue
        actions = changed(config, **changes).build().plan(problem).actions.double()
        assert low <= float(actions.min())
        assert float(actions.max()) <= high


class Bumpy(Cost):
    """Valleys at ±.8 of the first action, the right one deeper; a slope leads from the middle to the left."""

    name = "bumpy"

    def energy(self, imagined, actions, task):
        u = actions[..., 0]
        return (u.square() - 0.64).square() + torch.where(u > 0, 0.4 * (u - 0.8).square() - 0.1, 0.05 * u)


def test_restarts_leave_the_valley_in_which_one_start_ends():
    problem = reach([[0.0]], [[0.0]])
    problem = replace(problem, costs=(Bumpy(),), task=replace(problem.task, weights={"bumpy": 1.0}, horizon=1))
    one = changed(GRADIENT, restarts=1).build().plan(problem)
    many = changed(GRADIENT, restarts=16).build().plan(problem)
    assert float(one.actions) < -0.7
    assert float(many.actions) > 0.7


@both
def test_a_guardrail_that_cannot_be_differentiated_is_still_kept(config):
    class Steps(Limit):
        def margin(self, imagined, actions):
            return torch.where(imagined.states[:, :, 1:, self.index] > self.below, 1.0, -1.0)

    plan = config.build().plan(reach([[0.0]], [[9.0]], guardrails=[Steps(0, 1.0)], low=-0.5, high=0.5))
    assert bool(plan.feasible)
    assert float(plan.imagined.states[:, :, 1:].max()) <= 1.0


@both
def test_a_plan_in_inference_mode_is_the_plan_outside(config):
    """An agent decides in inference mode; belief, goal and weights may have been made there."""

    def everything():
        torch.manual_seed(0)
        spec = ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0))
        signature = Signature({"state": ObservationSpec("vector", (3,))}, spec)
        model = ResidualModel.Config(width=16).build(signature, (3,), None).eval()
        problem = reach(torch.zeros(2, 2), torch.zeros(1, 2), guardrails=[Limit(0, 0.8)])
        goal = LatentGoal(Latent(torch.randn(1, 3)))
        return replace(problem, model=model, belief=Belief(torch.randn(2, 3)), task=replace(problem.task, goal=goal))

    outside = config.build().plan(everything())
    with torch.inference_mode():
        problem = everything()
        inside = config.build().plan(problem)
        later = config.build().plan(replace(problem, warm=inside.warm, decision=problem.decision + 1))
    again = config.build().plan(problem)
    assert torch.equal(inside.actions, outside.actions)
    assert torch.equal(again.actions, outside.actions)
    assert not later.actions.requires_grad
    assert all(parameter.grad is None for parameter in problem.model.parameters())


@both
def test_choices_are_refused_in_words(config):
    with pytest.raises(PlanningError, match="5 discrete choices"):
        config.build().plan(choose([[0.0, 0.0]], [[1.0, 0.0]], MOVES))
    problem = reach([[0.0]], [[1.0]])
    with pytest.raises(PlanningError, match="whole numbers"):
        config.build().plan(replace(problem, action=ActionSpec("continuous", (-1.0,), (1.0,), whole=(0,))))


@both
def test_a_model_without_gradients_is_refused_in_words(config):
    class Cut(LinearWorld):
        def imagine(self, belief, actions, exogenous=None, u=None):
            return super().imagine(belief, actions.detach(), exogenous, u)

    with pytest.raises(PlanningError, match="differentiated in the actions"):
        config.build().plan(reach([[0.0]], [[1.0]], model=Cut(torch.eye(1), torch.eye(1))))


@both
def test_an_energy_that_is_not_finite_is_left_behind(config):
    """Beyond .5 the model breaks down; the way to the goal leads there."""

    class Breaking(LinearWorld):
        def imagine(self, belief, actions, exogenous=None, u=None):
            imagined = super().imagine(belief, actions, exogenous, u)
            bad = actions.abs().amax((2, 3)) > 0.5
            return Imagined(torch.where(bad, torch.nan, 1.0)[..., None, None] * imagined.states)

    plan = config.build().plan(reach([[0.0]], [[9.0]], model=Breaking(torch.eye(1), torch.eye(1))))
    assert bool(plan.feasible)
    assert float(plan.actions.min()) > (0.4 if config is GRADIENT else 0.05)  # all at once, or entry by entry
    assert float(plan.actions.max()) <= 0.5


@both
@pytest.mark.parametrize("calls", [80, 200, 1000, 10**6])
def test_forward_and_backward_passes_are_counted_and_the_budget_kept(config, calls):
    rails = [Limit(0, 0.9)]
    problem = reach([[0.0, 0.0]] * 2, [[2.0, 0.0]], guardrails=rails, budget=Budget(calls=calls))
    plan = config.build().plan(problem)
    assert int(plan.calls.max()) <= calls
    assert problem.model.calls <= int(plan.calls.max())  # the model sees the forward passes only
    if calls == 10**6:
        whole = 8 * (2 * 40 + 1) * 5 if config is GRADIENT else (4 * (2 * 8 * 30 + 1) + 32 * 3) * 5
        assert plan.calls.tolist() == [whole] * 2


@both
def test_early_stopping_saves_calls_and_keeps_neighbours_apart(config):
    config = changed(config, tolerance=1e-3)
    starts = torch.tensor([[0.0, 0.0], [0.3, 0.0], [-3.0, 1.0], [5.0, 5.0]])
    problem = reach(starts, [[0.0, 0.0]], guardrails=[Limit(1, 5.5)])
    plan = config.build().plan(problem)
    full = changed(config, tolerance=0.0).build().plan(problem)
    assert int(plan.calls.min()) < int(full.calls.min())
    assert len(set(plan.calls.tolist())) > 1
    assert float((plan.energy["goal"].sum(1) - full.energy["goal"].sum(1)).abs().max()) < 0.05
    for b in range(4):
        row = slice(b, b + 1)
        alone = config.build().plan(
            replace(problem, belief=problem.belief[row], seeds=problem.seeds[row], decision=problem.decision[row])
        )
        assert torch.equal(alone.actions[0], plan.actions[b])
        assert torch.equal(alone.warm.mean[0], plan.warm.mean[b])
        assert (int(alone.calls), int(alone.kept)) == (int(plan.calls[b]), int(plan.kept[b]))


@both
def test_the_next_decision_goes_on_from_this_one(config):
    problem = reach([[0.0]], [[3.0]], low=-0.4, high=0.4, guardrails=[Limit(0, 1.0)])
    plan = config.build().plan(problem)
    moved = replace(problem, belief=Belief(plan.imagined.states[:, 0, 1]), decision=problem.decision + 1)
    short = changed(config, **({"steps": 1} if config is GRADIENT else {"outer": 1, "inner": 2}), restarts=1)
    warm, cold = short.build().plan(replace(moved, warm=plan.warm)), short.build().plan(moved)
    assert float(warm.energy["goal"].sum()) < float(cold.energy["goal"].sum())


def test_known_inputs_to_come_are_followed():
    class Wind(LinearWorld):
        def imagine(self, belief, actions, exogenous=None, u=None):
            return super().imagine(belief, actions + exogenous[:, None], None, u)

    wind = torch.tensor([[[0.3], [-0.2], [0.5]]])
    problem = reach([[0.0]], [[0.0]], model=Wind(torch.eye(1), torch.eye(1)), exogenous=wind)
    plan = changed(GRADIENT, horizon=3, steps=80).build().plan(problem)
    torch.testing.assert_close(plan.actions, -wind, atol=1e-2, rtol=0)


@pytest.mark.parametrize("make", [
    lambda: Gradient.Config(rate=0.0), lambda: Gradient.Config(momentum=1.0), lambda: Gradient.Config(restarts=0),
    lambda: AugmentedLagrangian.Config(rho=0.0), lambda: AugmentedLagrangian.Config(fan=2),
    lambda: AugmentedLagrangian.Config(radius=0.0),
])
def test_impossible_settings_are_refused(make):
    with pytest.raises(ConfigError):
        make()
