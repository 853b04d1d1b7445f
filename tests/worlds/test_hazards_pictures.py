"""Hazards seen by a camera: the same world, labels that are true, goals that obstacles stand before."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest
import torch

from steersman.core import ColumnGoal, ConfigError, UsageError
from steersman.worlds import OURS, Hazards, hazards, roam
from steersman.worlds.hazards_env import FAR, LABELS, SEEN, HazardTrials, paint

WORLD = OURS["hazards-pixels"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_it_is_the_vector_world_seen_otherwise():
    vector = msgspec.structs.replace(WORLD, look="vector")
    trials, same = WORLD.begin(20, 3), vector.begin(20, 3)
    assert set(WORLD.signature.observations) == {"image"}
    assert vector.signature.observations["vector"].columns == vector.columns
    act = trials.drift(generator())
    for _ in range(10):
        action = act()
        trials.step(action)
        same.step(action)
        assert torch.equal(trials.where(), same.where())
        assert torch.equal(trials.bad(), same.bad())
    assert torch.equal(trials.observe()["image"], paint(WORLD, same.state.now))  # and no goal in it
    assert isinstance(trials.goals(), ColumnGoal)
    assert set(trials.goals().targets) <= set(LABELS)


def test_the_point_and_the_obstacles_are_drawn_where_they_are():
    state = hazards.sample_states(WORLD, 100, generator(1))
    shown = paint(WORLD, state).float()
    red = (shown[..., 0] - shown[..., 1:].amax(-1) - 40).clamp_min(0)
    pixel = torch.arange(64) + 0.5
    found = torch.stack([(red.sum(1) * pixel).sum(1), (red.sum(2) * pixel).sum(1)], 1) / red.sum((1, 2))[:, None]
    place = state.position * torch.tensor([1.0, -1.0]) / (SEEN * WORLD.half) * 32 + 32
    assert float((found - place).norm(dim=1).max()) < 1
    at = ((state.place * torch.tensor([1.0, -1.0]) / (SEEN * WORLD.half) * 32 + 32).long()).clamp(0, 63)
    seen = shown[torch.arange(100)[:, None], at[..., 1], at[..., 0]]
    apart = (state.place - state.position[:, None]).norm(dim=-1) > 0.5  # the point is drawn in front
    assert bool((seen[apart] == torch.tensor([70.0, 72.0, 86.0])).all())


def test_the_edge_is_drawn_where_the_limit_is_and_what_left_is_still_seen():
    edge, outside = torch.zeros(1, 2), torch.zeros(1, 2)
    edge[0, 0], outside[0, 0] = WORLD.half - WORLD.body, 1.1 * WORLD.half
    state = hazards.sample_states(WORLD, 1, generator(1))
    state = dataclasses.replace(state, place=torch.full_like(state.place, 100.0))
    empty = paint(WORLD, dataclasses.replace(state, position=torch.full((1, 2), 100.0)))[0].float()
    dark = (empty.mean(-1) < 200)
    assert dark[32].nonzero().flatten().tolist() == dark[:, 32].nonzero().flatten().tolist()
    first = int(dark[32, 32:].nonzero()[0]) + 32
    assert (first - 32) / 32 * SEEN * WORLD.half == pytest.approx(WORLD.half, abs=SEEN * WORLD.half / 32)
    for place in (edge, outside):
        shown = paint(WORLD, dataclasses.replace(state, position=place))[0].float()
        assert float((shown[..., 0] - shown[..., 1]).max()) > 80


def test_a_picture_is_the_same_alone_as_among_others():
    state = hazards.sample_states(WORLD, 90, generator(2))
    together = paint(WORLD, state, goal=state.position)
    for i in (0, 40, 89):
        assert torch.equal(paint(WORLD, state[i : i + 1], goal=state.position[i : i + 1])[0], together[i])


def test_obstacles_stand_before_four_goals_of_ten():
    trials = WORLD.begin(1000, 0)
    assert isinstance(trials, HazardTrials)
    start, goal = trials.state.now, trials.state.goal
    ways = hazards.swept(start.place - start.position[:, None], start.place - goal[:, None])
    blocked = (ways < start.radius + WORLD.body).any(1).float().mean()
    assert 0.33 < float(blocked) < 0.45


def test_labels_say_how_it_is_in_the_last_frame():
    count = 60
    found = WORLD.labelled(count, 3, generator(4))
    assert found.columns == LABELS
    assert found.observations["image"].shape == (count, 4, 64, 64, 3)
    assert found.actions.shape == (count, 3, 2)
    columns, actions = roam.roam(WORLD, hazards.sample_states(WORLD, count, g := generator(4)), 16, g)
    assert torch.equal(found.actions, actions[:, -3:])
    now = hazards.state_of(WORLD, columns[:, -1])
    assert torch.equal(found.values[:, :2], now.position)
    assert torch.equal(found.values[:, 2:4], now.velocity)
    clearance = hazards.clearance(WORLD, now).amin(1)
    torch.testing.assert_close(found.values[:, 4], clearance.clamp(max=FAR))
    assert torch.equal(found.values[:, 4] < 0, hazards.bad(WORLD, columns[:, -1]))
    assert 0.02 < float((found.values[:, 4] < 0).float().mean()) < 0.5
    assert torch.equal(found.observations["image"][:, -1], paint(WORLD, now))
    with pytest.raises(UsageError, match="labelled"):
        Hazards.Config().labelled(3, 1, generator())


def test_recordings_show_what_the_vector_log_says():
    shown = list(WORLD.log(3, 8, 5))
    said = [e for chunk in roam.episodes(WORLD, 3, 8, 5) for e in chunk]
    for picture, columns in zip(shown, said, strict=True):
        picture.validate(WORLD.signature)
        assert torch.equal(picture.actions, columns.actions)
        state = hazards.state_of(WORLD, columns.observations["vector"])
        assert torch.equal(picture.observations["image"], paint(WORLD, state))
    assert WORLD.recorded == (500, 64)
    assert Hazards.Config().recorded == (1500, 64)


def test_few_layouts_are_the_same_for_every_seed():
    few = msgspec.structs.replace(WORLD, layouts=2)
    one, other = (few.begin(40, seed).state.now.place for seed in (0, 1))
    assert len(torch.cat([one, other]).flatten(1).unique(dim=0)) == 2
    logged = hazards.sample_states(few, 40, generator(9))
    assert len(torch.cat([one, logged.place]).flatten(1).unique(dim=0)) == 2
    assert len(WORLD.begin(40, 0).state.now.place.flatten(1).unique(dim=0)) == 40
    assert not bool((hazards.clearance(few, few.begin(40, 3).state.now) < 0).any())
    assert torch.equal(Hazards.Config().begin(5, 0).state.now.place,
                       Hazards.Config(layouts=0).begin(5, 0).state.now.place)


def test_its_gymnasium_face_shows_pictures():
    observation, info = WORLD.env().reset(seed=0)
    assert observation["image"].shape == (64, 64, 3)
    assert info["cost"] == 0


@pytest.mark.parametrize("changes", [{"look": "smell"}, {"layouts": -1}, {"still": 0, "moving": 0}])
def test_an_impossible_world_is_refused(changes):
    with pytest.raises(ConfigError):
        msgspec.structs.replace(WORLD, **changes)
