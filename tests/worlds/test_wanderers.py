"""Two discs that wander: drawn where they are, each for itself, and labelled in the log where that is asked for."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ConfigError
from steersman.worlds import Wanderers


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_discs_are_drawn_where_they_are() -> None:
    footage = Wanderers(size=32).filmed(3, 9, generator())
    axis = (torch.arange(32) + 0.5) / 32 * 2 - 1
    for channel in (0, 1):
        weight = footage.pictures[..., channel].double()
        x = (weight.sum(-2) * axis).sum(-1) / weight.sum((-1, -2))
        y = -(weight.sum(-1) * axis).sum(-1) / weight.sum((-1, -2))
        drawn = torch.stack([x, y], -1) / 0.72  # a disc stays whole in the picture
        assert (drawn - footage.factors[..., 2 * channel : 2 * channel + 2]).abs().max() < 0.03
    assert not footage.pictures[..., 2].any()


def test_who_knows_one_place_knows_nothing_of_the_other() -> None:
    red, green = Wanderers().filmed(400, 20, generator()).factors[:, ::20].flatten(0, 1).split(2, 1)
    across = torch.corrcoef(torch.cat([red, green], 1).mT)[:2, 2:]
    assert across.abs().max() < 0.12
    assert red.abs().max() <= 1


def test_the_log_shows_the_places_where_that_is_asked_for() -> None:
    film = Wanderers()
    (episode,) = film.log(1, 4, 0)
    episode.validate(film.signature)
    assert film.signature.observations["places"].columns == ("red_x", "red_y", "green_x", "green_y")
    bare = Wanderers(labelled=False)
    (unlabelled,) = bare.log(1, 4, 0)
    assert list(bare.signature.observations) == list(unlabelled.observations) == ["image"]
    assert torch.equal(unlabelled.observations["image"], episode.observations["image"])


def test_impossible_films_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"kick in \[0, 1\]"):
        Wanderers(kick=2.0)
