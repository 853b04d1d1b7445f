import pytest
import torch
from pictures import observe, signature
from torch.nn import functional as F

from steersman.core import ConfigError, MismatchError
from steersman.nn.batch_norm import BatchNorm
from steersman.perception import ViTEncoder
from steersman.perception.vit import Block, positions

SMALL = {"patch": 4, "width": 12, "depth": 2, "heads": 3, "hidden": 16, "size": 5}


@pytest.mark.parametrize("size", [(16, 16, 3), (10, 18, 1), (4, 4, 3)])
@pytest.mark.parametrize("pool", ["class", "mean", "tokens"])
@pytest.mark.parametrize("registers", [0, 2])
def test_any_image_size_gives_the_declared_shapes(size, pool, registers):
    sig = signature(size)
    encoder = ViTEncoder.Config(pool=pool, registers=registers, map_width=7, **SMALL).build(sig)
    seen = observe(sig)
    assert encoder.encode(seen).state.shape == (2, 3, *encoder.latent_shape)
    rows, columns, width = encoder.context_shape
    assert encoder.survey(seen).shape == (2, 3, rows * columns, width)


def test_a_block_equals_loops_over_images_heads_and_tokens():
    torch.manual_seed(0)
    block = Block(12, 3, 16).double()
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    expected = x.clone()
    for i in range(2):
        y = F.layer_norm(x[i], (12,), block.norm_attention.weight, block.norm_attention.bias)
        q, k, v = (y @ block.query_key_value.weight.T).chunk(3, -1)
        mixed = torch.zeros(5, 12, dtype=torch.float64)
        for head in range(3):
            part = slice(4 * head, 4 * head + 4)
            for t in range(5):
                weights = torch.softmax(torch.stack([q[t, part] @ k[s, part] / 2 for s in range(5)]), 0)
                mixed[t, part] = sum(weights[s] * v[s, part] for s in range(5))
        z = x[i] + block.out(mixed)
        normed = F.layer_norm(z, (12,), block.norm_hidden.weight, block.norm_hidden.bias)
        expected[i] = z + block.back(F.gelu(block.hidden(normed)))
    torch.testing.assert_close(block(x), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(block(x, slice(1, 3)), expected[:, 1:3], rtol=1e-9, atol=1e-9)


def test_patches_are_cut_in_reading_order():
    sig = signature((8, 12, 2))
    encoder = ViTEncoder.Config(**SMALL).build(sig)
    image = observe(sig, 1, 1)["image"]
    patches = encoder._patches(image)
    assert patches.shape == (1, 6, 32)
    cut = image[0, 0, 4:8, 8:12].double() / 255 - 0.5
    torch.testing.assert_close(patches[0, 5].double(), cut.flatten(), rtol=0, atol=1e-6)


def test_positions_tell_every_patch_apart():
    codes = positions(5, 7, 16)
    assert codes.shape == (35, 16)
    assert float((codes[:, None] - codes).norm(dim=-1).fill_diagonal_(1).min()) > 0.1


def test_bf16_agrees_with_float32():
    torch.manual_seed(0)
    sig = signature((16, 16, 3))
    encoder = ViTEncoder.Config(**SMALL).build(sig)
    seen = observe(sig)
    with torch.autocast("cpu", torch.bfloat16):
        half = encoder.encode(seen).state
    torch.testing.assert_close(half.float(), encoder.encode(seen).state, rtol=0.05, atol=0.05)


def test_frames_do_not_see_one_another_when_acting():
    sig = signature((16, 16, 3))
    encoder = ViTEncoder.Config(projector=6, **SMALL).build(sig)
    seen = observe(sig)["image"]
    encoder.encode({"image": seen})
    encoder.eval()
    whole = encoder.encode({"image": seen}).state
    torch.testing.assert_close(whole[1:, 2:], encoder.encode({"image": seen[1:, 2:]}).state, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_gradients_reach_every_weight(pool):
    sig = signature((8, 8, 3))
    encoder = ViTEncoder.Config(pool=pool, registers=1, projector=6, **SMALL).build(sig)
    state = encoder.encode(observe(sig)).state
    (state * torch.randn_like(state)).sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in encoder.parameters())


def test_lewm_is_vit_tiny_with_its_projector():
    config = ViTEncoder.Config.lewm()
    encoder = config.build(signature((56, 56, 3)))
    assert encoder.latent_shape == (192,)
    weights = sum(p.numel() for p in encoder.blocks.parameters())
    assert weights == 12 * (12 * 192**2 + 4 * 192)  # ViT-tiny's matrices and norms
    assert [type(layer).__name__ for layer in encoder.project] == ["Linear", "BatchNorm", "GELU", "Linear"]


def test_batch_norm_equals_torch():
    ours, theirs = BatchNorm(4), torch.nn.BatchNorm1d(4)
    for _ in range(3):
        x = torch.randn(9, 4) * 3 + 1
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.mean, theirs.running_mean)
    torch.testing.assert_close(ours.variance, theirs.running_var)
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("settings", [{"heads": 5}, {"width": 6, "heads": 3}, {"depth": 0}, {"registers": -1}])
def test_impossible_sizes_are_refused(settings):
    with pytest.raises(ConfigError, match=r"positive sizes|a width that is a multiple of 4"):
        ViTEncoder.Config(**{**SMALL, **settings})


def test_another_size_is_refused():
    encoder = ViTEncoder.Config(**SMALL).build(signature((16, 16, 3)))
    with pytest.raises(MismatchError, match="use observations of the world that this encoder was built for"):
        encoder.encode(observe(signature((8, 8, 3))))
