"""Measures of many futures: against loops, and against distributions that are right, too narrow, biased."""

from __future__ import annotations

import pytest
import torch

from steersman.core import UsageError
from steersman.evaluation import best_of, rank_histogram, shares, unevenness


def g(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_shares_count_the_nearest_outcome_that_may_come() -> None:
    outcomes = torch.tensor([[[0.0], [1.0], [0.05]]])
    probability = torch.tensor([[0.25, 0.75, 0.0]])
    draws = torch.tensor([[[0.04], [0.9], [1.2], [5.0]]])
    met = shares(draws, outcomes, probability, 0.5)
    assert met.share.tolist() == [[0.25, 0.5, 0.0]]
    assert met.stray.tolist() == [0.25]
    assert met.gaps(probability).tolist() == [0.0, 0.25, 0.0]
    with pytest.raises(UsageError, match="half the distance"):
        shares(draws, outcomes, probability, 0.0)


def test_the_best_of_a_few_equals_a_loop() -> None:
    draws, truth = torch.randn(3, 5, 4, 2, generator=g()), torch.randn(3, 4, 2, generator=g(1))
    wanted = [min(float((draws[n, k] - truth[n]).norm(dim=-1).mean()) for k in range(5)) for n in range(3)]
    torch.testing.assert_close(best_of(draws, truth), torch.tensor(wanted))


def test_ranks_are_flat_for_the_right_distribution_only() -> None:
    truth, draws = torch.randn(8000, 1, generator=g()), torch.randn(8000, 15, 1, generator=g(1))
    right, narrow, aside = (unevenness(rank_histogram(x, truth, 0.0, g(2)))[0]
                            for x in (draws, 0.3 * draws, draws + 1))
    assert right < 0.03 < 0.2 < min(narrow, aside)
    histogram = rank_histogram(0.3 * draws, truth, 0.0, g(2))[0]
    assert histogram[0] > histogram[7] < histogram[15]


def test_ties_have_no_order_of_their_own() -> None:
    """Two outcomes, drawn with the right odds but a little off: flat with ties, uneven without; wrong odds show."""
    truth = (torch.rand(8000, 1, generator=g()) < 0.3).float()
    coin = lambda p: (torch.rand(8000, 15, 1, generator=g(1)) < p).float() + 0.001  # noqa: E731
    assert float(unevenness(rank_histogram(coin(0.3), truth, 0.25, g(2)))[0]) < 0.03
    assert float(unevenness(rank_histogram(coin(0.3), truth, 0.0, g(2)))[0]) > 0.2
    assert float(unevenness(rank_histogram(coin(0.6), truth, 0.25, g(2)))[0]) > 0.1
