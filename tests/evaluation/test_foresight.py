"""Foresight: skill in the truth's own units, beside no change and the mean."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ActionSpec, DataError, ObservationSpec, Signature
from steersman.evaluation import Foresight, fit_levels, foresight
from steersman.perception import LinearReadout, VectorEncoder
from steersman.world_model import ResidualModel
from steersman.world_model.hierarchy import Abstraction, Hierarchy


def still_level() -> Hierarchy:
    """A level that keeps the columns and foresees no change."""
    signature = Signature({"vector": ObservationSpec("vector", (2,))}, ActionSpec("none"))
    perception = VectorEncoder.Config(keep=True, size=0).build(signature)
    model = ResidualModel.Config(width=2).build(signature, (2,))
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    return Hierarchy([Abstraction(perception, model, signature, every=2)]).eval()


def test_a_level_that_foresees_no_change_has_no_skill() -> None:
    films = torch.randn(8, 30, 2, generator=torch.Generator().manual_seed(0)).cumsum(1)
    hierarchy = still_level()
    readouts = fit_levels(hierarchy, {"vector": films}, films, ("x", "y"), LinearReadout.Config(ridge=0.0))
    found = foresight(hierarchy, readouts, {"vector": films}, films, {"x": ("x",), "all": ("x", "y")}, (0, 3, 9),
                      (1, 2, 4, 20))
    assert found[1, "x"].horizons == (2, 4, 20)  # whole steps of two rows
    for one in found.values():
        assert one.skill.abs().max() < 1e-4
        assert one.now < 1e-6
    now = torch.stack([films[:, t] for t in (0, 3, 9)], 1)
    later = torch.stack([films[:, t + 4] for t in (0, 3, 9)], 1)
    assert found[1, "all"].change[1] == pytest.approx(float((now - later).square().sum(-1).mean()), rel=1e-5)
    mean = films.flatten(0, 1).mean(0)
    assert found[1, "x"].spread[1] == pytest.approx(float((mean - later)[..., 0].square().mean()), rel=1e-4)


def test_skill_over_the_best_takes_no_credit_for_the_mean() -> None:
    found = Foresight((1, 8, 64), torch.tensor([0.5, 1.0, 1.0]), torch.tensor([0.4, 2.0, 2.0]), torch.ones(3), 0.1)
    assert found.skill.tolist() == pytest.approx([-0.25, 0.5, 0.5])
    assert found.skill_over_best.tolist() == pytest.approx([-0.25, 0.0, 0.0])
    assert found.reach() == 0
    assert found.reach(least=0.0) == 64


def test_starts_and_horizons_outside_the_films_are_refused() -> None:
    films, hierarchy = torch.zeros(2, 10, 2), still_level()
    with pytest.raises(DataError, match="horizons that end by row 9; got starts 0 to 4, horizons up to 6"):
        foresight(hierarchy, (), {"vector": films}, films, {}, (0, 4), (2, 6))
