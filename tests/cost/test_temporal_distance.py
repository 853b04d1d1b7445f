"""Steps to go, learned from a log: walls, one-way streets, and the laws of a quasi-metric."""

from __future__ import annotations

import pytest
import torch

from steersman.core import (
    ActionSpec,
    ColumnGoal,
    DataError,
    Imagined,
    Latent,
    LatentGoal,
    PlanningError,
    Task,
    check_cost,
)
from steersman.cost import TemporalDistance

QUICK = TemporalDistance.Config(steps=600, hidden=(64, 64))
SIDE = 11


def walk():
    """Walks in a room with a wall across it that is open at one end: cells (n, 2), episodes (n,), free cells (N, 2)."""
    g = torch.Generator().manual_seed(0)
    free = torch.ones(SIDE, SIDE, dtype=torch.bool)
    free[5, :9] = False
    cells = free.nonzero()
    place = cells[torch.randint(len(cells), (100,), generator=g)]
    moves = torch.tensor([[0, 1], [1, 0], [0, -1], [-1, 0]])
    heading, track = torch.zeros(100, dtype=torch.long), [place]
    for _ in range(50):
        turn = torch.rand(100, generator=g) < 0.4
        heading = torch.where(turn, torch.randint(4, (100,), generator=g), heading)
        there = (place + moves[heading]).clamp(0, SIDE - 1)
        place = torch.where(free[there[:, 0], there[:, 1], None], there, place)
        track.append(place)
    return torch.stack(track, 1).flatten(0, 1), torch.arange(100).repeat_interleave(51), cells


def steps_between(cells):
    """(N, N): lengths of the shortest ways, by relaxation."""
    apart = (cells[:, None] - cells[None]).abs().sum(-1)
    steps = torch.where(apart <= 1, apart.float(), torch.inf)
    for _ in range(6):
        steps = torch.minimum(steps, (steps[:, :, None] + steps[None]).amin(1))
    return steps


def rank_correlation(a, b):
    ranks = [x.flatten().argsort().argsort().double() for x in (a, b)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def test_it_goes_round_walls_where_plain_distance_goes_through():
    rows, episode, cells = walk()
    distance = TemporalDistance((2,), QUICK)
    one = distance.fit(rows / 5 - 1, episode)
    assert one < 1.1
    latent, true = cells / 5 - 1, steps_between(cells)
    found, plain = distance.distance(latent[:, None], latent), (latent[:, None] - latent).norm(dim=-1)
    assert rank_correlation(found, true) > 0.9 > rank_correlation(plain, true) + 0.04
    here = latent.new_tensor([4.0, 1.0]) / 5 - 1
    across, beside = (latent.new_tensor(x) / 5 - 1 for x in ([6.0, 1.0], [2.0, 1.0]))
    assert float(distance.distance(here, across)) > 3 * float(distance.distance(here, beside)) + 3


def test_what_only_ever_went_one_way_is_far_backwards():
    rows = torch.linspace(-1, 1, 12)[:, None].repeat(30, 1) * torch.tensor([1.0, -0.5])
    distance = TemporalDistance((2,), TemporalDistance.Config(steps=300, hidden=(64, 64), offset=30.0))
    distance.fit(rows, torch.arange(30).repeat_interleave(12))
    ahead = [float(distance.distance(rows[0], rows[i])) for i in range(12)]
    assert ahead == sorted(ahead)
    assert 8 < ahead[11] < 16
    assert float(distance.distance(rows[11], rows[0])) > 1.5 * ahead[11]


def test_it_is_a_quasi_metric_and_a_cost():
    g = torch.Generator().manual_seed(1)
    distance = TemporalDistance((2, 3), TemporalDistance.Config(steps=3, hidden=(8,), size=8, groups=2))
    rows = torch.randn(60, 2, 3, generator=g)
    distance.fit(rows, torch.arange(60) // 20)
    a, b, c = rows[:20], rows[20:40], rows[40:]
    d = distance.distance
    assert bool((d(a, b) >= 0).all())
    assert float(d(a, a).max()) < 1e-5
    assert bool((d(a, c) <= d(a, b) + d(b, c) + 1e-5).all())
    assert not torch.allclose(d(a, b), d(b, a), atol=1e-3)
    assert not any(p.requires_grad for p in distance.parameters())
    check_cost(distance, ActionSpec("discrete", choices=2), (2, 3), differentiable=True)
    goal = Task(LatentGoal(Latent(c[:2])))
    energy = distance.energy(Imagined(rows.view(2, 5, 6, 2, 3)), torch.zeros(2, 5, 5, 1), goal)
    assert float((energy[1, 2, 3] - d(rows.view(2, 5, 6, 2, 3)[1, 2, 4], c[1])).abs()) < 1e-5


def test_at_the_end_alone_it_is_what_the_last_step_comes_to():
    g = torch.Generator().manual_seed(1)
    rows, made = torch.randn(60, 6, generator=g), []
    for over in ("steps", "last"):
        distance = TemporalDistance((6,), TemporalDistance.Config(steps=3, hidden=(8,), size=8, over=over))
        distance.fit(rows, torch.arange(60) // 20)
        check_cost(distance, ActionSpec("discrete", choices=2), (6,), differentiable=True)
        made.append(distance)
    goal = Task(LatentGoal(Latent(rows[:2])))
    each, end = (one.energy(Imagined(rows.view(2, 5, 6, 6)), torch.zeros(2, 5, 5, 1), goal) for one in made)
    assert [one.terminal for one in made] == [False, True]
    torch.testing.assert_close(end[..., -1], each[..., -1])
    assert not bool(end[..., :-1].any())


def test_a_goal_on_columns_is_where_the_log_came_nearest_to_it():
    """The wall's open end is at y = 10: to x = 6 it is the way round, not the way through."""
    rows, episode, cells = walk()
    latent = rows / 5 - 1
    distance = TemporalDistance((2,), TemporalDistance.Located(columns=("x", "y"), steps=60, hidden=(32,)))
    distance.fit(latent, episode, values=rows.float())
    here = (cells / 5 - 1)[:, None, None].expand(-1, 1, 2, -1)
    asked = lambda goal: distance.energy(Imagined(here), torch.zeros(len(cells), 1, 1, 1), Task(goal))[:, 0, 0]  # noqa: E731
    one = asked(ColumnGoal({"x": 6.0, "y": 1.0}))
    torch.testing.assert_close(one, distance.distance(here[:, 0, 0], torch.tensor([6.0, 1.0]) / 5 - 1))
    line = asked(ColumnGoal({"x": 10.0}))
    every = torch.stack([asked(ColumnGoal({"x": 10.0, "y": float(y)})) for y in range(SIDE)])
    assert bool((line >= every.amin(0) - 1e-4).all())
    assert float((line - every.amin(0)).mean()) < 1.0, "some of the places at x = 10, whichever is nearest"
    each = asked(ColumnGoal({"x": torch.arange(len(cells)) % SIDE, "y": torch.zeros(len(cells))}))
    torch.testing.assert_close(each[3], asked(ColumnGoal({"x": 3.0, "y": 0.0}))[3])
    beyond = asked(ColumnGoal({"x": 99.0, "y": 1.0}))
    torch.testing.assert_close(beyond, asked(ColumnGoal({"x": 10.0, "y": 1.0})), msg="as near as the log came")
    with pytest.raises(PlanningError, match="columns of x, y; got z"):
        asked(ColumnGoal({"z": 1.0}))
    with pytest.raises(DataError, match="values"):
        distance.fit(latent, episode)


def test_what_it_cannot_do_is_refused():
    distance, future = TemporalDistance((2,), QUICK), Imagined(torch.zeros(1, 1, 3, 2))
    with pytest.raises(PlanningError, match="not fitted"):
        distance.energy(future, torch.zeros(1, 1, 2, 1), Task(LatentGoal(Latent(torch.zeros(1, 2)))))
    distance.fitted.fill_(True)
    with pytest.raises(PlanningError, match="fitted without columns; got x"):
        distance.energy(future, torch.zeros(1, 1, 2, 1), Task(ColumnGoal({"x": 1.0})))
    for rows, episode in ((torch.zeros(5, 2), torch.arange(5)), (torch.full((5, 2), torch.nan), torch.zeros(5)),
                          (torch.zeros(5, 2), torch.zeros(4))):
        with pytest.raises(DataError, match="at least one step"):
            distance.fit(rows, episode)
