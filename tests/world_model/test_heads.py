"""Several heads on one trunk: against a loop over heads, rows dealt while training, members that differ."""

from __future__ import annotations

import msgspec
import pytest
import torch
from torch import nn

from steersman.core import ActionSpec, ConfigError, Latent, ObservationSpec, Signature
from steersman.core.checks import check_world_model
from steersman.world_model import RecurrentModel, TransformerModel
from steersman.world_model.heads import Heads, answered, expected, last_layer
from steersman.world_model.latent_variable import Categorical, Gaussian

SIGNATURE = Signature({"state": ObservationSpec("vector", (3,))}, ActionSpec("continuous", (-1.0,), (1.0,)))
SMALL = {"width": 16, "depth": 1, "heads": 2, "head_width": 8, "hidden": 16}
KINDS = {"recurrent": RecurrentModel.Config(width=16, members=4),
         "transformer": TransformerModel.Config(members=4, **SMALL)}


def some(members=4, width=6, size=3) -> Heads:
    torch.manual_seed(0)
    last = last_layer(members, width, size).double()
    assert isinstance(last, Heads)
    return last


@pytest.mark.parametrize("features", [1, 2])
def test_heads_are_a_loop_over_heads(features):
    last = some().eval()
    hidden = torch.randn(5, 2, *([7] if features == 2 else []), 6, dtype=torch.float64)
    each = []
    for e in range(4):
        u, b = last.hidden.weight[e], last.hidden.bias[e, 0]
        h = hidden + nn.functional.silu(hidden @ u.T + b)
        each.append(h @ last.out.weight[e].T + last.out.bias[e, 0])
    every = torch.stack(each)
    change, apart = answered(last, hidden, features)
    torch.testing.assert_close(change, every.mean(0))
    torch.testing.assert_close(expected(last, hidden), every.mean(0))
    mean = every.var(0).mean(-1) if features == 1 else every.var(0).mean((-2, -1))
    torch.testing.assert_close(apart, mean.sqrt())
    for e in range(4):
        alone, nothing = answered(last.only(e), hidden, features)
        torch.testing.assert_close(alone, every[e])
        assert nothing is None


@pytest.mark.parametrize("features", [1, 2])
def test_while_training_every_row_is_answered_by_one_head_and_all_heads_share_the_work(features):
    last = some().train()
    hidden = torch.randn(10, *([7] if features == 2 else []), 6, dtype=torch.float64)
    change, apart = answered(last, hidden, features)
    assert apart is None
    every = torch.stack([answered(last.only(e), hidden, features)[0] for e in range(4)])
    same = (every == change).flatten(2).all(-1) | ((every - change).abs() < 1e-12).flatten(2).all(-1)
    assert bool((same.sum(0) == 1).all())
    assert sorted(same.sum(1).tolist()) == [2, 2, 3, 3]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variable", [None, Gaussian.Config(size=2, width=8), Categorical.Config(codes=3, width=8)])
def test_an_ensemble_of_heads_keeps_every_promise_also_with_chance(kind, variable):
    torch.manual_seed(0)
    model = msgspec.structs.replace(KINDS[kind], latent_variable=variable).build(SIGNATURE, (3,), None)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    kept = check_world_model(model, SIGNATURE.action, (3,), history=3)
    assert "moves by the mean of its members" in kept
    assert "tells how far its members disagree, (B, K, H)" in kept


@pytest.mark.parametrize("kind", KINDS)
def test_heads_of_a_trained_predictor_agree_more_where_it_was_trained(kind):
    torch.manual_seed(0)
    model = KINDS[kind].build(SIGNATURE, (3,), None).train()
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)

    def disagreement(far: float) -> float:
        model.eval()
        state = torch.rand(256, 1, 3) * 2 - 1 + far
        belief = model.begin(Latent(state), torch.zeros(256, 0, 1))
        with torch.no_grad():
            found = model.imagine(belief, torch.zeros(256, 1, 1, 1)).disagreement
        model.train()
        return float(found.mean())

    for _ in range(300):
        state, action = torch.rand(64, 1, 3) * 2 - 1, torch.rand(64, 1, 1, 1) * 2 - 1
        wanted = (2 * state[:, 0]).sin() + action[:, 0, 0]
        ahead = model.imagine(model.begin(Latent(state), torch.zeros(64, 0, 1)), action).states[:, 0, 1]
        loss = (ahead - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    inside, outside = disagreement(0.0), disagreement(5.0)
    assert inside > 0
    assert outside > (1.5 if kind == "recurrent" else 1.0) * inside  # a last LayerNorm hides how far away


def test_fewer_than_one_member_is_refused():
    with pytest.raises(ConfigError, match="members"):
        RecurrentModel.Config(members=0)
    with pytest.raises(ConfigError):
        TransformerModel.Config(members=0)
