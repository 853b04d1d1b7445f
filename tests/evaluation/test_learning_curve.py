"""Forecasts over the length of a log: intervals hold what comes, and are no wider than they need to be."""

from __future__ import annotations

import numpy as np
import pytest

from steersman.core import UsageError
from steersman.evaluation.learning_curve import forecast_error, forecast_success

LENGTHS = (1.0, 2.0, 4.0)


def test_intervals_of_errors_hold_noisy_power_laws_at_their_level() -> None:
    draw = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        floor, power = draw.uniform(0, 0.5), draw.uniform(0, 1.5)
        curve = [((1 - floor) * n**-power + floor) * float(np.exp(0.1 * draw.normal())) for n in (*LENGTHS, 8.0)]
        covered += forecast_error(LENGTHS, curve[:3], 8.0).covers(curve[3])
    assert 50 <= covered <= 60


def test_intervals_of_success_hold_new_trips_at_their_level() -> None:
    draw = np.random.default_rng(1)
    covered = 0
    for _ in range(60):
        first, power = draw.uniform(0.2, 0.9), draw.uniform(0, 1.5)
        counts = [int(draw.binomial(40, 1 - first * n**-power)) for n in (*LENGTHS, 8.0)]
        covered += forecast_success(LENGTHS, counts[:3], 40, 8.0).covers(counts[3] / 40)
    assert 50 <= covered <= 60


def test_more_data_is_expected_to_help_where_it_has_helped() -> None:
    better = forecast_success(LENGTHS, (8, 20, 30), 40, 8.0)
    assert 20 / 40 < better.low < 30 / 40 <= better.middle < better.high <= 1
    flat = forecast_error(LENGTHS, (1.0, 1.0, 1.0), 8.0)
    steep = forecast_error(LENGTHS, (1.0, 0.5, 0.25), 8.0)
    assert steep.high < flat.low
    assert 0.08 < steep.middle < 0.25


@pytest.mark.parametrize("lengths", [(1.0,), (0.0, 1.0)])
def test_one_length_or_none_is_refused(lengths: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="two lengths"):
        forecast_error(lengths, [1.0] * len(lengths), 4.0)
