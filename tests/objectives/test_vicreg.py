import pytest
import torch
from objective_batches import batch, signature

from steersman.objectives import VICReg


def build(**config):
    return VICReg.Config(**config).build(signature(), (4,), None)


def transcribed(z):
    """Bardes, Ponce & LeCun 2022, eqs. 1-4, on n × d samples: plain loops in float64."""
    z = z.double()
    n, d = z.shape
    variance = sum(max(0.0, 1 - float(torch.sqrt(z[:, j].var() + 1e-4))) for j in range(d)) / d
    c = sum(torch.outer(z[i] - z.mean(0), z[i] - z.mean(0)) for i in range(n)) / (n - 1)
    covariance = sum(float(c[i, j]) ** 2 for i in range(d) for j in range(d) if i != j) / d
    return variance, covariance


@pytest.mark.parametrize("shape", [(4,), (3, 4)])
def test_pooled_terms_equal_the_paper(shape):
    b = batch(state=0.7 * torch.randn(6, 6, *shape) + torch.randn(shape))
    loss = build()(b)
    variance, covariance = transcribed(b.latent.state.detach().reshape(-1, 4))
    assert float(loss.parts["variance"]) == pytest.approx(variance, rel=1e-5)
    assert float(loss.parts["covariance"]) == pytest.approx(covariance, rel=1e-5)
    assert float(loss.total) == pytest.approx(25 * variance + covariance, rel=1e-5)


@pytest.mark.parametrize("shape", [(4,), (3, 4)])
def test_terms_per_step_are_the_mean_over_moments(shape):
    b = batch(state=0.7 * torch.randn(6, 6, *shape))
    loss = build(per_step=True)(b)
    steps = [transcribed(b.latent.state.detach()[:, t].reshape(-1, 4)) for t in range(6)]
    assert float(loss.parts["variance"]) == pytest.approx(sum(v for v, _ in steps) / 6, rel=1e-5)
    assert float(loss.parts["covariance"]) == pytest.approx(sum(c for _, c in steps) / 6, rel=1e-5)


def test_within_term_sees_only_movement_inside_a_trajectory():
    static = torch.randn(6, 1, 4).expand(6, 6, 4)
    loss = build(variance=0.0, covariance=0.0, within=2.0, std_within=0.5)(batch(state=static))
    assert float(loss.parts["variance_within"]) == pytest.approx(0.5 - 0.01, abs=1e-5)
    moving = 0.3 * torch.randn(6, 6, 4, dtype=torch.float64)
    pooled = sum(((moving[i] - moving[i].mean(0)) ** 2).sum(0) for i in range(6)) / (6 * 5)
    expected = torch.relu(0.5 - torch.sqrt(pooled + 1e-4)).mean()
    loss = build(variance=0.0, covariance=0.0, within=2.0, std_within=0.5)(batch(state=(moving + static).float()))
    assert float(loss.parts["variance_within"]) == pytest.approx(float(expected), rel=1e-4)
    assert float(loss.total) == pytest.approx(2 * float(expected), rel=1e-4)


def test_dual_to_the_sample_contrastive_criterion():
    """Garrido et al. 2023: on double-centred, normalised embeddings the two criteria differ by norms only."""
    k = torch.randn(7, 5, dtype=torch.float64)
    k = k - k.mean(0)
    k = k - k.mean(1, keepdim=True)
    k = k / k.norm()
    sample, dimension = k @ k.T, k.T @ k
    off = lambda m: m.square().sum() - m.diagonal().square().sum()  # noqa: E731
    norms = lambda m: m.diagonal().square().sum()  # noqa: E731
    assert float(off(sample) + norms(sample)) == pytest.approx(float(off(dimension) + norms(dimension)), rel=1e-12)
    state = k.float().reshape(7, 1, 5)
    ours = build().forward(batch(state=state.expand(7, 6, 5))).parts["covariance"]
    scale = 6 / (7 * 6 - 1)  # each sample counts six times
    assert float(ours) == pytest.approx(float(off(dimension)) * scale**2 / 5, rel=1e-4)


@pytest.mark.parametrize("state", [torch.zeros(6, 6, 4), torch.zeros(1, 6, 4), torch.full((6, 6, 4), 1e4)])
def test_collapse_costs_the_hinge_and_has_finite_gradients(state):
    b = batch(windows=len(state), state=state)
    loss = build(within=1.0, per_step=True)(b)
    assert float(loss.parts["variance"]) == pytest.approx(0.99, abs=1e-3)
    loss.total.backward()
    assert bool(torch.isfinite(b.latent.state.grad).all())


def test_spread_and_independent_dimensions_cost_next_to_nothing():
    b = batch(state=3 * torch.randn(600, 6, 4))
    loss = build()(b)
    assert float(loss.parts["variance"]) == 0.0
    assert float(loss.parts["covariance"]) < 0.2  # 3 off-diagonal entries a row of variance 81 / 3600


def test_statistics_stay_in_float32_under_autocast():
    b = batch(state=1 + 0.01 * torch.randn(64, 6, 4))
    with torch.autocast("cpu", torch.bfloat16):
        inside = build()(b).parts
    outside = build()(b).parts
    assert all(torch.equal(inside[name], outside[name]) for name in outside)


def test_descending_it_decorrelates_and_spreads():
    torch.manual_seed(0)
    state = torch.randn(64, 1, 1) * torch.ones(64, 6, 4) * 0.1 + 0.01 * torch.randn(64, 6, 4)
    state.requires_grad_()
    optimiser = torch.optim.Adam([state], lr=0.05)
    objective = build()
    for _ in range(150):
        b = batch(windows=64)
        b = type(b).rolled(b.window, type(b.latent)(state), b.starts, b.predicted)
        optimiser.zero_grad()
        objective(b).total.backward()
        optimiser.step()
    flat = state.detach().flatten(0, 1)
    assert bool((flat.std(0) > 0.95).all())
    assert float((torch.corrcoef(flat.T) - torch.eye(4)).abs().max()) < 0.1
