"""The scene encoder: promised shapes, moments apart from each other, and images that do not fit refused."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ActionSpec, ConfigError, ObservationSpec, Signature
from steersman.perception import SceneEncoder

ACTION = ActionSpec("continuous", (-1.0,), (1.0,))


def signature(shape=(16, 16, 3), name="image"):
    return Signature({name: ObservationSpec("image", shape)}, ACTION)


def build(shape=(16, 16, 3), **config):
    torch.manual_seed(0)
    return SceneEncoder.Config(**{"hidden": 16, "state": 6, "map_width": 8, **config}).build(signature(shape)).eval()


def pictures(batch=2, steps=3, shape=(16, 16, 3), seed=0):
    g = torch.Generator().manual_seed(seed)
    return {"image": torch.randint(0, 256, (batch, steps, *shape), generator=g, dtype=torch.uint8)}


def test_state_map_and_attention_have_the_promised_shapes():
    encoder, seen = build(), pictures()
    rows, columns, width = encoder.context_shape
    cells = rows * columns
    latent = encoder.encode(seen)
    assert latent.state.shape == (2, 3, *encoder.latent_shape)
    assert latent.attention.shape == (2, 3, cells)
    assert latent.context is None
    assert encoder.survey(seen).shape == (2, 3, cells, width)
    assert encoder.latent_shape == (6,)


def test_each_moment_is_encoded_on_its_own():
    encoder, seen = build(), pictures()
    whole, scene = encoder.encode(seen), encoder.survey(seen)
    one = {"image": seen["image"][1:, 2:]}
    torch.testing.assert_close(encoder.encode(one).state[0, 0], whole.state[1, 2], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder.survey(one)[0, 0], scene[1, 2], atol=1e-5, rtol=1e-4)
    other = encoder.encode(pictures(seed=1)).state
    assert float((other - whole.state).abs().max()) > 1e-5


def test_the_picture_is_not_altered_and_all_parts_learn():
    encoder, seen = build(), pictures()
    before = seen["image"].clone()
    latent = encoder.encode(seen)
    (latent.state.square().sum() + latent.attention.square().sum() + encoder.survey(seen).square().sum()).backward()
    assert torch.equal(seen["image"], before)
    silent = [name for name, p in encoder.named_parameters() if p.grad is None]
    assert silent == []


@pytest.mark.parametrize("shape", [(16, 24, 3), (8, 8, 1)])
def test_images_of_other_proportions_and_channels(shape):
    encoder = build(shape)
    assert encoder.encode(pictures(shape=shape)).state.shape == (2, 3, 6)
    assert encoder.survey(pictures(shape=shape)).shape[2] == encoder.context_shape[0] * encoder.context_shape[1]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="image sides that are multiples"):
        build((18, 16, 3))
    with pytest.raises(ConfigError, match="an image observation named"):
        SceneEncoder.Config().build(Signature({"v": ObservationSpec("vector", (3,))}, ACTION))
