"""Advice names the term and the field to change, out of those that the run has, and following it cures the collapse."""

from __future__ import annotations

import pytest
import small_world
import torch

from steersman import training
from steersman.agent import AgentConfig
from steersman.objectives import (
    ClipVariance,
    InverseDynamics,
    PixelPrediction,
    Prediction,
    SIGReg,
    TemporalSimilarity,
    VICReg,
    VISReg,
)
from steersman.perception import VectorEncoder
from steersman.training import advise
from steersman.world_model import ResidualModel


class Unsure(small_world.Drift):
    """Every moment is drawn anew: a constant latent is foreseen best."""

    def __init__(self) -> None:
        super().__init__(episodes=40)
        self.states = torch.randn(40, 21, 3, generator=torch.Generator().manual_seed(1))


class Background(small_world.Drift):
    """Two numbers that are other ones in each episode and never change, and one that the action sets, with noise."""

    def __init__(self) -> None:
        super().__init__(episodes=40)
        g = torch.Generator().manual_seed(0)
        moved = torch.cat([torch.zeros(40, 1), 2 * self.actions[..., 0]], 1) + torch.randn(40, 21, generator=g)
        self.states = torch.cat([moved[..., None], 3 * torch.randn(40, 1, 2, generator=g).expand(40, 21, 2)], -1)


def trained(log, objectives, size):
    """Gauges and advice at the end of a short training."""
    agent = AgentConfig(perception=VectorEncoder.Config(hidden=(16,), size=size),
                        world_model=ResidualModel.Config(width=16))
    config = small_world.config(agent=agent, objectives=objectives, steps=120, gauge_every=120, batch_size=24, lr=2e-2,
                                probe=False)
    seen = []
    training.train(config, log, None, progress=seen.append)
    return seen[-1].gauges, seen[-1].advice


HEAVY = Prediction.Config(weight=10.0)


@pytest.mark.parametrize(("log", "size", "objectives", "first"), [
    (Unsure, 8, (HEAVY,), "add VICReg.Config()"),
    (Unsure, 8, (HEAVY, VICReg.Config(variance=0.01, covariance=0.0)), "raise VICReg.Config.variance from 0.01 to 25"),
    (Unsure, 8, (HEAVY, SIGReg.Config(weight=1e-5, slices=32)), "put VISReg.Config() in place of SIGReg.Config"),
    (Unsure, 8, (Prediction.Config(weight=1e4), VICReg.Config()), "lower Prediction.Config.weight from 10000 to 1000"),
    (small_world.Drift, 32, (HEAVY, VICReg.Config(covariance=0.0)), "raise VICReg.Config.covariance from 0 to 1"),
    (Background, 2, (Prediction.Config(), SIGReg.Config(slices=32)), "add ClipVariance.Config()"),
    (Background, 2, (Prediction.Config(), VICReg.Config(), TemporalSimilarity.Config(weight=4.0)),
     "lower TemporalSimilarity.Config.weight from 4 to 0.4"),
])
def test_following_the_advice_cures_the_collapse(log, size, objectives, first) -> None:
    gauges, advice = trained(log(), objectives, size)
    assert advice is not None, gauges
    assert advice.do.startswith(first), advice
    before = gauges
    for _ in range(3):
        gauges, advice = trained(log(), advice.objectives, size)
        if advice is None:
            break
    assert advice is None, f"{before} became {gauges}: {advice}"


FLAT = {"std_mean": 0.001, "effective_rank": 3.0, "rank_share": 0.4}
SAME = {"std_mean": 1.0, "effective_rank": 1.5, "rank_share": 0.05}
STILL = {"std_mean": 1.0, "effective_rank": 6.0, "rank_share": 0.8, "within_share": 0.01}


@pytest.mark.parametrize(("gauges", "objectives", "acted", "do"), [
    (FLAT, (VISReg.Config(weight=0.1),), True, "raise VISReg.Config.weight from 0.1 to 1"),
    (FLAT, (VISReg.Config(scale=0.1),), True, "raise VISReg.Config.scale from 0.1 to 1"),
    (FLAT, (VICReg.Config(),), True, "raise VICReg.Config.variance from 25 to 100"),
    (FLAT, (Prediction.Config(weight=2.0), VISReg.Config(), TemporalSimilarity.Config(weight=3.0)), True,
     "lower TemporalSimilarity.Config.weight from 3 to 0.3"),
    (SAME, (VISReg.Config(),), True, "raise VISReg.Config.shape from 1 to 4"),
    (SAME, (SIGReg.Config(weight=0.01),), True, "raise SIGReg.Config.weight from 0.01 to 0.09"),
    (SAME, (PixelPrediction.Config(),), True, "add VICReg.Config()"),
    (STILL, (VICReg.Config(),), True, "raise VICReg.Config.within from 0 to 8"),
    (STILL, (VICReg.Config(within=8.0),), True, "add InverseDynamics.Config()"),
    (STILL, (VICReg.Config(within=8.0),), False, "raise VICReg.Config.within from 8 to 32"),
    (STILL, (VISReg.Config(), ClipVariance.Config(weight=0.5)), False,
     "raise ClipVariance.Config.weight from 0.5 to 2"),
    (STILL, (SIGReg.Config(), ClipVariance.Config(), InverseDynamics.Config()), True,
     "raise ClipVariance.Config.weight from 1 to 4"),
])
def test_it_is_about_the_objectives_that_the_run_has(gauges, objectives, acted, do) -> None:
    advice = advise(gauges, objectives, acted)
    assert advice is not None
    assert advice.do.startswith(do)
    assert advice.objectives != objectives
    kept = [x for x in objectives if x in advice.objectives]
    assert len(kept) >= len(objectives) - 1


def test_health_needs_none() -> None:
    objectives = (Prediction.Config(), VICReg.Config())
    assert advise({}, objectives) is None
    assert advise({"std_mean": 0.9, "effective_rank": 8.0, "rank_share": 0.5, "within_share": 0.3}, objectives) is None
    assert advise({"std_mean": 0.9, "effective_rank": 1.0, "rank_share": 1.0}, objectives) is None  # one dimension
