"""Worlds that branch: their stated probabilities against counted draws, their steps against a loop, their logs."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ActionError, ConfigError
from steersman.data import Dataset, build, read, write
from steersman.worlds import OURS
from steersman.worlds.branching import Branching, Fork, Gate, Traffic

WORLDS = {"fork": Fork(), "gate": Gate(), "traffic": Traffic()}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", WORLDS)
def test_draws_come_as_often_as_they_should_and_lie_apart(name: str) -> None:
    world, n = WORLDS[name], 4000
    state, action = world.situations(5, generator())
    futures = world.futures(state, action)
    torch.testing.assert_close(futures.probability.sum(1), torch.ones(5))
    assert bool(((futures.probability > 0).sum(1) > 1).all())
    each = state.repeat_interleave(n, 0), action.repeat_interleave(n, 0)
    drawn = world.step(*each, torch.rand(5 * n, generator=generator(1))).view(5, n, -1)
    near = torch.cdist(drawn, futures.states) < 1e-5
    assert bool((near.sum(2) == 1).all())
    torch.testing.assert_close(near.float().mean(1), futures.probability, atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.mean(1), futures.mean, atol=0.06, rtol=0)
    gaps = torch.cdist(futures.states, futures.states) + 9 * torch.eye(futures.states.shape[1])
    assert float(gaps.min()) == pytest.approx(world.apart)


@pytest.mark.parametrize("name", WORLDS)
def test_a_batch_of_rollouts_is_each_alone(name: str) -> None:
    world, g = WORLDS[name], generator(2)
    start = world.start(4, g)
    actions, u = 2 * torch.rand(4, 9, 1, generator=g) - 1, torch.rand(4, 9, generator=g)
    whole = world.rollout(start, actions, u)
    for i in range(4):
        state = start[i : i + 1]
        for t in range(9):
            state = world.step(state, actions[i : i + 1, t], u[i : i + 1, t])
            torch.testing.assert_close(state[0], whole[i, t + 1])
    with pytest.raises(ActionError, match="clip"):
        world.step(start, 2 * torch.ones(4, 1), u[:, 0])


@pytest.mark.parametrize("name", WORLDS)
def test_elsewhere_one_future_is_certain(name: str) -> None:
    world = WORLDS[name]
    _, steps = world.approach()
    state, g = world.start(64, generator(3)), generator(4)
    branched = torch.zeros(64, dtype=torch.bool)
    for _ in range(steps):
        futures = world.futures(state, torch.zeros(64, 1))
        branched |= (futures.probability < 1).all(1)
        state = futures.drawn(torch.rand(64, generator=g))
    assert bool(branched.all())
    after = world.futures(state, torch.zeros(64, 1)).probability.amax(1)
    assert float((after == 1).float().mean()) > (0.4 if name == "gate" else 0.99)


def test_padding_is_never_drawn() -> None:
    state, _ = Traffic().situations(3, generator())
    state[:, 2] = -0.5
    futures = Traffic().futures(state, torch.zeros(3, 1))
    assert futures.probability.tolist() == [[1.0, 0.0, 0.0]] * 3
    torch.testing.assert_close(futures.drawn(torch.full((3,), 1.0)), futures.states[:, 0])


def test_the_odds_of_the_fork_follow_where_the_ball_enters() -> None:
    state = torch.tensor([[-0.4, 0.375], [0.0, 0.375], [0.4, 0.375]])
    left = Fork().futures(state, torch.zeros(3, 1)).probability[:, 0]
    torch.testing.assert_close(left, torch.tensor([0.8, 0.5, 0.2]))


def test_a_picture_shows_the_ball_where_it_is() -> None:
    world = Fork(look="picture")
    state = torch.tensor([[-0.5, 0.75], [0.5, 0.75], [0.0, 0.0]])
    image = world.seen(state)["image"]
    assert image.shape == (3, 32, 32, 3)
    assert image.dtype == torch.uint8
    bright = (image[..., 0].float() - 150).clamp(min=0)
    grid = torch.arange(32) + 0.5
    across = (bright.sum(1) * grid).sum(1) / bright.sum((1, 2)) / 32 * 2.5 - 1.25
    along = (bright.sum(2) * grid).sum(1) / bright.sum((1, 2)) / 32 * 1.375 - 0.125
    torch.testing.assert_close(torch.stack([across, along], 1), state, atol=0.05, rtol=0)
    labelled = world.labelled(6, 3, generator())
    assert labelled.observations["image"].shape == (6, 4, 32, 32, 3)
    assert labelled.values.shape == (6, 2)


@pytest.mark.parametrize("name", WORLDS)
def test_logs_are_written_and_read_like_any_other(name: str, tmp_path) -> None:
    world = OURS[name]
    assert isinstance(world, Branching)
    episodes = list(world.log(5, 6, 0))
    place = write(tmp_path / "log.parquet", world.signature, episodes)
    dataset: Dataset = build(read(place), tmp_path / "cache")
    assert dataset.steps == 30
    trials = world.begin(200, 1)
    for _ in range(8):
        trials.step(torch.ones(200, 1))
    assert trials.solved().shape == (200,)


@pytest.mark.parametrize("make", [lambda: Fork(lean=0.7), lambda: Fork(size=4), lambda: Gate(opens=1.0),
                                  lambda: Traffic(ways=(0.5, 0.5, 0.5))])
def test_what_is_no_probability_is_refused(make) -> None:
    with pytest.raises(ConfigError, match=r"probabilit|lean"):
        make()
