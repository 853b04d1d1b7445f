import pytest
import torch
from objective_batches import batch, signature

from steersman.core import ConfigError
from steersman.objectives import Straightening


def build(**config):
    return Straightening.Config(**{"weight": 1.0, **config}).build(signature(), (4,), None)


def transcribed(state, stop):
    """A loop over windows and steps, float64."""
    total = 0.0
    for path in state.flatten(2):
        for t in range(len(path) - 2):
            first, second = path[t + 1] - path[t], path[t + 2] - path[t + 1]
            second = second.detach() if stop else second
            total = total + 1 - (first * second).sum() / (first.norm() * second.norm())
    return total / (len(state) * (state.shape[1] - 2))


@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("shape", [(4,), (3, 4)])
def test_value_and_gradient_equal_the_transcription(shape, stop):
    b = batch(shape=shape)
    state = b.latent.state.detach().double().requires_grad_()
    expected = transcribed(state, stop)
    loss = build(stop_gradient=stop, weight=0.5)(b)
    assert float(loss.parts["straightening"]) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert float(loss.total.detach()) == pytest.approx(0.5 * float(expected.detach()), rel=1e-5)
    loss.total.backward()
    (0.5 * expected).backward()
    torch.testing.assert_close(b.latent.state.grad.double(), state.grad, rtol=1e-4, atol=1e-6)


def test_straight_is_free_and_there_and_back_costs_two():
    line = torch.arange(6.0)[:, None] * torch.tensor([1.0, -2.0, 0.0, 3.0])
    there = torch.tensor([0.0, 1.0])[torch.arange(6) % 2][:, None].expand(6, 4)
    for path, cost in ((line, 0.0), (there, 2.0)):
        assert float(build()(batch(windows=2, state=path.expand(2, 6, 4).contiguous())).total.detach()) == (
            pytest.approx(cost, abs=1e-5))


def test_moments_in_which_nothing_moves_have_no_say_and_gradients_stay_finite():
    g = torch.Generator().manual_seed(0)
    moving = torch.randn(3, 6, 4, generator=g)
    still = torch.ones(5, 6, 4)
    alone = build()(batch(windows=3, state=moving)).parts["straightening"]
    b = batch(windows=8, state=torch.cat([moving, still]))
    loss = build()(b)
    assert float(loss.parts["straightening"]) == pytest.approx(float(alone), rel=1e-6)
    loss.total.backward()
    assert bool(torch.isfinite(b.latent.state.grad).all())
    assert float(b.latent.state.grad[3:].abs().sum()) == 0.0
    nothing = build()(batch(windows=5, state=still))
    assert float(nothing.total.detach()) == 0.0


def test_windows_of_one_step_are_refused():
    b = batch()
    short = type(b).rolled(b.window, type(b.latent)(b.latent.state[:, :2]), b.starts, b.predicted)
    with pytest.raises(ConfigError, match="windows of at least 2 steps"):
        build()(short)
