from __future__ import annotations

import pytest
import torch
from objective_batches import batch, signature

from steersman.core import ConfigError, Latent, LearningBatch, ObservationSpec, Signature, Viewed, Views
from steersman.objectives import Likeness
from steersman.perception import views

VIEW = views.Flip.Config()
CUT = views.Chain.Config(views=(views.TimeCrop.Config(moments=4), VIEW, views.TimeCrop.Config(moments=2)))


def build(view=VIEW, **config):
    return Likeness.Config(**{"view": view, **config}).build(signature(), (4,), None)


def viewed(objective, shape=(4,), starts=None, moments=6):
    """A batch, and random states of a view of it that need gradients; starts: of the view's time crops."""
    g = torch.Generator().manual_seed(5)
    b = batch(windows=3, shape=shape)
    view = objective.config.view.build(signature())
    parameters = torch.rand(3, len(view.parameters), generator=g)
    for name, values in (starts or {}).items():
        parameters[:, view.parameters.index(name)] = torch.tensor(values).float()
    seen = torch.randn(3, moments, *shape, generator=g).requires_grad_()
    need = Views((objective.config.view,))
    return LearningBatch(b.window, {**b.made, need: Viewed((Latent(seen),), (parameters,))}), seen


@pytest.mark.parametrize("shape", [(4,), (3, 4)])
def test_it_is_the_mean_squared_distance_and_its_gradient_reaches_the_view_alone(shape):
    objective = build(weight=2.5, stop_gradient=True)
    b, seen = viewed(objective, shape)
    loss = objective(b)
    states, others = b.latent.state.detach().double(), seen.detach().double()
    expected = sum(float((x - y) ** 2) for x, y in zip(states.flatten(), others.flatten(), strict=True)) / seen.numel()
    assert float(loss.total.detach()) == pytest.approx(2.5 * expected, rel=1e-5)
    assert float(loss.parts["likeness"]) == pytest.approx(expected, rel=1e-5)
    loss.total.backward()
    torch.testing.assert_close(seen.grad.double(), 2.5 * 2 * (others - states) / seen.numel(), rtol=1e-5, atol=1e-7)
    assert b.latent.state.grad is None


def test_without_a_stop_both_sides_give_way_alike():
    objective = build()
    b, seen = viewed(objective)
    objective(b).total.backward()
    torch.testing.assert_close(b.latent.state.grad, -seen.grad)
    assert float(seen.grad.abs().sum()) > 0


def test_a_view_of_a_piece_is_compared_with_the_moments_of_that_piece():
    objective = build(CUT)
    b, seen = viewed(objective, starts={"0.start": [0, 1, 2], "2.start": [1, 2, 0]}, moments=2)
    expected = torch.stack([b.latent.state[row, first : first + 2] for row, first in enumerate((1, 3, 2))])
    distance = float((expected - seen).detach().square().mean())
    assert float(objective(b).total.detach()) == pytest.approx(distance, rel=1e-5)


def test_an_identical_view_costs_nothing():
    objective = build()
    b, _ = viewed(objective)
    same = Viewed((Latent(b.latent.state),), (torch.zeros(3, 2),))
    assert float(objective(LearningBatch(b.window, {**b.made, objective.needs[1]: same})).total.detach()) == 0


def test_a_view_that_the_log_cannot_give_is_refused_when_it_is_built():
    vectors = Signature({"state": ObservationSpec("vector", (2,))}, signature().action)
    with pytest.raises(ConfigError, match="use a view that fits the data"):
        Likeness.Config(view=VIEW).build(vectors, (4,), None)
