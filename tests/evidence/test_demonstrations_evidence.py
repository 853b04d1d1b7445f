"""The experiment on demonstrations, small: its figures, its table and its picture."""

from __future__ import annotations

import torch

from steersman import evidence
from steersman.actor import Gradient
from steersman.core import Belief
from steersman.evidence import demonstrations


def test_a_small_run_recovers_weights_and_says_all_it_promises(tmp_path):
    small = Gradient.Config(restarts=2, steps=25, horizon=8, rate=0.1)
    sizes = demonstrations.Sizes(starts=4, judged=4, rounds=6, expert=small, learner=small)
    one = evidence.Experiment("few", lambda seed: demonstrations.cells(seed, sizes, 1), demonstrations.summary)
    result, outcome = evidence.perform(one, tmp_path / "run")
    figures = result.figures
    assert figures["cosine"] == min(figures["cosine_by_vector"])
    assert figures["cosine"] > figures["alike_cosine"]
    assert 0.9 < figures["cost_ratio"] < figures["alike_cost_ratio"]
    assert len(outcome.tables[0].rows) == 2
    picture, files = outcome.artefacts[0]
    assert files[picture.file].startswith(b"\x89PNG")


def test_an_expert_is_the_same_whether_others_are_performed_or_not():
    """Each draws after those before it, from one generator."""
    seen = []
    small = Gradient.Config(restarts=1, steps=1, horizon=4, rate=0.1)
    sizes = demonstrations.Sizes(starts=4, judged=4, rounds=1, expert=small, learner=small)
    for cell in demonstrations.cells(3, sizes, 2):
        seen.append(cell.perform(evidence.Context(None, cell.seed, cell.settings)).record.true)
    drawn = torch.Generator().manual_seed(3)
    size = torch.tensor([demonstrations.SIZE[name] for name in demonstrations.NAMES])
    for one in seen:
        true = torch.exp(0.7 * torch.randn(5, generator=drawn)) / size
        assert one == demonstrations._named(true / true.sum())
        demonstrations._starts(4, drawn), demonstrations._starts(4, drawn)


def test_the_cart_keeps_its_inertia():
    start = torch.tensor([[0.0, 0.0, 1.0, 0.0]])
    future = demonstrations.cart().imagine(Belief(start), torch.zeros(1, 1, 2, 2)).states[0, 0]
    assert torch.allclose(future[1], torch.tensor([0.19, 0.0, 0.95, 0.0]))
