"""The plain with a mire and gusts: motion against a loop, a log that never enters the mire, noise where it is said."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ActionError, ConfigError
from steersman.worlds import PatchesConfig, patches

WORLD = PatchesConfig()


def test_a_step_is_the_motion_that_is_said_in_a_loop_over_episodes():
    generator = torch.Generator().manual_seed(0)
    state = torch.cat([5 * (2 * torch.rand(200, 2, generator=generator) - 1), torch.randn(200, 2)], 1).double()
    action = (2 * torch.rand(200, 2, generator=generator) - 1).double()
    still = PatchesConfig(kick=0.0)
    moved = patches.step(still, state, action, generator)
    for s, a, m in zip(state, action, moved, strict=True):
        x, v = s[:2], s[2:]
        k = 2 * torch.pi / still.eddy
        wind = still.wind * torch.stack([(k * x[0]).sin() * (k * x[1]).cos(), -(k * x[0]).cos() * (k * x[1]).sin()])
        muddy = still.mud if float((x - torch.tensor(still.mire[:2])).norm()) < still.mire[2] else 1.0
        v = (v + still.step * (still.thrust * a + wind)) / (1 + still.step * still.drag * muddy * v.norm())
        torch.testing.assert_close(m, torch.cat([x + still.step * v, v]), rtol=1e-6, atol=1e-6)


def test_only_the_gusts_are_noisy_and_by_as_much_as_they_say():
    state = torch.zeros(4000, 4)
    for disk, deviation in ((WORLD.gusts, WORLD.kick), (WORLD.mire, 0.0), ((0.0, 4.0, 1.0), 0.0)):
        state[:, :2] = torch.tensor(disk[:2])
        moved = patches.step(WORLD, state, torch.zeros(4000, 2), torch.Generator().manual_seed(1))
        assert float(moved[:, 2:].std()) == pytest.approx(deviation, rel=0.05, abs=0.25 if not deviation else 0)
        assert float(moved[:, 2].std()) == pytest.approx(deviation, rel=0.05, abs=1e-6)


def test_no_recording_shows_the_mire_every_one_is_long_enough_and_the_gusts_are_well_known():
    found = list(patches.episodes(WORLD, 60, 40, 3))
    assert len(found) == 60
    states = torch.cat([episode.observations["vector"] for episode in found])
    assert all(len(episode) >= 12 for episode in found)
    assert not bool(patches.within(WORLD.mire, states).any())
    assert int(patches.within(WORLD.gusts, states).sum()) > 30
    again = list(patches.episodes(WORLD, 60, 40, 3))
    assert all(torch.equal(a.actions, b.actions) for a, b in zip(found, again, strict=True))


def test_the_straight_way_of_every_trip_leads_through_both():
    start, goal = patches.trips(WORLD, 50, torch.Generator().manual_seed(0))
    share = torch.linspace(0, 1, 200)[:, None, None]
    way = start[:, :2] + share * (goal - start[:, :2])
    for disk in (WORLD.mire, WORLD.gusts):
        assert bool(patches.within(disk, way).any(0).all())


def test_bad_actions_and_sizes_are_refused():
    with pytest.raises(ActionError):
        patches.step(WORLD, torch.zeros(2, 4), torch.full((2, 2), 1.5), torch.Generator())
    with pytest.raises(ConfigError):
        PatchesConfig(thrust=0.0)
