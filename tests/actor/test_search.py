"""Search in imagination, on a world that is known exactly: the way through a door, limits, and plain references."""

from __future__ import annotations

import heapq
import math
import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from steersman.actor.graph.search import Search
from steersman.actor.graph.search import planner as search
from steersman.actor.graph.search.graph import nearest as nearest_nodes
from steersman.actor.graph.search.growing import add
from steersman.actor.ground.verdict import verdict
from steersman.core import (
    ActionSpec,
    Belief,
    Budget,
    ColumnGoal,
    Cost,
    Guardrail,
    Imagined,
    Latent,
    LatentGoal,
    ObservationSpec,
    PlanningError,
    Problem,
    Readout,
    Signature,
    Task,
    WorldModel,
)
from steersman.cost import EffortCost, GoalCost

STEP, SIDE, DOOR, GAP = 2.0, 24.0, 20.0, 3.0
CONTINUOUS = ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0))
CHOICES = ActionSpec("discrete", choices=4)
SMALL = Search.Config(directions=8, nodes=160, look=16, look_ahead=4)


def free(point: Tensor) -> Tensor:
    """A square arena with a wall at x = 12 that has a door near its lower end."""
    inside = ((point >= 0) & (point <= SIDE)).all(-1)
    return inside & (((point[..., 0] - SIDE / 2).abs() >= 2.5) | ((point[..., 1] - DOOR).abs() <= GAP))


class Arena(WorldModel):
    """The latent is the position; a step stops at the first contact."""

    def begin(self, latent, actions, exogenous=None):
        return Belief(latent.state[:, -1])

    def displacement(self, action):
        if action.dtype == torch.int64:
            return STEP * torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])[action[..., 0]]
        return STEP * action / action.norm(dim=-1, keepdim=True).clamp_min(1)

    def step(self, state, action):
        part = torch.arange(1, 9)[:, None] / 8
        way = state[..., None, :] + part * self.displacement(action)[..., None, :]
        count = free(way).cumprod(-1).sum(-1, keepdim=True)
        return torch.where(count > 0, way.gather(-2, (count - 1).clamp_min(0)[..., None].expand(
            *count.shape, 2))[..., 0, :], state)

    def imagine(self, belief, actions, exogenous=None, u=None):
        states = [belief.state[:, None].expand(-1, actions.shape[1], -1)]
        for t in range(actions.shape[2]):
            states.append(self.step(states[-1], actions[:, :, t]))
        return Imagined(torch.stack(states, 2), belief.context)


class Keep(Guardrail):
    """Stay out of a disk."""

    def __init__(self, x, y, radius):
        self.centre, self.radius = torch.tensor([x, y]), radius

    @property
    def name(self):
        return "disk"

    def margin(self, imagined, actions):
        return self.radius - (imagined.states[:, :, 1:] - self.centre).norm(dim=-1)


def problem(state, goal, action=CONTINUOUS, decision=0, warm=None, **task) -> Problem:
    state, goal = torch.as_tensor(state), torch.as_tensor(goal)
    n = len(state)
    return Problem(
        Arena(), Belief(state), (GoalCost(),), Task(LatentGoal(Latent(goal)), **task), action, torch.arange(n),
        torch.full((n,), decision), warm=warm,
    )


def play(planner, state, goal, steps=40, action=CONTINUOUS, **task):
    """Act in the arena itself; -> path (B, T+1, 2), feasible (T, B)."""
    model, path, feasible, warm = Arena(), [state], [], None
    while len(path) <= steps:
        plan = planner.plan(problem(path[-1], goal, action, len(path), warm, **task))
        warm = plan.warm
        feasible.append(plan.feasible)
        for t in range(min(planner.execute, plan.actions.shape[1])):
            path.append(model.step(path[-1], plan.actions[:, t]))
    return torch.stack(path, 1), torch.stack(feasible)


def places(count, seed):
    g = torch.Generator().manual_seed(seed)
    left = torch.rand(count, 2, generator=g) * torch.tensor([8.0, 22.0]) + 1
    right = torch.rand(count, 2, generator=g) * torch.tensor([8.0, 22.0]) + torch.tensor([15.0, 1.0])
    return left, right


def reached(path, goal):
    return ((path - goal[:, None]).norm(dim=-1) < 3.6).any(1)


def test_it_finds_the_door_where_going_nearer_does_not():
    start, goal = torch.tensor([[4.0, 4.0], [8.0, 12.0]]), torch.tensor([[20.0, 4.0], [16.0, 3.0]])
    path, feasible = play(SMALL.build(), start, goal)
    assert bool(reached(path, goal).all())
    assert bool(feasible.all())
    model, state = Arena(), start
    fan = torch.stack([torch.tensor([math.cos(a), math.sin(a)]) for a in torch.arange(16) * math.pi / 8])
    trail = [state]
    for _ in range(40):  # greedy descent of distance, on the same exact model
        ends = model.step(state[:, None].expand(-1, 16, -1), fan[None].expand(2, -1, -1))
        state = ends[torch.arange(2), (ends - goal[:, None]).norm(dim=-1).argmin(1)]
        trail.append(state)
    assert not bool(reached(torch.stack(trail, 1), goal).any())


def test_random_starts_reach_random_goals_on_the_other_side():
    start, goal = places(12, 0)
    path, _ = play(SMALL.build(), start, goal, steps=50)
    assert float(reached(path, goal).float().mean()) == 1.0


def test_a_narrow_door_is_found_by_growing_again_in_other_directions(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "GAP", 0.6)
    start, goal = places(24, 3)
    assert float(reached(play(SMALL.build(), start, goal, steps=80)[0], goal).float().mean()) >= 0.95
    monkeypatch.setattr(search, "_PATIENCE", 10**6)
    monkeypatch.setattr(search, "_PROGRESS", 10**6)
    assert float(reached(play(SMALL.build(), start, goal, steps=80)[0], goal).float().mean()) < 0.9


def test_a_plan_is_the_same_alone_and_among_64():
    start, goal = places(64, 1)
    planner = SMALL.build()
    whole = planner.plan(problem(start, goal))
    for i in (0, 17, 63):
        one = problem(start[i : i + 1], goal[i : i + 1])
        one = Problem(one.model, one.belief, one.costs, one.task, one.action, torch.tensor([i]), one.decision)
        alone = planner.plan(one)
        assert torch.equal(alone.actions[0], whole.actions[i])
        assert int(alone.warm.count[0]) == int(whole.warm.count[i])
        assert alone.reason[0] == whole.reason[i]


def test_plans_have_the_promised_form():
    start, goal = places(3, 2)
    plan = SMALL.build().plan(problem(start, goal, guardrails=(Keep(4.0, 4.0, 1.0),)))
    horizon = plan.actions.shape[1]
    assert plan.actions.shape == (3, horizon, 2)
    assert float(plan.actions.abs().max()) <= 1
    assert plan.imagined.states.shape == (3, 1, horizon + 1, 2)
    assert all(value.shape == (3, horizon) for value in plan.energy.values())
    assert set(plan.vetoed) == {"disk"}
    assert len(plan.reason) == 3
    assert bool((plan.calls > 0).all())
    assert plan.seconds > 0


def test_a_limit_holds_on_every_node_and_on_the_way():
    start, goal = torch.tensor([[3.0, 20.0]]).expand(4, -1), torch.tensor([[21.0, 20.0]]).expand(4, -1)
    disk = Keep(7.0, 20.0, 2.5)
    planner = SMALL.build()
    unguarded, _ = play(planner, start, goal)
    assert bool(((unguarded - disk.centre).norm(dim=-1) < disk.radius).any(1).all())
    guarded, feasible = play(planner, start, goal, guardrails=(disk,))
    assert not bool(((guarded - disk.centre).norm(dim=-1) < disk.radius).any())
    assert bool(reached(guarded, goal).all())
    assert bool(feasible.all())
    graph = planner.plan(problem(start, goal, guardrails=(disk,))).warm
    nodes = graph.nodes[0, : int(graph.count[0])]
    assert float((nodes - disk.centre).norm(dim=-1).min()) >= disk.radius
    beside = planner.plan(problem(torch.tensor([[4.0, 20.0]]), goal[:1], guardrails=(disk,)))
    assert int(beside.vetoed["disk"][0]) > 0


def test_it_looks_again_after_every_step_where_there_are_limits():
    goal = LatentGoal(Latent(torch.zeros(1, 2)))
    planner = Search.Config(execute=3).build()
    assert planner.commits(Task(goal)) == 3
    assert planner.commits(Task(goal, guardrails=(Keep(12.0, 12.0, 2.0),))) == 1


def test_nothing_feasible_takes_the_declared_fallback():
    start, goal = places(2, 3)
    never = Keep(12.0, 12.0, 100.0)
    plan = SMALL.build().plan(problem(start, goal, guardrails=(never,), fallback=torch.tensor([0.25, -0.5])))
    assert not bool(plan.feasible.any())
    assert bool((plan.actions == torch.tensor([0.25, -0.5])).all())
    assert plan.kept.tolist() == [0, 0]
    assert "fallback" in plan.reason[0]
    middle = SMALL.build().plan(problem(start, goal, guardrails=(never,)))
    assert bool((middle.actions == 0).all())


def test_a_goal_that_no_way_leads_to_is_said_and_harmless():
    start, goal = torch.tensor([[4.0, 4.0]]), torch.tensor([[20.0, 4.0]])
    shut = Keep(12.0, 20.0, 6.0)  # the door
    path, _ = play(SMALL.build(), start, goal, guardrails=(shut,), steps=20)
    assert float(path[..., 0].max()) < 12
    assert not bool(((path - shut.centre).norm(dim=-1) < shut.radius).any())
    assert bool(torch.isfinite(path).all())


def test_choices_are_searched_too():
    start, goal = torch.tensor([[4.0, 4.0]]), torch.tensor([[20.0, 8.0]])
    path, _ = play(SMALL.build(), start, goal, steps=50, action=CHOICES)
    assert bool(reached(path, goal).all())
    plan = SMALL.build().plan(problem(start, goal, CHOICES))
    assert plan.actions.dtype == torch.int64


def test_it_says_what_it_cannot_plan_for():
    start, goal = places(2, 4)
    good = problem(start, goal)
    tokens = replace(good, belief=Belief(torch.zeros(2, 3, 2)))
    columns = Problem(good.model, good.belief, (), Task(ColumnGoal({"x": 1.0})), CONTINUOUS, good.seeds, good.decision)
    history = Belief(start, carry=(torch.zeros(2, 4),))
    carried = Problem(good.model, history, good.costs, good.task, CONTINUOUS, good.seeds, good.decision)
    for bad, words in ((tokens, "vectors"), (columns, "the columns of a read-out"), (carried, "one state vector")):
        with pytest.raises(PlanningError, match=words):
            SMALL.build().plan(bad)
    SMALL.build().plan(problem(start, goal, budget=Budget(seconds=60.0)))


# References --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_kept_nodes_are_those_of_a_plain_loop(seed):
    g = torch.Generator().manual_seed(seed)
    b, k, limit = 3, 60, 40
    nodes = torch.zeros(b, limit + 8, 2)
    nodes[:, :3] = 10 * torch.rand(b, 3, 2, generator=g)
    count = torch.tensor([1, 2, 3])
    new, allowed = 10 * torch.rand(b, k, 2, generator=g), torch.rand(b, k, generator=g) < 0.8
    spacing = torch.tensor([0.5, 1.0, 2.0])
    expected = []
    for i in range(b):
        kept = list(nodes[i, : count[i]])
        for j in range(k):
            apart = all(float((new[i, j] - node).norm()) > float(spacing[i]) for node in kept)
            if bool(allowed[i, j]) and apart and len(kept) < limit:
                kept.append(new[i, j])
        expected.append(torch.stack(kept))
    after, (row, node, which) = add(nodes, count.clone(), new, allowed, spacing, limit)
    assert after.tolist() == [len(x) for x in expected]
    assert len(row) == int((after - count).sum())
    assert torch.equal(nodes[row, node], new[row, which])
    for i in range(b):
        assert torch.equal(nodes[i, : after[i]], expected[i])


def test_the_nearest_nodes_and_their_weights_are_those_of_a_plain_loop():
    g = torch.Generator().manual_seed(0)
    nodes, points = 10 * torch.rand(2, 30, 2, generator=g), 10 * torch.rand(2, 20, 2, generator=g)
    count, step = torch.tensor([30, 12]), torch.tensor([1.0, 2.0])
    planner = SMALL.build()
    index, share = nearest_nodes(planner.config, nodes, count, points, step)
    for i in range(2):
        for j in range(20):
            apart = [float((nodes[i, n] - points[i, j]).norm()) for n in range(int(count[i]))]
            nearest = sorted(range(len(apart)), key=apart.__getitem__)[:3]
            assert sorted(index[i, j].tolist()) == sorted(nearest)
            for n, weight in zip(index[i, j].tolist(), share[i, j].tolist(), strict=True):
                expected = max(0.0, 1 - apart[n] / (SMALL.reach * float(step[i])))
                assert weight == pytest.approx(expected, abs=2e-3)


def test_values_are_never_below_the_true_way_nor_far_above_it():
    """Against Dijkstra over the arena's own free places, 1 px apart with 16 directions."""
    start, goal = torch.tensor([[4.0, 4.0]]), torch.tensor([[20.0, 4.0]])
    graph = SMALL.build().plan(problem(start, goal)).warm
    exact = dijkstra((20, 4))
    nodes = graph.nodes[0, : int(graph.count[0])]
    value = graph.value[0, : int(graph.count[0])]
    true = torch.tensor([exact[round(float(x)), round(float(y))] for x, y in nodes.tolist()]) / STEP
    known = torch.isfinite(true)
    assert float(known.float().mean()) > 0.8
    assert float((value < 1e5)[known].float().mean()) > 0.95
    close = known & (value < 1e5)
    ratio = (value[close] + 2) / (true[close] + 2)
    assert float(ratio.min()) > 0.6
    assert float(ratio.median()) < 1.4
    assert float(ratio.quantile(0.9)) < 1.8
    rank = lambda x: x.argsort().argsort().float()  # noqa: E731
    pair = torch.stack([rank(value[close]), rank(true[close])])
    assert float(torch.corrcoef(pair)[0, 1]) > 0.97


def dijkstra(goal):
    side = int(SIDE) + 1
    best = {(x, y): math.inf for x in range(side) for y in range(side)}
    moves = [(i, j) for i in range(-2, 3) for j in range(-2, 3) if math.gcd(i, j) == 1]
    best[goal], queue = 0.0, [(0.0, goal)]
    while queue:
        length, (x, y) = heapq.heappop(queue)
        for i, j in moves:
            ends = torch.tensor([[x + i * t, y + j * t] for t in (0.25, 0.5, 0.75, 1.0)])
            new = length + math.hypot(i, j)
            if (x + i, y + j) in best and new < best[x + i, y + j] and bool(free(ends).all()):
                best[x + i, y + j] = new
                heapq.heappush(queue, (new, (x + i, y + j)))
    return best


# What else a task weighs ------------------------------------------------------------------------------------------


class South(Cost):
    """Being low costs: 1 a step at y = 0, 0 at the upper edge."""

    name = "south"

    def energy(self, imagined, actions, task):
        return 1 - imagined.states[:, :, 1:, 1] / SIDE


def weighed(state, goal, weights, **more) -> Problem:
    plain = problem(state, goal, weights=weights, **more)
    return replace(plain, costs=(GoalCost(), EffortCost(CONTINUOUS), South()))


def test_every_term_counts_and_its_weight_changes_the_way():
    open_ = Open()
    start, goal = torch.tensor([[4.0, 12.0]]), torch.tensor([[20.0, 12.0]])
    ways = {}
    for weight in (0.0, 1e6):
        asked = replace(weighed(start, goal, {"goal": 1.0, "south": weight}), model=open_)
        ways[weight] = SMALL.build().plan(asked).actions[0, 0]
    assert float(ways[0.0][1].abs()) < 0.3  # straight
    assert float(ways[1e6][1]) > 0.5  # up first, whatever that costs in steps


def test_effort_without_end_changes_an_action_and_an_unknown_term_is_refused():
    start, goal = torch.tensor([[4.0, 12.0]]), torch.tensor([[20.0, 12.0]])
    plain, dear = (SMALL.build().plan(weighed(start, goal, {"goal": 1.0, "effort": w})) for w in (0.0, 1e6))
    assert not torch.equal(plain.actions, dear.actions)
    with pytest.raises(PlanningError, match="one for nonsense"):
        SMALL.build().plan(weighed(start, goal, {"goal": 1.0, "nonsense": 1.0}))
    with pytest.raises(PlanningError, match="a weight above 0 for 'goal'"):
        SMALL.build().plan(weighed(start, goal, {"effort": 1.0}))


def test_energies_are_the_weighted_terms_of_the_chosen_plan():
    start, goal = places(3, 5)
    asked = weighed(start, goal, {"goal": 2.0, "effort": 0.5})
    plan = SMALL.build().plan(asked)
    found = verdict(asked, asked.model.imagine(asked.belief, plan.actions[:, None]), plan.actions[:, None])
    assert set(plan.energy) == {"goal", "effort"}
    for name, part in found.parts.items():
        assert torch.equal(plan.energy[name], part[:, 0])
    assert float(plan.energy["goal"].sum()) == pytest.approx(
        2 * float((plan.imagined.states[:, 0, 1:] - goal[:, None]).square().mean(-1).sum()), rel=1e-5)


# Goals on columns -------------------------------------------------------------------------------------------------


class Read(Readout):
    """x and y as they are, under names."""

    columns = ("x", "y")

    def read(self, states, context=None):
        return states


def test_a_goal_on_one_column_is_reached_wherever_it_matches():
    start = torch.tensor([[4.0, 4.0], [4.0, 16.0]])
    planner = SMALL.build()
    planner.prepare(Signature({"vector": ObservationSpec("vector", (2,))}, CONTINUOUS), Read(), (2,))
    state, warm = start, None
    for number in range(1, 30):
        asked = replace(problem(state, start, decision=number, warm=warm), costs=(GoalCost(Read()),))
        plan = planner.plan(replace(asked, task=Task(ColumnGoal({"x": 20.0}))))
        warm, state = plan.warm, Arena().step(state, plan.actions[:, 0])
    assert float((state[:, 0] - 20).abs().max()) < 2.5
    assert float((start[:, 1] - state[:, 1]).abs().max()) < 24  # y is anything


# Choices and episodes ---------------------------------------------------------------------------------------------


def test_choice_0_that_stalls_is_noticed():
    """Right (choice 0) is imagined to lead on, and in truth nothing moves."""
    planner, goal = Search.Config(directions=4, nodes=80, look=4, look_ahead=4).build(), torch.tensor([[20.0, 4.0]])
    state, warm, taken = torch.tensor([[4.0, 4.0]]), None, []
    for number in range(1, 5):
        plan = planner.plan(replace(problem(state, goal, CHOICES, number, warm), model=Open()))
        warm = plan.warm
        taken.append(int(plan.actions[0, 0]))
    assert taken[0] == 0
    assert set(taken[1:]) - {0}, "it pushes on for ever"


def test_where_an_episode_begins_anew_the_graph_does_too():
    start, goal = places(2, 7)
    planner = SMALL.build()
    first = planner.plan(problem(start, goal))
    moved = torch.stack([start[0] + 0.5, torch.tensor([20.0, 20.0])])
    asked = replace(problem(moved, goal, warm=first.warm), decision=torch.tensor([1, 0]))
    second = planner.plan(asked)
    assert torch.equal(second.warm.nodes[0], first.warm.nodes[0])
    assert torch.equal(second.warm.nodes[1, 0], moved[1])
    alone = planner.plan(replace(problem(moved[1:], goal[1:]), seeds=torch.tensor([1])))
    assert torch.equal(alone.actions[0], second.actions[1])


class Open(Arena):
    """An arena without a wall."""

    def step(self, state, action):
        return (state + self.displacement(action)).clamp(0, SIDE)
