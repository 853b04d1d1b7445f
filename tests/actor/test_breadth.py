"""Breadth-first search: as short as counting says, once through each state, around what turned out otherwise."""

from __future__ import annotations

import pytest
import tiled_walk as walk
import torch
from problems import Limit, reach

from steersman.actor import BreadthFirst
from steersman.core import (
    ActionSpec,
    Belief,
    Budget,
    Imagined,
    Latent,
    LatentGoal,
    PlanningError,
    Problem,
    Task,
    WorldModel,
)
from steersman.cost import GoalCost


class Walk(WorldModel):
    """The walker's places (row, column) in each problem's layout, exactly; unseen: walls that it takes for floor."""

    def __init__(self, layout, unseen=()):
        super().__init__()
        self.layout, self.calls = layout.clone(), 0
        for row, column in unseen:
            self.layout[:, row, column] = False

    def begin(self, latent, actions, exogenous=None):
        return Belief(latent.state[:, -1], torch.arange(len(latent.state))[:, None, None].float())

    def imagine(self, belief, actions, exogenous=None, u=None):
        return self.branch(belief, belief.state[:, None].expand(-1, actions.shape[1], -1), actions)

    def branch(self, belief, states, actions, exogenous=None, u=None, carry=()):
        b, k, h = actions.shape[:3]
        layout = self.layout[belief.context[:, 0, 0].long()].repeat_interleave(k, 0)
        place, way = states.flatten(0, 1).long(), [states]
        for t in range(h):
            self.calls += b * k
            place = walk.moved(layout, place, actions.flatten(0, 1)[:, t, 0])
            way.append(place.view(b, k, 2).float())
        return Imagined(torch.stack(way, 2), belief.context)


def problem(model, place, goal, decision=0, warm=None, **task):
    b, budget = len(place), task.pop("budget", Budget())
    return Problem(
        model, model.begin(Latent(place[:, None].float()), torch.zeros(b, 0, 1)), (GoalCost(),),
        Task(LatentGoal(Latent(goal.float())), {"goal": 1.0}, budget=budget, **task),
        ActionSpec("discrete", choices=4), torch.arange(b), torch.full((b,), decision), warm=warm)


def ends(layouts, seed=0):
    g = torch.Generator().manual_seed(seed)
    pairs = [spots[torch.randperm(len(spots), generator=g)[:2]] for spots in map(walk.free, layouts)]
    return torch.stack([pair[0] for pair in pairs]), torch.stack([pair[1] for pair in pairs])


def test_it_goes_the_fewest_steps_that_counting_finds_and_searches_once():
    layouts = walk.walls(40, 3, 0.35)
    place, goal = ends(layouts)
    wanted = [walk.distances(layout, tuple(end.tolist()))[tuple(start.tolist())]
              for layout, start, end in zip(layouts, place, goal, strict=True)]
    model, planner, warm, took = Walk(layouts), BreadthFirst(), None, torch.zeros(40, dtype=torch.int64)
    spent = []
    for decision in range(max(wanted)):
        plan = planner.plan(problem(model, place, goal, decision, warm))
        away = (place != goal).any(1)
        took += away
        spent.append(plan.calls[away].max())
        place = torch.where(away[:, None], walk.moved(layouts, place, plan.action[:, 0]), place)
        warm = plan.warm
    assert took.tolist() == wanted
    assert max(wanted) > 5
    assert spent[0] <= 4 * 16 + 1  # every place once, four choices each
    assert max(spent[1:]) == 1  # the way is followed


def test_an_alone_problem_gets_the_plan_that_it_has_beside_others():
    layouts = walk.walls(6, 5, 0.3)
    place, goal = ends(layouts, 1)
    together = BreadthFirst().plan(problem(Walk(layouts), place, goal))
    for i in range(6):
        alone = BreadthFirst().plan(problem(Walk(layouts[i : i + 1]), place[i : i + 1], goal[i : i + 1]))
        assert torch.equal(alone.actions[0], together.actions[i])
        assert int(alone.calls[0]) == int(together.calls[i])


def test_a_wall_that_the_model_does_not_see_is_pushed_once_and_gone_round():
    layout = torch.ones(1, walk.SIDE, walk.SIDE, dtype=torch.bool)
    layout[0, 1:5, 1:5] = False
    layout[0, 2, 1:4] = True  # a wall with a way round it on the right
    model = Walk(layout, [(2, 1), (2, 2), (2, 3)])
    place, goal, warm, pushed = torch.tensor([[1, 2]]), torch.tensor([[3, 2]]), None, []
    for decision in range(30):
        plan = BreadthFirst().plan(problem(model, place, goal, decision, warm))
        there, warm = walk.moved(layout, place, plan.action[:, 0]), plan.warm
        if torch.equal(there, place):
            pushed.append((*place[0].tolist(), int(plan.action)))
        place = there
        if torch.equal(place, goal):
            break
    assert torch.equal(place, goal)
    assert pushed
    assert len(pushed) == len(set(pushed))


def test_another_goal_is_searched_for_at_once():
    layouts = walk.walls(1, 7, 0.1)
    spots = walk.free(layouts[0])
    first = BreadthFirst().plan(problem(Walk(layouts), spots[:1], spots[-1:]))
    there = walk.moved(layouts, spots[:1], first.action[:, 0])
    other = BreadthFirst().plan(problem(Walk(layouts), there, spots[:1], 1, first.warm))
    assert int(other.calls) > 1
    assert torch.equal(walk.moved(layouts, there, other.action[:, 0]), spots[:1])


def test_a_goal_out_of_reach_is_approached_as_far_as_it_goes():
    layout = torch.ones(1, walk.SIDE, walk.SIDE, dtype=torch.bool)
    layout[0, 1, 1:3] = False
    layout[0, 4, 4] = False
    plan = BreadthFirst().plan(problem(Walk(layout), torch.tensor([[1, 1]]), torch.tensor([[4, 4]])))
    assert int(plan.action) == 0  # to the right, where it is nearer
    assert "least energy" in plan.reason[0]


def test_a_guardrail_closes_the_short_way_and_where_all_are_closed_the_fallback_acts():
    layout = torch.ones(1, walk.SIDE, walk.SIDE, dtype=torch.bool)
    layout[0, 1:5, 1:5] = False
    place, goal = torch.tensor([[2, 1]]), torch.tensor([[2, 4]])

    class Around(Limit):
        def margin(self, imagined, actions):
            x = imagined.states[:, :, 1:]
            return ((x[..., 0] == 2) & (x[..., 1] == 2)).float() - 0.5

    model, warm, was = Walk(layout), None, []
    for decision in range(6):
        plan = BreadthFirst().plan(problem(model, place, goal, decision, warm, guardrails=(Around(),)))
        assert bool(plan.feasible)
        place, warm = walk.moved(layout, place, plan.action[:, 0]), plan.warm
        was.append(tuple(place[0].tolist()))
        if was[-1] == (2, 4):
            break
    assert len(was) == 5
    assert (2, 2) not in was
    shut = problem(model, torch.tensor([[2, 1]]), goal, guardrails=(Limit(below=-9.0),), fallback=torch.tensor([3]))
    plan = BreadthFirst().plan(shut)
    assert not bool(plan.feasible)
    assert int(plan.action) == 3


def test_a_budget_of_calls_is_kept_and_one_for_less_than_a_layer_refused():
    layouts = walk.walls(2, 3, 0.2)
    place, goal = ends(layouts, 2)
    plan = BreadthFirst().plan(problem(Walk(layouts), place, goal, budget=Budget(calls=20)))
    assert int(plan.calls.max()) <= 20
    with pytest.raises(PlanningError, match="budget"):
        BreadthFirst().plan(problem(Walk(layouts), place, goal, budget=Budget(calls=3)))


def test_continuous_actions_are_a_fan_held_for_some_steps():
    planner = BreadthFirst(BreadthFirst.Config(fan=4, hold=2, execute=2, layers=12, nodes=300))
    plan = planner.plan(reach([[0.0, 0.0]], [[4.0, 0.0]]))
    assert plan.actions.shape == (1, 2, 2)
    assert torch.allclose(plan.imagined.states[0, 0, -1], torch.tensor([2.0, 0.0]), atol=1e-5)
