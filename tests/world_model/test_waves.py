"""Fourier features beside a residual predictor: a loop's numbers, every path the same, an edge that is learned."""

from __future__ import annotations

import math

import pytest
import torch

from steersman.core import ActionSpec, Belief, ConfigError, ObservationSpec, Signature
from steersman.world_model import ResidualModel
from steersman.world_model.residual import fourier

WORLD = Signature({"vector": ObservationSpec("vector", (1,))}, ActionSpec("continuous", (-1.0,), (1.0,)))


def build(waves, members=1):
    torch.manual_seed(0)
    return ResidualModel.Config(width=32, linear=True, waves=waves, members=members).build(WORLD, (1,))


def test_features_are_sines_and_cosines_of_octaves():
    state = torch.tensor([[0.3, -1.2]])
    angles = [math.pi / 2 * f * s for f in (1, 2, 4) for s in (0.3, -1.2)]
    wanted = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    assert fourier(state, 3)[0].tolist() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("members", [1, 2])
def test_every_path_gives_the_same(members):
    model, belief = build(5, members).eval(), Belief(torch.randn(3, 1))
    actions = torch.rand(3, 4, 5, 1) * 2 - 1
    with torch.no_grad():
        plain = model.imagine(belief, actions).states
        branched = model.branch(belief, belief.state[:, None].expand(-1, 4, -1), actions).states
    torch.testing.assert_close(plain, model.imagine(belief, actions).states.detach())
    torch.testing.assert_close(plain, branched)
    assert model.as_perceptron(actions[0, 0, :1]) is None


def test_an_edge_is_learned_that_a_plain_perceptron_blurs():
    def error(waves):
        model = build(waves)
        optimiser = torch.optim.Adam(model.parameters(), 5e-3)
        generator = torch.Generator().manual_seed(1)
        for _ in range(250):
            state = 3 * torch.rand(256, 1, generator=generator) - 1.5
            wanted = state + 0.2 * ((state * 4).floor() % 2)
            loss = (model.imagine(Belief(state), torch.zeros(256, 1, 1, 1)).states[:, 0, 1] - wanted).square().mean()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        return float(loss.detach())

    assert error(5) < 0.4 * error(0)


def test_waves_are_bounded_and_for_vectors():
    with pytest.raises(ConfigError, match="waves"):
        ResidualModel.Config(waves=13)
    with pytest.raises(ConfigError, match="tokens"):
        ResidualModel.Config(waves=3).build(WORLD, (4, 8))
