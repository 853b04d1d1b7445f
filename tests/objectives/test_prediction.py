import pytest
import torch
from objective_batches import STARTS, STEPS, batch, signature

from steersman.core import ConfigError, Imagined, Latent
from steersman.core.learning import LearningBatch
from steersman.objectives import Prediction


def build(shape=(4,), **config):
    return Prediction.Config(**config).build(signature(), shape, None)


def huber(x):
    return torch.where(x.abs() < 1, x * x / 2, x.abs() - 0.5)


@pytest.mark.parametrize("shape", [(4,), (3, 4)])
@pytest.mark.parametrize(("distance", "rho"), [("mse", torch.square), ("l1", torch.abs), ("smooth_l1", huber)])
def test_equals_a_loop_over_windows_starts_and_steps(shape, distance, rho):
    b = batch(shape=shape)
    total = 0.0
    for i in range(6):
        for j, start in enumerate(STARTS):
            for k in range(1, STEPS + 1):
                gap = b.predicted.states[i, j, k].double() - b.latent.state[i, start + k].double()
                total += float(rho(gap).mean()) / (6 * len(STARTS) * STEPS)
    loss = build(shape, distance=distance, weight=3.0)(b)
    assert float(loss.parts["prediction"]) == pytest.approx(total, rel=1e-6)
    assert float(loss.total) == pytest.approx(3 * total, rel=1e-6)


def test_gradient_reaches_targets_unless_stopped():
    free, stopped = batch(), batch()
    build()(free).total.backward()
    assert float(free.latent.state.grad.abs().sum()) > 0
    build(stop_gradient=True)(stopped).total.backward()
    assert stopped.latent.state.grad is None
    assert float(stopped.predicted.states.grad.abs().sum()) > 0


def test_bf16_latents_are_compared_in_float32():
    b = batch()
    half = b.map(lambda x: x.bfloat16() if x.is_floating_point() else x)
    loss = build()(half).total
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(build()(b).total), rel=2e-2)


def test_errors_count_in_units_of_what_a_step_changes():
    b = batch()
    predicted, targets = b.predicted.states.double().detach(), b.targets().double().detach()
    path = torch.cat([predicted[:, :, :1], targets], 2)
    change = path.diff(dim=2).square().flatten(0, 2).mean(0).sqrt()
    wanted = ((predicted[:, :, 1:] - targets) / change).square().mean()
    loss = build(per_change=True)(b)
    assert float(loss.parts["prediction"]) == pytest.approx(float(wanted), rel=1e-5)
    assert float(loss.parts["prediction"]) != pytest.approx(float(build()(b).parts["prediction"]), rel=1e-2)


def test_tokens_that_change_in_their_rollout_count_as_many_times_more_as_a_loop_says():
    g = torch.Generator().manual_seed(3)
    start = torch.randn(2, 3, 5, 4, generator=g)
    states = start[:, :, None].repeat(1, 1, 3, 1, 1)
    states[0, 0, 2, 1] += 1.0
    states[1, 2, 1:, 4] -= 2.0
    predicted = states + 0.1 * torch.randn(states.shape, generator=g)
    predicted[:, :, 0] = states[:, :, 0]
    wanted = 0.0
    for b, s, token in [(b, s, token) for b in range(2) for s in range(3) for token in range(5)]:
        moves = bool((states[b, s, :, token] != states[b, s, 0, token]).any())
        error = (predicted[b, s, 1:, token] - states[b, s, 1:, token]).square().sum()
        wanted += float(error) * (1 + 7 * moves)
    seen = states.flatten(1, 2)  # rollouts begin at rows 0, 3 and 6
    made = LearningBatch.rolled(batch().window, Latent(seen), torch.tensor([0, 3, 6]), Imagined(predicted))
    found = float(build(changed=7.0)(made).parts["prediction"])
    assert found == pytest.approx(wanted / (2 * 3 * 2 * 5 * 4), rel=1e-5)


def test_noise_that_all_tokens_have_is_no_change():
    g = torch.Generator().manual_seed(4)
    states = torch.randn(2, 3, 1, 50, 4, generator=g) + 0.05 * torch.randn(2, 3, 3, 50, 4, generator=g)
    still = LearningBatch.rolled(
        batch().window, Latent(states.flatten(1, 2)), torch.tensor([0, 3, 6]), Imagined(states * 1.1))
    plain = float(build()(still).parts["prediction"])
    assert float(build(changed=9.0)(still).parts["prediction"]) == pytest.approx(plain, rel=0.01)


def test_a_weight_of_change_below_nothing_is_refused():
    with pytest.raises(ConfigError, match="changed"):
        Prediction.Config(changed=-1.0)
