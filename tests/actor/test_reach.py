"""Reach: round a wall where a flat planner of the same horizon stays, alone as in a batch; in words where it cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from steersman.actor import CEM, ICEM, Reach, why_not
from steersman.actor.ground.primitives import rays
from steersman.actor.hierarchy.saying import CUT, NO_PUSH, NO_WAY, OUTSIDE, STALLED, TOO_FAR
from steersman.actor.hierarchy.valuing import target_of
from steersman.core import (
    ActionSpec,
    Belief,
    Budget,
    ColumnGoal,
    ConfigError,
    Guardrail,
    Imagined,
    Latent,
    LatentGoal,
    PlanningError,
    Problem,
    Readout,
    Risk,
    Task,
    WorldModel,
)
from steersman.cost import EffortCost, GoalCost, StepsToGo
from steersman.memory import WayConfig, build_ways
from steersman.memory.graphs.targets import value_of

SPEC = ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0))
WAYS = WayConfig(nodes=500, chunk=8, stride=2, rays=12)


class Yard(WorldModel):
    """A point with inertia in a square of 10 by 10; a wall around x = 5 with a door above y = 7. State x, y, vx, vy."""

    def begin(self, latent, actions, exogenous=None):
        return Belief(latent.state[:, -1])

    def imagine(self, belief, actions, exogenous=None, u=None):
        states = [belief.state[:, None].expand(-1, actions.shape[1], -1)]
        for t in range(actions.shape[2]):
            states.append(self.step(states[-1], actions[:, :, t]))
        return Imagined(torch.stack(states, 2), belief.context)

    def step(self, state, action):
        speed = 0.5 * state[..., 2:] + 0.3 * action
        new = (state[..., :2] + speed).clamp(0, 10)
        stopped = ((new[..., :1] - 5).abs() < 0.8) & (new[..., 1:] < 7)
        place = torch.where(stopped, state[..., :2], new)
        return torch.cat([place, torch.where(stopped, 0.0, speed)], -1)


class Columns(Readout):
    columns = ("x", "y", "vx", "vy")

    def read(self, states, context=None):
        return states


class Below(Guardrail):
    """y stays below 6.5: the door is out of bounds."""

    name = "below 6.5"

    def margin(self, imagined, actions):
        return imagined.states[:, :, 1:, 1] - 6.5

    def standing(self, states, context=None):
        return states[..., 1] - 6.5


def logged(hold=4, episodes=120, steps=60):
    model, g = Yard(), torch.Generator().manual_seed(0)
    place = 10 * torch.rand(episodes, 2, generator=g)
    place[:, 0] = torch.where((place[:, 0] - 5).abs() < 0.8, place[:, 0] + 2, place[:, 0])
    state = torch.cat([place, torch.zeros(episodes, 2)], 1)
    pushes = (torch.rand(episodes, -(-steps // hold), 2, generator=g) * 2 - 1).repeat_interleave(hold, 1)[:, :steps]
    states = [state]
    for t in range(steps):
        states.append(model.step(states[-1], pushes[:, t]))
    return list(torch.stack(states, 1)), list(pushes)


@pytest.fixture(scope="module")
def graph():
    return build_ways(*logged(), Yard(), rays(SPEC, 12), WAYS, Columns())


def planner_of(graph, **settings):
    planner = Reach(Reach.Config(**{"horizon": 8, "hold": 4, **settings}), graph)
    planner.prepare(None, Columns(), (4,))
    return planner


def problem(start, goal, **task):
    start = torch.tensor(start)
    targets = dict(zip(("x", "y"), torch.tensor(goal).T, strict=True)) if isinstance(goal, list) else goal
    given = ColumnGoal(targets, {"x": 1.0, "y": 1.0}) if isinstance(targets, dict) else targets
    belief, costs = Belief(torch.cat([start, torch.zeros(len(start), 2)], 1)), (GoalCost(Columns()), EffortCost(SPEC))
    return Problem(Yard(), belief, costs, Task(given, **task), SPEC, torch.arange(len(start)),
                   torch.zeros(len(start), dtype=torch.int64))


def play(planner, asked, steps=160):
    state, warm, path, plans = asked.belief.state, None, [], []
    for decision in range(steps // planner.execute):
        now = replace(asked, belief=Belief(state), warm=warm, decision=torch.full_like(asked.seeds, decision))
        plan = planner.plan(now)
        plans.append(plan)
        warm = plan.warm
        for t in range(planner.execute):
            state = Yard().step(state, plan.actions[:, t])
            path.append(state)
    return torch.stack(path, 1), plans


HERE, THERE = [[3.0, 1.0], [4.0, 3.0], [1.0, 5.0]], [[7.0, 1.0], [6.5, 3.0], [8.0, 2.0]]


def test_it_goes_round_the_wall_where_a_flat_planner_stays(graph):
    goal = torch.tensor(THERE)
    path, plans = play(planner_of(graph), problem(HERE, THERE))
    assert bool(((path[..., :2] - goal[:, None]).norm(dim=2) < 0.7).any(1).all())
    flat = ICEM(ICEM.Config(samples=64, iterations=3, elites=8, horizon=8))
    flat.prepare(None, Columns(), (4,))
    stays, _ = play(flat, problem(HERE, THERE))
    assert not bool(((stays[..., :2] - goal[:, None]).norm(dim=2) < 0.7).any(1).any())
    assert plans[1].calls.tolist() == [16 * 8] * 3
    assert "steps to go" in plans[0].reason[0]
    assert not why_not(plans[0].reason[0])


def test_steps_to_go_are_a_terminal_value_for_any_planner(graph):
    goal, value = torch.tensor(THERE), StepsToGo(graph, Columns())
    asked = replace(problem(HERE, THERE, weights={"steps-to-go": 1.0}), costs=(value,))
    flat = CEM(CEM.Config(samples=24, iterations=2, elites=4, horizon=8, hold=4, execute=4))
    path, plans = play(flat, asked)
    assert bool(((path[..., :2] - goal[:, None]).norm(dim=2) < 0.7).any(1).all())
    energy = plans[0].energy["steps-to-go"]
    assert energy.shape == (3, 8)
    assert bool((energy[:, :-1] == 0).all())
    assert bool((energy[:, -1] > 8).all())
    with pytest.raises(PlanningError, match="steps to go"):
        flat.plan(replace(asked, task=Task(ColumnGoal({"z": 1.0}), weights={"steps-to-go": 1.0})))


def test_plans_do_not_depend_on_the_company(graph):
    asked, planner = problem(HERE, THERE), planner_of(graph)
    together = planner.plan(asked)
    for b in range(3):
        alone = planner.plan(asked.rows(torch.tensor([b])))
        assert torch.allclose(alone.actions[0], together.actions[b], atol=1e-6)
        assert alone.reason[0].split(";")[0] == together.reason[b].split(";")[0]


def test_a_goal_on_columns_is_every_state_that_matches(graph):
    planner = planner_of(graph)
    asked = problem(HERE[:1], THERE[:1])
    some = value_of(graph, target_of(asked, graph, Columns(), "reach"))
    at_rest = torch.tensor([[*THERE[0], 0.0, 0.0]])
    whole = value_of(graph, target_of(problem(HERE[:1], LatentGoal(Latent(at_rest))), graph, Columns(), "reach"))
    assert bool((some <= whole + 1e-4).all())
    assert float((some < whole - 0.5).float().mean()) > 0.3
    path, _ = play(planner, problem(HERE[:1], LatentGoal(Latent(at_rest))))
    assert float((path[0, :, :2] - at_rest[0, :2]).norm(dim=1).min()) < 0.7


def test_other_terms_and_budgets_count(graph):
    planner = planner_of(graph, samples=32)
    free = planner.plan(problem(HERE, THERE))
    dear = planner.plan(problem(HERE, THERE, weights={"goal": 1.0, "effort": 100.0}))
    assert float(dear.actions.square().sum()) < float(free.actions.square().sum())
    assert planner.plan(problem(HERE, THERE, budget=Budget(calls=8 * 8))).calls.tolist() == [64] * 3


def test_goals_outside_the_log_are_named_by_their_nearest_state(graph):
    (reason,) = planner_of(graph).plan(problem(HERE[:1], [[14.0, 5.0]])).reason
    assert why_not(reason) == (OUTSIDE,)
    assert "x 9" in reason or "x 10" in reason


def test_goals_outside_the_log_are_reached_through_imagination_where_it_can_be_had():
    states, pushes = logged()
    inside = [(s[:, :2].amax(1) < 11).all() and bool((s[:, 0] < 4.2).all()) for s in states]
    few = [(s, a) for s, a, on in zip(states, pushes, inside, strict=True) if on]
    asked, built = problem(HERE[:2], [[2.0, 9.9], [6.5, 9.0]]), []

    def source(config):
        built.append(config.beyond)
        return build_ways([s for s, _ in few], [a for _, a in few], Yard(), rays(SPEC, 12), config, Columns())

    planner = planner_of(None, ways=WayConfig(nodes=250, chunk=8, stride=2, rays=12), beyond=8)
    planner.recall(source)
    plan = planner.plan(asked)
    assert built == [0, 8]
    assert why_not(plan.reason[1])[:1] == (OUTSIDE,)
    assert "steps to go" in plan.reason[1]
    path, _ = play(planner, asked, 140)
    assert float((path[1, :, :2] - torch.tensor([6.5, 9.0])).norm(dim=1).min()) < 1.0


def test_guardrails_cut_ways_and_it_says_so(graph):
    path, plans = play(planner_of(graph), problem(HERE, THERE, guardrails=(Below(),)), 20)
    assert CUT in why_not(plans[0].reason[0])
    assert float(path[..., 1].max()) <= 6.5 + 1e-4
    same_side = planner_of(graph).plan(problem(HERE[:1], [[1.0, 2.0]], guardrails=(Below(),)))
    assert not why_not(same_side.reason[0])


def test_in_doubt_strategies_are_gone_in_imagination_and_the_one_that_arrives_is_taken(graph):
    plan = planner_of(graph).plan(problem(HERE, THERE))  # nobody looked whether this graph leaks
    assert "by graph value, arrived in imagination after" in plan.reason[0]
    for b, reason in enumerate(plan.reason):
        assert "by graph value" in reason
        assert ("flat did not" in reason) == ("none arrived" in reason), "who comes first in the list is taken"
        assert int(plan.calls[b]) > 1000
    assert plan.warm.chosen.tolist() == [0, 0, 0]
    alone = planner_of(graph).plan(problem(HERE, THERE).rows(torch.tensor([1])))
    assert torch.equal(alone.warm.arrival[0].nan_to_num(-1), plan.warm.arrival[1].nan_to_num(-1))
    assert int(alone.calls[0]) == int(plan.calls[1])
    checked = replace(graph, leaks=torch.tensor([[len(graph), float(graph.touch), 0.02, 0.0]]))
    trusting = planner_of(checked).plan(problem(HERE, THERE))
    assert trusting.calls.tolist() == [16 * 8] * 3
    assert all("kept in imagination (2% leaked)" in reason for reason in trusting.reason)
    leaky = replace(graph, leaks=torch.tensor([[len(graph), float(graph.touch), 0.5, 0.0]]))
    assert "arrived in imagination" in planner_of(leaky).plan(problem(HERE, THERE)).reason[0]
    budget = planner_of(graph).plan(problem(HERE, THERE, budget=Budget(calls=16 * 8)))
    assert budget.calls.tolist() == [16 * 8] * 3
    assert planner_of(graph, choose=False).plan(problem(HERE, THERE)).calls.tolist() == [16 * 8] * 3


def test_where_the_graph_knows_no_way_another_strategy_goes_if_it_arrives_in_imagination(graph):
    empty = replace(graph, neighbour=torch.full_like(graph.neighbour, -1), cost=torch.full_like(graph.cost, torch.inf))
    start, goal = [[3.0, 1.0], [3.0, 1.0]], [[1.0, 6.0], [7.0, 1.0]]  # the second lies behind the wall
    path, plans = play(planner_of(empty), problem(start, goal), 60)
    first = plans[0]
    assert first.warm.chosen[0] > 0
    assert "arrived in imagination" in first.reason[0]
    assert not why_not(first.reason[0])
    assert float((path[0, :, :2] - torch.tensor(goal[0])).norm(dim=1).min()) < 0.7
    assert first.warm.chosen[1] == 0
    assert why_not(first.reason[1]) == (NO_WAY,)
    assert "none arrived" in first.reason[1]
    assert first.actions.shape == (2, 8, 2), "a longer horizon's plan is shown as far as the others"


def test_what_is_imagined_through_a_wall_that_the_log_knows_is_not_taken_for_an_arrival(graph):
    class Ghost(Yard):
        def step(self, state, action):
            speed = 0.5 * state[..., 2:] + 0.3 * action
            return torch.cat([(state[..., :2] + speed).clamp(0, 10), speed], -1)

    empty = replace(graph, neighbour=torch.full_like(graph.neighbour, -1), cost=torch.full_like(graph.cost, torch.inf))
    asked = replace(problem([[3.9, 2.0]], [[7.5, 2.0]]), model=Ghost())
    (reason,) = planner_of(empty).plan(asked).reason
    assert "none arrived" in reason
    anywhere = replace(empty, known=replace(empty.known, seen=torch.ones_like(empty.known.seen)))
    (reason,) = planner_of(anywhere).plan(asked).reason
    assert "by flat, arrived in imagination" in reason, "the walls are what the log knows, not what the model sees"


class Steps(Guardrail):
    """No step may cross the line x = 5 below y = 9: it judges steps, not places."""

    name = "steps"

    def margin(self, imagined, actions):
        x, y = imagined.states[..., 0], imagined.states[..., 1]
        over = (x[:, :, :-1] - 5) * (x[:, :, 1:] - 5) <= 0
        return torch.where(over, 9.0 - y[:, :, 1:], -1.0)


def test_ways_are_cut_by_guardrails_that_judge_steps_only(graph):
    limit, asked = (Steps(),), problem(HERE, THERE, guardrails=(Steps(),))
    free, cut = planner_of(graph), planner_of(graph, cut=False)
    under = free.plan(asked).warm
    assert bool((under.value >= under.free - 1e-4).all())
    assert bool((under.value > under.free + 1).any()), "the way leads higher up"
    blind = cut.plan(asked).warm
    assert torch.equal(blind.value, blind.free)
    path, plans = play(free, problem(HERE, THERE, guardrails=limit), 200)
    x, y = path[..., 0], path[..., 1]
    over = (x[:, :-1] - 5) * (x[:, 1:] - 5) <= 0
    assert bool((y[:, 1:][over] >= 9 - 1e-4).all())
    assert not why_not(plans[0].reason[0])


def test_where_no_candidate_keeps_a_limit_it_takes_the_fallback_and_says_so(graph):
    class Never(Guardrail):
        name = "never"

        def margin(self, imagined, actions):
            return torch.ones(actions.shape[:3])

    plan = planner_of(graph).plan(problem(HERE, THERE, guardrails=(Never(),)))
    assert not bool(plan.feasible.any())
    assert bool((plan.actions == 0).all())
    assert "INFEASIBLE" in plan.reason[0]
    assert CUT in why_not(plan.reason[0])


def test_it_says_where_ways_break_and_that_no_push_was_held():
    states, pushes = logged(hold=1)
    left = [(s, a) for s, a in zip(states, pushes, strict=True) if bool((s[:, 0] < 4.3).all())]
    right = [(s, a) for s, a in zip(states, pushes, strict=True) if bool((s[:, 0] > 5.7).all())]
    apart = build_ways(*map(list, zip(*left, *right, strict=True)), Yard(), rays(SPEC, 12), WAYS, Columns())
    (reason,) = planner_of(apart).plan(problem(HERE[:1], THERE[:1])).reason
    assert why_not(reason) == (NO_WAY, NO_PUSH)
    assert "it breaks at x" in reason


def test_it_says_that_a_way_is_longer_than_allowed(graph):
    plan = planner_of(graph, allowed=5).plan(problem(HERE, THERE))
    assert all(TOO_FAR in reason for reason in plan.reason)


def test_it_says_where_it_stalls_and_turns_to_other_ways(graph):
    class Stuck(Yard):
        def step(self, state, action):
            return state

    planner, asked = planner_of(graph, patience=2), problem(HERE[:1], THERE[:1])
    warm, said = None, []
    for decision in range(8):  # the world does not move, whatever is done
        plan = planner.plan(replace(asked, warm=warm, decision=torch.tensor([decision])))
        warm = plan.warm
        said.append(STALLED in plan.reason[0])
    assert said[0] is False
    assert said[-1] is True
    assert float(warm.dearer.max()) >= 25


def test_what_it_cannot_do_is_refused():
    with pytest.raises(PlanningError, match="graph of ways"):
        planner_of(None).plan(problem(HERE, THERE))
    with pytest.raises(ConfigError, match="fan"):
        Reach.Config(fan=1)
    assert Reach.Config().build().config.horizon == 12
    assert Risk().scenarios == 1
