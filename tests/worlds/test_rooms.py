"""Rooms: ways, walls and pictures against brute force; nothing crosses a wall, nothing is left behind in a picture."""

from __future__ import annotations

import heapq
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman.worlds import rooms
from steersman.worlds.rooms import Layout, Painter

SIDE = 1.0  # px between the places of the brute-force grid


def layouts(count, walls=1, seed=0, door=None):
    """Random layouts with walls at least 14 px apart and doors of 6 to 12 px."""
    g = torch.Generator().manual_seed(seed)
    room = rooms.HIGH - rooms.LOW - 2 * 6 - 14 * (walls - 1)
    offset = (torch.rand(count, walls, generator=g) * room).sort(1).values
    wall_x = rooms.LOW + 6 + offset + 14 * torch.arange(walls)
    half = torch.full((count,), door / 2) if door else 3 + 3 * torch.rand(count, generator=g)
    door_y = 12 + 39 * torch.rand(count, walls, generator=g)
    return Layout(wall_x, door_y, half, 145 + 85 * torch.rand(count, 3, generator=g))


def free_points(layout, seed):
    """One free place (B, 2) for each layout."""
    g = torch.Generator().manual_seed(seed)
    tries = rooms.LOW + (rooms.HIGH - rooms.LOW) * torch.rand(len(layout), 200, 2, generator=g)
    first = rooms.is_free(layout, tries).long().argmax(1)
    return tries[torch.arange(len(layout)), first]


# Ways --------------------------------------------------------------------------------------------------------------


def visibility_way(layout, start, goal, points=12):
    """Length of the shortest way in float64: a visibility graph over points just off the rounded corners of doors."""
    wall_x, door_y = layout.wall_x[0].double().tolist(), layout.door_y[0].double().tolist()
    half, reach, body = float(layout.door[0]), rooms.REACH, rooms.RADIUS
    angle = torch.linspace(0, 1, points, dtype=torch.float64) * math.pi / 2
    away = body / math.cos(math.pi / 4 / (points - 1)) + 1e-9  # so that a chord keeps the body's radius
    corners = [(x + i * rooms.HALF_WALL, y + j * half, i, j)
               for x, y in zip(wall_x, door_y, strict=True) for i in (-1, 1) for j in (-1, 1)]
    arcs = [torch.stack([x + i * away * angle.sin(), y - j * away * angle.cos()], 1) for x, y, i, j in corners]
    places = torch.cat([torch.stack([start, goal]).double(), *arcs])
    a, b = places[:, None].expand(-1, len(places), -1), places[None].expand(len(places), -1, -1)
    clear = torch.ones(len(places), len(places), dtype=torch.bool)
    for x, y, _, _ in corners:
        clear &= rooms.segment_distance(a, b, torch.tensor([x, y], dtype=torch.float64)) >= body - 1e-6
    for x, y in zip(wall_x, door_y, strict=True):  # near the wall: in the door; in it: off its edge
        for within, room in ((reach, half), (rooms.HALF_WALL, half - body)):
            ends = [(x + side * within - a[..., 0]) / (b - a)[..., 0].abs().clamp_min(1e-12) * (b - a)[..., 0].sign()
                    for side in (-1, 1)]
            low, high = torch.minimum(*ends).clamp(0, 1), torch.maximum(*ends).clamp(0, 1)
            upright = (b - a)[..., 0].abs() < 1e-12
            inside = torch.where(upright, (a[..., 0] - x).abs() < within - 1e-9, high - low > 1e-9)
            low, high = torch.where(upright, 0.0, low), torch.where(upright, 1.0, high)
            for t in (low, high):
                clear &= ~inside | ((a[..., 1] + t * (b - a)[..., 1] - y).abs() <= room + 1e-5)
    legs = (a - b).norm(dim=-1).masked_fill(~clear, torch.inf)
    best = legs[0].clone()
    while True:
        better = torch.minimum(best, (best[:, None] + legs).amin(0))
        if torch.equal(better, best):
            return float(best[1])
        best = better


def grid_way(layout, start, goal):
    """Length of the shortest way over a grid of free places, each joined to those within 4 cells: Dijkstra."""
    steps = [(i, j) for i in range(-4, 5) for j in range(-4, 5) if math.gcd(i, j) == 1]
    ticks = torch.arange(rooms.LOW, rooms.HIGH + 1e-6, SIDE)
    n = len(ticks)
    free = rooms.is_free(layout, torch.stack(torch.meshgrid(ticks, ticks, indexing="ij"), -1).view(1, -1, 2)).view(n, n)
    ok = free.tolist()

    def open_(i, j, di, dj):
        count = 2 * max(abs(di), abs(dj))
        return all(ok[round(i + di * k / count)][round(j + dj * k / count)] for k in range(1, count + 1))

    cell = lambda p: (round((float(p[0]) - rooms.LOW) / SIDE), round((float(p[1]) - rooms.LOW) / SIDE))  # noqa: E731
    first, last = cell(start), cell(goal)
    best, queue = {first: 0.0}, [(0.0, first)]
    while queue:
        length, (i, j) = heapq.heappop(queue)
        if (i, j) == last:
            return length
        if length > best[i, j]:
            continue
        for di, dj in steps:
            k, m = i + di, j + dj
            if 0 <= k < n and 0 <= m < n and ok[k][m] and open_(i, j, di, dj):
                new = length + SIDE * math.hypot(di, dj)
                if new < best.get((k, m), math.inf):
                    best[k, m] = new
                    heapq.heappush(queue, (new, (k, m)))
    return math.inf


@pytest.mark.parametrize("walls", [1, 2, 3])
def test_the_shortest_way_equals_the_visibility_graph(walls):
    layout = layouts(20, walls, seed=walls)
    start, goal = free_points(layout, 1), free_points(layout, 2)
    ours = rooms.shortest_path(layout, start, goal)
    for i in range(len(layout)):
        exact = visibility_way(layout[i : i + 1], start[i], goal[i])
        assert float(ours[i]) == pytest.approx(exact, abs=0.04), i


@pytest.mark.parametrize("walls", [1, 2, 3])
def test_the_shortest_way_from_inside_a_door_equals_the_visibility_graph(walls):
    layout = layouts(20, walls, seed=10 + walls)
    g = torch.Generator().manual_seed(5)
    which = torch.randint(walls, (20,), generator=g)
    rows = torch.arange(20)
    inside = torch.stack([
        layout.wall_x[rows, which] + (2 * torch.rand(20, generator=g) - 1) * 2.5,
        layout.door_y[rows, which] + (2 * torch.rand(20, generator=g) - 1) * (layout.door - rooms.RADIUS - 0.01),
    ], 1)
    assert bool(rooms.is_free(layout, inside[:, None]).all())
    goal = free_points(layout, 6)
    for a, b in ((inside, goal), (goal, inside)):
        ours = rooms.shortest_path(layout, a, b)
        for i in range(20):
            exact = visibility_way(layout[i : i + 1], a[i], b[i])
            assert float(ours[i]) == pytest.approx(exact, abs=0.04), i


def test_the_shortest_way_agrees_with_a_fine_grid():
    """Independent of any geometry but `is_free`; the grid's way is at most 3% too long and a cell off at the ends."""
    for walls in (1, 3):
        layout = layouts(1, walls, seed=20 + walls, door=10.0)
        start, goal = free_points(layout, 3).round(), free_points(layout, 4).round()
        ours = rooms.shortest_path(layout, start, goal)
        for i in range(1):
            brute = grid_way(layout[i : i + 1], start[i], goal[i])
            assert -0.7 <= brute - float(ours[i]) <= 0.03 * brute + 1.5


def test_the_way_there_is_as_long_as_the_way_back_and_never_shorter_than_a_line():
    layout = layouts(60, 2, seed=3)
    a, b = free_points(layout, 1), free_points(layout, 2)
    there = rooms.shortest_path(layout, a, b)
    torch.testing.assert_close(there, rooms.shortest_path(layout, b, a))
    assert bool((there >= (a - b).norm(dim=1) - 1e-4).all())
    same = rooms.room_of(layout, a[:, None])[:, 0] == rooms.room_of(layout, b[:, None])[:, 0]
    apart = torch.minimum(*((p[:, :1] - layout.wall_x).abs().amin(1) for p in (a, b)))
    same &= apart > rooms.REACH  # in a door's mouth, the corner may lie between
    torch.testing.assert_close(there[same], (a - b).norm(dim=1)[same], atol=0.02, rtol=0)


# Motion ------------------------------------------------------------------------------------------------------------


def touches(layout, path):
    """Reference in float64: whether a polyline's points, every 0.02 px, lie within a wall and outside its door."""
    for a, b in itertools.pairwise(path.double()):
        count = max(2, int((b - a).norm() / 0.02) + 2)
        points = a + torch.linspace(0, 1, count, dtype=torch.float64)[:, None] * (b - a)
        for x, y in zip(layout.wall_x[0].double(), layout.door_y[0].double(), strict=True):
            solid = ((points[:, 0] - x).abs() < rooms.HALF_WALL) & ((points[:, 1] - y).abs() > layout.door[0].double())
            if bool(solid.any()):
                return True
    return False


@settings(max_examples=12)
@given(walls=st.integers(1, 3), seed=st.integers(0, 10_000), push=st.booleans())
def test_no_action_crosses_a_wall_or_leaves_the_bounds(walls, seed, push):
    layout = layouts(4, walls, seed)
    g = torch.Generator().manual_seed(seed)
    position = free_points(layout, seed + 1)
    action = 2 * torch.rand(4, 2, generator=g) - 1
    path = [position]
    for _ in range(30):
        if not push:
            action = 2 * torch.rand(4, 2, generator=g) - 1
        step = rooms.MAX_STEP * action / action.norm(dim=1, keepdim=True).clamp_min(1)
        new, touched = rooms.move(layout, path[-1], step)
        assert bool(rooms.is_free(layout, new[:, None]).all())
        free_way = torch.where(touched, False, (new - path[-1] - step).norm(dim=1) < 1e-4)
        assert bool((touched | free_way).all())  # whoever was not touched went the whole way
        path.append(new)
    whole = torch.stack(path, 1)
    assert not bool(rooms.crossed_wall(layout, whole).any())
    assert not any(touches(layout[i : i + 1], whole[i]) for i in range(4))
    assert float(whole.min()) >= rooms.LOW
    assert float(whole.max()) <= rooms.HIGH


def test_a_push_ends_at_contact():
    layout = Layout(torch.tensor([[30.0]]), torch.tensor([[20.0]]), torch.tensor([5.0]), torch.full((1, 3), 200.0))
    position = torch.tensor([[10.0, 45.0]])
    for _ in range(30):
        position, touched = rooms.move(layout, position, torch.tensor([[rooms.MAX_STEP, 0.0]]))
    assert bool(touched)
    assert 30 - rooms.REACH - rooms.MAX_STEP / rooms.SUBSTEPS - 1e-4 <= float(position[0, 0]) <= 30 - rooms.REACH
    assert float(position[0, 1]) == 45.0
    stayed, touched = rooms.move(layout, position, torch.tensor([[rooms.MAX_STEP, rooms.MAX_STEP]]) / 2)
    assert bool(touched)  # no sliding along the wall
    assert float(stayed[0, 1] - 45) <= rooms.MAX_STEP / 2


def test_a_door_lets_through():
    layout = Layout(torch.tensor([[30.0]]), torch.tensor([[20.0]]), torch.tensor([5.0]), torch.full((1, 3), 200.0))
    position = torch.tensor([[10.0, 20.0]])
    for _ in range(15):
        position, touched = rooms.move(layout, position, torch.tensor([[rooms.MAX_STEP, 0.0]]))
        assert not bool(touched)
    assert float(position[0, 0]) > 40


def test_a_planted_crossing_is_found():
    layout = layouts(50, 2, seed=4)
    rows = torch.arange(50)
    which = rows % 2
    x, y = layout.wall_x[rows, which], layout.door_y[rows, which]
    beside = torch.where(y > 32, y - 15, y + 15)
    tunnel = torch.stack([torch.stack([x - 4, beside], 1), torch.stack([x + 4, beside], 1)], 1)
    through = torch.stack([torch.stack([x - 4, y], 1), torch.stack([x + 4, y], 1)], 1)
    assert bool(rooms.crossed_wall(layout, tunnel).all())
    assert not bool(rooms.crossed_wall(layout, through).any())


@settings(max_examples=50)
@given(seed=st.integers(0, 10_000))
def test_entering_a_disk_equals_sampling_the_path_finely(seed):
    g = torch.Generator().manual_seed(seed)
    path = 20 + 24 * torch.rand(20, 4, 2, generator=g)
    disk = torch.cat([20 + 24 * torch.rand(20, 2, generator=g), 1 + 4 * torch.rand(20, 1, generator=g)], 1)
    t = torch.linspace(0, 1, 2001)[:, None]
    points = path[:, :-1, None] + t * (path[:, 1:] - path[:, :-1])[:, :, None]
    nearest = (points - disk[:, None, None, :2]).norm(dim=-1).flatten(1).amin(1)
    ours = rooms.entered_disk(path, disk)
    clear = (nearest - disk[:, 2]).abs() > 0.02
    assert torch.equal(ours[clear], (nearest < disk[:, 2])[clear])


def test_a_path_through_a_disk_between_its_points_is_found():
    disk = torch.tensor([[10.0, 10.0, 2.0]])
    assert bool(rooms.entered_disk(torch.tensor([[[5.0, 10.0], [15.0, 10.0]]]), disk))
    assert not bool(rooms.entered_disk(torch.tensor([[[5.0, 12.1], [15.0, 12.1]]]), disk))
    assert not bool(rooms.entered_disk(torch.tensor([[[5.0, 5.0], [5.0, 5.0]]]), disk))  # standing still elsewhere


# Pictures ----------------------------------------------------------------------------------------------------------


def test_pictures_differ_by_the_agent_alone():
    layout = layouts(3, 1, seed=1)
    painter = Painter(layout, noise=0)
    a, b = free_points(layout, 1), free_points(layout, 2)
    frames = painter.frames(torch.stack([a, b, a], 1)).int()
    assert torch.equal(frames[:, 0], frames[:, 2])
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    for i in range(3):
        changed = (frames[i, 0] != frames[i, 1]).any(-1)
        near = sum((torch.hypot(x - p[i, 0], y - p[i, 1]) < 7).int() for p in (a, b)) > 0
        assert bool(changed.any())
        assert not bool((changed & ~near).any())
        column, row = a[i].round().long().tolist()
        centre = frames[i, 0, row, column].float()
        assert float((centre - torch.tensor(rooms.AGENT_RGB)).abs().max()) < 25


def test_drawing_leaves_no_dot_behind():
    """One frame at a time, the copy that is drawn on must not be the background itself."""
    layout = layouts(2, 1, seed=2)
    a, b = free_points(layout, 1)[:, None], free_points(layout, 2)[:, None]
    fresh = Painter(layout, noise=0).frames(b)
    painter = Painter(layout, noise=0)
    painter.frames(a)
    assert torch.equal(painter.frames(b), fresh)
    rows = torch.tensor([1])
    assert torch.equal(painter.frames(b[rows], rows=rows), fresh[rows])


def test_noise_never_wraps_and_has_the_size_that_was_asked():
    layout = layouts(2, 1, seed=3)
    position = free_points(layout, 1)[:, None].expand(-1, 4, -1)
    clean = Painter(layout, noise=0).frames(position).int()
    assert int(clean.min()) >= rooms.NOISE_LIMIT
    assert int(clean.max()) <= 255 - rooms.NOISE_LIMIT
    for noise in (0.02, 0.1):
        g = torch.Generator().manual_seed(0)
        noisy = Painter(layout, noise, g).frames(position, g).int()
        change = noisy - clean
        assert int(change.abs().max()) <= rooms.NOISE_LIMIT
        if noise == 0.02:
            assert float(change.float().std()) == pytest.approx(0.02 * 255, rel=0.05)
    assert not torch.equal(noisy[:, 0], noisy[:, 1])


def test_the_same_generator_gives_the_same_pictures():
    layout = layouts(2, 2, seed=5)
    position = free_points(layout, 1)[:, None].expand(-1, 3, -1)
    seeded = lambda seed: torch.Generator().manual_seed(seed)  # noqa: E731
    frames = [Painter(layout, 0.02, g).frames(position, g) for g in map(seeded, (1, 1, 2))]
    assert torch.equal(frames[0], frames[1])
    assert not torch.equal(frames[0], frames[2])


def test_walls_and_doors_are_where_the_layout_says():
    layout = Layout(torch.tensor([[30.0]]), torch.tensor([[20.0]]), torch.tensor([5.0]), torch.full((1, 3), 200.0))
    picture = Painter(layout, noise=0).frames(torch.tensor([[[50.0, 50.0]]]))[0, 0].float()
    wall = torch.tensor(rooms.WALL_RGB)
    assert bool((picture[40, 29:32] == wall).all())
    assert bool((picture[20, 29:32] == 200).all())
    assert bool((picture[40, 26] == 200).all())
    assert bool((picture[:3, :3] == wall).all())
