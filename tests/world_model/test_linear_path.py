"""The linear map beside a residual predictor: fast steps equal slow ones, and a linear world is learned by it alone."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ActionSpec, Belief, ObservationSpec, Signature
from steersman.world_model import ResidualModel

WORLD = Signature({"vector": ObservationSpec("vector", (3,))}, ActionSpec("continuous", (-1.0,), (1.0,)))


def build(**options):
    torch.manual_seed(0)
    model = ResidualModel.Config(width=8, linear=True, **options).build(WORLD, (3,)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return model


@pytest.mark.parametrize("members", [1, 2])
def test_steps_written_in_place_equal_those_with_gradients(members):
    model, belief = build(members=members), Belief(torch.randn(2, 3))
    actions = torch.rand(2, 4, 5, 1) * 2 - 1
    with torch.no_grad():
        fast = model.imagine(belief, actions).states
    torch.testing.assert_close(fast, model.imagine(belief, actions).states.detach())


def test_the_map_starts_at_nothing_and_takes_part_in_training():
    torch.manual_seed(0)
    model = ResidualModel.Config(width=8, linear=True).build(WORLD, (3,))
    torch.manual_seed(0)
    plain = ResidualModel.Config(width=8).build(WORLD, (3,))
    assert model.from_state.weight.shape == (1, 11, 3)
    assert plain.from_state.weight.shape == (1, 8, 3)
    assert bool((model.from_state.weight[:, 8:] == 0).all())
    model.imagine(Belief(torch.randn(2, 3)), torch.ones(2, 1, 2, 1)).states.square().sum().backward()
    assert bool((model.from_state.weight.grad[:, 8:] != 0).any())
