"""Gauges see collapse, and a probe finds what is linearly there and nothing else."""

from __future__ import annotations

import math

import pytest
import torch
from small_world import SIGNATURE
from torch import Tensor

from steersman.core import ActionSpec, Imagined, Latent, LearningBatch, ObservationSpec, Signature, Window
from steersman.training import Moment, RidgeProbe
from steersman.training.gauges import effective_rank, persistence, spread, within_share


def moment(states: Tensor, vector: Tensor | None = None, predicted: Tensor | None = None) -> Moment:
    b, t = states.shape[:2]
    observations = {} if vector is None else {"vector": vector}
    w = Window(observations, torch.zeros(b, t - 1, 1), None, torch.arange(b), torch.zeros(b, dtype=torch.long))
    imagined = Imagined(states[:, None] if predicted is None else predicted)
    return Moment(1, LearningBatch.rolled(w, Latent(states), torch.tensor([0]), imagined))


def test_spread_and_rank_of_a_full_space() -> None:
    states = torch.randn(64, 16, 8, generator=torch.Generator().manual_seed(0)) * 3
    assert spread(moment(states))["std_least"] == pytest.approx(3, rel=0.1)
    assert effective_rank(moment(states))["effective_rank"] == pytest.approx(8, rel=0.02)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_rank_of_a_collapsed_space(rank: int) -> None:
    g = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(8, 8, generator=g)).Q[:rank]
    states = torch.randn(64, 16, rank, generator=g) @ basis
    assert effective_rank(moment(states))["effective_rank"] == pytest.approx(rank, rel=0.05)


def test_a_constant_latent_is_a_total_collapse() -> None:
    states = torch.full((4, 5, 6), 0.7)
    assert spread(moment(states)) == {"std_mean": pytest.approx(0, abs=1e-6), "std_least": pytest.approx(0, abs=1e-6)}
    assert effective_rank(moment(states))["effective_rank"] == 0


def test_effective_rank_is_the_entropy_of_singular_values() -> None:
    states = torch.randn(10, 5, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 7)
    flat = states.reshape(-1, 6)
    sigma = torch.linalg.svdvals(flat - flat.mean(0))
    p = sigma / sigma.sum()
    expected = math.exp(-float((p * p.log()).sum()))
    assert effective_rank(moment(states))["effective_rank"] == pytest.approx(expected, rel=1e-4)


def test_persistence_compares_with_predicting_no_change() -> None:
    states = torch.arange(5.0)[None, :, None].expand(2, 5, 3)  # moves by 1 a step
    exact, still = states[:, None], states[:, None, :1].expand(2, 1, 5, 3)
    assert persistence(moment(states, predicted=exact))["error_vs_still"] == 0
    assert persistence(moment(states, predicted=still))["error_vs_still"] == pytest.approx(1)


@pytest.mark.parametrize("tokens", [False, True])
def test_the_probe_reads_what_is_linear_and_scores_on_windows_it_did_not_see(tokens: bool) -> None:
    g = torch.Generator().manual_seed(0)
    vector = torch.randn(32, 9, 3, generator=g) * torch.tensor([1.0, 5.0, 1.0]) + torch.tensor([0.0, 100.0, 0.0])
    mixed = vector[..., :2] @ torch.randn(2, 6, generator=g)  # the third column is not in the latent
    states = torch.stack([mixed - 1, mixed + 1], 2) if tokens else mixed
    probe = RidgeProbe.of(SIGNATURE)
    assert probe is not None
    found = probe(moment(states, vector))
    assert found["probe_r2/x"] > 0.99
    assert found["probe_r2/y"] > 0.99
    assert found["probe/y"] < 0.5
    assert found["probe_r2/z"] < 0.1
    assert found["probe/z"] == pytest.approx(1, rel=0.2)


def test_without_named_columns_there_is_no_probe() -> None:
    bare = Signature({"vector": ObservationSpec("vector", (3,))}, ActionSpec("discrete", choices=2))
    assert RidgeProbe.of(bare) is None


def test_the_share_within_windows_tells_what_changes_from_what_only_differs() -> None:
    g = torch.Generator().manual_seed(0)
    still, moving = torch.randn(200, 1, 3, generator=g), torch.randn(200, 9, 3, generator=g)
    for scale, expected in ((0.0, 0.0), (0.5, 0.2), (1e3, 1.0)):
        states = still + scale * moving
        assert within_share(moment(states))["within_share"] == pytest.approx(expected, abs=0.02)
        tokens = torch.stack([states, 5 + states], 2)
        assert within_share(moment(tokens))["within_share"] == pytest.approx(expected, abs=0.02)
    assert within_share(moment(torch.full((4, 5, 6), 0.7)))["within_share"] == 1.0
