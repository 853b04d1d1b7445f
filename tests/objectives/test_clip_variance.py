import pytest
import torch
from objective_batches import batch, signature

from steersman.core import ConfigError
from steersman.objectives import ClipVariance, SIGReg


def build(**config):
    return ClipVariance.Config(**{"slices": 32, **config}).build(signature(), (4,), None)


def transcribed(state, std, form, directions):
    """Both terms in float64, clip by clip and place by place."""
    state = state.double()
    state = state if state.dim() == 4 else state[:, :, None]
    deviations = torch.cat([
        clip[:, place] - clip[:, place].mean(0) for clip in state for place in range(state.shape[2])
    ])
    b, moments, places = state.shape[:3]
    c = deviations.T @ deviations / (b * (moments - 1) * places)
    if form == "hinge":
        spread = torch.relu(std - torch.sqrt(c.diagonal() + 1e-4)).mean()
    else:
        x = deviations @ directions.double() * (moments / (moments - 1)) ** 0.5 / std
        t = torch.linspace(0, 3, 17, dtype=torch.float64)
        rule = torch.full_like(t, 2 * 3 / 16)
        rule[[0, -1]] /= 2
        angle = x[..., None] * t
        gap = (angle.cos().mean(0) - torch.exp(-(t**2) / 2)) ** 2 + angle.sin().mean(0) ** 2
        spread = (len(x) * gap @ (rule * torch.exp(-(t**2) / 2))).mean()
    off = 0.0
    for i in range(4):
        for j in range(4):
            if i != j:
                off = off + c[i, j] ** 2 / ((c[i, i] + 1e-4) * (c[j, j] + 1e-4)) / 4
    return spread, off


@pytest.mark.parametrize("form", ["hinge", "gaussian"])
@pytest.mark.parametrize("shape", [(4,), (3, 4)])
def test_terms_and_gradients_equal_the_transcription(form, shape):
    g = torch.Generator().manual_seed(3)
    moving = 0.4 * torch.randn(6, 6, *shape, generator=g)
    b = batch(state=moving + 3 * torch.randn(6, 1, *shape, generator=g))
    directions = SIGReg.Config(slices=32).build(signature(), (4,), None).directions(4, torch.device("cpu"))
    state = b.latent.state.detach().double().requires_grad_()
    spread, off = transcribed(state, 0.7, form, directions)
    loss = build(form=form, weight=2.0, decorrelation=3.0)(b)
    assert float(loss.parts["clip_variance"]) == pytest.approx(float(spread.detach()), rel=1e-4)
    assert float(loss.parts["clip_decorrelation"]) == pytest.approx(float(off.detach()), rel=1e-4)
    loss.total.backward()
    (2 * spread + 3 * off).backward()
    torch.testing.assert_close(b.latent.state.grad.double(), state.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("form", ["hinge", "gaussian"])
def test_what_only_tells_clips_apart_is_no_variance_within_them(form):
    static = torch.randn(6, 1, 4).expand(6, 6, 4).contiguous()
    b = batch(state=static)
    loss = build(form=form)(b)
    assert float(loss.parts["clip_variance"]) > (0.65 if form == "hinge" else 10)
    loss.total.backward()
    assert bool(torch.isfinite(b.latent.state.grad).all())


def test_the_gaussian_form_is_content_with_deviations_of_its_spread():
    torch.manual_seed(0)
    state = 0.7 * torch.randn(400, 6, 4) + torch.randn(400, 1, 4)
    assert float(build(form="gaussian")(batch(windows=400, state=state)).parts["clip_variance"]) < 2
    assert float(build()(batch(windows=400, state=state)).parts["clip_variance"]) < 0.01
    wide = 1.4 * torch.randn(400, 6, 4)
    assert float(build(form="gaussian")(batch(windows=400, state=wide)).parts["clip_variance"]) > 50


def test_single_moments_and_impossible_settings_are_refused():
    b = batch()
    short = type(b).rolled(b.window, type(b.latent)(b.latent.state[:, :1]), b.starts, b.predicted)
    with pytest.raises(ConfigError, match="set `window`"):
        build()(short)
    with pytest.raises(ConfigError, match="std > 0"):
        ClipVariance.Config(std=0.0)
