"""Conformal bounds: coverage over draws, small samples, refusals."""

from __future__ import annotations

import math

import pytest
import torch

from steersman.core import PlanningError
from steersman.cost import conformal_quantile, labels_needed


@pytest.mark.parametrize(("n", "level"), [(19, 0.9), (99, 0.99), (200, 0.9), (7, 0.5)])
def test_a_new_score_is_covered_as_often_as_stated_and_hardly_more(n: int, level: float) -> None:
    draws = torch.rand(20_000, n + 1, generator=torch.Generator().manual_seed(n)).pow(3)
    rank = math.ceil((n + 1) * level)
    bound = draws[:, :n].sort(1).values[:, rank - 1]
    assert conformal_quantile(draws[0, :n], level) == float(bound[0])
    covered = float((draws[:, n] <= bound).float().mean())
    slack = 4 * (level * (1 - level) / 20_000) ** 0.5
    assert level - slack <= covered <= level + 1 / (n + 1) + slack


def test_too_few_scores_promise_nothing() -> None:
    for level in (0.5, 0.9, 0.99, 0.29, 0.999):
        n = labels_needed(level)
        assert math.isfinite(conformal_quantile(torch.zeros(n), level))
        if n > 1:
            assert conformal_quantile(torch.zeros(n - 1), level) == math.inf


def test_rank_is_that_of_exact_arithmetic() -> None:
    scores = torch.randperm(99, generator=torch.Generator().manual_seed(0)).float() + 1
    assert [conformal_quantile(scores, k / 100) for k in range(1, 100)] == list(range(1, 100))


def test_several_scores_of_a_label_cover_one_of_a_new_label() -> None:
    n, k, level, draws = 40, 4, 0.9, 4000
    generator = torch.Generator().manual_seed(5)
    scale = torch.rand(draws, n + 1, 1, generator=generator).exp()
    scores = scale * torch.randn(draws, n + 1, k, generator=generator)
    bound = torch.tensor([conformal_quantile(x[:n], level) for x in scores])
    covered = float((scores[:, n] <= bound[:, None]).float().mean())
    assert level - 0.01 <= covered <= level + 1 / (n + 1) + 0.01


def test_an_infinite_score_is_a_score() -> None:
    assert conformal_quantile(torch.tensor([1.0, math.inf, 2.0]), 0.5) == 2.0
    assert conformal_quantile(torch.tensor([1.0, math.inf, 2.0]), 0.7) == math.inf


@pytest.mark.parametrize(
    ("scores", "level"),
    [(torch.zeros(0), 0.9), (torch.zeros(3, 2, 2), 0.9), (torch.tensor([1.0, math.nan]), 0.9), (torch.zeros(9), 1.0),
     (torch.zeros(9), 0.0)],
)
def test_refusals_say_what_to_do(scores: torch.Tensor, level: float) -> None:
    with pytest.raises(PlanningError, match=r"expected .*; got .*; "):
        conformal_quantile(scores, level)
