"""The energy score: by hand against a loop, and least for the right odds."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ConfigError, Drawn, Encoded, Imagined, Latent, LearningBatch, Window
from steersman.core.learning import Rolled, Seen
from steersman.objectives import EnergyScore


def scored(draws: torch.Tensor, came: torch.Tensor) -> float:
    """draws (K, B, D), what came (B, D)."""
    k, b, d = draws.shape
    states = torch.stack([torch.zeros(b, d), came], 1)
    window = Window({"vector": states}, torch.zeros(b, 1, 1), None, torch.zeros(b), torch.zeros(b))
    made = {Encoded(): Seen(Latent(states), None)}
    for i in range(k):
        path = torch.stack([torch.zeros(b, d), draws[i]], 1)[:, None]
        made[Drawn(i)] = Rolled(torch.tensor([0]), Imagined(path))  # type: ignore[index]
    objective = EnergyScore(EnergyScore.Config(draws=k, weight=2.0))
    assert objective.needs == (Encoded(), *(Drawn(i) for i in range(k)))
    loss = objective(LearningBatch(window, made))  # type: ignore[arg-type]
    return float(loss.total) / 2


def test_it_equals_a_loop() -> None:
    g = torch.Generator().manual_seed(0)
    draws, came = torch.randn(3, 4, 2, generator=g), torch.randn(4, 2, generator=g)
    error = sum(float((draws[k, b] - came[b]).norm()) for k in range(3) for b in range(4)) / 12
    pairs = [float((draws[k, b] - draws[j, b]).norm()) for k in range(3) for j in range(k) for b in range(4)]
    assert scored(draws, came) == pytest.approx(error - sum(pairs) / len(pairs) / 2, abs=1e-4)


def test_the_right_odds_and_spread_score_least() -> None:
    g, n = torch.Generator().manual_seed(1), 40_000
    came = (torch.rand(n, 1, generator=g) < 0.3).float()
    of = {p: scored((torch.rand(2, n, 1, generator=g) < p).float(), came) for p in (0.1, 0.3, 0.5, 0.9)}
    assert min(of, key=of.__getitem__) == 0.3
    middle = scored(torch.full((2, n, 1), 0.3), came)
    assert of[0.3] < middle


def test_a_single_draw_is_refused() -> None:
    with pytest.raises(ConfigError, match="raise `draws`"):
        EnergyScore.Config(draws=1)
