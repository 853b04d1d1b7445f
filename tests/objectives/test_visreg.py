import pytest
import torch
from objective_batches import batch, signature

from steersman.core import ConfigError
from steersman.objectives import SIGReg, VISReg
from steersman.objectives.visreg import gaussian_quantiles


def build(**config):
    return VISReg.Config(**{"slices": 32, **config}).build(signature(), (4,), None)


def transcribed(x, directions):
    """The three terms of one population (n, D) in float64, a loop over slices."""
    x, directions = x.double(), directions.double()
    middle, n = x.mean(0), len(x)
    sigma = ((x - middle) ** 2).mean(0).sqrt()
    quantiles = 2**0.5 * torch.erfinv(2 * torch.arange(1, n + 1, dtype=torch.float64) / (n + 1) - 1)
    unit = (x - middle) / sigma.clamp(min=0.1)
    shape = sum(((unit @ u).sort().values - quantiles).square().mean() for u in directions.T) / directions.shape[1]
    return (1 - sigma).square().mean(), shape, middle.square().mean()


@pytest.mark.parametrize("per_step", [True, False])
@pytest.mark.parametrize("shape", [(4,), (3, 4)])
def test_terms_and_gradients_equal_the_transcription(per_step, shape):
    g = torch.Generator().manual_seed(3)
    b = batch(state=0.5 + 0.7 * torch.randn(6, 6, *shape, generator=g))
    objective = build(per_step=per_step, weight=2.0, scale=3.0, shape=5.0, centre=7.0)
    directions = SIGReg.Config(slices=32).build(signature(), (4,), None).directions(4, torch.device("cpu"))
    state = b.latent.state.detach().double().requires_grad_()
    groups = [state[:, t].reshape(-1, 4) for t in range(6)] if per_step else [state.reshape(-1, 4)]
    terms = [transcribed(group, directions) for group in groups]
    scale, form, centre = (sum(term[i] for term in terms) / len(terms) for i in range(3))
    total = 2 * (3 * scale + 5 * form + 7 * centre)
    loss = objective(b)
    for part, expected in (("scale", scale), ("shape", form), ("centre", centre)):
        assert float(loss.parts[part]) == pytest.approx(float(expected.detach()), rel=1e-4), part
    loss.total.backward()
    total.backward()
    torch.testing.assert_close(b.latent.state.grad.double(), state.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("spread", [0.0, 1e-3])
def test_its_gradient_pulls_apart_what_has_collapsed_where_that_of_sigreg_vanishes(spread):
    g = torch.Generator().manual_seed(0)
    state = spread * torch.randn(64, 6, 4, generator=g)
    size = {}
    for name, objective in (("visreg", build()), ("sigreg", SIGReg.Config(slices=32, weight=1.0).build(
            signature(), (4,), None))):
        b = batch(windows=64, state=state)
        objective(b).total.backward()
        size[name] = float(b.latent.state.grad.norm())
        assert bool(torch.isfinite(b.latent.state.grad).all())
    assert size["visreg"] > 0.1
    assert size["sigreg"] < max(1e-6, 20 * spread)


def test_a_standard_gaussian_costs_next_to_nothing_and_a_ring_its_shape():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 1, 2, generator=g)
    ring = 2**0.5 * x / x.norm(dim=-1, keepdim=True)
    normal, ringed = (build()(batch(windows=2000, state=y.expand(-1, 6, -1).contiguous())) for y in (x, ring))
    assert float(normal.total.detach()) < 0.02
    assert float(ringed.parts["scale"]) < 0.01
    assert float(ringed.parts["shape"]) > 0.03


def test_quantiles_are_those_of_the_normal_distribution():
    torch.testing.assert_close(gaussian_quantiles(3, torch.device("cpu")), torch.tensor([-0.6744898, 0.0, 0.6744898]))


def test_slices_go_on_after_a_resume():
    b, whole = batch(), build()
    values = [float(whole(b).total.detach()) for _ in range(3)]
    assert len(set(values)) == 3
    resumed = build()
    first = build()
    first(b)
    resumed.load_state_dict(first.state_dict())
    assert [float(resumed(b).total.detach()) for _ in range(2)] == values[1:]
    whole.eval()
    assert float(whole(b).total.detach()) == float(whole(b).total.detach())


def test_descending_it_from_a_point_gives_a_gaussian():
    torch.manual_seed(0)
    state = (1e-3 * torch.randn(96, 1, 4)).requires_grad_()
    optimiser, objective = torch.optim.Adam([state], lr=0.05), build()
    b = batch(windows=96, state=torch.zeros(96, 6, 4))
    b = type(b).rolled(b.window, type(b.latent)(state), b.starts, b.predicted)
    for _ in range(150):
        optimiser.zero_grad()
        objective(b).total.backward()
        optimiser.step()
    flat = state.detach().flatten(0, 1)
    assert bool((flat.std(0) - 1).abs().max() < 0.1)
    assert float((torch.corrcoef(flat.T) - torch.eye(4)).abs().max()) < 0.2


def test_latents_on_fewer_dimensions_than_there_are_come_back_from_a_collapse():
    torch.manual_seed(0)
    flat, up = torch.randn(96, 3), torch.randn(3, 8) / 3**0.5
    scale = torch.tensor(-3.0, requires_grad=True)  # all that can change: the spread, 5% at first
    optimiser, objective = torch.optim.Adam([scale], lr=0.1), VISReg.Config(slices=32).build(signature(), (8,), None)
    b = batch(windows=96, state=torch.zeros(96, 6, 8), sig=signature(image=(1, 1, 1)))
    for _ in range(60):
        state = (scale.exp() * flat @ up)[:, None]
        optimiser.zero_grad()
        objective(type(b).rolled(b.window, type(b.latent)(state), b.starts, b.predicted)).total.backward()
        optimiser.step()
    assert float((scale.exp() * flat @ up).detach().std(0).mean()) > 0.6


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="slices >= 1"):
        VISReg.Config(slices=0)
