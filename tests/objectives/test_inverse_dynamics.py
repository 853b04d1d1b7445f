import pytest
import torch
from objective_batches import batch, signature

from steersman.core import ActionSpec, ConfigError, Latent
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


def chunk_signature(kind):
    single = ActionSpec("discrete", choices=3) if kind == "discrete" else ActionSpec(
        "continuous", (-2.0, 0.0), (2.0, 1.0))
    return signature(single.chunked(3))


def test_a_chunk_of_choices_is_told_action_by_action():
    sig = chunk_signature("discrete")
    b, objective = batch(sig=sig), InverseDynamics.Config().build(sig, (4,), None)
    logits = objective.read(b.latent.state).double()
    assert logits.shape == (6, 5, 9)
    total = 0.0
    for i in range(6):
        for t in range(5):
            number = int(b.window.actions[i, t])
            digits = (number // 9, number // 3 % 3, number % 3)  # the first one leads
            for j, digit in enumerate(digits):
                total -= float(logits[i, t, 3 * j : 3 * j + 3].log_softmax(-1)[digit].detach()) / (6 * 5 * 3)
    assert float(objective(b).total.detach()) == pytest.approx(total, rel=1e-5)


def test_a_chunk_of_amounts_is_all_of_their_numbers():
    sig = chunk_signature("continuous")
    b, objective = batch(sig=sig), InverseDynamics.Config().build(sig, (4,), None)
    low, high = torch.tensor([-2.0, 0.0] * 3), torch.tensor([2.0, 1.0] * 3)
    scaled = 2 * (b.window.actions - low) / (high - low) - 1
    read = objective.read(b.latent.state)
    assert read.shape == (6, 5, 6)
    assert float(objective(b).total.detach()) == pytest.approx(float((read - scaled).square().mean()), rel=1e-5)


@pytest.mark.parametrize(("before", "after"), [(1, 1), (0, 2), (2, 1)])
def test_more_moments_are_those_around_the_action(before, after):
    b = batch()
    objective = InverseDynamics.Config(before=before, after=after).build(signature(), (4,), None)
    low, high = torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 1.0])
    gaps = []
    for i in range(6):
        for t in range(before, 6 - after):
            seen = b.latent.state[i, t - before : t + after + 1].flatten()
            told = 2 * (b.window.actions[i, t] - low) / (high - low) - 1
            gaps.append((objective.head(seen).detach() - told).square())
    assert float(objective(b).total.detach()) == pytest.approx(float(torch.stack(gaps).mean()), rel=1e-5)


def test_a_force_that_shows_in_the_change_of_a_change_needs_a_moment_before():
    torch.manual_seed(0)
    b = batch(windows=64)
    force = (b.window.actions[..., :1]) / 2
    speed = torch.cat([torch.randn(64, 1, 1), force], 1).cumsum(1)
    place = torch.cat([torch.randn(64, 1, 1), speed[:, 1:]], 1).cumsum(1)  # the place alone is seen, and no speed
    errors = {}
    for before in (0, 1):
        torch.manual_seed(0)
        seen = with_state(b, torch.cat([place / 3, torch.zeros(64, 6, 3)], -1))
        objective = InverseDynamics.Config(width=32, before=before).build(signature(), (4,), None)
        optimiser = torch.optim.Adam(objective.parameters(), lr=2e-2)
        for _ in range(200):
            optimiser.zero_grad()
            loss = objective(seen)
            loss.total.backward()
            optimiser.step()
        low, high = torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 1.0])
        read = objective.read(seen.latent.state).detach()
        told = 2 * (b.window.actions[:, before:] - low) / (high - low) - 1
        errors[before] = float((read - told)[..., 0].square().mean())
    assert errors[1] < 0.03 < 0.1 < errors[0]


def test_windows_too_short_for_its_moments_are_refused():
    b = batch()
    with pytest.raises(ConfigError, match="windows of at least 7 steps"):
        InverseDynamics.Config(before=5, after=2).build(signature(), (4,), None)(b)
    with pytest.raises(ConfigError, match="after >= 1"):
        InverseDynamics.Config(after=0)
