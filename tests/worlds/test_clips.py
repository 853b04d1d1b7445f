"""Films in which nobody acts: what they show is what their factors say, the fast ones fast and the slow ones slow."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from steersman.core import ConfigError
from steersman.worlds import Clips, CountingDigits, RockingBalls
from steersman.worlds.clips.digits import writings


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def columns(film: Clips, factors: Tensor, name: str) -> Tensor:
    return factors[..., [film.columns.index(column) for column in film.factors[name]]]


def change(values: Tensor, ahead: int) -> float:
    """Mean squared change in so many frames, in units of twice the variance: 1 where nothing is left of the past."""
    moved = (values[:, ahead:] - values[:, :-ahead]).square().sum(-1).mean()
    return float(moved / (2 * values.flatten(0, 1).var(0).sum()))


def test_balls_stay_in_their_box_and_apart() -> None:
    film = RockingBalls()
    place = columns(film, film.filmed(16, 60, generator()).factors, "place").unflatten(-1, (3, 2))
    assert float(place.abs().max()) <= 0.7 + 1e-6
    apart = torch.stack([(place[..., i, :] - place[..., j, :]).norm(dim=-1) for i, j in ((0, 1), (0, 2), (1, 2))])
    assert float((apart > 0.5).float().mean()) > 0.99  # radii of .3; squeezed together for a moment at most


def test_balls_are_drawn_where_they_are() -> None:
    film = RockingBalls(size=64)
    footage = film.filmed(4, 20, generator())
    centres = columns(film, footage.factors, "place").unflatten(-1, (3, 2))
    lean = columns(film, footage.factors, "lean")[..., 0]
    grid = ((torch.arange(64) + 0.5) / 64 * 2 - 1) / 0.7
    for ball in range(3):
        mass = (footage.pictures[..., ball].float() - 64).clamp(min=0)
        x = (mass.sum(-2) * grid).sum(-1) / mass.sum((-1, -2))
        y = -(mass.sum(-1) * grid).sum(-1) / mass.sum((-1, -2))
        p, q = centres[..., ball, 0], centres[..., ball, 1]
        assert torch.allclose(x, lean.cos() * p - lean.sin() * q, atol=0.03)
        assert torch.allclose(y, lean.sin() * p + lean.cos() * q, atol=0.03)


def test_balls_gather_on_the_side_to_which_the_box_leans() -> None:
    """Gravity and the picture agree: a box that is turned against the clock has its left corner lowest."""
    film = RockingBalls()
    factors = film.filmed(64, 100, generator()).factors
    x, lean = columns(film, factors, "centre")[:, 20:, 0].flatten(), columns(film, factors, "lean")[:, 20:].flatten()
    assert float(torch.corrcoef(torch.stack([x, lean]))[0, 1]) < -0.5


def test_the_lean_is_slow_and_the_places_are_fast() -> None:
    film = RockingBalls()
    factors = film.filmed(64, 60, generator()).factors
    assert change(columns(film, factors, "place"), 4) > 3 * change(columns(film, factors, "lean"), 4)


def test_two_generators_of_one_seed_make_the_same_film_and_others_another() -> None:
    film = RockingBalls()
    first, again, other = (film.filmed(2, 10, generator(seed)).pictures for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_log_holds_the_pictures_and_nobody_acts() -> None:
    film = RockingBalls()
    episodes = list(film.log(3, 5, 7))
    assert len(episodes) == 3
    for episode in episodes:
        episode.validate(film.signature)
        assert episode.observations["image"].shape == (6, 32, 32, 3)
        assert episode.actions.shape == (5, 0)


@pytest.mark.parametrize("settings", [
    {"restitution": 1.5}, {"leans": (0.5, 1.0)}, {"leans": (0.5, 0.4)}, {"periods": (4.0, 9.0)}, {"size": 8}])
def test_impossible_boxes_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        RockingBalls(**settings)  # type: ignore[arg-type]


# Digits --------------------------------------------------------------------------------------------------------


def test_digits_count_up_and_are_forgotten_by_their_places() -> None:
    pytest.importorskip("sklearn")
    film = CountingDigits(dwell=5)
    footage = film.filmed(8, 60, generator())
    digit = columns(film, footage.factors, "digit").argmax(-1)
    turned = digit.diff(dim=1)
    assert set(turned.flatten().tolist()) == {0, 1, -9}
    for one in turned:
        assert (one != 0).nonzero()[:, 0].diff().eq(5).all()
    place = columns(CountingDigits(), CountingDigits().filmed(64, 40, generator()).factors, "place")
    assert change(place, 2) < 0.2 < 0.5 < change(place, 12)


def test_a_digit_is_drawn_where_it_is_and_as_one_of_its_writings() -> None:
    pytest.importorskip("sklearn")
    film = CountingDigits(size=32)
    footage = film.filmed(8, 30, generator())
    place, mass = columns(film, footage.factors, "place"), footage.pictures[..., 0].float()
    grid = torch.arange(32) + 0.5
    x = (mass.sum(-2) * grid).sum(-1) / mass.sum((-1, -2))
    y = (mass.sum(-1) * grid).sum(-1) / mass.sum((-1, -2))
    assert float((x - (8 + 8 * (place[..., 0] + 1))).abs().max()) < 3  # the middle of 16 pixels, and how it is written
    assert float((y - (8 + 8 * (1 - place[..., 1]))).abs().max()) < 3


def test_no_writing_of_the_tests_is_shown_in_training() -> None:
    pytest.importorskip("sklearn")
    (train, _, many), (test, _, few) = writings(False), writings(True)
    assert len(train) + len(test) == 1797
    assert set((4 * few - many).tolist()) <= {0, 1, 2, 3, 4}
    assert float(torch.cdist(test.flatten(1), train.flatten(1)).min()) > 0


@pytest.mark.parametrize("settings", [{"dwell": 0}, {"kick": -0.1}, {"kick": math.inf}, {"size": 18}])
def test_impossible_digits_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        CountingDigits(**settings)  # type: ignore[arg-type]
