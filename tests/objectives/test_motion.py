import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_batches import STARTS, batch, signature
from torch.nn import functional as F

from steersman.core import ConfigError, Imagined, Latent, LearningBatch, MismatchError, ObservationSpec, Signature
from steersman.objectives import Motion
from steersman.objectives.motion import motion_energy


def build(sig=None, grid=(4, 4), **config):
    return Motion.Config(**config).build(sig or signature(), (4,), (*grid, 8))


def tents(size, cells):
    """(size, cells) float64: linear interpolation between cell centres, one place at a time."""
    out = torch.zeros(size, cells, dtype=torch.float64)
    for i in range(size):
        place = min(max((i + 0.5) * cells / size - 0.5, 0.0), cells - 1.0)
        low = min(int(place), max(cells - 2, 0))
        out[i, low] += 1 - (place - low)
        if cells > 1:
            out[i, low + 1] += place - low
    return out


def transcribed_energy(images, grid, threshold, shrink, pooling):
    """Plain float64: average, difference, threshold, the smaller of the change before and after, pooling."""
    x = images.double().permute(0, 1, 4, 2, 3) / 255
    small = F.avg_pool2d(x.flatten(0, 1), shrink).unflatten(0, x.shape[:2])
    moved = ((small[:, 1:] - small[:, :-1]).abs().amax(2) - threshold).clamp(min=0)
    last = images.shape[1] - 1
    both = [torch.minimum(moved[:, max(t - 1, 0)], moved[:, min(t, last - 1)]) for t in range(last + 1)]
    still = torch.stack(both, 1)
    if pooling == "boxes":
        return F.adaptive_avg_pool2d(still, grid).flatten(2)
    rows, columns = tents(still.shape[2], grid[0]), tents(still.shape[3], grid[1])
    return torch.einsum("bthw,hi,wj->btij", still, rows, columns).flatten(2)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(6, 23), width=st.integers(6, 23), channels=st.integers(1, 4), shrink=st.integers(1, 3),
    steps=st.integers(2, 5), pooling=st.sampled_from(["tents", "boxes"]), seed=st.integers(0, 99),
)
def test_energy_equals_the_float64_transcription(height, width, channels, shrink, steps, pooling, seed):
    g = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (2, steps, height, width, channels), generator=g, dtype=torch.uint8)
    grid = (max(1, height // shrink // 2), max(1, width // shrink // 3))
    ours = motion_energy(images, grid, 0.1, shrink, tents=pooling == "tents").double()
    torch.testing.assert_close(ours, transcribed_energy(images, grid, 0.1, shrink, pooling), atol=1e-5, rtol=1e-5)


def test_the_widest_shrink_of_16_bits_and_the_next_do_not_overflow():
    images = torch.zeros(1, 2, 24, 24, 1, dtype=torch.uint8)
    images[:, 1] = 255
    for shrink in (11, 12):
        torch.testing.assert_close(motion_energy(images, (2, 2), 0.25, shrink, tents=False),
                                   torch.full((1, 2, 4), 0.75))


def test_loss_is_the_cross_entropy_to_the_normalised_energy():
    b = batch()
    images = b.window.observations["image"]
    smooth, sharp = (transcribed_energy(images, (4, 4), 0.15, 2, pooling) for pooling in ("tents", "boxes"))
    smooth, sharp = (e / e.sum(-1, keepdim=True) for e in (smooth, sharp))
    assert float((smooth - sharp).abs().max()) > 1e-3  # the two maps differ: which one is used can be told
    encoded = -(smooth * b.latent.attention.double().log_softmax(-1)).sum(-1).mean().detach()
    rows = [sharp[:, start : start + 3] for start in STARTS]
    predicted = -(torch.stack(rows, 1) * b.predicted.attention.double().log_softmax(-1)).sum(-1).mean().detach()
    loss = build()(b)
    assert float(loss.parts["motion"]) == pytest.approx(float(encoded), rel=1e-5)
    assert float(loss.parts["motion_predicted"]) == pytest.approx(float(predicted), rel=1e-5)
    assert float(loss.total.detach()) == pytest.approx(3 * float(encoded) + float(predicted), rel=1e-5)
    loss.total.backward()
    assert float(b.latent.attention.grad.abs().sum()) > 0
    assert float(b.predicted.attention.grad.abs().sum()) > 0


def moving_dot(windows=4, steps=6):
    """A bright pixel pair that moves one cell of a 4×4 grid a step, along the rows of a 16×16 image."""
    images = torch.zeros(windows, steps, 16, 16, 3, dtype=torch.uint8)
    cells = torch.zeros(windows, steps, dtype=torch.int64)
    for w in range(windows):
        for t in range(steps):
            row, column = (w % 4), (t % 4)
            images[w, t, 4 * row : 4 * row + 2, 4 * column : 4 * column + 2] = 255
            cells[w, t] = 4 * row + column
    return images, cells


def test_the_energy_is_where_the_mover_is_and_nowhere_else():
    images, cells = moving_dot()
    energy = motion_energy(images, (4, 4), tents=False)
    inner = slice(1, -1)  # at the ends, one neighbour only: the mover's cell ties with the other
    assert torch.equal(energy[:, inner].argmax(-1), cells[:, inner])
    assert int((energy[:, inner] > 0).sum()) == cells[:, inner].numel()  # a sum would smear it over three cells


def test_with_tents_the_mean_position_of_the_energy_is_linear_in_the_movers():
    size, grid = 32, 8
    columns = torch.arange(4, 28, 2)
    images = torch.zeros(len(columns), 3, size, size, 3, dtype=torch.uint8)
    for i, column in enumerate(columns):  # the mover comes from above and goes on below, in one column
        for t, row in enumerate((6, 14, 22)):
            images[i, t, row : row + 2, column : column + 2] = 255
    means = {}
    for tents in (True, False):
        energy = motion_energy(images, (grid, grid), tents=tents)[:, 1].unflatten(1, (grid, grid)).sum(1)
        means[tents] = (energy * torch.arange(grid)).sum(1) / energy.sum(1)
    steps = means[True].diff()
    torch.testing.assert_close(steps, torch.full_like(steps, 2 * grid / size))
    assert float((means[False].diff() - 2 * grid / size).abs().max()) > 0.1  # boxes jump from cell to cell


def test_still_moments_say_nothing_and_a_still_window_is_finite():
    b = batch()
    still = torch.zeros_like(b.window.observations["image"])
    object.__setattr__(b.window, "observations", {"image": still})
    loss = build()(b)
    assert float(loss.total) == 0.0
    loss.total.backward()
    assert float(b.latent.attention.grad.abs().sum()) == 0.0
    blink = still.clone()
    blink[0, 3] = 255  # moment 3 of window 0 alone: what comes and goes at once, everywhere alike
    object.__setattr__(b.window, "observations", {"image": blink})
    flat = Latent(b.latent.state, None, torch.zeros_like(b.latent.attention))
    loss = build(predicted_weight=0.0)(LearningBatch.rolled(b.window, flat, b.starts, b.predicted))
    assert float(loss.parts["motion"]) == pytest.approx(math.log(16), rel=1e-5)


def test_noise_below_the_threshold_is_not_motion():
    g = torch.Generator().manual_seed(0)
    images = (128 + 5 * torch.randn(4, 6, 16, 16, 3, generator=g)).to(torch.uint8)
    assert float(motion_energy(images, (4, 4)).sum()) == 0.0


def test_a_term_without_weight_needs_no_attention():
    b = batch()
    bare = LearningBatch.rolled(b.window, Latent(b.latent.state), b.starts, Imagined(b.predicted.states))
    assert build(weight=0.0, predicted_weight=0.0)(bare).parts == {}
    with pytest.raises(MismatchError, match="got none; use one that reads a scene map"):
        build()(bare)


def test_the_grid_is_the_maps():
    assert build(grid=(2, 8)).grid == (2, 8)


@pytest.mark.parametrize(
    ("config", "context", "message"),
    [
        ({"image": "depth"}, (4, 4, 8), "an image observation named 'depth'; got images: image"),
        ({}, None, "a perception with a scene map"),
        ({"grid": (2, 8)}, (4, 4, 8), "the map's grid"),
        ({"shrink": 5}, (4, 4, 8), "shrink from 1 to 4"),
    ],
)
def test_what_does_not_fit_is_refused_when_built(config, context, message):
    with pytest.raises(ConfigError, match=message):
        Motion.Config(**config).build(signature(), (4,), context)


def test_two_images_need_a_name():
    image = ObservationSpec("image", (16, 16, 3))
    sig = Signature({"left": image, "right": image}, signature().action)
    with pytest.raises(ConfigError, match="exactly one image observation; got images: left, right"):
        build(sig)
    assert build(sig, image="right").image == "right"
