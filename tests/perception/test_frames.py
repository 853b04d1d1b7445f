"""Moments of several pictures: the newest, and its differences to the others, whatever reads them."""

from __future__ import annotations

import msgspec
import pytest
import torch
from pictures import observe, signature, stacked
from torch import nn
from torch.nn import functional as F

from steersman.core import ConfigError, MismatchError
from steersman.core.parts import PerceptionConfig, convert
from steersman.nn.batch_norm import BatchNorm
from steersman.nn.convolution import difference_weight
from steersman.perception import ConvEncoder, ViTEncoder

CONV = ConvEncoder.Config(widths=(4, 6), size=5, activation="relu", projector=7)
VIT = ViTEncoder.Config(patch=4, width=12, depth=2, heads=3, hidden=16, size=5, projector=7, pool="mean")
SIGNATURE = stacked(signature((16, 12, 2)), 3)


def differences(images, gain):
    """(…, H, W, 3·2) uint8 -> the newest picture and its differences to both others, in 0..1, picture by picture."""
    newest, *older = images.float().div(255).chunk(3, -1)
    return torch.cat([newest - 0.5, *(gain * (newest - x) for x in older)], -1)


@pytest.mark.parametrize("gain", [4.0, 0.5])
def test_the_first_convolution_reads_the_newest_picture_and_differences(gain):
    encoder = msgspec.structs.replace(CONV, difference_gain=gain).build(SIGNATURE).eval()
    images = observe(SIGNATURE)["image"]
    x = differences(images, gain).flatten(0, 1).permute(0, 3, 1, 2)
    expected = encoder.project(encoder.norm(encoder.stages(x).permute(0, 2, 3, 1)).flatten(1))
    torch.testing.assert_close(encoder.encode({"image": images}).state.flatten(0, 1), expected, rtol=1e-4, atol=1e-5)


def test_patches_of_a_transformer_read_them_too():
    encoder = VIT.build(SIGNATURE).eval()
    images = observe(SIGNATURE)["image"]
    x = differences(images, 4.0).reshape(6, 4, 4, 3, 4, 6).transpose(2, 3).reshape(6, 12, 96)
    expected = encoder.project(encoder._attended(encoder.embed(x) + encoder.positions, slice(0, None), None).mean(1))
    torch.testing.assert_close(encoder.encode({"image": images}).state.flatten(0, 1), expected, rtol=1e-4, atol=1e-5)
    every = torch.arange(12).expand(6, -1)
    tokens = encoder.encode_visible({"image": images.flatten(0, 1)}, every)
    torch.testing.assert_close(
        tokens.flatten(0, 1), encoder.project(encoder._attended(encoder.embed(x) + encoder.positions, slice(None), None)
                                              .flatten(0, 1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [CONV, VIT])
def test_a_gain_of_0_leaves_the_pictures_as_they_are(config):
    plain = msgspec.structs.replace(config, difference_gain=0.0).build(SIGNATURE).eval()
    whole = config.build(signature((16, 12, 6))).eval()
    whole.load_state_dict(plain.state_dict())
    seen = observe(SIGNATURE)
    assert torch.equal(plain.encode(seen).state, whole.encode(seen).state)


def test_a_scene_map_reads_differences():
    encoder = msgspec.structs.replace(CONV, map_width=3).build(SIGNATURE)
    images = observe(SIGNATURE)["image"]
    x = differences(images, 4.0).flatten(0, 1).permute(0, 3, 1, 2)
    expected = encoder.stem(x).permute(0, 2, 3, 1).reshape(2, 3, 12, 3)
    torch.testing.assert_close(encoder.survey({"image": images}), expected, rtol=1e-4, atol=1e-5)


def test_in_bf16_differences_of_a_few_grey_levels_are_still_seen():
    """The differences stand in weights that are rounded; what moves a little must not drown in that."""
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 32, 4, 4, bias=False).requires_grad_(False)
    still = torch.randint(0, 256, (64, 4, 4, 2), dtype=torch.uint8).repeat(1, 1, 1, 3)
    moved = still.clone()
    moved[..., 2:] = (still[..., 2:].int() + torch.randint(-6, 7, still[..., 2:].shape)).clamp(0, 255).to(torch.uint8)
    weight = difference_weight(layer.weight, 3, 4.0, 1)

    def response(x, dtype):
        y = F.conv2d(((x.to(dtype) - 127.5) / 255).permute(0, 3, 1, 2), weight.to(dtype))
        return y.double().flatten(1)

    exact, rounded = (response(moved, t) - response(still, t) for t in (torch.float64, torch.bfloat16))
    assert float((rounded - exact).norm() / exact.norm()) < 0.1


@pytest.mark.parametrize("config", [CONV, VIT, msgspec.structs.replace(CONV, pool="tokens", map_width=2)])
def test_gradients_reach_every_weight(config):
    torch.manual_seed(0)
    encoder = config.build(SIGNATURE)
    for p in encoder.parameters():
        if p.dim() > 1:
            nn.init.normal_(p, std=0.2)
    seen = observe(SIGNATURE)
    state = encoder.encode(seen).state
    loss = (state * torch.randn_like(state)).sum()
    if config.map_width:
        loss = loss + encoder.survey(seen).square().sum()
    loss.backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in encoder.parameters())


def test_every_token_passes_through_the_projector():
    encoder = msgspec.structs.replace(CONV, pool="tokens").build(SIGNATURE)
    norm = next(part for part in encoder.modules() if isinstance(part, BatchNorm))
    rows = []
    norm.register_forward_hook(lambda module, given, made: rows.append(len(given[0])))
    assert encoder.encode(observe(SIGNATURE)).state.shape == (2, 3, 4, 5)
    assert rows == [2 * 3 * 4]
    assert [type(layer).__name__ for layer in encoder.project] == ["Linear", "BatchNorm", "ReLU", "Linear"]


def test_without_new_settings_weights_and_their_names_are_as_before():
    torch.manual_seed(0)
    encoder = ConvEncoder.Config(widths=(4,), size=5).build(signature((8, 8, 1)))
    assert list(encoder.state_dict()) == [
        "stages.0.weight", "stages.0.bias", "stages.1.first.weight", "stages.1.first.bias", "stages.1.second.weight",
        "stages.1.second.bias", "norm.weight", "norm.bias", "project.weight", "project.bias"]
    old = {"type": "conv", "image": "", "patch": 4, "widths": [4], "blocks": 1, "pool": "flatten", "size": 5,
           "map_width": 0}
    assert convert(old, PerceptionConfig) == encoder.config


@pytest.mark.parametrize("config", [ConvEncoder.Config, ViTEncoder.Config])
@pytest.mark.parametrize("settings", [{"projector": -1}, {"difference_gain": -1.0}, {"difference_gain": float("nan")}])
def test_impossible_settings_are_refused(config, settings):
    with pytest.raises(ConfigError, match="a projector and a difference_gain of at least 0"):
        config(**settings)


def test_a_stack_of_another_height_is_refused():
    with pytest.raises(MismatchError, match=r"an image 'image' of uint8 and shape \(…, 16, 12, 6\); got torch\.uint8"):
        CONV.build(SIGNATURE).encode(observe(signature((16, 12, 2))))


def test_the_small_transformer_fits_a_picture_of_64_pixels():
    encoder = ViTEncoder.Config.laptop().build(stacked(signature((64, 64, 3)), 3)).eval()
    assert encoder.encode(observe(stacked(signature((64, 64, 3)), 3), 1, 1)).state.shape == (1, 1, 64)
