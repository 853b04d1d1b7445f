"""A* through remembered states: shortest ways as networkx finds them, pessimism, limits, and following the way."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import replace

import pytest
import torch

from steersman.actor import CEM, AStar
from steersman.actor.graph.shortest import shortest_ways
from steersman.actor.ground.primitives import rays
from steersman.core import (
    ActionSpec,
    Belief,
    ColumnGoal,
    Imagined,
    Latent,
    LatentGoal,
    LatentGraph,
    PlanningError,
    Problem,
    Task,
    WorldModel,
)
from steersman.cost import GoalCost
from steersman.memory import GraphConfig, build_graph

SPEC = ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0))
SMALL = AStar.Config(ahead=2, follow=CEM.Config(samples=48, iterations=3, elites=6, horizon=4))


def random_graphs(count, seed, nodes=20, degree=4):
    g = torch.Generator().manual_seed(seed)
    place = torch.rand(count, nodes, 2, generator=g)
    neighbour = torch.rand(count, nodes, nodes, generator=g).argsort(-1)[..., :degree]
    missing = torch.rand(count, nodes, degree, generator=g) < 0.3
    to = place[torch.arange(count)[:, None, None], neighbour]
    cost = (to - place[:, :, None]).norm(dim=-1) * (1 + torch.rand(count, nodes, degree, generator=g))
    return place, torch.where(missing, -1, neighbour), cost.masked_fill(missing, torch.inf)


def test_ways_are_as_short_as_those_of_networkx_on_1000_random_graphs():
    networkx = pytest.importorskip("networkx")
    place, neighbour, cost = random_graphs(1000, 0)
    entry, leave = torch.full((2, 1000, 20), torch.inf)
    entry[:, 0], leave[:, 1] = 0, 0
    estimate = (place - place[:, 1:2]).norm(dim=-1) * (1 - 1e-5)
    ways = shortest_ways(neighbour, cost, entry, leave, estimate)
    reached = 0
    for number in range(1000):
        graph = networkx.DiGraph()
        graph.add_nodes_from(range(20))
        edges = enumerate(zip(neighbour[number].tolist(), cost[number].tolist(), strict=True))
        graph.add_weighted_edges_from((n, to, c) for n, row in edges for to, c in zip(*row, strict=True) if to >= 0)
        way = [n for n in ways.nodes[number].tolist() if n >= 0]
        if not networkx.has_path(graph, 0, 1):
            assert ways.cost[number] == torch.inf
            assert not way
            continue
        reached += 1
        least = networkx.astar_path_length(graph, 0, 1, lambda n, _, b=number: float(estimate[b, n]))
        assert float(ways.cost[number]) == pytest.approx(least, rel=1e-5)
        assert (way[0], way[-1]) == (0, 1)
        assert sum(graph[m][n]["weight"] for m, n in itertools.pairwise(way)) == pytest.approx(least, rel=1e-5)
    assert reached > 500


def test_an_estimate_saves_expansions_and_changes_no_way():
    place, neighbour, cost = random_graphs(1, 3, nodes=200, degree=6)
    entry, leave = torch.full((1, 200), torch.inf), torch.full((1, 200), torch.inf)
    entry[0, 5], leave[0, 7] = 0, 0
    estimate = (place[0] - place[0, 7]).norm(dim=-1)[None] * (1 - 1e-5)
    blind = shortest_ways(neighbour[0], cost[0], entry, leave, torch.zeros(1, 200))
    informed = shortest_ways(neighbour[0], cost[0], entry, leave, estimate)
    assert float(informed.cost) == pytest.approx(float(blind.cost))
    assert int(informed.expanded) < 0.8 * int(blind.expanded)


# A world with a wall -----------------------------------------------------------------------------------------------


class Walled(WorldModel):
    """A point in a square of 10 by 10; a wall around x = 5 with a door above y = 7. A step into it stays."""

    def begin(self, latent, actions, exogenous=None):
        return Belief(latent.state[:, -1])

    def imagine(self, belief, actions, exogenous=None, u=None):
        states = [belief.state[:, None].expand(-1, actions.shape[1], -1)]
        for t in range(actions.shape[2]):
            states.append(self.step(states[-1], actions[:, :, t]))
        return Imagined(torch.stack(states, 2), belief.context)

    def step(self, state, action):
        new = (state + 0.7 * action).clamp(0, 10)
        return torch.where(((new[..., :1] - 5).abs() < 0.6) & (new[..., 1:] < 7), state, new)


def logged(model=None, seed=0, episodes=30, steps=60):
    model, g = model or Walled(), torch.Generator().manual_seed(seed)
    state = 10 * torch.rand(episodes, 2, generator=g)
    state[:, 1] = torch.where((state[:, 0] - 5).abs() < 0.6, 7 + 0.3 * state[:, 1], state[:, 1])
    direction = torch.rand(episodes, steps // 5, 2, generator=g).repeat_interleave(5, 1) * 2 - 1
    states = [state]
    for t in range(steps):
        states.append(model.step(states[-1], direction[:, t]))
    return list(torch.stack(states, 1)), list(direction)


@pytest.fixture(scope="module")
def graph():
    return build_graph(*logged(), Walled(), rays(SPEC, 12), GraphConfig(nodes=250))


def problem(start, goal, decision=0, warm=None, **task):
    start, goal = torch.tensor(start), torch.tensor(goal)
    return Problem(Walled(), Belief(start), (GoalCost(),), Task(LatentGoal(Latent(goal)), **task), SPEC,
                   torch.arange(len(start)), torch.full((len(start),), decision), warm=warm)


def play(planner, start, goal, steps=50, **task):
    state, warm, path = torch.tensor(start), None, []
    for decision in range(steps):
        plan = planner.plan(replace(problem(start, goal, decision, warm, **task), belief=Belief(state)))
        warm = plan.warm
        state = Walled().step(state, plan.action)
        path.append(state)
    return torch.stack(path, 1)


def test_the_way_leads_through_the_door_where_going_nearer_does_not(graph):
    start, goal = [[2.0, 2.0], [4.0, 1.0], [8.0, 2.0]], [[8.0, 2.0], [6.5, 3.0], [1.0, 3.0]]
    path = play(AStar(SMALL, graph), start, goal)
    near = (path - torch.tensor(goal)[:, None]).norm(dim=-1).amin(1)
    assert bool((near < 0.8).all()), near
    straight = play(SMALL.follow.build(), start, goal)
    assert not bool(((straight - torch.tensor(goal)[:, None]).norm(dim=-1).amin(1) < 0.8).any())


def test_the_plan_is_the_same_alone_and_with_neighbours(graph):
    start, goal = [[2.0, 2.0], [4.0, 1.0], [8.0, 2.0], [8.0, 9.0]], [[8.0, 2.0], [6.5, 3.0], [1.0, 3.0], [8.0, 8.5]]
    planner = AStar(SMALL, graph)
    whole = planner.plan(problem(start, goal))
    for b in range(4):
        alone = planner.plan(replace(problem(start[b : b + 1], goal[b : b + 1]), seeds=torch.tensor([b])))
        assert torch.equal(alone.actions[0], whole.actions[b])
        assert alone.reason[0] == whole.reason[b]


def test_edges_that_a_limit_refuses_are_not_taken(graph):
    class Door:
        name = "door"

        def margin(self, imagined, actions):
            states = imagined.states[:, :, 1:]
            return torch.minimum(1.5 - (states[..., 0] - 5).abs(), states[..., 1] - 6)

        def rows(self, rows):
            return self

    plan = AStar(SMALL, graph).plan(problem([[2.0, 2.0]], [[8.0, 2.0]], guardrails=(Door(),)))
    assert "no way through" in plan.reason[0]
    assert "a way of about" in AStar(SMALL, graph).plan(problem([[2.0, 2.0]], [[8.0, 2.0]])).reason[0]


# Building ----------------------------------------------------------------------------------------------------------


def test_nodes_are_apart_and_cover_the_log_and_edges_go_where_they_say(graph):
    frames = torch.cat(logged()[0])
    apart = torch.cdist(graph.nodes, graph.nodes).fill_diagonal_(torch.inf)
    assert float(apart.min()) > float(graph.step)
    assert float(torch.cdist(frames, graph.nodes).amin(1).max()) <= float(graph.step) * 1.001
    cost = graph.pessimistic(8.0)
    known = torch.isfinite(cost)
    assert bool((graph.neighbour[known] >= 0).all())
    crossing = (graph.nodes[:, None, 0] < 4.3) & (graph.nodes[graph.neighbour.clamp(min=0)][..., 0] > 5.7)
    low = graph.nodes[:, None, 1].maximum(graph.nodes[graph.neighbour.clamp(min=0)][..., 1]) < 6
    assert not bool((known & crossing & low).any())  # nothing leads through the wall
    assert int(known.sum()) > 4 * len(graph)


def test_the_most_that_any_member_needs_counts():
    class Two(Walled):
        """One member's steps are half as long."""

        def __init__(self, scale=1.0):
            super().__init__()
            self.scale = scale

        def singles(self):
            return Two(1.0), Two(0.5)

        def step(self, state, action):
            return super().step(state, self.scale * action)

    latents, actions = logged()
    config = GraphConfig(nodes=80, spacing=2.0, lag=1, touch=1.0)
    both = build_graph(latents, actions, Two(), rays(SPEC, 12), config)
    assert both.cost.shape[0] == 2
    one = build_graph(latents, actions, Two(0.5), rays(SPEC, 12), config)
    assert one.cost.shape[0] == 2
    worst = both.pessimistic(torch.inf)
    assert torch.equal(worst, both.cost.amax(0).masked_fill(both.neighbour < 0, torch.inf))
    assert int(torch.isfinite(worst).sum()) < int(torch.isfinite(both.cost[0]).sum())
    assert not bool(torch.isfinite(both.pessimistic(0.5)).any())


def test_it_says_what_it_lacks(graph):
    asked = problem([[2.0, 2.0]], [[8.0, 2.0]])
    with pytest.raises(PlanningError, match="a graph of remembered states"):
        SMALL.build().plan(asked)
    with pytest.raises(PlanningError, match="the columns of a read-out"):
        AStar(SMALL, graph).plan(replace(asked, task=Task(ColumnGoal({"x": 1.0}))))
    other = LatentGraph(**{f.name: getattr(graph, f.name) for f in dataclasses.fields(graph)})
    other = replace(other, nodes=torch.zeros(len(graph), 3))
    with pytest.raises(PlanningError, match="as in the graph"):
        AStar(SMALL, other).plan(asked)
