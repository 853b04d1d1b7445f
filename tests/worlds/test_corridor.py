"""Corridor: its exact answers against samples, and attitudes to risk that choose differently."""

from __future__ import annotations

import math

import pytest
import torch

from steersman.core import ActionError, ConfigError
from steersman.worlds import Corridor


@pytest.mark.parametrize("way", ["bridge", "round"])
def test_outcomes_have_the_stated_distribution(way):
    world, n = Corridor(Corridor.Config(wind=0.3)), 20_000
    z = torch.rand(n, 8, generator=torch.Generator().manual_seed(0))
    _, energies = world.rollout(world.plan(way).expand(n, -1, -1), z)
    total, outcome = energies.sum(1), world.outcome(way)
    assert float(total.mean()) == pytest.approx(outcome.mean, rel=0.02)
    assert float(total.max()) == outcome.worst
    worst = total.sort(descending=True).values[: n // 2]
    assert float(worst.mean()) == pytest.approx(outcome.cvar(0.5), rel=0.02)


def test_attitudes_choose_differently():
    world = Corridor()
    assert world.best("mean") == "bridge"
    assert world.best("worst") == "round"
    turn = world.turning_point()
    assert world.best(turn + 0.01) == "bridge"
    assert world.best(turn - 0.01) == "round"
    assert Corridor(Corridor.Config(wind=0.9)).turning_point() == math.inf


def test_the_mean_of_the_next_state_is_a_place_where_nobody_is():
    world = Corridor()
    state = torch.tensor([[3.0, 0.0]])
    mean = world.mean_step(state, torch.zeros(1, 1))
    assert float(mean[0, 1]) == pytest.approx(-0.3)
    reached = {float(world.step(state, torch.zeros(1, 1), torch.tensor([z]))[0][0, 1]) for z in (0.05, 0.5)}
    assert reached == {-3.0, 0.0}


def test_limits_of_cvar_are_worst_and_mean():
    outcome = Corridor().outcome("bridge")
    assert outcome.cvar(1) == pytest.approx(outcome.mean)
    assert outcome.cvar(1e-6) == pytest.approx(outcome.worst)
    with pytest.raises(ConfigError, match="share"):
        outcome.cvar(0)


def test_what_is_no_action_or_way_is_refused():
    world = Corridor()
    with pytest.raises(ActionError):
        world.step(world.start(1), torch.tensor([[1.5]]), torch.ones(1))
    with pytest.raises(ConfigError, match="bridge"):
        world.plan("under")
