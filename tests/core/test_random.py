"""Streams: independent of neighbours, reproducible, and of the right distribution."""

from __future__ import annotations

import torch

from steersman.core import Streams


def test_a_problem_draws_the_same_alone_and_among_others():
    seeds, decision = torch.arange(64) * 1_000_003, torch.arange(64) % 5
    whole = Streams(seeds, decision)
    draws = [whole.uniform(3, 2), whole.normal(5), whole.integers(7, 4)]
    for i in (0, 13, 63):
        alone = Streams(seeds[i : i + 1], decision[i : i + 1])
        for mine, ours in zip([alone.uniform(3, 2), alone.normal(5), alone.integers(7, 4)], draws, strict=True):
            assert torch.equal(mine[0], ours[i])


def test_seeds_decisions_and_draws_all_differ():
    rows = [Streams(torch.tensor([s]), torch.tensor([d])).uniform(64)[0] for s in range(20) for d in range(20)]
    assert len({tuple(row.tolist()) for row in rows}) == 400
    between = torch.corrcoef(torch.stack(rows[:100]))
    assert float((between - torch.eye(100)).abs().max()) < 0.6
    stream = Streams(torch.tensor([1]))
    assert not torch.equal(stream.uniform(8), stream.uniform(8))


def test_uniform_lies_strictly_within_0_and_1_and_is_flat():
    x = Streams(torch.arange(100)).uniform(2000).flatten()
    assert 0 < float(x.min()) < float(x.max()) < 1
    counts = torch.histc(x, 20, 0, 1)
    expected = len(x) / 20
    assert float(((counts - expected) ** 2 / expected).sum()) < 45  # chi-square, 19 degrees: p = .0007


def test_normal_has_the_moments_of_a_standard_normal():
    x = Streams(torch.arange(100)).normal(2001).double().flatten()
    assert x.shape == (200_100,)
    assert abs(float(x.mean())) < 0.01
    assert abs(float(x.std()) - 1) < 0.01
    assert abs(float((x**4).mean()) - 3) < 0.1
    assert abs(float((x > 1.6449).double().mean()) - 0.05) < 0.002


def test_integers_cover_their_range_evenly():
    x = Streams(torch.arange(50)).integers(6, 1000).flatten()
    assert x.dtype == torch.int64
    counts = torch.bincount(x, minlength=6)
    assert len(counts) == 6
    assert float((counts / len(x) - 1 / 6).abs().max()) < 0.01
