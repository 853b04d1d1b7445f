"""The playground: laws as in a loop, five ways of one scene, windows that are parts of the picture."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ActionError, ConfigError
from steersman.worlds import Playground
from steersman.worlds.playground import MODES, OTHER, OWN


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_push_moves_its_own_thing_alone_and_by_the_ground_that_it_lies_on():
    world = Playground(friction=0.0)
    states = torch.zeros(2, 4, 4)
    states[:, :, 1] = torch.tensor([-0.8, -0.2, 0.3, 0.8])
    states[0, OWN, 0], states[1, OWN, 0] = 0.5, -0.5  # cos(π y / 2) of y = -.8 is .309
    after = world.step(states, torch.tensor([[1.0, 0.0]]).expand(2, 2), torch.zeros(2, 2))
    moved = after[:, OWN, 0] - states[:, OWN, 0]
    assert moved.tolist() == pytest.approx([0.012 * (1 + 0.75 * 0.30902), 0.012 * (1 - 0.75 * 0.30902)], abs=1e-6)
    assert torch.equal(after[:, 1:], states[:, 1:])


@pytest.mark.parametrize("mode", MODES)
def test_who_pushes_depends_on_the_way_and_the_scene_does_not(mode):
    world = Playground()
    played = world.play(mode, 20, 30, generator())
    assert bool(played.own.any()) == (mode == "action")
    assert bool(played.other.any()) == (mode != "stream")
    assert float(played.states[..., :2].abs().max()) <= 1 - world.radius + 1e-6
    replayed = played.states[:, 0]
    for t in range(30):
        replayed = world.step(replayed, played.own[:, t], played.other[:, t])
    assert torch.equal(replayed, played.states[:, -1])
    assert torch.equal(world.play(mode, 20, 30, generator()).states, played.states)


def test_what_drifts_keeps_its_speed_where_nothing_is_hit_and_what_can_be_pushed_loses_it():
    world = Playground()
    states = world.start(1, generator(1))
    states[0, :, :2] = torch.tensor([[-0.6, -0.6], [0.6, -0.6], [-0.6, 0.6], [0.6, 0.6]])
    states[0, :, 2:] = torch.tensor([0.05, 0.0])
    for _ in range(4):
        states = world.step(states, torch.zeros(1, 2), torch.zeros(1, 2))
    assert states[0, 2:, 2].tolist() == pytest.approx([0.05, 0.05])
    assert states[0, :2, 2].tolist() == pytest.approx([0.05 * 0.94**4] * 2)
    for _ in range(8):
        states = world.step(states, torch.zeros(1, 2), torch.zeros(1, 2))
    assert states[0, 3, 2:].tolist() == pytest.approx([-0.05, 0.0])  # off the wall


def test_a_picture_shows_each_thing_where_it_is():
    world = Playground()
    states = world.start(3, generator(2))
    pictures = world.picture(states[:, None])
    assert pictures.shape == (3, 1, 64, 64, 3)
    shade = pictures[:, 0].float()
    red = shade[..., 0] * (shade[..., 0] > 2 * shade[..., 1:].amax(-1))
    grid = (torch.arange(64) + 0.5) / 32 - 1
    x = (red.sum(1) * grid).sum(-1) / red.sum((1, 2))
    y = (red.sum(2) * -grid).sum(-1) / red.sum((1, 2))
    torch.testing.assert_close(torch.stack([x, y], -1), states[:, OWN, :2], atol=0.02, rtol=0)
    assert OTHER == 1


def test_a_window_is_a_part_of_the_picture_and_cannot_leave_it():
    world = Playground(window=24)
    pictures = world.picture(world.start(4, generator())[:, None].expand(-1, 5, -1, -1))
    corner = world.jumps((4, 5), generator())
    windows = world.look(pictures, corner)
    for i in range(4):
        for t in range(5):
            r, c = corner[i, t].tolist()
            assert torch.equal(windows[i, t], pictures[i, t, r : r + 24, c : c + 24])
    with pytest.raises(ActionError, match="clip the corner"):
        world.look(pictures, corner + 64)
    carried, motion = world.carried(4, 30, generator())
    assert int(motion.abs().max()) <= world.stride
    assert torch.equal(carried[:, :1] + motion.cumsum(1), carried[:, 1:])
    assert world.share == pytest.approx((24 / 64) ** 2)


def test_what_cannot_be_is_refused():
    for settings in ({"drifting": 3}, {"window": 66}, {"window": 31}, {"radius": 0.4}, {"slip": 1.0}):
        with pytest.raises(ConfigError):
            Playground(**settings)
    with pytest.raises(ActionError):
        Playground().step(torch.zeros(1, 4, 4), torch.full((1, 2), 2.0), torch.zeros(1, 2))
