"""Conformal bounds over groups: what they promise, on numbers that are known."""

from __future__ import annotations

import math

import pytest
import torch

from steersman.cost.conformal import conformal_quantile, grouped_quantile
from steersman.evaluation.bands import (
    coverage_of,
    halves_coverage,
    resampled_means,
    unit_maxima,
)


def by_hand(scores: torch.Tensor, unit: torch.Tensor, level: float) -> float:
    """The definition, one candidate after the other."""
    units = sorted(set(unit.tolist()))
    for q in sorted(scores.tolist()):
        inside = [float((scores[unit == u] <= q).double().mean()) for u in units]
        if sum(inside) / (len(units) + 1) >= level - 1e-9:
            return q
    return math.inf


@pytest.mark.parametrize("seed", range(5))
def test_the_quantile_is_that_of_the_definition(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    unit = torch.randint(0, 30, (400,), generator=g) * 7
    scores = torch.rand(400, 3, generator=g)
    found = grouped_quantile(scores, unit, 0.9)
    assert found.tolist() == pytest.approx([by_hand(scores[:, i], unit, 0.9) for i in range(3)])


def test_one_window_a_unit_is_split_conformal_prediction() -> None:
    scores = torch.rand(57, generator=torch.Generator().manual_seed(1))
    assert float(grouped_quantile(scores[:, None], torch.arange(57), 0.9)[0]) == pytest.approx(
        conformal_quantile(scores, 0.9))


def test_too_few_units_promise_nothing() -> None:
    scores, unit = torch.rand(500, 1), torch.arange(500) % 8
    assert float(grouped_quantile(scores, unit, 0.9)[0]) == math.inf
    assert math.isfinite(float(grouped_quantile(scores, torch.arange(500) % 9, 0.9)[0]))
    assert halves_coverage(scores[:, 0], torch.arange(500) % 17) is None


def noisy(units: int, windows: int, spread: float, g: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Errors that are alike within an episode: its own size times a window's."""
    size = torch.exp(spread * torch.randn(units, 1, generator=g))
    return (size * torch.randn(units, windows, generator=g).abs()).flatten(), torch.arange(units).repeat_interleave(
        windows)


@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
def test_new_episodes_are_covered_as_promised(spread: float) -> None:
    g = torch.Generator().manual_seed(7)
    shares = []
    for _ in range(200):
        scores, unit = noisy(60, 20, spread, g)
        bound = float(grouped_quantile(scores[:, None], unit, 0.9)[0])
        new, where = noisy(100, 5, spread, g)
        shares.append(float(coverage_of(new, where, bound).mean()))
    assert 0.89 < sum(shares) / len(shares) < 0.92


def test_pooling_windows_as_if_they_were_independent_would_promise_too_much() -> None:
    g = torch.Generator().manual_seed(3)
    pooled = []
    for _ in range(200):
        scores, unit = noisy(12, 50, 1.0, g)
        new, where = noisy(100, 5, 1.0, g)
        pooled.append(float(coverage_of(new, where, conformal_quantile(scores, 0.9)).mean()))
        assert float(grouped_quantile(scores[:, None], unit)[0]) >= conformal_quantile(scores, 0.9)
    assert sum(pooled) / len(pooled) < 0.89


def test_halves_count_on_other_units_than_those_that_calibrate() -> None:
    scores, unit = noisy(100, 10, 0.5, torch.Generator().manual_seed(5))
    found = halves_coverage(scores, unit)
    assert found is not None
    assert 0.9 <= found < 0.93


def test_maxima_and_means_go_by_unit() -> None:
    scores = torch.tensor([[1.0, 5.0], [3.0, 2.0], [7.0, 0.0]])
    unit = torch.tensor([4, 4, 9])
    assert unit_maxima(scores, unit).tolist() == [[3.0, 5.0], [7.0, 0.0]]
    means = resampled_means(scores, unit, draws=500)
    assert {round(x, 3) for x in means[:, 0].tolist()} == {2.0, round(11 / 3, 3), 7.0}
