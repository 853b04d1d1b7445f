"""The experiment on demonstrations, small: its figures, its table and its picture."""

from __future__ import annotations

import torch

from steersman.actor import Gradient
from steersman.core import Belief
from steersman.evidence import Context, demonstrations


def test_a_small_run_recovers_weights_and_says_all_it_promises(tmp_path, monkeypatch):
    small = Gradient.Config(restarts=2, steps=25, horizon=8, rate=0.1)
    for name, value in {"VECTORS": 1, "STARTS": 4, "JUDGED": 4, "HORIZON": 8, "ROUNDS": 6, "EXPERT": small,
                        "LEARNER": small}.items():
        monkeypatch.setattr(demonstrations, name, value)
    said = []
    outcome = demonstrations.experiment(Context(tmp_path, 0, said.append))
    figures = outcome.figures
    assert figures["cosine"] == min(figures["cosine_by_vector"])
    assert figures["cosine"] > figures["alike_cosine"]
    assert 0.9 < figures["cost_ratio"] < figures["alike_cost_ratio"]
    assert len(outcome.tables[0].rows) == 2
    picture, files = outcome.artefacts[0]
    assert files[picture.file].startswith(b"\x89PNG")
    assert len(said) == 1


def test_the_cart_keeps_its_inertia():
    start = torch.tensor([[0.0, 0.0, 1.0, 0.0]])
    future = demonstrations.cart().imagine(Belief(start), torch.zeros(1, 1, 2, 2)).states[0, 0]
    assert torch.allclose(future[1], torch.tensor([0.19, 0.0, 0.95, 0.0]))
