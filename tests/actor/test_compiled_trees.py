"""Compiled tree search against the plain one and the judge: the same trees, the same plans, values to rounding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from problems import Limit, choose, reach
from test_tree_planners import CROSS, tabular

from steersman.actor import MCTS, score
from steersman.actor.tree.closed import closed_search
from steersman.actor.tree.stepping import Stepper
from steersman.agent.flight.watching import Sheet
from steersman.core import (
    ActionSpec,
    Belief,
    Budget,
    Critic,
    Latent,
    LatentGoal,
    ObservationSpec,
    Problem,
    PromiseError,
    Signature,
    Task,
    check_cost,
    check_world_model,
)
from steersman.core.compiled import compiled, compiling
from steersman.cost import EffortCost, GoalCost, Sealed
from steersman.world_model import ResidualModel
from steersman.worlds import TabularMDP

pytest.importorskip("numba")
select = pytest.mark.parametrize("select", ["puct", "gumbel"])


def both(config, problem, critic=None):
    with compiling(True):
        fast = MCTS(config, critic).plan(problem)
    with compiling(False):
        plain = MCTS(config, critic).plan(problem)
    return fast, plain


def same(fast, plain):
    torch.testing.assert_close(fast.warm.share, plain.warm.share)
    assert torch.equal(fast.feasible, plain.feasible)
    assert torch.equal(fast.actions, plain.actions)
    assert torch.equal(fast.kept, plain.kept)
    assert torch.equal(fast.calls, plain.calls)
    assert {n: v.tolist() for n, v in fast.vetoed.items()} == {n: v.tolist() for n, v in plain.vetoed.items()}
    torch.testing.assert_close(fast.imagined.states, plain.imagined.states)
    for name, energy in plain.energy.items():
        torch.testing.assert_close(fast.energy[name], energy)


@select
@pytest.mark.parametrize("outcomes", [1, 3])
def test_trees_on_random_tables_are_the_same(select, outcomes):
    for seed in range(3):
        mdp = TabularMDP.random(9, 4, seed, outcomes=outcomes)
        asked = tabular(mdp, torch.arange(9), 6)
        for count in (1, 7, 60):
            fast, plain = both(MCTS.Config(simulations=count, select=select, horizon=6), asked)
            same(fast, plain)
            assert float(plain.warm.share[:, 0].max()) < 1.0 or count == 1


@select
def test_refused_choices_are_closed_in_both(select):
    starts, limits = [[0.0, 0.0], [0.0, -9.0], [1.0, 1.0]], (Limit(0, 1.2), Limit(1, 2.5))
    asked = choose(starts, [[1.0, 2.0]], CROSS, guardrails=limits)
    same(*both(MCTS.Config(simulations=50, select=select, horizon=5), asked))
    blocked = choose([[0.0, 0.0], [0.0, -9.0]], [[1.0, 2.0]], CROSS, guardrails=(Limit(1, -3.0),))
    fast, plain = both(MCTS.Config(simulations=50, select=select, horizon=5), blocked)
    same(fast, plain)
    assert fast.feasible.tolist() == [False, True]


@select
def test_priors_critics_rollouts_and_amounts_enter_alike(select):
    class Far(Critic):
        def value(self, states, context=None):
            return states.square().sum(-1)

    asked = choose([[0.0, 0.0]] * 3, [[3.0, 1.0]], CROSS)
    for config in (MCTS.Config(simulations=30, select=select, horizon=5, rollout=2),
                   MCTS.Config(simulations=30, select=select, horizon=6, hold=2, considered=3)):
        same(*both(config, replace(asked, proposal=torch.full((3, 6, 1), 2))))
        same(*both(config, asked, Far()))
    fast, plain = both(config, reach([[0.0, 0.0], [1.0, 0.5]], [[2.0, 1.0]]))
    same(fast, plain)
    same(*both(config, replace(asked, warm=plain_warm(asked, config), decision=torch.ones(3, dtype=torch.int64))))
    capped = replace(asked, task=replace(asked.task, budget=Budget(calls=90)))
    same(*both(config, capped))


def plain_warm(asked, config):
    with compiling(False):
        return config.build().plan(asked).warm


# The whole search in one call -----------------------------------------------------------------------------------------


def closed(count=5, choices=5, goals=1, cost=None, weight=0.7, **config):
    """Problems whose model and energy have a closed form."""
    torch.manual_seed(count)
    spec = ActionSpec("discrete", choices=choices) if choices else ActionSpec("continuous", (-1.0,) * 2, (1.0,) * 2)
    signature = Signature({"s": ObservationSpec("vector", (6,))}, spec)
    model = ResidualModel.Config(**{"width": 16} | config).build(signature, (6,)).eval()
    torch.nn.init.normal_(model.to_change.weight, std=0.2)
    task = Task(LatentGoal(Latent(torch.randn(goals, 6))), {"goal": weight})
    return Problem(model, Belief(torch.randn(count, 6)), (cost or GoalCost(),), task, spec, torch.arange(count),
                   torch.zeros(count, dtype=torch.int64))


def has_closed_form(problem):
    return closed_search(problem, Stepper(problem, 5, 1, 8)) is not None


@select
@pytest.mark.parametrize(
    ("asked", "config"),
    [(closed(), {}), (closed(goals=5, depth=3), {}), (closed(1, linear=True), {}), (closed(depth=1), {"considered": 2}),
     (closed(cost=GoalCost(distance="absolute")), {"hold": 2, "horizon": 7}), (closed(cost=GoalCost(over="last")), {}),
     (closed(choices=0), {"fan": 4}), (closed(choices=2), {"simulations": 100, "horizon": 4})],
)
def test_a_search_in_one_call_is_the_search_step_by_step(select, asked, config):
    assert has_closed_form(asked)
    config = MCTS.Config(**{"simulations": 40, "select": select, "horizon": 6} | config)
    fast, plain = both(config, asked)
    same(fast, plain)
    assert fast.reason == plain.reason
    assert float((fast.warm.share > 0).sum(2).max()) > 1


class Counted(GoalCost):
    lowered = 0

    def energy(self, imagined, actions, task):
        return super().energy(imagined, actions, task)

    def as_distance(self, task):
        Counted.lowered += 1
        return super().as_distance(task)


@pytest.mark.parametrize("config", [{}, {"distance": "absolute"}, {"over": "last"}])
@pytest.mark.parametrize("hold", [1, 2])
def test_its_energies_are_the_judges_and_costs_are_lowered_once_a_plan(config, hold):
    asked = closed(goals=5, cost=Counted(**config))
    assert has_closed_form(asked)
    Counted.lowered = 0
    plan = MCTS.Config(simulations=40, horizon=6, hold=hold).build().plan(asked)
    assert Counted.lowered == 1
    judged = score(asked, plan.actions[:, None])
    torch.testing.assert_close(plan.energy["goal"], judged.parts["goal"][:, 0])
    torch.testing.assert_close(plan.imagined.states, judged.imagined.states)
    assert torch.equal(plan.feasible, judged.feasible[:, 0])
    assert float(plan.energy["goal"].abs().sum()) > 0.1


def test_a_problem_is_searched_alike_alone_and_among_others():
    asked, config = closed(7), MCTS.Config(simulations=30)
    whole = config.build().plan(asked)
    for row in (0, 4):
        rows = slice(row, row + 1)
        alone = config.build().plan(replace(asked, belief=asked.belief[rows], seeds=asked.seeds[rows],
                                            decision=asked.decision[rows]))
        assert torch.equal(alone.imagined.states[0], whole.imagined.states[row])
        assert torch.equal(alone.energy["goal"][0], whole.energy["goal"][row])
        assert alone.reason[0] == whole.reason[row]


def test_a_clock_or_a_budget_ends_it_early():
    asked = closed()
    hurried = replace(asked, task=replace(asked.task, budget=Budget(seconds=1e-6)))
    plan = MCTS.Config(simulations=64).build().plan(hurried)
    assert "8 simulations" in plan.reason[0]
    capped = replace(asked, task=replace(asked.task, budget=Budget(calls=100)))
    same(*both(MCTS.Config(simulations=64, horizon=5), capped))
    assert int(MCTS.Config(simulations=64, horizon=5).build().plan(capped).calls.max()) <= 100


def test_energies_that_are_not_finite_close_their_choices():
    asked = closed()
    asked = replace(asked, belief=Belief(asked.belief.state.index_fill(0, torch.tensor([2]), torch.nan)))
    fast, plain = both(MCTS.Config(simulations=30, horizon=4), asked)
    assert fast.feasible.tolist() == plain.feasible.tolist() == [True, True, False, True, True]
    assert "INFEASIBLE" in fast.reason[2]
    assert torch.equal(fast.actions, plain.actions)


@pytest.mark.parametrize("change", [
    lambda asked: replace(asked, task=replace(asked.task, guardrails=(Limit(0, 99.0),))),
    lambda asked: replace(asked, costs=(GoalCost(distance="cosine"),)),
    lambda asked: replace(asked, costs=(GoalCost(), EffortCost(asked.action)),
                          task=replace(asked.task, weights={"goal": 1.0, "effort": 1.0})),
    lambda asked: replace(asked, costs=(GoalCost(), Sealed(EffortCost(asked.action)))),
    lambda asked: replace(asked, model=asked.model.double()),
    lambda asked: replace(asked, model=ResidualModel.Config(members=2).build(
        Signature({"s": ObservationSpec("vector", (6,))}, asked.action), (6,))),
])
def test_what_has_no_closed_form_is_searched_step_by_step(change):
    asked = closed()
    assert has_closed_form(asked)
    assert not has_closed_form(change(asked))


class Doubled(GoalCost):
    def energy(self, imagined, actions, task):
        return 2 * super().energy(imagined, actions, task)


class Backwards(ResidualModel):
    def imagine(self, belief, actions, exogenous=None, u=None):
        found = super().imagine(belief, actions, exogenous, u)
        return replace(found, states=found.states.flip(-1))


def test_what_a_subclass_changed_is_not_searched_in_the_form_that_it_inherits():
    asked = closed()
    assert not has_closed_form(replace(asked, costs=(Doubled(),)))
    model = asked.model
    model.__class__ = Backwards
    assert not has_closed_form(replace(asked, model=model))


def test_a_closed_form_that_says_something_else_is_a_broken_promise():
    class Wrong(Doubled):
        def as_distance(self, task):
            return super().as_distance(task)

    spec = ActionSpec("discrete", choices=3)
    for cost in (GoalCost(), GoalCost(distance="absolute"), GoalCost(over="last")):
        assert "says the same in closed form" in check_cost(cost, spec, (6,))
    with pytest.raises(PromiseError, match="closed form"):
        check_cost(Wrong(), spec, (6,))
    model = closed().model
    assert "says the same in closed form" in check_world_model(model, closed().action, (6,))
    model.__class__ = type("Off", (ResidualModel,), {"as_perceptron": lambda self, actions: self._closed(
        self.actions(actions).flip(0))})
    with pytest.raises(PromiseError, match="closed form"):
        check_world_model(model, closed().action, (6,))


def test_who_watches_the_cost_sees_the_energies_that_the_search_computed():
    asked = closed()
    sheet = Sheet(asked)
    plan = MCTS.Config(simulations=30, horizon=9).build().plan(sheet.problem)
    candidates = sheet.candidates()
    assert candidates is not None
    assert candidates.scored == (30,) * 5
    assert candidates.finite == (30,) * 5
    assert candidates.energy[0][0] <= float(plan.energy["goal"][0].min()) + 1e-6
    assert compiled()
