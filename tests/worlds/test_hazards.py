"""Hazards: motion, swept clearance, exact extrapolation, layouts, escapes and proofs that there is none, the log."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from steersman.core import ActionError, ConfigError
from steersman.worlds import Hazards, HazardsConfig, feasible, hazards, make_world, record, roam
from steersman.worlds.escapes import braking
from steersman.worlds.hazards_env import SEEN, paint

WORLD = HazardsConfig()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def alone(position, velocity, world=WORLD):
    """One state with every obstacle far away, outside the arena."""
    n = world.obstacles
    return hazards.HazardState(
        torch.tensor([position]), torch.tensor([velocity]), torch.full((1, n, 2), 20.0), torch.zeros(1, n, 2),
        torch.full((1, n), 0.5),
    )


def test_top_speed_is_where_thrust_and_drag_balance():
    state = alone([0.0, 0.0], [WORLD.top_speed, 0.0])
    after, _ = hazards.step(WORLD, state, torch.tensor([[1.0, 0.0]]))
    assert float(after.velocity[0, 0]) == pytest.approx(WORLD.top_speed, rel=1e-5)


def test_columns_tell_the_state():
    state = hazards.sample_states(WORLD, 20, generator())
    columns = hazards.observe(state)
    assert columns.shape == (20, len(WORLD.columns))
    again = hazards.state_of(WORLD, columns)
    for name, value in vars(state).items():
        torch.testing.assert_close(getattr(again, name), value, msg=name)
    assert torch.equal(hazards.bad(WORLD, columns), (hazards.clearance(WORLD, state) < 0).any(1))


def test_obstacles_a_second_later_are_those_after_ten_steps():
    state = hazards.sample_states(WORLD, 8, generator())
    place, drift = hazards.obstacles_after(WORLD, state, 10 * WORLD.step)
    for _ in range(10):
        state, _ = hazards.step(WORLD, state, torch.zeros(8, 2))
    torch.testing.assert_close(state.place, place, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state.drift, drift, atol=1e-5, rtol=1e-5)
    assert bool((state.drift[:, : WORLD.still] == 0).all())


def test_a_small_obstacle_is_not_jumped_over():
    world = HazardsConfig(still=1, moving=0, radius=(0.01, 0.02), body=0.01)
    place, radius = torch.tensor([[[0.11, 0.0]]]), torch.full((1, 1), 0.01)
    state = replace(alone([0.0, 0.0], [3.0, 0.0], world), place=place, radius=radius)
    after, least = hazards.step(world, state, torch.zeros(1, 2))
    assert float(after.position[0, 0]) > 0.2
    assert float(least[0, 0]) == pytest.approx(-0.02, abs=1e-4)


def test_actions_out_of_bounds_are_refused():
    state = alone([0.0, 0.0], [0.0, 0.0])
    for wrong in (torch.tensor([[1.1, 0.0]]), torch.tensor([[math.nan, 0.0]]), torch.zeros(2, 2)):
        with pytest.raises(ActionError):
            hazards.step(WORLD, state, wrong)
    with pytest.raises(ConfigError):
        HazardsConfig(half=0.5)


def test_tasks_begin_at_rest_clear_of_everything():
    state, goal = hazards.sample_tasks(WORLD, 50, generator())
    assert len(state) == len(goal) == 50
    assert float(hazards.clearance(WORLD, state).min()) > 0.29
    assert float((state.position - goal).norm(dim=1).min()) >= 4
    assert float(state.velocity.abs().max()) == 0


def test_adversarial_states_are_hard_but_not_lost_yet():
    state = hazards.sample_adversarial(WORLD, 60, generator())
    assert float(hazards.clearance(WORLD, state).min()) >= 0
    coasted = state
    hit = torch.zeros(60, dtype=torch.bool)
    for _ in range(10):
        coasted, least = hazards.step(WORLD, coasted, torch.zeros(60, 2))
        hit |= (least < 0).any(1)
    assert 0.4 < float(hit.float().mean()) < 1


# Escapes ---------------------------------------------------------------------------------------------------------


def test_braking_distance_decides_before_the_edge():
    speed, inner = 2.5, WORLD.half - WORLD.body
    distance = math.log(1 + WORLD.drag * speed**2 / WORLD.thrust) / (2 * WORLD.drag)
    enough = feasible(WORLD, alone([inner - distance - 0.05, 0.0], [speed, 0.0]))
    short = feasible(WORLD, alone([inner - 0.6 * distance, 0.0], [speed, 0.0]))
    assert bool(enough.exists[0])
    assert not bool(enough.impossible[0])
    assert not bool(short.exists[0])


def test_too_fast_and_too_near_is_proved_impossible():
    doomed = feasible(WORLD, alone([WORLD.half - WORLD.body - 0.05, 0.0], [3.0, 0.0]))
    assert bool(doomed.impossible[0])
    assert not bool(doomed.exists[0])


def test_no_random_actions_survive_what_is_proved_impossible():
    state = hazards.sample_adversarial(WORLD, 90, generator(3))
    escape = feasible(WORLD, state, steps=20, directions=8, lengths=(0, 2, 6))
    lost = state[escape.impossible]
    assert len(lost) > 5
    tries = lost.map(lambda x: x.repeat_interleave(200, 0))
    hit = torch.zeros(len(tries), dtype=torch.bool)
    pushed = torch.rand(len(tries), 2, generator=generator(4)) * 2 - 1
    for t in range(20):
        if t % 5 == 0:
            pushed = hazards.fullest(torch.rand(len(tries), 2, generator=generator(5 + t)) * 2 - 1)
        tries, least = hazards.step(WORLD, tries, pushed)
        hit |= (least < 0).any(1)
    assert bool(hit.all())


def test_a_way_that_is_claimed_is_there():
    """One obstacle ahead and nothing else: the claim is checked by stepping the world with the simplest manoeuvre."""
    state = replace(alone([0.0, 0.0], [2.0, 0.0]), place=torch.full((1, WORLD.obstacles, 2), 20.0))
    state.place[0, 0] = torch.tensor([2.2, 0.0])
    escape = feasible(WORLD, state, lengths=(0,))
    assert bool(escape.exists[0])
    least = math.inf
    for _ in range(30):
        state, clearance = hazards.step(WORLD, state, braking(WORLD, state.velocity))
        least = min(least, float(clearance.min()))
    assert least == pytest.approx(float(escape.slack[0]), abs=1e-4)
    assert float(state.velocity.norm()) < 0.05


# Logs and faces --------------------------------------------------------------------------------------------------


def test_the_log_covers_speed_closeness_and_collisions():
    columns, actions = roam.roam(WORLD, hazards.sample_states(WORLD, 64, generator()), 48, generator(1))
    speed = columns[..., 2:4].norm(dim=-1)
    assert columns.shape == (64, 49, len(WORLD.columns))
    assert float(speed.quantile(0.05)) < 0.5 < WORLD.top_speed * 0.9 < float(speed.quantile(0.99))
    assert 0.05 < float(hazards.bad(WORLD, columns).float().mean()) < 0.5
    assert float((actions.abs().amin(-1) > 0.9).float().mean()) > 0.01  # corners of the square of actions


def test_recordings_hold_what_happened():
    chunk = next(roam.episodes(WORLD, 3, 10, seed=4))
    for episode in chunk:
        episode.validate(WORLD.signature)
        state = hazards.state_of(WORLD, episode.observations["vector"][:-1])
        after, _ = hazards.step(WORLD, state, episode.actions)
        torch.testing.assert_close(hazards.observe(after), episode.observations["vector"][1:], atol=1e-4, rtol=1e-4)


def test_gymnasium_face_is_deterministic_named_and_checked():
    from gymnasium.utils.env_checker import check_env

    check_env(Hazards(), skip_render_check=True)
    world = make_world("steersman.worlds:steersman/Hazards-v0")
    assert world.signature == WORLD.signature
    first, again = (list(record(Hazards(), steps=30, seed=5)) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.observations["vector"], b.observations["vector"])
    _, info = Hazards().reset(seed=0)
    assert info["cost"] == 0
    assert not info["bad"]


def test_pictures_show_obstacles_and_the_point():
    env = Hazards(look="picture")
    observation, _ = env.reset(seed=2)
    assert observation["image"].shape == (64, 64, 3)
    assert observation["image"].dtype == np.uint8
    far = 15.5 * 2 * SEEN * WORLD.half / 64  # the middle of a pixel
    state = replace(alone([-far, far], [0.0, 0.0]), place=torch.full((1, WORLD.obstacles, 2), 20.0))
    state.place[0, 0] = torch.tensor([far, -far])
    picture = paint(WORLD, state)[0]
    assert picture[16, 16].tolist() == [205, 28, 40]  # y is up: the point is in the upper left
    assert picture[47, 47].tolist() == [70, 72, 86]
    with pytest.raises(ConfigError, match="look"):
        Hazards(look="smell")
