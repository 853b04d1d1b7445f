"""Wandering: recordings are what happened, episodes are valid, and a seed is a log."""

from __future__ import annotations

import math

import pytest
import torch

from steersman.worlds import TwoRooms, rooms, walk, wander
from steersman.worlds.rooms_sampling import displacement, sample_tasks
from steersman.worlds.two_rooms import SIGNATURE


def tasks(count, seed=0):
    layout, start, _, _ = sample_tasks(TwoRooms.Config(), count, torch.Generator().manual_seed(seed))
    return layout, start


def test_positions_follow_from_actions():
    layout, start = tasks(16)
    positions, actions = walk(layout, start, 50, torch.Generator().manual_seed(1))
    assert positions.shape == (16, 51, 2)
    assert torch.equal(positions[:, 0], start)
    assert float(actions.norm(dim=-1).max()) <= 1 + 1e-6
    for t in range(50):
        moved, _ = rooms.move(layout, positions[:, t], displacement(actions[:, t], 16))
        assert torch.equal(moved, positions[:, t + 1])
    assert not bool(rooms.crossed_wall(layout, positions).any())


def test_the_walk_bumps_and_pushes_and_its_speeds_vary():
    layout, start = tasks(64)
    positions, actions = walk(layout, start, 100, torch.Generator().manual_seed(1))
    speed = actions.norm(dim=-1)
    assert float(speed.mean()) == pytest.approx(2 / 3, abs=0.02)  # the root of a uniform draw: uniform over the disk
    blocked = (positions.diff(dim=1) - rooms.MAX_STEP * actions).norm(dim=-1) > 1e-3
    assert 0.02 < float(blocked.float().mean()) < 0.6
    again = blocked[:, 1:][blocked[:, :-1]].float().mean()
    assert float(again) > 0.5  # after a bump it mostly goes on pushing


def test_the_strongest_walker_goes_straight_at_full_speed_until_contact():
    trials = TwoRooms.Config().begin(32, 0)
    act, places, taken = trials.drift(torch.Generator().manual_seed(2)), [trials.position], []
    for _ in range(80):
        taken.append(act())
        trials.step(taken[-1])
        places.append(trials.position)
    positions, actions = torch.stack(places, 1), torch.stack(taken, 1)
    torch.testing.assert_close(actions.norm(dim=-1), torch.ones(32, 80))
    touched = (positions.diff(dim=1) - rooms.MAX_STEP * actions).norm(dim=-1) > 1e-3
    turned = (actions[:, 1:] - actions[:, :-1]).norm(dim=-1) > 1e-4
    assert torch.equal(turned, touched[:, :-1])
    heading = torch.atan2(actions[..., 1], actions[..., 0])
    assert float(heading.std()) > math.pi / 3


def test_a_log_is_valid_has_the_size_asked_and_depends_on_its_seed_only():
    read = lambda seed, chunk: [e for part in wander(TwoRooms.Config(), 5, 6, seed, chunk) for e in part]  # noqa: E731
    log, again, other = read(0, 2), read(0, 2), read(1, 2)
    assert len(log) == 5
    for episode in log:
        episode.validate(SIGNATURE)
        assert len(episode) == 6
    same = lambda a, b: all(  # noqa: E731
        torch.equal(x.actions, y.actions) and torch.equal(x.observations["image"], y.observations["image"])
        for x, y in zip(a, b, strict=True)
    )
    assert same(log, again)
    assert not same(log, other)
    assert not torch.equal(log[0].observations["image"][0], log[1].observations["image"][0])
