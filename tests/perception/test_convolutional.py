import msgspec
import pytest
import torch
from pictures import observe, signature

from steersman.core import ConfigError, MismatchError, PerceptionConfig
from steersman.core.parts import convert
from steersman.nn.convolution import pictures
from steersman.perception import ConvEncoder
from steersman.perception.pooling import Keypoints

SMALL = {"widths": (4, 6, 8), "size": 5}


@pytest.mark.parametrize("size", [(16, 16, 3), (17, 30, 1), (64, 48, 4), (5, 5, 3)])
@pytest.mark.parametrize("pool", ["flatten", "mean", "tokens", "keypoints"])
def test_any_image_size_gives_the_declared_shapes(size, pool):
    sig = signature(size)
    encoder = ConvEncoder.Config(pool=pool, map_width=7, **SMALL).build(sig)
    seen = observe(sig)
    latent = encoder.encode(seen)
    assert latent.state.shape == (2, 3, *encoder.latent_shape)
    assert latent.context is None
    rows, columns = -(-size[0] // 4), -(-size[1] // 4)
    assert encoder.context_shape == (rows, columns, 7)
    assert encoder.survey(seen).shape == (2, 3, rows * columns, 7)


def test_pixels_become_centred_numbers_in_the_working_type():
    images = observe(signature((6, 5, 3)))["image"]
    expected = (images.double() / 255 - 0.5).flatten(0, 1).permute(0, 3, 1, 2)
    ours = pictures(images)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours.double(), expected, rtol=0, atol=1e-7)
    with torch.autocast("cpu", torch.bfloat16):
        half = pictures(images)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), expected, rtol=2**-8, atol=1e-7)
    padded = pictures(images, 4)
    assert padded.shape == (6, 3, 8, 8)
    assert float(padded[:, :, 6:].abs().max()) < 0.002
    torch.testing.assert_close(padded[:, :, :6, :5].double(), expected, rtol=0, atol=1e-7)


def test_frames_do_not_see_one_another():
    sig = signature((16, 16, 3))
    encoder = ConvEncoder.Config(**SMALL).build(sig)
    seen = observe(sig)["image"]
    whole = encoder.encode({"image": seen}).state
    one = encoder.encode({"image": seen[1:, 2:]}).state
    torch.testing.assert_close(whole[1:, 2:], one, rtol=1e-4, atol=1e-5)


def test_keypoints_are_places_strengths_and_a_mean():
    torch.manual_seed(0)
    found = Keypoints(5, 3)
    features = torch.randn(2, 5, 4, 6)
    y = found(features)
    assert y.shape == (2, found.size)
    maps = found.maps(features)
    for n in range(2):
        for k in range(3):
            share = (3.0 * maps[n, k]).flatten().softmax(0).view(4, 6)
            row = sum(share[i, j] * (2 * i / 3 - 1) for i in range(4) for j in range(6))
            column = sum(share[i, j] * (2 * j / 5 - 1) for i in range(4) for j in range(6))
            torch.testing.assert_close(torch.stack([row, column]), y[n, [k, 3 + k]], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close((share * maps[n, k]).sum(), y[n, 6 + k], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(y[:, 9:], features.mean((2, 3)))


def test_keypoints_learned_in_one_half_hold_in_the_other():
    """A dot is learned on the left and read on the right: weights for each place know nothing of there."""
    place = torch.rand(400, 2, generator=torch.Generator().manual_seed(0)) * 44 + 10
    grid = torch.arange(64.0)
    near = (grid[None, :, None] - place[:, :1, None]) ** 2 + (grid[None, None] - place[:, 1:, None]) ** 2
    images = (255 * torch.exp(-near / 18)).to(torch.uint8)[:, None, :, :, None]
    left, right = place[:, 1] < 32, place[:, 1] > 38
    missed = {}
    for pool in ("keypoints", "flatten"):
        torch.manual_seed(0)
        config = ConvEncoder.Config(pool=pool, patch=4, widths=(16,), size=2, keypoints=4)
        encoder = config.build(signature((64, 64, 1)))
        optimiser = torch.optim.Adam(encoder.parameters(), 1e-2)
        for _ in range(150):
            error = encoder.encode({"image": images[left]}).state[:, 0] - place[left] / 32
            optimiser.zero_grad()
            error.square().mean().backward()
            optimiser.step()
        read = 32 * encoder.encode({"image": images[right]}).state[:, 0]
        missed[pool] = float((read - place[right]).detach().abs().mean())
    assert missed["keypoints"] < 2.5 < 4 < missed["flatten"], missed


def test_flatten_knows_where_and_tokens_are_in_reading_order():
    sig = signature((32, 32, 1))
    left, low = (torch.full((1, 1, 32, 32, 1), 128, dtype=torch.uint8) for _ in range(2))
    left[:, :, 12:20, 2:10] = 255
    low[:, :, 22:30, 12:20] = 255
    flat = ConvEncoder.Config(pool="flatten", **SMALL).build(sig)
    assert float((flat.encode({"image": left}).state - flat.encode({"image": low}).state).detach().abs().max()) > 1e-3
    tokens = ConvEncoder.Config(pool="tokens", patch=4, widths=(4,), blocks=0, size=5).build(sig)
    empty = tokens.encode({"image": torch.full_like(left, 128)}).state
    changed = (tokens.encode({"image": low}).state - empty).detach()[0, 0].abs().sum(-1) > 1e-5
    rows = changed.view(8, 8)
    assert bool(rows[5:8, 3:5].all())
    assert int(changed.sum()) == 6


def test_gradients_reach_every_weight():
    sig = signature((16, 16, 3))
    encoder = ConvEncoder.Config(map_width=3, **SMALL).build(sig)
    for p in encoder.parameters():
        torch.nn.init.normal_(p, std=0.1)
    seen = observe(sig)
    (encoder.encode(seen).state.square().sum() + encoder.survey(seen).square().sum()).backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in encoder.parameters())


def test_another_size_or_type_is_refused():
    encoder = ConvEncoder.Config(**SMALL).build(signature((16, 16, 3)))
    with pytest.raises(MismatchError, match=r"an image 'image' of uint8 and shape \(…, 16, 16, 3\).*got torch\.uint8"):
        encoder.encode(observe(signature((16, 20, 3))))
    with pytest.raises(MismatchError, match=r"got torch\.float32"):
        encoder.encode({"image": torch.zeros(1, 1, 16, 16, 3)})
    with pytest.raises(MismatchError, match="got camera"):
        encoder.encode({"camera": torch.zeros(1, 1, 16, 16, 3, dtype=torch.uint8)})


@pytest.mark.parametrize("settings", [{"widths": ()}, {"patch": 0}, {"size": 0}, {"widths": (4, 0)}, {"blocks": -1}])
def test_impossible_sizes_are_refused(settings):
    with pytest.raises(ConfigError, match="positive sizes"):
        ConvEncoder.Config(**settings)


def test_no_image_or_two_are_refused():
    with pytest.raises(ConfigError, match="exactly one image observation; got images: none"):
        ConvEncoder.Config().build(signature(speed=2))
    with pytest.raises(ConfigError, match="got images: image, image2"):
        ConvEncoder.Config().build(signature((8, 8, 3), (8, 8, 3)))
    assert ConvEncoder.Config(image="image2").build(signature((8, 8, 3), (8, 8, 1))).shape == (8, 8, 1)


def test_its_config_is_one_of_the_catalogue():
    config = ConvEncoder.Config(**SMALL)
    assert convert(msgspec.json.decode(msgspec.json.encode(config)), PerceptionConfig) == config


def test_a_moment_is_one_piece():
    assert ConvEncoder.Config(pool="tokens").build(signature((16, 16, 3))).token_grid is None
