"""Goals in hindsight: what is drawn, how often, and never beyond an episode."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from steersman.core import ConfigError
from steersman.evidence.peers.hindsight import (
    Hindsight,
    Places,
    ahead_of,
    draw_goals,
    draw_moments,
    draw_steps,
    same,
    see,
)


def test_a_step_is_two_moments_that_follow_each_other_and_what_was_done(square: Callable[..., Any]) -> None:
    world, log = square("continuous", "vector")
    steps = draw_steps(log, 500, torch.Generator().manual_seed(0))
    moved = world.step(steps.observation["vector"], steps.action)
    assert torch.allclose(moved, steps.following["vector"], atol=1e-6)
    assert torch.equal(see(log, steps.places)["vector"], steps.observation["vector"])


def test_goals_are_as_often_now_later_and_anywhere_as_is_asked(square: Callable[..., Any]) -> None:
    _, log = square("continuous", "vector")
    generator = torch.Generator().manual_seed(0)
    at = draw_moments(log, 20_000, generator)
    goals = draw_goals(log, at, Hindsight(current=0.2, future=0.5, random=0.3), 0.9, generator)
    assert float((goals.episode != at.episode).float().mean()) == pytest.approx(0.3, abs=0.02)
    inside = at.row < log.lengths[at.episode]                     # at an end, later is now
    assert float(same(at, goals)[inside].float().mean()) == pytest.approx(0.2, abs=0.02)
    assert bool((goals.row <= log.lengths[goals.episode]).all())
    assert int(goals.row.min()) >= 0
    own = goals.episode == at.episode
    assert float((goals.row[own] < at.row[own]).float().mean()) < 0.01                     # the past only by chance


def test_how_far_ahead_a_goal_lies_is_geometric(square: Callable[..., Any]) -> None:
    _, log = square("continuous", "vector")
    at = Places(torch.zeros(40_000, dtype=torch.long), torch.zeros(40_000, dtype=torch.long))
    how = Hindsight(current=0.0, future=1.0, random=0.0, geometric=True)
    ahead = draw_goals(log, at, how, 0.7, torch.Generator().manual_seed(0)).row
    for steps in (1, 2, 5):
        expected = (1 - 0.7) * 0.7 ** (steps - 1)
        assert float((ahead == steps).float().mean()) == pytest.approx(expected, abs=4 * math.sqrt(expected / 40_000))


def test_uniform_goals_reach_every_later_moment_alike(square: Callable[..., Any]) -> None:
    _, log = square("continuous", "vector")
    last = int(log.lengths[0])
    at = Places(torch.zeros(24_000, dtype=torch.long), torch.full((24_000,), last - 4))
    how = Hindsight(current=0.0, future=1.0, random=0.0, geometric=False)
    rows = draw_goals(log, at, how, 0.9, torch.Generator().manual_seed(0)).row
    assert sorted(set(rows.tolist())) == [last - 3, last - 2, last - 1, last]
    assert float((rows == last).float().mean()) == pytest.approx(0.25, abs=0.02)


def test_a_sub_goal_stops_at_the_goal_and_at_the_end(square: Callable[..., Any]) -> None:
    _, log = square("continuous", "vector")
    last = int(log.lengths[0])
    at = Places(torch.zeros(4, dtype=torch.long), torch.tensor([2, 2, 2, last - 1]))
    goal = Places(torch.tensor([0, 0, 1, 1]), torch.tensor([4, 20, 4, 0]))
    assert ahead_of(log, at, 5, goal).row.tolist() == [4, 7, 7, last]
    assert ahead_of(log, at, 5).row.tolist() == [7, 7, 7, last]


def test_shares_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ConfigError, match="add up to 1"):
        Hindsight(current=0.5, future=0.5, random=0.5)
