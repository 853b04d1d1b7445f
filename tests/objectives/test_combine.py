import msgspec
import pytest
import torch
from objective_batches import batch, signature

from steersman import objectives
from steersman.core import ConfigError, Loss, ObjectiveConfig
from steersman.core.parts import convert


def test_totals_add_and_parts_keep_their_names():
    one = Loss(torch.tensor(2.0), {"a": torch.tensor(1.0), "b": torch.tensor(5.0)})
    two = Loss(torch.tensor(3.0), {"a": torch.tensor(7.0)})
    both = objectives.combine([one, two])
    assert float(both.total) == 5.0
    assert {k: float(v) for k, v in both.parts.items()} == {"a": 1.0, "b": 5.0, "a-2": 7.0}
    named = objectives.combine([one, two], ("x", "y"))
    assert {k: float(v) for k, v in named.parts.items()} == {"x/a": 1.0, "x/b": 5.0, "y/a": 7.0}


def test_nothing_to_sum_is_refused():
    with pytest.raises(ConfigError, match="at least one objective"):
        objectives.combine([])


def test_a_sum_descends_all_of_its_objectives():
    configs = (
        objectives.Prediction.Config(weight=4.0),
        objectives.VICReg.Config(variance=16.0, within=8.0, covariance=4.0),
        objectives.TemporalSimilarity.Config(weight=0.2),
        objectives.InverseDynamics.Config(weight=4.0),
        objectives.Motion.Config(),
        objectives.SIGReg.Config(slices=8),
    )
    whole = objectives.Sum.build(configs, signature(), (4,), (4, 4, 8))
    b = batch()
    loss = whole(b)
    each = sum(float(objective(b).total.detach()) for objective in whole.objectives)
    assert set(loss.parts) == {
        "prediction", "variance", "variance_within", "covariance", "temporal", "inverse_dynamics", "motion",
        "motion_predicted", "sigreg",
    }
    assert float(loss.total.detach()) == pytest.approx(each, rel=0.1)  # not equal: the slices of SIGReg are new
    assert all(not value.requires_grad for value in loss.parts.values())
    loss.total.backward()
    assert all(p.grad is not None for p in whole.parameters())


def test_every_config_survives_json_and_unknown_fields_are_refused():
    kinds = tuple[ObjectiveConfig, ...]
    configs = tuple(
        getattr(objectives, name).Config()
        for name in ("ClipVariance", "InverseDynamics", "Motion", "PixelPrediction", "Prediction", "Reachability",
                     "SIGReg", "Straightening", "TemporalSimilarity", "VICReg", "VISReg")
    )
    assert convert(msgspec.json.decode(msgspec.json.encode(configs)), kinds) == configs
    with pytest.raises(msgspec.ValidationError, match="unknown field `wieght`"):
        convert([{"type": "prediction", "wieght": 1}], kinds)
