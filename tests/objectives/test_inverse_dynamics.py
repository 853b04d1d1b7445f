import pytest
import torch
from objective_batches import batch, signature

from steersman.core import ActionSpec, Latent
from steersman.objectives import InverseDynamics


def with_state(b, state):
    return type(b).rolled(b.window, Latent(state), b.starts, b.predicted)


@pytest.mark.parametrize("shape", [(4,), (3, 4)])
def test_continuous_actions_are_scaled_to_one_and_squared(shape):
    b = batch(shape=shape)
    objective = InverseDynamics.Config(weight=4.0).build(signature(), shape, None)
    loss = objective(b)
    low, high = torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 1.0])
    total = 0.0
    for i in range(6):
        for t in range(5):
            pair = torch.cat([b.latent.state[i, t].flatten(), b.latent.state[i, t + 1].flatten()])
            scaled = 2 * (b.window.actions[i, t] - low) / (high - low) - 1
            assert bool((scaled.abs() <= 1 + 1e-6).all())
            total += float((objective.head(pair) - scaled).detach().double().square().mean()) / 30
    assert float(loss.parts["inverse_dynamics"]) == pytest.approx(total, rel=1e-5)
    assert float(loss.total) == pytest.approx(4 * total, rel=1e-5)


def test_discrete_actions_are_classified():
    sig = signature(ActionSpec("discrete", choices=3))
    b = batch(sig=sig)
    objective = InverseDynamics.Config().build(sig, (4,), None)
    logits = objective.read(b.latent.state).double()
    chosen = torch.gather(logits.log_softmax(-1), 2, b.window.actions)
    assert float(objective(b).total) == pytest.approx(-float(chosen.mean()), rel=1e-5)


def test_a_constant_latent_tells_nothing_and_stays_finite():
    b = batch(state=torch.zeros(1, 6, 4), windows=1)
    loss = InverseDynamics.Config().build(signature(), (4,), None)(b)
    loss.total.backward()
    assert bool(torch.isfinite(b.latent.state.grad).all())


def test_gradient_reaches_encoder_and_head():
    b = batch()
    objective = InverseDynamics.Config().build(signature(), (4,), None)
    objective(b).total.backward()
    assert bool((b.latent.state.grad != 0).any(-1).all())
    assert all(float(p.grad.abs().sum()) > 0 for p in objective.parameters())


def test_it_learns_the_action_from_latents_that_hold_it():
    torch.manual_seed(0)
    b = batch(windows=64)
    scaled = (b.window.actions - torch.tensor([0.0, 0.5])) / torch.tensor([2.0, 0.5])
    path = torch.cat([torch.zeros(64, 1, 2), scaled.cumsum(1)], 1)
    b = with_state(b, torch.cat([path, torch.zeros(64, 6, 2)], -1))
    objective = InverseDynamics.Config(width=32).build(signature(), (4,), None)
    optimiser = torch.optim.Adam(objective.parameters(), lr=1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        loss = objective(b)
        loss.total.backward()
        optimiser.step()
    assert float(loss.total) < 0.02  # uninformed: 1/3
