"""Beam search, dynamic programming, tree search: exact oracles, limits, neighbours, budgets, what they refuse."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import Limit, choose, reach

from steersman.actor import MCTS, Beam, DynamicProgramming
from steersman.actor.tree.merging import first_of_each, keys, merged
from steersman.core import (
    ActionSpec,
    Belief,
    Budget,
    CallableGoal,
    ConfigError,
    Critic,
    Imagined,
    Latent,
    LatentGoal,
    ObservationSpec,
    PlanningError,
    Problem,
    Risk,
    Signature,
    Task,
    WorldModel,
)
from steersman.core.checks.planner import check_planner
from steersman.cost import GoalCost, SmoothnessCost
from steersman.world_model import RecurrentModel, ResidualModel, TabularModel
from steersman.worlds import Grid, TabularCost, TabularMDP

PLANNERS = {
    "beam": Beam.Config(width=12, horizon=5),
    "dynamic-programming": DynamicProgramming.Config(states=40, horizon=4, fan=4),
    "puct": MCTS.Config(simulations=40, select="puct", horizon=5),
    "gumbel": MCTS.Config(simulations=40, horizon=5),
}
planner = pytest.mark.parametrize("name", PLANNERS)
CROSS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])


def tabular(mdp: TabularMDP, starts, horizon: int, decision: int = 0) -> Problem:
    starts = torch.as_tensor(starts)
    task = Task(CallableGoal(lambda columns, imagined: imagined.states[..., 1:, 0]), {"tabular": 1.0}, horizon=horizon)
    return Problem(
        TabularModel(mdp.transition), Belief(mdp.one_hot(starts)), (TabularCost(mdp),), task,
        ActionSpec("discrete", choices=mdp.choices), starts.clone(), torch.full((len(starts),), decision),
    )


def regret(mdp: TabularMDP, plan, horizon: int):
    """How much worse than the best each state's first choice is, if all later ones are the best."""
    values, _ = mdp.solve(horizon)
    worth = mdp.energies.double() + (mdp.transition.double() @ values[1]).T
    return worth[torch.arange(mdp.states), plan.action[:, 0]] - values[0]


# Against value iteration -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_dynamic_programming_is_value_iteration_also_where_steps_are_left_to_chance(seed):
    mdp = TabularMDP.random(9, 3, seed, outcomes=1 + seed)
    final = torch.rand(9, generator=torch.Generator().manual_seed(seed))
    mdp = TabularMDP(mdp.transition, mdp.energies, final)
    for horizon in (1, 5):
        values, policy = mdp.solve(horizon)
        plan = DynamicProgramming.Config().build().plan(tabular(mdp, torch.arange(9), horizon))
        torch.testing.assert_close(plan.energy["tabular"].sum(1).double(), values[0], rtol=1e-5, atol=1e-5)
        assert float(regret(mdp, plan, horizon).max()) < 1e-6
        assert torch.equal(plan.action[:, 0], policy[0])
        assert "exact" in plan.reason[0]


@pytest.mark.parametrize("risk", [Risk(16, "worst"), Risk(16, "cvar"), Risk(16, broken=0.1)])
def test_listed_outcomes_count_by_their_mean_and_another_risk_is_refused(risk):
    asked = tabular(TabularMDP.random(9, 3, 0, outcomes=2), torch.arange(9), 3)
    told = [replace(asked, task=replace(asked.task, risk=one)) for one in (Risk(16), risk)]
    for config in (DynamicProgramming.Config(), MCTS.Config(simulations=20)):
        assert bool(config.build().plan(told[0]).feasible.all())
        with pytest.raises(PlanningError, match="'cem', 'icem', 'mppi' or 'beam' for risk"):
            config.build().plan(told[1])


def test_a_beam_with_merging_is_value_iteration_in_a_maze_and_without_it_only_near():
    grid = Grid.sample(Grid.Config(width=5, height=5), 0)
    values, _ = grid.mdp.solve(10)
    asked = tabular(grid.mdp, grid.free, 10)
    exact = Beam.Config(width=25, merge=1e-3).build().plan(asked).energy["tabular"].sum(1)
    torch.testing.assert_close(exact.double(), values[0][grid.free])
    greedy = Beam.Config(width=8).build().plan(asked).energy["tabular"].sum(1)
    assert float(greedy.sum()) > float(exact.sum())


@pytest.mark.parametrize("select", ["puct", "gumbel"])
@pytest.mark.parametrize("outcomes", [1, 2])
def test_tree_search_reaches_the_value_of_value_iteration(select, outcomes):
    """Closed loop: every decision is planned anew, for the steps that are left."""
    mdp, horizon = TabularMDP.random(6, 2, seed=3, outcomes=outcomes), 4
    values, _ = mdp.solve(horizon)
    reached = torch.zeros(6, dtype=torch.float64)
    for left in range(1, horizon + 1):  # from the end: the value of following the planner's choices
        config = MCTS.Config(simulations=300 if left > 2 else 40, select=select)
        choice = config.build().plan(tabular(mdp, torch.arange(6), left, decision=horizon - left)).action[:, 0]
        following = (mdp.transition.double() @ reached).T
        reached = (mdp.energies.double() + following)[torch.arange(6), choice]
    assert float(((reached - values[0]) / values[0]).max()) < 0.01


@pytest.mark.parametrize("select", ["puct", "gumbel"])
def test_a_critic_at_the_leaves_makes_a_short_search_exact(select):
    mdp = Grid.sample(Grid.Config(width=4, height=4, slip=0.2), 1).mdp
    values, _ = mdp.solve(40)

    class Exact(Critic):
        def value(self, states, context=None):
            return (states.double() @ values[0]).float()

    search = MCTS(MCTS.Config(simulations=150, select=select, horizon=2), critic=Exact())
    plan = search.plan(tabular(mdp, torch.arange(mdp.states), 2))
    assert float(regret(mdp, plan, 41).max()) < 0.03 * float(values[0].max())
    exact = DynamicProgramming(DynamicProgramming.Config(horizon=1), critic=Exact())
    assert float(regret(mdp, exact.plan(tabular(mdp, torch.arange(mdp.states), 1)), 41).max()) < 1e-3


@pytest.mark.parametrize("over", ["steps", "last"])
def test_every_planner_finds_the_best_sequence_of_all(over):
    """Also where only the last step counts, whichever way the planner sums energies."""
    asked = replace(choose([[0.0, 0.0], [2.0, 1.0]], [[1.6, -0.8]], CROSS), costs=(GoalCost(over=over),))
    every = torch.tensor(list(itertools.product(range(4), repeat=4)))[None, :, :, None].expand(2, -1, -1, -1)
    imagined = asked.model.imagine(asked.belief, every)
    by_first = asked.costs[0].energy(imagined, every, asked.task).sum(2).view(2, 4, -1).amin(2)
    asked = replace(asked, task=replace(asked.task, horizon=4))
    for config in (Beam.Config(width=64), DynamicProgramming.Config()):
        plan = config.build().plan(asked)
        torch.testing.assert_close(plan.energy["goal"].sum(1), by_first.amin(1), rtol=1e-4, atol=1e-5)
    plan = MCTS.Config(simulations=300, select="puct").build().plan(asked)  # here the first choice alone is certain
    torch.testing.assert_close(by_first.gather(1, plan.action)[:, 0], by_first.amin(1))


# Promises of every planner -----------------------------------------------------------------------------------------


@planner
@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_a_plan_is_the_same_alone_and_among_64(name, kind):
    torch.manual_seed(0)
    steps = {"discrete": {"choices": 4}, "continuous": {"low": (-1.0,) * 2, "high": (1.0,) * 2}}
    spec = ActionSpec(kind, **steps[kind])
    signature = Signature({"state": ObservationSpec("vector", (3,))}, spec)
    world = ResidualModel.Config(width=24).build(signature, (3,)).eval()
    goal = LatentGoal(Latent(torch.randn(1, 3)))
    whole = Problem(world, Belief(torch.randn(64, 3)), (GoalCost(),), Task(goal, guardrails=(Limit(0, 1.5),)), spec,
                    torch.arange(64), torch.zeros(64, dtype=torch.int64))
    method = PLANNERS[name].build()
    together = method.plan(whole)
    again = method.plan(replace(whole, warm=together.warm, decision=torch.ones(64, dtype=torch.int64)))
    for b in (0, 17, 63):
        row = slice(b, b + 1)
        alone = replace(whole, belief=whole.belief[row], seeds=whole.seeds[row], decision=whole.decision[row])
        plan = method.plan(alone)
        assert torch.equal(plan.actions[0], together.actions[b])
        assert plan.reason[0] == together.reason[b]
        later = method.plan(replace(alone, warm=plan.warm, decision=torch.ones(1, dtype=torch.int64)))
        assert torch.equal(later.actions[0], again.actions[b])


@planner
@settings(max_examples=15)
@given(low=st.floats(-1e3, 1e3), width=st.floats(1e-3, 1e3), goal=st.floats(-1e4, 1e4), size=st.integers(1, 3))
def test_no_action_leaves_its_bounds(name, low, width, goal, size):
    asked = reach([[0.0] * size], [[goal] * size], low=low, high=low + width)
    config = PLANNERS[name]
    small = {"horizon": 2} | ({"simulations": 6} if isinstance(config, MCTS.Config) else {})
    plan = type(config)(**small).build().plan(asked)
    assert low <= float(plan.actions.double().min())
    assert float(plan.actions.double().max()) <= low + width


@planner
def test_limits_hold_at_every_step_and_cost_a_detour(name):
    """The straight way to the goal would cross x = 1.2 twice."""
    asked = replace(choose([[0.0, 0.0]], [[1.0, 2.0]], CROSS, guardrails=(Limit(0, 1.2), Limit(1, 2.5))))
    plan = PLANNERS[name].build().plan(asked)
    assert bool(plan.feasible)
    assert float(plan.imagined.states[..., 0].max()) < 1.2
    assert float(plan.imagined.states[..., 1].max()) < 2.5
    assert set(plan.vetoed) == {"limit", "limit (2)"}
    assert int(sum(v.sum() for v in plan.vetoed.values())) > 0
    assert plan.energy["goal"].shape == plan.actions.shape[:2]


@planner
def test_nothing_allowed_takes_the_declared_fallback(name):
    asked = choose([[0.0, 0.0], [0.0, -9.0]], [[1.0, 2.0]], CROSS, guardrails=(Limit(1, -3.0),),
                   fallback=torch.tensor([2]))
    plan = PLANNERS[name].build().plan(asked)
    assert plan.feasible.tolist() == [False, True]
    assert bool((plan.actions[0] == 2).all())
    assert "fallback" in plan.reason[0]
    assert "INFEASIBLE" not in plan.reason[1]


@planner
def test_a_dead_end_is_not_entered(name):
    """To the right the next step is allowed and the one after it is not, whatever is done there: only the last step
    before the horizon may lead there."""

    class Corner(WorldModel):
        def begin(self, latent, actions, exogenous=None):
            return Belief(latent.state[:, -1])

        def imagine(self, belief, actions, exogenous=None, u=None):
            states = [belief.state[:, None].expand(-1, actions.shape[1], -1)]
            for t in range(actions.shape[2]):
                right = (states[-1][..., :1] > 0) | (actions[:, :, t] == 1)
                states.append(states[-1] + torch.where(right, 1.0, -0.1))
            return Imagined(torch.stack(states, 2))

    asked = Problem(Corner(), Belief(torch.zeros(1, 1)), (GoalCost(),),
                    Task(LatentGoal(Latent(torch.ones(1, 1))), guardrails=(Limit(0, 1.5),), horizon=3),
                    ActionSpec("discrete", choices=2), torch.zeros(1, dtype=torch.int64), torch.zeros(1).long())
    plan = PLANNERS[name].build().plan(asked)
    assert bool(plan.feasible)
    assert plan.actions.flatten().tolist()[:2] == [0, 0]


@planner
def test_known_inputs_to_come_are_used(name):
    class Driven(WorldModel):
        """s' = s + move, twice as far where the known input is 1."""

        def begin(self, latent, actions, exogenous=None):
            return Belief(latent.state[:, -1])

        def imagine(self, belief, actions, exogenous=None, u=None):
            moves = CROSS[actions.squeeze(-1)] * (1 + exogenous[:, None, : actions.shape[2]])
            start = belief.state[:, None, None].expand(-1, actions.shape[1], 1, -1)
            return Imagined(torch.cat([start, start + moves.cumsum(2)], 2))

    push = torch.tensor([[[1.0], [0.0], [1.0]], [[0.0], [1.0], [0.0]]])
    asked = replace(choose([[0.0, 0.0]] * 2, [[9.0, 0.0]], CROSS, horizon=3), model=Driven(), exogenous=push)
    plan = PLANNERS[name].build().plan(asked)
    assert plan.imagined.states[:, 0, -1, 0].tolist() == [5.0, 4.0]
    with pytest.raises(PlanningError, match="exogenous inputs for 3 steps"):
        PLANNERS[name].build().plan(replace(asked, exogenous=push[:, :2]))


@planner
def test_a_budget_of_calls_is_kept_and_too_small_a_one_refused(name):
    asked = choose([[0.0, 0.0]], [[2.0, 2.0]], CROSS, budget=Budget(calls=120), guardrails=(Limit(0, 50.0),))
    plan = PLANNERS[name].build().plan(asked)
    assert int(plan.calls.max()) <= 120
    assert bool(plan.feasible)
    with pytest.raises(PlanningError, match="predictor calls"):
        PLANNERS[name].build().plan(replace(asked, task=replace(asked.task, budget=Budget(calls=5))))
    hurried = PLANNERS[name].build().plan(replace(asked, task=replace(asked.task, budget=Budget(seconds=1e-6))))
    assert bool(hurried.feasible)


@planner
def test_energies_that_are_not_finite_are_never_chosen(name):
    goal = CallableGoal(lambda columns, imagined: torch.where(imagined.states[:, :, 1:, 0] > 0.5, torch.nan, 1.0)
                        - imagined.states[:, :, 1:, 0].clamp(max=0.4))
    asked = choose([[0.0, 0.0]], [[0.0, 0.0]], CROSS)
    plan = PLANNERS[name].build().plan(replace(asked, task=replace(asked.task, goal=goal)))
    assert bool(plan.feasible)
    assert float(plan.imagined.states[..., 0].max()) <= 0.5
    assert bool(torch.isfinite(plan.energy["goal"]).all())


@planner
def test_holding_choices_makes_plans_longer_for_the_same_depth(name):
    config = PLANNERS[name]
    held = type(config)(**{f: getattr(config, f) for f in config.__struct_fields__} | {"hold": 3, "horizon": 6})
    plan = held.build().plan(reach([[0.0, 0.0]], [[4.0, 1.0]]))
    assert plan.actions.shape == (1, 6, 2)
    assert bool((plan.actions[:, 0:3] == plan.actions[:, :1]).all())
    chance = TabularMDP.random(4, 2, 0)
    if name != "beam":
        with pytest.raises(PlanningError, match="hold"):
            held.build().plan(tabular(chance, [0], 6))


@pytest.mark.parametrize("config", [Beam.Config(width=4, horizon=3), DynamicProgramming.Config(states=6, horizon=2)])
def test_they_keep_every_public_promise(config):
    check_planner(config.build())


# What each does apart ----------------------------------------------------------------------------------------------


def test_models_with_a_history_are_searched_by_beam_and_tree_and_refused_by_dynamic_programming():
    torch.manual_seed(0)
    spec = ActionSpec("discrete", choices=3)
    world = RecurrentModel.Config(width=16).build(Signature({"s": ObservationSpec("vector", (2,))}, spec), (2,)).eval()
    belief = world.begin(Latent(torch.randn(2, 3, 2)), torch.randint(3, (2, 2, 1)))
    asked = Problem(world, belief, (GoalCost(),), Task(LatentGoal(Latent(torch.randn(1, 2))), horizon=3), spec,
                    torch.arange(2), torch.zeros(2, dtype=torch.int64))
    every = torch.tensor(list(itertools.product(range(3), repeat=3)))[None, :, :, None].expand(2, -1, -1, -1)
    best = asked.costs[0].energy(world.imagine(belief, every), every, asked.task).sum(2).amin(1)
    for config in (Beam.Config(width=9), MCTS.Config(simulations=200)):
        plan = config.build().plan(asked)
        torch.testing.assert_close(plan.energy["goal"].sum(1), best)
    with pytest.raises(PlanningError, match="its state alone"):
        DynamicProgramming.Config().build().plan(asked)


def test_terms_that_look_at_two_steps_are_for_the_beam():
    spec = ActionSpec("discrete", choices=4)
    asked = choose([[0.0, 0.0]], [[2.0, 2.0]], CROSS, weights={"goal": 1.0, "smoothness": 0.5})
    asked = replace(asked, costs=(GoalCost(), SmoothnessCost(spec)))
    Beam.Config().build().plan(asked)
    with pytest.raises(PlanningError, match="'smoothness', which looks at more"):
        DynamicProgramming.Config().build().plan(asked)


def test_too_many_states_for_a_layer_are_said():
    plan = DynamicProgramming.Config(states=3, horizon=5).build().plan(choose([[0.0, 0.0]], [[4.0, 1.0]], CROSS))
    assert "not exact" in plan.reason[0]
    assert bool(plan.feasible)


def test_the_plan_before_and_a_proposal_are_never_beaten_by_a_narrow_beam():
    asked = choose([[0.0, 0.0]], [[3.0, 1.0]], CROSS)
    wide = Beam.Config(width=200, horizon=4).build().plan(asked)
    narrow = Beam.Config(width=1, horizon=4).build()
    known = narrow.plan(replace(asked, proposal=wide.actions))
    assert float(known.energy["goal"].sum()) <= float(wide.energy["goal"].sum()) + 1e-5
    later = narrow.plan(replace(asked, warm=known.warm, decision=torch.ones(1, dtype=torch.int64)))
    assert bool(later.feasible)


def test_a_proposal_draws_visits():
    asked = choose([[0.0, 0.0]], [[0.0, 0.0]], CROSS)
    for select in ("puct", "gumbel"):
        search = MCTS.Config(simulations=8, select=select, horizon=3, trust=0.9).build()
        for choice in range(4):
            plan = search.plan(replace(asked, proposal=torch.full((1, 3, 1), choice)))
            assert float(plan.warm.share[0, 0, choice]) == float(plan.warm.share[0, 0].max())


def test_rollouts_are_drawn_from_each_problems_own_stream():
    asked = choose([[0.0, 0.0]] * 3, [[3.0, 3.0]], CROSS)
    search = MCTS.Config(simulations=30, rollout=3, horizon=5).build()
    plan, again = search.plan(asked), search.plan(asked)
    assert torch.equal(plan.warm.share, again.warm.share)
    alone = search.plan(replace(asked, belief=asked.belief[1:2], seeds=asked.seeds[1:2], decision=asked.decision[1:2]))
    assert torch.equal(alone.warm.share[0], plan.warm.share[1])


@pytest.mark.parametrize(
    "config", [lambda: Beam.Config(width=0), lambda: Beam.Config(merge=0.0), lambda: MCTS.Config(trust=1.0),
               lambda: MCTS.Config(fan=1), lambda: DynamicProgramming.Config(resolution=0.0)],
)
def test_nonsense_is_refused(config):
    with pytest.raises(ConfigError):
        config()


# Merging -----------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), limit=st.integers(1, 12))
def test_merged_states_are_those_of_a_plain_loop(seed, limit):
    g = torch.Generator().manual_seed(seed)
    states = torch.randint(-2, 3, (3, 20, 2), generator=g).float()
    valid, worth = torch.rand(3, 20, generator=g) < 0.8, torch.rand(3, 20, generator=g)
    found = merged(keys(states, 0.1), valid, worth, limit)
    first = first_of_each(states, 0.1)
    for b in range(3):
        best: dict[tuple[float, ...], float] = {}
        for k, state in enumerate(map(tuple, states[b].tolist())):
            assert bool(first[b, k]) == (state not in [tuple(x) for x in states[b, :k].tolist()])
            if valid[b, k]:
                best[state] = min(best.get(state, math.inf), float(worth[b, k]))
        kept = sorted(best, key=best.__getitem__)[:limit]
        assert int(found.live[b].sum()) == len(kept)
        assert int(found.dropped[b]) == len(best) - len(kept)
        slots = {}
        for k, state in enumerate(map(tuple, states[b].tolist())):
            place = int(found.place[b, k])
            assert (place >= 0) == (bool(valid[b, k]) and state in kept)
            if place >= 0:
                assert slots.setdefault(place, state) == state
                assert tuple(states[b, found.first[b, place]].tolist()) == state
        assert sorted(slots) == list(range(len(kept)))
