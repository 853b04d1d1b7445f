"""Nine rooms: walls hold, doors let through, ways are as long as a grid search says, logs and pictures are true."""

from __future__ import annotations

import heapq

import pytest
import torch

from steersman.core import ActionError, ConfigError
from steersman.worlds import NineRooms, snake
from steersman.worlds.nine_rooms import DISK, DOORS, RANGES, SIDE, paint


def arena(count: int = 1) -> torch.Tensor:
    return snake.walls(torch.tensor(DOORS).expand(count, -1), SIDE)


def test_no_push_crosses_a_wall_and_many_pass_doors():
    episodes = list(NineRooms().log(60, 120, 3))
    places = torch.stack([e.observations["vector"][:, :2] for e in episodes])
    wall = arena(60)
    assert bool(snake.is_free(wall, places, SIDE).all())
    assert not bool(snake.crossed_wall(wall, places, SIDE).any())
    passed = snake.room_of(SIDE, places).diff(dim=1)
    assert int((passed != 0).sum()) > 20
    assert set(passed.unique().tolist()) <= {-1, 0, 1}, "doors join neighbours along the way only"


def test_a_ghost_that_walks_through_is_noticed():
    ghost = torch.stack([torch.tensor([0.5, 0.2]), torch.tensor([1.5, 0.2])])[None]
    assert bool(snake.crossed_wall(arena(), ghost, SIDE)[0])


def test_motion_is_as_the_formula_says_where_nothing_is_in_the_way():
    place, speed, push = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.01, -0.02]]), torch.tensor([[1.0, 0.5]])
    moved, faster = snake.move(arena(), place, speed, push, SIDE)
    assert torch.allclose(faster, 0.8 * speed + 0.01 * push)
    assert torch.allclose(moved, place + faster)
    against, still = place, speed
    for _ in range(40):
        against, still = snake.move(arena(), against, still, torch.tensor([[-1.0, 0.0]]), SIDE)
    assert 0.05 <= float(against[0, 0]) < 0.07
    assert float(still[0, 0]) == 0.0


def grid_length(start: torch.Tensor, goal: torch.Tensor, cells: int = 90) -> float:
    """Dijkstra's algorithm over a grid with moves of up to two cells: at most 3% longer than the truth."""
    wall, step = arena(), SIDE * snake.ROOM / cells
    axis = (torch.arange(cells) + 0.5) * step
    free = snake.is_free(wall, torch.cartesian_prod(axis, axis)[None], SIDE)[0].view(cells, cells)
    moves = [(a, b) for a in range(-2, 3) for b in range(-2, 3) if (a, b) != (0, 0)]
    first, last = (tuple((x / step).long().tolist()) for x in (start, goal))
    best, queue = {first: 0.0}, [(0.0, first)]
    while queue:
        length, (x, y) = heapq.heappop(queue)
        if (x, y) == last:
            return length
        if length > best[(x, y)]:
            continue
        for a, b in moves:
            at, half = (x + a, y + b), (x + a // 2, y + b // 2)
            if not (0 <= at[0] < cells and 0 <= at[1] < cells and free[at] and free[half]):
                continue
            new = length + step * (a * a + b * b) ** 0.5
            if new < best.get(at, float("inf")):
                best[at] = new
                heapq.heappush(queue, (new, at))
    return float("inf")


def test_shortest_ways_are_those_of_a_grid_search():
    trials = NineRooms().begin(3, 11)
    for start, goal, length in zip(trials.state.position, trials.state.goal, trials.shortest.tolist(), strict=True):
        found = grid_length(start, goal)
        assert length <= found + 0.08
        assert length >= 0.94 * found - 0.08
    back = snake.shortest_way(trials.state.doors, trials.state.goal, trials.state.position, SIDE)
    assert torch.allclose(back, trials.shortest, atol=1e-4)


@pytest.mark.parametrize("away", list(RANGES))
def test_starts_are_as_many_doors_away_as_asked(away):
    trials = NineRooms(away=away).begin(50, 2)
    start, goal = (snake.room_of(SIDE, x) for x in (trials.state.position, trials.state.goal))
    low, high = RANGES[away]
    assert bool((((start - goal).abs() >= low) & ((start - goal).abs() <= high)).all())
    assert not bool(trials.solved().any())
    assert bool(snake.is_free(trials.state.wall, trials.state.goal[:, None], SIDE).all())


def test_doors_can_be_moved_and_shown():
    world = NineRooms(varied=True, shown=True)
    trials = world.begin(5, 0)
    seen = trials.observe()
    assert torch.equal(seen["map"], trials.state.doors)
    assert float(seen["map"].std(0).min()) > 0.01
    (episode, *_) = world.log(2, 5, 0)
    episode.validate(world.signature)
    with pytest.raises(ConfigError, match="doors"):
        NineRooms(doors=(0.5,) * 8)
    with pytest.raises(ConfigError, match="away"):
        NineRooms(away="farther")


def test_pictures_show_walls_doors_and_the_point():
    trials = NineRooms(look="picture").begin(2, 4)
    picture = trials.observe()["image"]
    assert picture.shape == (2, 64, 64, 3)
    x, y = trials.state.position[0]
    assert picture[0, int(63 - y * 64 / 3), int(x * 64 / 3), 0] > 180, "the point is red"
    open_, shut = paint(arena(), torch.tensor([[0.5, 0.5]]))[0, int(64 - 0.75 * 64 / 3), [21, 21]]
    assert torch.equal(open_, shut)
    door = paint(arena(), torch.tensor([[2.5, 2.5]]))[0, int(64 - (0.5 + DOORS[0]) * 64 / 3), 21]
    wall = paint(arena(), torch.tensor([[2.5, 2.5]]))[0, int(64 - 0.2 * 64 / 3), 21]
    assert int(door[0]) > 200 > int(wall[0])


def test_actions_out_of_bounds_are_refused():
    trials = NineRooms().begin(2, 0)
    with pytest.raises(ActionError, match="within"):
        trials.step(torch.full((2, 2), 1.5))


def test_disks_stand_between_doors_and_are_entered_by_what_crosses_them():
    world = NineRooms(disks=True)
    trials = world.begin(300, 4)
    middles = world.disk_places(trials.state.doors)
    assert middles.shape == (300, 9, 2)
    assert bool(snake.is_free(trials.state.wall, middles, SIDE).all())
    for place in (trials.state.position, trials.state.goal):
        assert float((place[:, None] - middles).norm(dim=2).min()) >= 2 * DISK - 1e-6
    assert not bool(trials.bad().any())
    # a step across a disk's edge counts, also where both of its ends lie outside
    path = torch.stack([middles[:, 4] + torch.tensor([-DISK, 0.05]), middles[:, 4] + torch.tensor([DISK, 0.05])], 1)
    assert bool(snake.entered(path, middles, DISK).all())
    assert not bool(snake.entered(path + torch.tensor([0.0, 0.1]), middles[:, 4:5], DISK).any())
    assert NineRooms().begin(3, 0).bad() is None
    entered = torch.zeros(300, dtype=torch.bool)
    push = trials.drift(torch.Generator().manual_seed(1))
    for _ in range(60):
        before = trials.state.position
        trials.step(push())
        fractions = torch.linspace(0, 1, 50)[:, None, None]
        on = before + fractions * (trials.state.position - before)
        slow = ((on[:, :, None] - middles).norm(dim=3) < DISK).flatten(2).any(2).any(0)
        assert int((slow != trials.bad()).sum()) <= 3, "a swept step is what many places of it are"
        entered |= trials.bad()
    assert bool(entered.any())


def test_a_disk_world_of_drawn_doors_is_sampled_too():
    trials = NineRooms(disks=True, varied=True).begin(50, 1)
    middles = trials.config.disk_places(trials.state.doors)
    assert float((trials.state.goal[:, None] - middles).norm(dim=2).min()) >= 2 * DISK - 1e-6


def test_no_play_takes_fewer_steps_than_the_geometry_says_are_needed():
    trials = NineRooms().begin(80, 6)
    start, least = trials.state.position, None
    push = trials.drift(torch.Generator().manual_seed(2))
    for step in range(1, 61):
        trials.step(push())
        if step % 12 == 0:
            least = snake.fewest_steps(trials.state.doors, start, trials.state.position, SIDE)
            assert bool((least <= step).all())
    assert float(least.max()) > 25, "held pushes come close to what is possible"
    longest = snake.shortest_way(trials.state.doors, start, trials.state.goal, SIDE)
    assert bool((snake.fewest_steps(trials.state.doors, start, trials.state.goal, SIDE) <= longest / 0.05 + 1e-4).all())
