"""TwoRooms: Gymnasium's own checks, fair episodes, refused mistakes."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from steersman.core import ActionError, ConfigError
from steersman.worlds import TwoRooms, rooms
from steersman.worlds.rooms_sampling import SUCCESS_RADIUS, displacement, sample_tasks
from steersman.worlds.two_rooms import STEP_LIMIT


def test_gymnasiums_own_check_passes_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*not within the observation space.*spec.*")
        check_env(TwoRooms(render_mode="rgb_array"), skip_render_check=True)


def test_an_episode_is_a_function_of_its_seed():
    def play(seed):
        env = TwoRooms()
        observation, info = env.reset(seed=seed)
        rows = [observation["image"]]
        for t in range(5):
            rows.append(env.step(np.array([0.5, -0.1 * t], np.float32))[0]["image"])
        return np.stack(rows), info

    (a, info), (b, again), (c, _) = play(3), play(3), play(4)
    assert (a == b).all()
    assert not (a == c).all()
    assert {k: v.tolist() for k, v in info.items()} == {k: v.tolist() for k, v in again.items()}


def test_reaching_the_goal_ends_the_episode_with_the_only_reward():
    env = TwoRooms(TwoRooms.Config(noise=0))
    _, info = env.reset(seed=0)
    assert env._rooms is not None
    env._rooms.position = torch.from_numpy(info["goal"])[None] + torch.tensor([[SUCCESS_RADIUS + 1.0, 0.0]])
    away = env.step(np.zeros(2, np.float32))
    assert (away[1], away[2]) == (0.0, False)
    env._rooms.position = torch.from_numpy(info["goal"])[None]
    observation, reward, terminated, truncated, info = env.step(np.zeros(2, np.float32))
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert (observation["image"] == info["goal_image"]).all()


def test_an_episode_is_cut_at_the_limit():
    env = TwoRooms()
    env.reset(seed=1)
    assert env._rooms is not None
    env._steps = STEP_LIMIT - 2
    still = np.zeros(2, np.float32)
    assert [env.step(still)[3] for _ in range(2)] == [False, True]


def test_speed_is_the_same_in_every_direction():
    actions = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.3, 0.4], [-1.0, 0.5]])
    lengths = displacement(actions, 4).norm(dim=1)
    torch.testing.assert_close(lengths, rooms.MAX_STEP * torch.tensor([1.0, 1.0, 0.5, 1.0]))


# Sampling ----------------------------------------------------------------------------------------------------------

WORLDS = [
    TwoRooms.Config(), TwoRooms.Config.held_out(), TwoRooms.Config.three_rooms(),
    TwoRooms.Config(walls=3, wall_range=(15.0, 48.0)),
    TwoRooms.Config(forbidden=5.0), TwoRooms.Config.held_out(forbidden=5.0),
    TwoRooms.Config(wall_range=(26.0, 27.0), door_range=(19.5, 20.5), forbidden=(13.0, 40.0, 5.0)),
]


@pytest.mark.parametrize("config", WORLDS, ids=range(len(WORLDS)))
def test_every_episode_is_fair(config):
    layout, start, goal, disk = sample_tasks(config, 64, torch.Generator().manual_seed(0))
    assert len(layout) == len(start) == len(goal) == 64
    inside = lambda x, pairs: sum(((x >= low - 1e-4) & (x <= high + 1e-4)).int() for low, high in pairs) > 0  # noqa: E731
    assert bool(inside(layout.wall_x, config.wall_range).all())
    assert bool(inside(layout.door_y, config.door_range).all())
    assert layout.wall_x.shape == (64, config.walls)
    assert bool((layout.wall_x.diff(dim=1) >= 14).all())
    assert bool(rooms.is_free(layout, torch.stack([start, goal], 1)).all())
    assert bool((rooms.room_of(layout, start[:, None]) != rooms.room_of(layout, goal[:, None])).all())
    assert float((start - goal).norm(dim=1).min()) > SUCCESS_RADIUS
    if disk is None:
        return
    for place in (start, goal):
        assert bool(((place - disk[:, :2]).norm(dim=1) > disk[:, 2] + 3).all())
    for i in range(0, 64, 8):
        assert way_past(layout[i : i + 1], start[i], goal[i], disk[i])
    if isinstance(config.forbidden, float):
        direct = torch.stack([start, doorway(layout, start, goal), goal], 1)
        assert float(rooms.entered_disk(direct, disk).float().mean()) > 0.9  # it lies on the way


def doorway(layout, start, goal):
    """The door of a world with one wall, between any two places."""
    return torch.stack([layout.wall_x[:, 0], layout.door_y[:, 0]], 1)


def way_past(layout, start, goal, disk):
    """Breadth first over free places, one pixel apart, outside the disk and 2 px more."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    points = torch.stack([x, y], -1)
    free = rooms.is_free(layout, points.view(1, -1, 2)).view(64, 64)
    ok = (free & ((points - disk[:2]).norm(dim=-1) > disk[2] + 2)).tolist()
    near = lambda p: [(i, j) for i in range(64) for j in range(64)  # noqa: E731
                      if ok[j][i] and abs(i - float(p[0])) <= 1.5 and abs(j - float(p[1])) <= 1.5]
    seen, queue, last = set(near(start)), list(near(start)), set(near(goal))
    while queue:
        i, j = queue.pop()
        if (i, j) in last:
            return True
        for k, m in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
            if 0 <= k < 64 and 0 <= m < 64 and ok[m][k] and (k, m) not in seen:
                seen.add((k, m))
                queue.append((k, m))
    return False


def test_held_out_layouts_are_never_those_of_the_log():
    log, other = TwoRooms.Config(), TwoRooms.Config.held_out()
    for name in ("wall_range", "door_range"):
        for low, high in getattr(other, name):
            assert all(high < a or low > b for a, b in getattr(log, name))


def test_one_pair_of_numbers_is_an_interval_and_several_are_several():
    assert TwoRooms.Config(wall_range=(20, 22)).wall_range == ((20.0, 22.0),)
    assert TwoRooms.Config(wall_range=[[20, 22], [30, 31]]).wall_range == ((20.0, 22.0), (30.0, 31.0))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"wall_range": (22.0, 20.0)}, "wall_range as (low, high)"),
        ({"wall_range": 20.0}, "wall_range as (low, high)"),
        ({"wall_range": ()}, "wall_range as (low, high)"),
        ({"wall_range": ("a", "b")}, "wall_range as (low, high)"),
        ({"wall_range": (1.0, 20.0)}, "wall_range within"),
        ({"wall_range": (40.0, 60.0)}, "wall_range within"),
        ({"door_range": (50.0, 40.0)}, "door_range as (low, high)"),
        ({"door_range": (0.0, 20.0)}, "door_range whose doors fit"),
        ({"door_range": (40.0, 60.0)}, "door_range whose doors fit"),
        ({"door_width": 3.0}, "door_width from 4 to 40 px"),
        ({"door_width": 50.0}, "door_width from 4 to 40 px"),
        ({"walls": 0}, "walls from 1 to 3"),
        ({"walls": 4}, "walls from 1 to 3"),
        ({"walls": 3}, "a wall_range in which 3 walls stand 14 px apart"),
        ({"walls": 2, "wall_range": (20.0, 25.0)}, "a wall_range in which 2 walls stand 14 px apart"),
        ({"noise": -0.1}, "noise from 0 to 0.1"),
        ({"noise": 0.5}, "noise from 0 to 0.1"),
        ({"forbidden": 20.0}, "forbidden as a radius from 1 to 8"),
        ({"forbidden": 0.0}, "forbidden as a radius from 1 to 8"),
        ({"forbidden": (10.0, 10.0)}, "forbidden as a radius from 1 to 8"),
    ],
)
def test_an_impossible_world_is_refused(changes, expected):
    with pytest.raises(ConfigError, match=re.escape(expected)) as error:
        TwoRooms.Config(**changes)
    assert "; got " in str(error.value)
    assert str(error.value).count(";") >= 2  # and what to do


def test_three_walls_stand_where_there_is_room_for_them():
    config = TwoRooms.Config(walls=3, wall_range=(12.0, 50.0))
    layout, *_ = sample_tasks(config, 50, torch.Generator().manual_seed(0))
    assert float(layout.wall_x.diff(dim=1).min()) >= 14


def test_worlds_that_cannot_be_sampled_are_refused():
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ConfigError, match="2 walls stand 14 px apart"):
        sample_tasks(TwoRooms.Config(walls=2, wall_range=(20.0, 34.0)), 4, generator)  # in one place only
    shut = TwoRooms.Config(wall_range=(30.0, 30.0), door_range=(30.0, 30.0), forbidden=(30.0, 30.0, 8.0))
    with pytest.raises(ConfigError, match="a forbidden disk that leaves a way"):
        sample_tasks(shut, 4, generator)


@pytest.mark.parametrize(
    "action", [[0.0, float("nan")], [0.0, 1.5], [0.0], [[0.0, 0.0]], [0.0, float("inf")]]
)
def test_an_action_that_is_none_is_refused(action):
    env = TwoRooms()
    with pytest.raises(ActionError, match="reset"):
        env.step(np.zeros(2, np.float32))
    env.reset(seed=0)
    with pytest.raises(ActionError, match="actions"):
        env.step(np.array(action, np.float32))


# Side by side ------------------------------------------------------------------------------------------------------


def test_pictures_of_many_episodes_are_those_of_their_own_layouts():
    world = TwoRooms.Config(noise=0).begin(5, 3)
    pictures = world.observe()["image"]
    for i in range(5):
        alone = rooms.Painter(world.layout[i : i + 1], noise=0).frames(world.position[i : i + 1, None])[0, 0]
        assert torch.equal(pictures[i], alone)
    assert torch.equal(TwoRooms.Config().begin(5, 3).position, world.position)


def test_a_step_that_cuts_through_the_disk_is_bad_though_it_ends_outside():
    config = TwoRooms.Config(wall_range=(26.0, 27.0), door_range=(19.5, 20.5), forbidden=(13.0, 40.0, 5.0))
    trials = config.begin(3, 0)
    trials.position = trials.forbidden[:, :2] + torch.tensor([[-1.2, 4.93], [-1.2, 5.05], [-1.2, 4.93]])
    outside = lambda: (trials.position - trials.forbidden[:, :2]).norm(dim=1) > 5  # noqa: E731
    assert bool(outside().all())
    trials.step(torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]), torch.tensor([True, True, False]))
    assert bool(outside().all())
    assert trials.bad().tolist() == [True, False, False]
    assert torch.equal(trials.painted(), rooms.disk_masks(trials.forbidden))
    assert TwoRooms.Config().begin(2, 0).bad() is None
