import pytest
import torch
from objective_batches import batch, signature

from steersman.objectives import TemporalSimilarity


@pytest.mark.parametrize("shape", [(4,), (3, 4)])
def test_equals_the_mean_squared_difference_of_neighbours(shape):
    b = batch(shape=shape)
    s = b.latent.state.double()
    expected = sum(((s[:, t + 1] - s[:, t]) ** 2).mean() for t in range(5)) / 5
    loss = TemporalSimilarity.Config(weight=0.2).build(signature(), shape, None)(b)
    assert float(loss.parts["temporal"]) == pytest.approx(float(expected), rel=1e-6)
    assert float(loss.total) == pytest.approx(0.2 * float(expected), rel=1e-6)


def test_a_still_latent_costs_nothing_and_gradients_flow_otherwise():
    objective = TemporalSimilarity.Config().build(signature(), (4,), None)
    assert float(objective(batch(state=torch.ones(2, 6, 4))).total) == 0.0
    b = batch()
    objective(b).total.backward()
    assert bool((b.latent.state.grad != 0).all())
