"""Convolutions over tokens: promises, the same everywhere, rounded where it acts and not where it learns."""

from __future__ import annotations

import msgspec
import pytest
import torch

from steersman.core import ActionSpec, Belief, ConfigError, ObservationSpec, Signature
from steersman.core.checks import check_world_model
from steersman.world_model import TokenConvolution

SIGNATURE = Signature({"image": ObservationSpec("image", (8, 8, 3))}, ActionSpec("discrete", choices=3))
CONFIG = TokenConvolution.Config(width=12, depth=1, grid=(5, 6))
SHAPE = (30, 4)


def build(config=CONFIG, signature=SIGNATURE, shape=SHAPE):
    torch.manual_seed(0)
    model = config.build(signature, shape)
    with torch.no_grad():
        for parameter in model.parameters():  # nothing may hide behind a zero initialisation
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("action", [SIGNATURE.action, ActionSpec("continuous", (-1.0, 0.0), (1.0, 2.0))])
def test_it_keeps_every_promise_of_a_world_model(action):
    signature = Signature(SIGNATURE.observations, action, ("load",))
    kept = check_world_model(build(signature=signature), action, SHAPE, exogenous=1, history=2)
    assert "tells surprise of each dimension or token" in kept


def test_what_happens_at_one_place_happens_at_any_other():
    model = build(msgspec.structs.replace(CONFIG, grid=(9, 10)), shape=(90, 4))
    with torch.no_grad():
        model.everywhere.weight.zero_()
    state, action = torch.zeros(1, 9, 10, 4), torch.tensor([[[[2]]]])
    state[0, 3, 3] = torch.tensor([1.0, -2.0, 0.5, 3.0])
    blank, here, there = (
        model.imagine(Belief(x.flatten(1, 2)), action).states[0, 0, 1].view(9, 10, 4)
        for x in (torch.zeros_like(state), state, state.roll((2, 3), (1, 2))))
    assert torch.allclose(here[2:5, 2:5], there[4:7, 5:8], atol=1e-5)
    assert not torch.allclose(here[2:5, 2:5], blank[2:5, 2:5], atol=1e-2)
    assert torch.allclose(here[6:, 6:], blank[6:, 6:], atol=1e-5)  # three places away nothing is seen


def test_the_greatest_anywhere_reaches_every_place():
    model, state = build(), torch.zeros(1, 30, 4)
    far = state.clone()
    far[0, -1] = 5.0
    action = torch.zeros(1, 1, 1, 1, dtype=torch.int64)
    near, there = (model.imagine(Belief(x), action).states[0, 0, 1, 0] for x in (state, far))
    assert float((near - there).detach().abs().max()) > 1e-4


def test_tokens_that_were_met_are_what_is_imagined_but_not_while_it_learns():
    model = build(msgspec.structs.replace(CONFIG, codes=5))
    kinds = torch.randn(3, 4, generator=torch.Generator().manual_seed(1)) * 2
    state = kinds[torch.randint(3, (2, 30), generator=torch.Generator().manual_seed(2))]
    action = torch.zeros(2, 1, 4, 1, dtype=torch.int64)
    model.train()
    learning = model.imagine(Belief(state.requires_grad_()), action).states
    learning.sum().backward()
    assert int(model.known.count) == 3
    assert float(torch.cdist(learning[:, 0, 1:].flatten(0, 2).detach(), kinds).amin(1).max()) > 0.01
    acting = model.eval().imagine(Belief(state.detach()), action).states.detach()
    assert float(torch.cdist(acting.flatten(0, 3), kinds).amin(1).max()) < 1e-6


def test_a_grid_that_does_not_fit_and_states_that_are_no_tokens_are_refused():
    with pytest.raises(ConfigError, match="a grid of 30 places"):
        TokenConvolution.Config(grid=(4, 4)).build(SIGNATURE, SHAPE)
    with pytest.raises(ConfigError, match="states of tokens"):
        TokenConvolution.Config().build(SIGNATURE, (16,))
    with pytest.raises(ConfigError, match="width and depth"):
        TokenConvolution.Config(width=0)
    assert TokenConvolution.Config().build(SIGNATURE, (16, 4)).grid == (4, 4)
