"""Graphs of ways: spread like a loop, valued like Dijkstra, and blind to what a model imagines through a wall."""

from __future__ import annotations

import heapq
from dataclasses import replace

import pytest
import torch

from steersman.core import Belief, ConfigError, DataError, Guardrail, Imagined, Readout, WorldModel
from steersman.memory import WayConfig, build_ways
from steersman.memory.graphs.cutting import cut_by
from steersman.memory.graphs.known import is_known, is_known_on_the_way, known_from
from steersman.memory.graphs.leaks import follow_ways
from steersman.memory.graphs.nearest import along_curve, nearest, nearest_few, nearest_within, spread_out
from steersman.memory.graphs.places import units_of
from steersman.memory.graphs.steps_to_go import FAR, from_anywhere, steps_to_go

FAN = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [0.7, 0.7], [-0.7, 0.7], [-0.7, -0.7],
                    [0.7, -0.7]])


class Square(WorldModel):
    """A point in a square of 10 by 10 with a wall around x = 5 and a door above y = 7; a ghost walks through it."""

    def __init__(self, ghost: bool = False) -> None:
        super().__init__()
        self.ghost = ghost

    def begin(self, latent, actions, exogenous=None):
        return Belief(latent.state[:, -1])

    def step(self, state, action):
        new = (state + 0.5 * action).clamp(0, 10)
        blocked = ((new[..., :1] - 5).abs() < 0.8) & (new[..., 1:] < 7)
        return new if self.ghost else torch.where(blocked, state, new)

    def imagine(self, belief, actions, exogenous=None, u=None):
        states = [belief.state[:, None].expand(-1, actions.shape[1], -1)]
        for t in range(actions.shape[2]):
            states.append(self.step(states[-1], actions[:, :, t]))
        return Imagined(torch.stack(states, 2), belief.context)


def logged(episodes=60, steps=80, seed=0):
    model, g = Square(), torch.Generator().manual_seed(seed)
    state = 10 * torch.rand(episodes, 2, generator=g)
    state[:, 0] = torch.where((state[:, 0] - 5).abs() < 0.8, state[:, 0] + 2, state[:, 0])
    held = torch.rand(episodes, steps // 4, 2, generator=g).repeat_interleave(4, 1) * 2 - 1
    states = [state]
    for t in range(steps):
        states.append(model.step(states[-1], held[:, t]))
    return list(torch.stack(states, 1)), list(held)


@pytest.fixture(scope="module")
def graph():
    return build_ways(*logged(), Square(), FAN, WayConfig(nodes=300, chunk=6, stride=2))


def test_values_are_those_of_dijkstra():
    g = torch.Generator().manual_seed(1)
    for _ in range(20):
        neighbour = torch.randint(-1, 40, (40, 4), generator=g)
        cost = torch.rand(40, 4, generator=g).masked_fill(neighbour < 0, torch.inf)
        arrived = torch.full((3, 40), torch.inf)
        arrived[0, 0], arrived[1, 5], arrived[1, 6], arrived[2, 7] = 0, 0.5, 0, 2
        found = steps_to_go(neighbour, cost, arrived)
        for b in range(3):
            assert found[b].tolist() == pytest.approx(dijkstra(neighbour, cost, arrived[b]), abs=1e-5)


def dijkstra(neighbour, cost, arrived):
    back = [[] for _ in range(len(neighbour))]
    for n, row in enumerate(neighbour.tolist()):
        for to, c in zip(row, cost[n].tolist(), strict=True):
            if to >= 0:
                back[to].append((c, n))
    value = arrived.tolist()
    queue = [(v, n) for n, v in enumerate(value) if v < float("inf")]
    heapq.heapify(queue)
    while queue:
        v, n = heapq.heappop(queue)
        if v > value[n]:
            continue
        for c, before in back[n]:
            if v + c < value[before]:
                value[before] = v + c
                heapq.heappush(queue, (v + c, before))
    return value


def test_nodes_are_each_the_farthest_from_those_before():
    places = torch.rand(300, 3, generator=torch.Generator().manual_seed(2))
    chosen, home, radius = spread_out(places, 25)
    slow = [0]
    while len(slow) < 25:
        slow.append(int((places[:, None] - places[slow]).norm(dim=2).amin(1).argmax()))
    assert chosen.tolist() == slow
    apart = (places[:, None] - places[chosen]).norm(dim=2)
    assert torch.allclose(apart.gather(1, home[:, None])[:, 0], apart.amin(1), atol=1e-5)
    assert float(radius) == pytest.approx(float(apart.amin(1).max()), abs=1e-5)
    found, index = nearest(places, places[chosen])
    assert torch.equal(index, apart.argmin(1))
    assert torch.allclose(found, apart.amin(1), atol=1e-5)


def test_units_weigh_columns_by_how_fast_they_change():
    g = torch.Generator().manual_seed(0)
    walk = torch.cat([torch.randn(2000, 1, generator=g).cumsum(0), 0.1 * torch.randn(2000, 1, generator=g).cumsum(0),
                      torch.ones(2000, 1)], 1)
    unit = units_of([walk])
    assert float(unit[0] / unit[1]) == pytest.approx(10, rel=0.1)
    assert torch.isinf(unit[2])


def test_what_no_log_shows_is_not_known():
    places = torch.cat(logged()[0])
    known = known_from(places)
    assert float(is_known(known, places).float().mean()) > 0.999
    inside = torch.stack([torch.full((50,), 5.0), torch.linspace(0.2, 6.4, 50)], 1)
    assert not bool(is_known(known, inside).any())
    outside = torch.tensor([[-2.0, 5.0], [12.0, 5.0], [float("nan"), 1.0]])
    assert not bool(is_known(known, outside).any())
    through = torch.tensor([[4.0, 2.0], [4.5, 2.0], [5.5, 2.0], [6.0, 2.0], [6.5, 2.0]])
    assert is_known_on_the_way(known, through).tolist() == [False] * 4 or not is_known_on_the_way(known, through)[1]


def test_no_edge_leads_through_the_wall_although_the_model_does(graph):
    ghost = build_ways(*logged(), Square(ghost=True), FAN, WayConfig(nodes=300, chunk=6, stride=2))
    for built in (graph, ghost):
        here, edge = (built.neighbour >= 0).nonzero(as_tuple=True)
        a, b = built.nodes[here], built.nodes[built.neighbour[here, edge]]
        crossing = ((a[:, 0] < 5) != (b[:, 0] < 5)) & (torch.maximum(a[:, 1], b[:, 1]) < 6)
        assert not bool(crossing.any())
    believed = ghost.neighbour[(ghost.nodes[:, 0] < 5)]
    assert bool((believed >= 0).any())


def test_an_edge_costs_the_steps_that_were_imagined_and_ends_where_it_says(graph):
    model = Square()
    here, edge = (graph.neighbour >= 0).nonzero(as_tuple=True)
    there, cost, push = graph.neighbour[here, edge], graph.cost[here, edge], graph.tried[here, graph.way[here, edge], 0]
    held = (push[:, None] - FAN[None]).abs().amax(2).amin(1) < 1e-6  # edges of held actions can be done again
    state, off = graph.nodes[here], torch.full((len(here),), torch.inf)
    for step in range(1, 7):
        state = model.step(state, push)
        rest = (state / graph.unit - graph.places[there]).norm(dim=1)
        if step % 2 == 0:
            off = torch.where(rest <= graph.touch + 1e-5, torch.minimum(off, (step + rest - cost).abs()), off)
    assert int(held.sum()) > 100
    assert float(off[held].max()) < 1e-3


def test_values_lead_round_the_wall_and_say_no_less_than_the_true_way(graph):
    goal = torch.tensor([9.0, 1.0]) / graph.unit
    rest = (graph.places - goal).norm(dim=1)
    value = steps_to_go(graph.neighbour, graph.cost, rest.masked_fill(rest > graph.touch, torch.inf)[None])
    behind = torch.tensor([[[1.0, 1.0], [4.0, 1.0], [8.0, 1.0]]])
    steps = from_anywhere(graph, value, behind / graph.unit)[0]
    # from (4, 1): up to the door's corner at (4.2, 7) and down to (9, 1), 0.7 a step at most along the diagonal
    assert float(steps[1]) >= (6.0 + (4.8**2 + 6.0**2) ** 0.5) / 0.75
    assert float(steps[1]) < 60
    assert float(steps[0]) > float(steps[1]) > float(steps[2])
    nowhere = from_anywhere(graph, value, torch.tensor([[[50.0, 50.0]]]) / graph.unit)
    assert float(nowhere) > FAR


def test_bad_sizes_and_logs_are_refused():
    with pytest.raises(ConfigError, match="positive"):
        WayConfig(nodes=0)
    with pytest.raises(ConfigError, match="stride"):
        WayConfig(chunk=2, stride=3)
    states, actions = logged(2, 8)
    with pytest.raises(DataError, match="latents"):
        build_ways(states, [a[:-1] for a in actions], Square(), FAN)


def test_columns_are_read_where_a_readout_is_given():
    class Reads(Readout):
        columns = ("twice",)

        def read(self, states, context=None):
            return 2 * states[..., :1]

    states, actions = logged(10, 20)
    graph = build_ways(states, actions, Square(), FAN, WayConfig(nodes=50, chunk=4, stride=2), Reads())
    assert graph.places.shape == (len(graph), 1)
    assert torch.allclose(graph.places * graph.unit, 2 * graph.nodes[:, :1])


class Low(Guardrail):
    """No step ends above y = `most`, problem by problem where there are several; a step alone tells."""

    name = "low"

    def __init__(self, most):
        self.most = torch.as_tensor(most)

    def margin(self, imagined, actions):
        return imagined.states[:, :, 1:, 1] - self.most.reshape(-1, 1, 1)

    def rows(self, index):
        return self if self.most.dim() == 0 else Low(self.most[index])


def test_edges_are_cut_whose_imagined_way_crosses_a_limit_as_a_loop_says(graph):
    model, cut = Square(), cut_by((Low(6.0),), graph, Square())
    assert cut.edges.shape == (1, *graph.neighbour.shape)
    assert not bool(cut.nodes.any()), "this guardrail judges steps only"
    here, edge = (graph.neighbour >= 0).nonzero(as_tuple=True)
    some = torch.randperm(len(here), generator=torch.Generator().manual_seed(0))[:200]
    for n, e in zip(here[some].tolist(), edge[some].tolist(), strict=True):
        state, broken = graph.nodes[n], False
        for t in range(int(graph.steps[n, e])):
            state = model.step(state, graph.tried[n, graph.way[n, e], t])
            broken |= float(state[1]) > 6.0
        assert bool(cut.edges[0, n, e]) == broken
    left = cut.leaves(graph)
    assert torch.equal(left.neighbour < 0, (graph.neighbour < 0) | cut.edges[0])
    assert 0 < int((left.neighbour >= 0).sum()) < int((graph.neighbour >= 0).sum())


def test_limits_that_differ_by_problem_cut_each_graph_apart(graph):
    together = cut_by((Low([3.0, 6.0, 20.0]),), graph, Square(), 3)
    assert together.edges.shape[0] == 3
    for b, most in enumerate((3.0, 6.0, 20.0)):
        assert torch.equal(together.edges[b], cut_by((Low(most),), graph, Square()).edges[0])
    assert not bool((together.edges[2] & (graph.neighbour >= 0)).any())


def test_values_are_followed_in_imagination_and_what_leads_nowhere_is_noticed(graph):
    g = torch.Generator().manual_seed(2)
    frames = torch.cat(logged()[0])
    starts, goals = frames[torch.randint(len(frames), (2, 60), generator=g)]
    kept = follow_ways(graph, Square(), starts, goals, FAN)
    assert float(kept.leaks.float().mean()) < 0.05
    ways = kept.value.isfinite()
    assert float(ways.float().mean()) > 0.9
    assert bool((kept.taken[kept.taken.isfinite()] <= 2 * kept.value[kept.taken.isfinite()] + 12 + 4).all())
    ghost = build_ways(*logged(), Square(ghost=True), FAN, WayConfig(nodes=300, chunk=6, stride=2))
    ghost = replace(ghost, known=replace(ghost.known, seen=torch.ones_like(ghost.known.seen)), cost=ghost.cost / 8)
    assert float(follow_ways(ghost, Square(), starts, goals, FAN).leaks.float().mean()) > 0.3


def test_a_graph_that_is_too_coarse_is_made_finer_and_it_says_how_far_that_helped():
    coarse = build_ways(*logged(), Square(), FAN, WayConfig(nodes=24, chunk=6, stride=2))
    assert len(coarse.leaks) == 0
    mended = build_ways(*logged(), Square(), FAN, WayConfig(nodes=24, chunk=6, stride=2, mend=4, leaks=0.0))
    assert 1 < len(mended.leaks) <= 5, "a bound on how often"
    assert mended.leaks[0, 0] == 24
    assert bool((mended.leaks[1:, 0] > mended.leaks[:-1, 0]).all())
    assert bool((mended.leaks[1:, 1] < mended.leaks[:-1, 1]).all())
    worth = mended.leaks[:, 2:].sum(1)
    assert len(mended) == int(mended.leaks[worth.argmin(), 0])
    wide = build_ways(*logged(), Square(), FAN, WayConfig(nodes=300, touch=4.0, chunk=6, stride=2, mend=1, leaks=0.0))
    assert wide.leaks[:, 1].tolist() == pytest.approx([4.0, 3.2])
    fine = build_ways(*logged(), Square(), FAN, WayConfig(nodes=300, chunk=6, stride=2, mend=3))
    assert len(fine.leaks) == 1, "what does not leak is not built again"
    with pytest.raises(ConfigError, match="mend"):
        WayConfig(mend=-1)


def test_many_places_are_searched_block_by_block_as_all_at_once(monkeypatch):
    g = torch.Generator().manual_seed(3)
    points, places = torch.randn(6000, 3, generator=g), torch.randn(900, 3, generator=g)
    apart, index = nearest(points, places)
    monkeypatch.setattr("steersman.memory.graphs.nearest._DENSE", 1)
    found, which = nearest_within(points, places, 0.4)
    inside = apart <= 0.4
    assert torch.equal(found.isfinite(), inside)
    assert torch.allclose(found[inside], apart[inside])
    assert torch.equal(which[inside], index[inside])
    lost = nearest_within(torch.cat([points, torch.full((1, 3), torch.nan)]), places, 0.4)
    assert not bool(lost[0][-1] <= 0.4)
    assert torch.equal(lost[0][:-1], found), "one that diverged hides no other"
    order = along_curve(points)
    assert torch.equal(order.sort().values, torch.arange(6000))
    step = (points[order][1:] - points[order][:-1]).norm(dim=1).mean()
    assert float(step) < 0.3 * float((points[1:] - points[:-1]).norm(dim=1).mean())


def test_places_are_covered_block_by_block_nearly_as_well_as_at_once(monkeypatch):
    g = torch.Generator().manual_seed(4)
    places = torch.rand(4000, 2, generator=g)
    whole = spread_out(places, 200)
    monkeypatch.setattr("steersman.memory.graphs.nearest._SPREAD", 1e5)
    chosen, home, radius = spread_out(places, 200)
    assert len(chosen) == 200
    apart, near = nearest(places, places[chosen])
    assert torch.equal(home, near)
    assert float(radius) == pytest.approx(float(apart.max()))
    assert float(radius) < 1.8 * float(whole[2])


def test_the_nearest_few_are_those_of_all(monkeypatch):
    monkeypatch.setattr("steersman.memory.graphs.nearest._WHOLE", 1)
    g = torch.Generator().manual_seed(5)
    for n in (4, 5, 17, 300, 901):
        points, places = torch.randn(40, 3, generator=g), torch.randn(n, 3, generator=g)
        wanted = torch.cdist(points, places).topk(4, dim=1, largest=False).indices.sort(1).values
        assert torch.equal(nearest_few(points, places, 4).sort(1).values, wanted)
