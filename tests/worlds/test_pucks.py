"""Pucks: equal to a loop over pairs, momentum and energy as in a collision of equal masses, few that move."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ActionError, ConfigError
from steersman.worlds import Pucks


def looped(world: Pucks, states: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """One episode after the other, one pair after the other."""
    found = []
    for state, action in zip(states, actions, strict=True):
        rows = []
        for x, y, vx, vy, mine in state.tolist():
            v = [0.85 * (vx + 0.07 * action[0].item() * mine), 0.85 * (vy + 0.07 * action[1].item() * mine)]
            v = v if (v[0] ** 2 + v[1] ** 2) ** 0.5 >= 0.02 else [0.0, 0.0]
            place, wall = [x + v[0], y + v[1]], world.half - 0.35
            for d in range(2):
                if abs(place[d]) > wall:
                    place[d], v[d] = (1 if place[d] > 0 else -1) * 2 * wall - place[d], -v[d]
            rows.append([*place, *v])
        before, after = torch.tensor(rows), torch.tensor(rows)
        for i in range(len(rows)):
            for j in range(len(rows)):
                apart = before[i, :2] - before[j, :2]
                distance = float(apart.norm())
                if i != j and distance < 0.7:
                    along = apart / distance
                    nearing = min(0.0, float((before[i, 2:] - before[j, 2:]) @ along))
                    after[i, :2] += (0.7 - distance) * along / 2
                    after[i, 2:] -= nearing * along
        found.append(torch.cat([after, state[:, 4:]], 1))
    return torch.stack(found)


def test_a_step_equals_a_loop_over_pairs_through_hits_and_walls():
    world, g = Pucks(count=6), torch.Generator().manual_seed(0)
    states = world.start(8, g)
    states[..., :2] *= 0.6  # closer together, so that they touch
    states[..., 2:4] = 0.6 * torch.rand(8, 6, 2, generator=g) - 0.3
    states[0, 0, :2], states[0, 0, 2:4] = torch.tensor([world.half - 0.36, 0.0]), torch.tensor([0.3, 0.0])
    actions = 2 * torch.rand(8, 2, generator=g) - 1
    torch.testing.assert_close(world.step(states, actions), looped(world, states, actions))
    assert world.step(states, actions)[0, 0, 2] < 0


def test_a_head_on_hit_hands_the_speed_on():
    world = Pucks(count=2, friction=0.0)
    state = torch.tensor([[[0.0, 0.0, 0.3, 0.0, 1.0], [0.9, 0.0, 0.0, 0.0, 0.0]]])
    after = world.rollout(state, torch.zeros(1, 2, 2))[0, -1]
    assert after[:, 2].tolist() == pytest.approx([0.0, 0.3])
    assert float(after[1, 0] - after[0, 0]) >= 0.7 - 1e-6


def test_as_few_move_on_a_large_table_as_on_a_small_one():
    moving = []
    for count in (8, 64):
        states, actions = Pucks(count=count).wander(40, 60, torch.Generator().manual_seed(3))
        assert states.shape == (40, 61, count, 5)
        assert actions.shape == (40, 60, 2)
        assert float(states[..., :2].abs().max()) < Pucks(count=count).half
        apart = torch.cdist(states[:, 0, :, :2], states[:, 0, :, :2]) + 9 * torch.eye(count)
        assert float(apart.min()) >= 0.7 - 1e-5
        moving.append(float((states[:, 1:] != states[:, :-1]).any(-1).float().sum(-1).mean()))
    assert all(1 < one < 2.5 for one in moving)
    assert states[:, -1, 1:, :2].ne(states[:, 0, 1:, :2]).any()


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="narrower than 2"):
        Pucks(radius=1.0)
    with pytest.raises(ActionError, match="clip the action"):
        Pucks(count=2).step(torch.zeros(1, 2, 5), torch.full((1, 2), 1.5))
