"""A gaze looks where most is unknown, not where it has looked in vain, and covers the scene where nothing is known."""

from __future__ import annotations

import pytest
import torch

from steersman.actor import Gaze
from steersman.core import ConfigError

GAZE = Gaze(scene=64, window=24)


def shows(corner: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    spot = torch.stack([32 * (1 - place[..., 1]), 32 * (1 + place[..., 0])], -1)
    return ((spot > corner) & (spot < corner + 24)).all(-1)


def test_the_most_uncertain_of_two_things_is_looked_at():
    place = torch.tensor([[[-0.7, 0.7], [0.7, -0.7]], [[-0.7, 0.7], [0.7, -0.7]]])
    variance = torch.tensor([[0.01, 0.0001], [0.0001, 0.01]])
    corner = GAZE.look(GAZE.begin(2, 2), place, variance, 1e-4)
    assert shows(corner[:, None], place).tolist() == [[True, False], [False, True]]


def test_one_look_at_two_things_is_worth_more_than_at_one():
    place = torch.tensor([[[-0.6, 0.5], [-0.4, 0.6], [0.7, -0.7]]])
    corner = GAZE.look(GAZE.begin(1, 3), place, torch.full((1, 3), 0.002), 1e-4)
    assert shows(corner[:, None], place)[0].tolist() == [True, True, False]


def test_looking_for_what_is_nowhere_covers_the_scene():
    where, seen = GAZE.begin(1, 1), torch.zeros(1, 1, dtype=torch.bool)
    covered = torch.zeros(64, 64)
    for _ in range(14):
        corner = GAZE.look(where, torch.zeros(1, 1, 2), torch.full((1, 1), 0.33), 1e-4)
        row, column = corner[0].tolist()
        covered[row : row + 24, column : column + 24] = 1
        where = GAZE.looked(where, corner, torch.zeros(1, 1, 2), seen)
        assert float(where.mass.sum()) == pytest.approx(1.0, abs=1e-5)
    assert float(covered.mean()) > 0.9


def test_what_was_seen_is_expected_there_and_what_had_to_be_seen_is_gone():
    place = torch.tensor([[[0.5, 0.25]]])
    corner = GAZE.look(GAZE.begin(1, 1), place, torch.full((1, 1), 0.002), 1e-4)
    assert bool(GAZE.gone(corner, place, torch.full((1, 1), 1e-4), torch.tensor([[False]])))
    assert not bool(GAZE.gone(corner, place, torch.full((1, 1), 1e-4), torch.tensor([[True]])))
    assert not bool(GAZE.gone(corner, -place, torch.full((1, 1), 1e-4), torch.tensor([[False]])))
    found = GAZE.looked(GAZE.begin(1, 1), corner, place, torch.tensor([[True]]))
    assert float((GAZE.expected(found, torch.zeros(1, 1, 2), torch.full((1, 1), 9.0)) - place).abs().max()) < 0.1


def test_a_raster_covers_the_scene_and_what_cannot_be_is_refused():
    assert GAZE.raster(9).unique(dim=0).shape == (9, 2)
    assert torch.equal(GAZE.raster(18)[9:], GAZE.raster(9))
    for settings in ({"window": 65}, {"stride": 0}, {"cells": 1}, {"spread": 2.0}):
        with pytest.raises(ConfigError):
            Gaze(**{"scene": 64, "window": 24, **settings})
