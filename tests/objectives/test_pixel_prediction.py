import pytest
import torch
from objective_batches import STARTS, STEPS, batch, signature

from steersman.core import ActionSpec, ConfigError, ObservationSpec, Signature
from steersman.nn.picture_decoder import PictureDecoder, token_grid
from steersman.objectives import PixelPrediction


def build(sig=None, shape=(4,), **config):
    return PixelPrediction.Config(**{"widths": (8, 4), **config}).build(sig or signature(), shape, None)


def stacked(height, width, channels, frames):
    image = ObservationSpec("image", (height, width, channels)).stacked(frames)
    return Signature({"image": image}, ActionSpec("continuous", (-2.0, 0.0), (2.0, 1.0)))


def box(picture, size):
    """(H, W, C) -> averaged over the boxes of whole pixels that `size` divides it into."""
    height, width, c = picture.shape
    return picture.view(size[0], height // size[0], size[1], width // size[1], c).mean((1, 3))


@pytest.mark.parametrize("shape", [(4,), (3, 4), (16, 4)])
@pytest.mark.parametrize(("height", "width", "channels", "frames", "size"), [
    (16, 16, 3, 1, 0), (16, 16, 3, 1, 8), (8, 16, 1, 3, 8), (9, 23, 3, 2, 0), (5, 3, 4, 1, 0),
])
def test_equals_the_error_of_each_picture_by_itself(shape, height, width, channels, frames, size):
    torch.manual_seed(0)
    sig = stacked(height, width, channels, frames)
    b, objective = batch(windows=3, shape=shape, sig=sig), build(sig, shape, size=size, encoded=2.0, predicted=3.0)
    images = b.window.observations["image"][..., :channels].double() / 255 - 0.5
    targets = images if not size else torch.stack([torch.stack([box(x, objective.picture) for x in w]) for w in images])
    loss = objective(b)
    middle = targets.flatten(0, 1).mean(0)
    torch.testing.assert_close(objective.middle.double(), middle, atol=1e-6, rtol=1e-5)
    encoded = predicted = 0.0
    for w in range(3):
        for t in range(6):
            gap = objective.decoder(b.latent.state[w : w + 1, t])[0].double() + middle - targets[w, t]
            encoded += float(gap.square().mean().detach()) / 18
        for s, start in enumerate(STARTS):
            for i in range(1, STEPS + 1):
                decoded = objective.decoder(b.predicted.states[w : w + 1, s, i])[0].double() + middle
                gap = decoded - targets[w, start + i]
                predicted += float(gap.square().mean().detach()) / (3 * len(STARTS) * STEPS)
    assert float(loss.parts["pixels"]) == pytest.approx(encoded, rel=1e-4)
    assert float(loss.parts["pixels_predicted"]) == pytest.approx(predicted, rel=1e-4)
    assert float(loss.total.detach()) == pytest.approx(2 * encoded + 3 * predicted, rel=1e-4)


def test_only_the_newest_frame_is_asked_for():
    sig = stacked(8, 8, 3, 3)
    b, objective = batch(sig=sig), build(sig).eval()
    before = float(objective(b).total.detach())
    b.window.observations["image"][..., 3:] = 0
    assert float(objective(b).total.detach()) == before
    b.window.observations["image"][..., :3] = 0
    assert float(objective(b).total.detach()) != before


def test_without_the_predicted_term_no_future_is_needed():
    objective = build(predicted=0.0)
    assert [need.name for need in objective.needs] == ["Encoded"]
    assert set(objective(batch()).parts) == {"pixels"}


def test_it_learns_pictures_from_latents_that_hold_them():
    torch.manual_seed(0)
    place = torch.randint(0, 4, (8, 6, 2))
    image = torch.zeros(8, 6, 16, 16, 3, dtype=torch.uint8)
    for w in range(8):
        for t in range(6):
            row, column = (4 * place[w, t]).tolist()
            image[w, t, row : row + 4, column : column + 4] = 255
    state = torch.cat([torch.nn.functional.one_hot(place[..., i], 4).float() for i in range(2)], -1)
    b = batch(windows=8, state=state)
    b.window.observations["image"][:] = image
    objective = build(shape=(8,), predicted=0.0, widths=(32, 16))
    optimiser = torch.optim.Adam(objective.parameters(), lr=1e-2)
    first = float(objective(b).parts["pixels"])
    for _ in range(120):
        optimiser.zero_grad()
        objective(b).total.backward()
        optimiser.step()
    assert float(objective(b).parts["pixels"]) < 0.1 * first


def test_a_decoder_gives_pictures_of_any_size_and_starts_near_nothing():
    for latent, picture in (((4,), (1, 1, 3)), ((4,), (65, 31, 1)), ((16, 4), (64, 64, 3)), ((5, 4), (10, 70, 2))):
        out = PictureDecoder(latent, picture, (8, 4))(torch.randn(2, *latent))
        assert out.shape == (2, *picture)
        assert float(out.detach().abs().max()) < 0.3


def test_tokens_are_a_grid_where_the_proportions_say_so():
    assert token_grid(64, 64, 64) == (8, 8)
    assert token_grid(32, 48, 96) == (4, 8)
    assert token_grid(65, 64, 64) is None


@pytest.mark.parametrize(("config", "message"), [
    ({"image": "depth"}, "an image observation named 'depth'"), ({"widths": ()}, "positive widths"),
    ({"size": -1}, "at least 0"),
])
def test_impossible_settings_are_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        build(**config)
