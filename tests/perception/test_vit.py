import pytest
import torch
from pictures import observe, signature
from torch import nn
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
    assert torch.equal(patches[0, 5], image[0, 0, 4:8, 8:12].flatten())


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


@pytest.mark.parametrize("pool", ["class", "mean", "tokens"])
@pytest.mark.parametrize("registers", [0, 2])
def test_with_every_patch_visible_tokens_are_those_of_the_whole_picture(pool, registers):
    sig = signature((10, 18, 3))
    torch.manual_seed(0)
    some = ViTEncoder.Config(pool=pool, registers=registers, projector=6, **SMALL).build(sig).eval()
    tokens = ViTEncoder.Config(pool="tokens", registers=registers + (pool == "class"), projector=6, **SMALL).build(sig)
    tokens.load_state_dict(some.state_dict())
    images = observe(sig)["image"].flatten(0, 1)
    assert some.token_grid == (3, 5)
    order = torch.stack([torch.randperm(15) for _ in range(6)])
    found = some.encode_visible({"image": images}, order)
    whole = tokens.eval().encode({"image": images[:, None]}).state[:, 0]
    torch.testing.assert_close(found, whole.take_along_dim(order[..., None], 1), rtol=1e-4, atol=1e-5)


def test_visible_tokens_know_nothing_of_what_is_hidden():
    sig = signature((16, 16, 3))
    encoder = ViTEncoder.Config(registers=1, **SMALL).build(sig)
    images = observe(sig)["image"].flatten(0, 1)
    visible = torch.tensor([[0, 5, 9]]).expand(6, -1)
    changed = images.clone()
    changed[:, 8:, 12:] += 100  # patches 11 and 15
    seen = encoder.encode_visible({"image": images}, visible)
    assert seen.shape == (6, 3, 5)
    assert torch.equal(seen, encoder.encode_visible({"image": changed}, visible))
    assert not torch.equal(seen, encoder.encode_visible({"image": changed}, visible.clone().fill_(15)))
    state = encoder.encode_visible({"image": images}, visible)
    (state * torch.randn_like(state)).sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in encoder.parameters())


def test_what_is_hidden_is_not_computed():
    sig = signature((32, 32, 3))
    encoder = ViTEncoder.Config(registers=2, **SMALL).build(sig)
    images, visible = observe(sig)["image"].flatten(0, 1), torch.arange(16).expand(6, -1)
    computed = {}

    def count(name):
        return lambda module, given, made: computed.update({name: made.shape[:-1].numel()})

    for name, module in encoder.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(count(name))
    encoder.encode_visible({"image": images}, visible)
    assert computed.pop("embed") == 6 * 16
    assert computed.pop("project") == 6 * 16
    last = {name: rows for name, rows in computed.items() if name.startswith("blocks.1.") and "query" not in name}
    assert set(last.values()) == {6 * 16}, "special tokens that nobody reads"
    assert {rows for name, rows in computed.items() if name not in last} == {6 * (16 + 3)}


@pytest.mark.parametrize("visible", [torch.zeros(5, 3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)])
def test_masks_of_other_rows_are_refused(visible):
    sig = signature((16, 16, 3))
    with pytest.raises(MismatchError, match="give each row its masks"):
        ViTEncoder.Config(**SMALL).build(sig).encode_visible({"image": observe(sig)["image"].flatten(0, 1)}, visible)


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
