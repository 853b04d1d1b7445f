"""Published encoders compute what their publishers' formulas say, from files in every layout, and refuse what they
cannot read in one line."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import torch
from pictures import observe, signature
from published_layouts import as_transformers, blocks, dinov2, dinov3, stem, vjepa2
from safetensors.torch import save_file
from torch.nn import functional as F

from steersman.agent import load_published
from steersman.core import (
    CheckpointError,
    ConfigError,
    MismatchError,
    ObservationSpec,
    Signature,
    SteersmanError,
    UsageError,
)
from steersman.nn.projector import ProjectorForm
from steersman.perception import PublishedEncoder
from steersman.perception.published import find_encoder

HEADS, WIDTH = 2, 24


def store(weights, path: Path, **config) -> Path:
    save_file({name: x.contiguous() for name, x in weights.items()}, path)
    if config:
        path.with_name("config.json").write_text(json.dumps(config))
    return path


def made(path: Path, shape=(28, 42, 3), **changes):
    """The encoder in a file, for pictures of this size, in evaluation mode; its signature."""
    sig = signature(shape)
    config = msgspec.structs.replace(load_published(path, heads=HEADS).perception, **changes)
    encoder = config.build(sig)
    encoder.initialise()
    return encoder.eval(), sig


def shown(sig, channels=3):
    """A picture, and the same as publishers normalise it, (N, C, H, W)."""
    seen = observe(sig, 1, 2)
    x = seen["image"][0].permute(0, 3, 1, 2) / 255
    mean, deviation = (torch.tensor(x).view(-1, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return seen, (x - mean) / deviation


def dino2_weights(form="mlp", registers="", mask=True):
    weights = stem(WIDTH, (14, 14), 17, registers) | blocks(WIDTH, 2, 40, form, scaled=True)
    return weights | ({"mask_token": torch.zeros(1, WIDTH)} if mask else {})


def table(weights, rows, columns, how):
    """Positions of a 4×4 grid as each publisher makes them fit another."""
    square = weights["pos_embed"][0, 1:].T.reshape(1, WIDTH, 4, 4)
    options = {"shifted": {"scale_factor": ((rows + 0.1) / 4, (columns + 0.1) / 4)}, "plain": {"size": (rows, columns)},
               "smooth": {"size": (rows, columns), "antialias": True}}[how]
    made = F.interpolate(square, mode="bicubic", **options)
    assert made.shape[2:] == (rows, columns)
    return torch.cat([weights["pos_embed"][0, :1], made[0].flatten(1).T])


@pytest.mark.parametrize("registers", ["", "register_tokens"])
@pytest.mark.parametrize("form", ["mlp", "w12"])
@pytest.mark.parametrize("layout", ["facebookresearch", "transformers 4", "transformers 5"])
def test_dinov2_is_what_its_publishers_compute(tmp_path, form, registers, layout):
    weights = dino2_weights(form, registers)
    how = "smooth" if registers else "shifted" if layout == "facebookresearch" else "plain"
    stored = weights if layout == "facebookresearch" else as_transformers(weights, int(layout[-1]))
    encoder, sig = made(store(stored, tmp_path / "w.safetensors"), pool="tokens")
    seen, x = shown(sig)
    expected = dinov2(weights, x, HEADS, table(weights, 2, 3, how))
    torch.testing.assert_close(encoder.vit(x), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(encoder.encode(seen).state[0], expected[:, -6:], rtol=1e-5, atol=1e-5)
    first, _ = made(tmp_path / "w.safetensors")
    torch.testing.assert_close(first.encode(seen).state[0], expected[:, 0], rtol=1e-5, atol=1e-5)
    mean, _ = made(tmp_path / "w.safetensors", pool="mean")
    torch.testing.assert_close(mean.encode(seen).state[0], expected[:, -6:].mean(1), rtol=1e-5, atol=1e-5)


def test_positions_of_the_published_size_are_taken_as_they_are(tmp_path):
    weights = dino2_weights()
    encoder, _ = made(store(weights, tmp_path / "w.safetensors"), (56, 56, 3))
    assert torch.equal(encoder.vit.positions, weights["pos_embed"][0])


@pytest.mark.parametrize("form", ["mlp", "w1"])
@pytest.mark.parametrize("layout", ["facebookresearch", "transformers 4", "transformers 5"])
def test_dinov3_is_what_its_publishers_compute(tmp_path, form, layout):
    weights = stem(WIDTH, (16, 16), registers="storage_tokens") | blocks(WIDTH, 2, 40, form, scaled=True)
    for i in range(2):  # keys have no bias
        weights[f"blocks.{i}.attn.qkv.bias"][WIDTH : 2 * WIDTH] = 0
    stored = dict(weights)
    if layout == "facebookresearch":
        mask = torch.ones(3 * WIDTH)
        mask[WIDTH : 2 * WIDTH] = 0
        stored["rope_embed.periods"] = 100.0 ** (torch.arange(3) * 4 / 12)
        for i in range(2):
            stored[f"blocks.{i}.attn.qkv.bias_mask"] = mask.clone()
            stored[f"blocks.{i}.attn.qkv.bias"] = weights[f"blocks.{i}.attn.qkv.bias"] + (1 - mask)  # is masked
    else:
        stored = {name: x for name, x in as_transformers(weights, int(layout[-1]), "dinov3").items()
                  if not name.endswith("k_proj.bias")}
    encoder, sig = made(store(stored, tmp_path / "w.safetensors"), (32, 48, 3), pool="tokens")
    seen, x = shown(sig)
    expected = dinov3(weights, x, HEADS, 16)
    torch.testing.assert_close(encoder.vit(x), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(encoder.encode(seen).state[0], expected[:, 5:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["mlp", "fc3"])
def test_vjepa2_sees_a_moments_pictures_as_a_clip_the_oldest_first(tmp_path, form):
    weights = stem(WIDTH, (2, 16, 16)) | blocks(WIDTH, 2, 40, form)
    stored = {f"module.backbone.{name}": x for name, x in weights.items()}
    if form == "mlp":
        other = {f"encoder.{name}": x for name, x in as_transformers(weights, 4, "vjepa2").items()}
        store(other | {"predictor.proj.bias": torch.zeros(3)}, tmp_path / "t.safetensors")
    store(stored, tmp_path / "w.safetensors")
    for name in ("w", "t")[: 1 + (form == "mlp")]:
        encoder, sig = made(tmp_path / f"{name}.safetensors", (32, 48, 9), pool="tokens")
        seen = observe(sig, 1, 1)
        newest, older, oldest = (((seen["image"][0, 0, ..., i : i + 3].permute(2, 0, 1) / 255)
                                  - encoder.mean) / encoder.deviation for i in (0, 3, 6))
        clip = torch.stack([oldest, oldest, older, newest], 1)[None]
        expected = vjepa2(weights, clip, HEADS)
        assert encoder.latent_shape == (12, WIDTH)
        torch.testing.assert_close(encoder.encode(seen).state[0], expected, rtol=1e-5, atol=1e-5)
        alone, sig = made(tmp_path / f"{name}.safetensors", (32, 48, 3))
        seen, x = shown(sig)
        expected = vjepa2(weights, x[:, :, None].expand(-1, -1, 2, -1, -1), HEADS).mean(1)
        torch.testing.assert_close(alone.encode(seen).state[0], expected, rtol=1e-5, atol=1e-5)


def test_a_transformer_of_pictures_sees_each_picture_of_a_moment_by_itself(tmp_path):
    path = store(dino2_weights(), tmp_path / "w.safetensors")
    for pool in ("class", "tokens"):
        many, sig = made(path, (28, 28, 6), pool=pool)
        one, _ = made(path, (28, 28, 3), pool=pool)
        seen = observe(sig, 2, 3)["image"]
        expected = torch.cat([one.encode({"image": seen[..., i : i + 3]}).state for i in (0, 3)], -1)
        torch.testing.assert_close(many.encode({"image": seen}).state, expected, rtol=1e-5, atol=1e-5)
    grey, sig = made(path, (28, 28, 1))
    seen = observe(sig)["image"]
    colour, _ = made(path, (28, 28, 3))
    same = colour.encode({"image": seen.expand(-1, -1, -1, -1, 3).contiguous()}).state
    torch.testing.assert_close(grey.encode({"image": seen}).state, same, rtol=1e-5, atol=1e-5)


def test_grey_pictures_that_are_stacked_are_no_colours(tmp_path):
    path = store(dino2_weights(), tmp_path / "w.safetensors")
    one, _ = made(path, (28, 28, 1))
    sig = Signature({"image": ObservationSpec("image", (28, 28, 3), frames=3)}, signature().action)
    stacked = one.config.build(sig)
    stacked.initialise()
    seen = observe(sig)["image"]
    expected = torch.cat([one.encode({"image": seen[..., i : i + 1]}).state for i in range(3)], -1)
    torch.testing.assert_close(stacked.encode({"image": seen}).state, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("resolution", "grid"), [(0, (3, 5)), (28, (2, 4)), (100, (7, 13))])
def test_pictures_become_whole_patches_and_keep_their_form(tmp_path, resolution, grid):
    encoder, sig = made(store(dino2_weights(), tmp_path / "w.safetensors"), (36, 64, 3), resolution=resolution)
    assert encoder.token_grid == grid
    assert encoder.encode(observe(sig)).state.isfinite().all()


def test_half_precision_becomes_float32_and_is_said(tmp_path):
    weights = dino2_weights()
    halves = {name: x.to(torch.bfloat16) for name, x in weights.items()}
    found = load_published(store(halves, tmp_path / "w.safetensors"), heads=HEADS)
    assert found.said.startswith("DINOv2 as facebookresearch names it: patches of 14, 2 blocks of width 24 with 2")
    assert found.said.endswith("read as float32 from bfloat16")
    encoder, _ = made(tmp_path / "w.safetensors", (56, 56, 3))
    assert torch.equal(encoder.vit.positions, weights["pos_embed"][0].to(torch.bfloat16).float())


def test_what_shapes_cannot_tell_is_told_by_the_notes_beside_a_file(tmp_path):
    path = store(as_transformers(dino2_weights()), tmp_path / "w.safetensors", num_attention_heads=4,
                 layer_norm_eps=1e-3)
    form = load_published(tmp_path).perception.form
    assert (form.heads, form.epsilon) == (4, 1e-3)
    assert load_published(path, heads=3).perception.form.heads == 3
    path.with_name("config.json").write_text("{")
    with pytest.raises(CheckpointError, match="JSON in"):
        load_published(path)


def _without(weights, name):
    return {key: x for key, x in weights.items() if key != name}


FAULTS = {
    "a tensor is missing": (lambda w: _without(w, "blocks.1.attn.proj.weight"), CheckpointError,
                            r"blocks.1.out.weight of shape \(24, 24\).* got nothing"),
    "a block is missing": (lambda w: {k: x for k, x in w.items() if not k.startswith("blocks.0")}, CheckpointError,
                           "a whole DINOv2"),
    "a tensor of another shape": (lambda w: w | {"blocks.1.mlp.fc1.weight": torch.zeros(40, 23)}, CheckpointError,
                                  r"blocks.1.mlp.fc1.weight of shape \(40, 24\).*\(40, 23\)"),
    "a tensor of other sides": (lambda w: w | {"blocks.0.mlp.fc2.weight": torch.zeros(24)}, CheckpointError,
                                r"blocks.0.mlp.fc2.weight of 2 sides in w.safetensors; got shape \(24,\)"),
    "positions of no sides": (lambda w: w | {"pos_embed": torch.tensor(1.0)}, CheckpointError, "pos_embed of 2 to 3"),
    "an empty tensor": (lambda w: w | {"norm.weight": torch.zeros(0)}, CheckpointError, r"got shape \(0,\)"),
    "a tensor that nobody knows": (lambda w: w | {"blocks.0.adapter.weight": torch.zeros(2)}, CheckpointError,
                                   "got blocks.0.adapter.weight"),
    "positions of no square": (lambda w: w | {"pos_embed": torch.zeros(1, 13, WIDTH)}, CheckpointError,
                               "a square grid of patches; got 13"),
    "another model": (lambda w: {"fc.weight": torch.zeros(2, 2)}, CheckpointError, "got 1 tensors: fc.weight"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_is_not_whole_is_refused_in_one_line(tmp_path, fault):
    change, kind, words = FAULTS[fault]
    with pytest.raises(kind, match=words) as caught:
        made(store(change(dino2_weights()), tmp_path / "w.safetensors"))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_safetensors_are_refused_and_never_executed(tmp_path):
    path = store(dino2_weights(), tmp_path / "w.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-100])
    torch.save({"x": torch.zeros(2)}, tmp_path / "model.bin")
    (tmp_path / "renamed.safetensors").write_bytes((tmp_path / "model.bin").read_bytes())
    (tmp_path / "empty").mkdir()
    for name, kind, words in [
        ("cut.safetensors", CheckpointError, "bytes in"), ("model.bin", UsageError, "a pickle.*save_file"),
        ("renamed.safetensors", UsageError, "a pickle"), ("none.safetensors", UsageError, "which is not there"),
        ("empty", UsageError, "one safetensors file in .*none"), (".", UsageError, "got cut.safetensors, renamed"),
    ]:
        with pytest.raises(kind, match=words):
            load_published(tmp_path / name)
    with pytest.raises(UsageError, match="a layout of auto, dinov2, dinov3, lewm, vit, vjepa2; got 'clip'"):
        load_published(path, "clip")
    with pytest.raises(CheckpointError, match="weights of dinov3 in w"):
        load_published(path, "dinov3")
    with pytest.raises(ConfigError, match="a width that 5 heads divide"):
        load_published(path, heads=5)


def test_rotary_positions_of_another_base_are_found_out(tmp_path):
    weights = stem(WIDTH, (16, 16), registers="storage_tokens") | blocks(WIDTH, 1, 40, scaled=True)
    weights["rope_embed.periods"] = 50.0 ** (torch.arange(3) * 4 / 12)
    with pytest.raises(CheckpointError, match="rotary periods of base 100 and 2 heads"):
        made(store(weights, tmp_path / "w.safetensors"), (32, 32, 3))


def test_an_encoder_that_has_not_read_its_weights_does_not_encode(tmp_path):
    path = store(dino2_weights(), tmp_path / "w.safetensors")
    sig = signature((28, 28, 3))
    config = load_published(path, heads=HEADS).perception
    read, waiting = config.build(sig), config.build(sig)
    read.initialise()
    with pytest.raises(MismatchError, match="they were never read"):
        waiting.encode(observe(sig))
    waiting.load_state_dict(read.state_dict())
    assert torch.equal(waiting.encode(observe(sig)).state, read.encode(observe(sig)).state)
    store(dino2_weights() | {"mask_token": torch.ones(1, WIDTH)}, path)
    with pytest.raises(CheckpointError, match="SHA-256"):
        config.build(sig).initialise()
    more = msgspec.structs.replace(config, sha256="", projector=ProjectorForm(features=WIDTH, size=4)).build(sig)
    with pytest.raises(CheckpointError, match=r"a projector as configured in w\.safetensors; got none"):
        more.initialise()
    fresh = msgspec.structs.replace(config, weights="", sha256="").build(sig)  # the same form, at random
    assert fresh.encode(observe(sig)).state.isfinite().all()


def test_frozen_weights_get_no_gradient_and_others_do(tmp_path):
    path = store(dino2_weights(), tmp_path / "w.safetensors")
    frozen, sig = made(path, (28, 28, 3), size=5)
    frozen.train()
    frozen.encode(observe(sig)).state.sum().backward()
    assert {name for name, p in frozen.named_parameters() if p.grad is not None} == {"resize.weight", "resize.bias"}
    learned, _ = made(path, (28, 28, 3), frozen=False)
    learned.encode(observe(sig)).state.sum().backward()
    assert all(p.grad is not None for p in learned.vit.parameters())


def test_settings_that_do_not_fit_are_refused(tmp_path):
    config = load_published(store(dino2_weights(), tmp_path / "w.safetensors"), heads=HEADS).perception
    with pytest.raises(ConfigError, match="pictures of 3 channels, or of 1"):
        config.build(signature((28, 28, 4)))
    with pytest.raises(ConfigError, match="a mean and a deviation for each of 3"):
        msgspec.structs.replace(config, mean=(0.5,))
    clips = load_published(store(stem(WIDTH, (2, 16, 16)) | blocks(WIDTH, 1, 40), tmp_path / "v.safetensors"),
                           heads=HEADS).perception
    with pytest.raises(ConfigError, match="a class token"):
        msgspec.structs.replace(clips, pool="class")


def _random(module, seed=0):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for x in module.parameters():
            x.copy_(torch.randn(x.shape, generator=g) * (0.3 if x.dim() < 2 else 0.1))
    return module.eval()


def vit(width=WIDTH, patch=14):
    return stem(width, (patch, patch), 17) | blocks(width, 2, 40)


def test_a_plain_vit_is_read_from_timm_and_from_transformers(tmp_path):
    weights = vit()
    x = torch.randn(2, 3, 28, 42)
    timm, _ = made(store(weights, tmp_path / "w.safetensors"), pool="tokens")
    expected = dinov2(weights, x, HEADS, table(weights, 2, 3, "smooth"))
    torch.testing.assert_close(timm.vit(x), expected, rtol=1e-5, atol=1e-5)
    renames = {"norm1": "layernorm_before", "norm2": "layernorm_after", "mlp.fc1": "intermediate.dense",
               "mlp.fc2": "output.dense"}
    other = {}
    for name, tensor in as_transformers(weights).items():
        for old, new in renames.items():
            name = name.replace(f".{old}.", f".{new}.")
        other[name] = tensor
    theirs, _ = made(store(other, tmp_path / "w.safetensors"), pool="tokens")
    expected = dinov2(weights, x, HEADS, table(weights, 2, 3, "plain"), 1e-12)
    torch.testing.assert_close(theirs.vit(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", ["stable-worldmodel", "lightly", "lightly of one layer"])
def test_lewms_encoder_is_the_class_token_through_its_projector(tmp_path, layout):
    weights, g = vit(), torch.Generator().manual_seed(3)
    running = {"running_mean": torch.randn(10, generator=g), "running_var": 1 + torch.rand(10, generator=g)}
    first = {"weight": torch.randn(10, WIDTH, generator=g), "bias": torch.randn(10, generator=g)}
    norm = {"weight": torch.randn(10, generator=g), "bias": torch.randn(10, generator=g)} | running
    second = {"weight": torch.randn(7, 10, generator=g), "bias": torch.randn(7, generator=g)}
    if layout == "lightly":
        del first["bias"]
    parts = {"stable-worldmodel": {"projector.net.0": first, "projector.net.1": norm, "projector.net.3": second},
             "lightly": {"projection_head.layers.0": first, "projection_head.layers.1": norm,
                         "projection_head.layers.3": second},
             "lightly of one layer": {"projection_head.0": first, "projection_head.1": norm}}[layout]
    stored = {f"{part}.{name}": x for part, tensors in parts.items() for name, x in tensors.items()}
    stable = layout == "stable-worldmodel"
    within = {f"encoder.{name}": x for name, x in as_transformers(weights).items()} if stable else {
        f"backbone.{name}": x for name, x in weights.items()}
    mark = "predictor.pos_embedding" if stable else "predictor.frame_pos_embed"
    store(within | stored | {mark: torch.zeros(1, 3, 7)}, tmp_path / "w.safetensors")
    found = find_encoder(tmp_path / "w.safetensors")
    assert (found.layout.family, found.layout.publisher) == ("LeWM", layout.split()[0])
    sig = signature((28, 28, 3))
    encoder = PublishedEncoder.Config(
        form=found.form(HEADS), projector=found.projector.form, weights=str(tmp_path / "w.safetensors")).build(sig)
    encoder.initialise()
    seen, x = shown(sig)
    how, epsilon = ("plain", 1e-12) if stable else ("smooth", 1e-6)
    token = dinov2(weights, x, HEADS, table(weights, 2, 2, how), epsilon)[:, 0]
    h = token @ first["weight"].T + first.get("bias", 0.0)
    h = (h - running["running_mean"]) / (running["running_var"] + 1e-5).sqrt() * norm["weight"] + norm["bias"]
    expected = h if layout.endswith("layer") else F.gelu(h) @ second["weight"].T + second["bias"]
    made_state = encoder.train().encode(seen).state[0]  # frozen: running statistics, also while others learn
    torch.testing.assert_close(made_state, expected, rtol=1e-5, atol=1e-5)


SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.mark.parametrize("kind", ["Dinov2", "Dinov2WithRegisters", "DINOv3ViT", "ViT", "VJEPA2"])
def test_the_publishers_own_module_gives_the_same(tmp_path, kind):
    transformers = pytest.importorskip("transformers", reason="needs the package transformers")
    more = {"Dinov2": {"image_size": 56, "patch_size": 14, "use_swiglu_ffn": True},
            "Dinov2WithRegisters": {"image_size": 56, "patch_size": 14},
            "DINOv3ViT": {"image_size": 32, "patch_size": 16, "intermediate_size": 40, "num_register_tokens": 4},
            "ViT": {"image_size": 56, "patch_size": 14, "intermediate_size": 40},
            "VJEPA2": {"crop_size": 32, "frames_per_clip": 2, "pred_hidden_size": 24, "pred_num_attention_heads": 2,
                       "pred_num_hidden_layers": 1}}[kind]
    theirs = _random(getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**SMALL, **more)))
    size = (32, 32, 3) if kind == "VJEPA2" else (28, 42, 3) if kind != "DINOv3ViT" else (32, 48, 3)
    theirs.save_pretrained(tmp_path)
    encoder, sig = made(tmp_path, size, pool="tokens")
    x = encoder._shown(observe(sig, 1, 2)["image"][0])
    with torch.no_grad():
        options = {"interpolate_pos_encoding": True} if kind == "ViT" else {}
        expected = theirs(x.transpose(1, 2), skip_predictor=True) if kind == "VJEPA2" else theirs(x, **options)
        torch.testing.assert_close(encoder.vit(x), expected.last_hidden_state, rtol=1e-5, atol=1e-5)


def test_every_error_of_this_part_is_one_of_ours():
    with pytest.raises(SteersmanError):
        find_encoder("nowhere")
    assert PublishedEncoder.Config.__struct_config__.tag == "published"
