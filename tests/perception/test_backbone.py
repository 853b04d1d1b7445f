from __future__ import annotations

import copy

import msgspec
import pytest
import torch
from pictures import observe, signature
from safetensors.torch import save_file
from torch import nn

from steersman.agent.building.blueprint import build_like
from steersman.core import ConfigError, MismatchError, Signature, SteersmanError
from steersman.core.parts import PerceptionConfig, convert
from steersman.perception import FrozenBackbone, MixedEncoder, VectorEncoder, register_backbone
from steersman.runs.tensors import TensorHeader

MINE = "cut into four"


@register_backbone(MINE)
def four() -> nn.Module:
    """(N, 3, H, W) -> (N, 6, 2, 2), with weights that are always the same."""
    network = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(2))
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.linspace(-1, 1, p.numel()).view(p.shape))
    return network


def config(**changes):
    return FrozenBackbone.Config(**({"model": MINE, "size": 5} | changes))


def frames(sig, count):
    spec = sig.observations["image"]
    return Signature({"image": spec.stacked(count)}, sig.action)


@pytest.mark.parametrize("size", [(16, 16, 3), (12, 20, 1)])
@pytest.mark.parametrize(("pool", "shape"), [("tokens", (4, 5)), ("mean", (5,)), ("flatten", (5,))])
@pytest.mark.parametrize("pixels", [0, 8])
def test_any_picture_gives_the_declared_shapes(size, pool, shape, pixels):
    sig = frames(signature(size), 3)
    encoder = config(pool=pool, pixels=pixels, projector=7).build(sig)
    assert encoder.latent_shape == shape
    seen = observe(sig)
    encoder.calibrate({"image": seen["image"].flatten(0, 1)})
    assert encoder.encode(seen).state.shape == (2, 3, *shape)


def test_features_equal_those_of_the_network_picture_by_picture():
    sig = frames(signature((16, 16, 3)), 2)
    encoder, network = config(size=0).build(sig), four().eval()
    seen = observe(sig, 1, 2)
    mean, deviation = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    whole = encoder.encode(seen).state
    assert whole.shape == (1, 2, 4, 12)
    for t in range(2):
        newest, older = (
            network((seen["image"][0, t, ..., part].permute(2, 0, 1)[None] / 255 - mean) / deviation)
            .flatten(2).mT[0] for part in (slice(0, 3), slice(3, 6)))
        torch.testing.assert_close(whole[0, t], torch.cat([newest, newest - older], -1), rtol=1e-4, atol=1e-5)


def test_features_are_standardised_over_the_log():
    sig = frames(signature((16, 16, 3)), 2)
    encoder = config(size=0).build(sig)
    seen = observe(sig, 8, 8)
    encoder.calibrate({"image": seen["image"].flatten(0, 1)})
    states = encoder.encode(seen).state.flatten(0, 2)
    torch.testing.assert_close(states.mean(0), torch.zeros(12), rtol=0, atol=1e-4)
    torch.testing.assert_close(states.std(0, correction=0), torch.ones(12), rtol=1e-3, atol=0)


@pytest.mark.parametrize("keep", [False, True])
def test_only_the_projector_learns_and_the_network_never_changes_its_mind(keep):
    sig = signature((16, 16, 3))
    encoder = config(keep=keep, projector=7).build(sig)
    encoder.initialise()
    kept = copy.deepcopy(encoder._network.state_dict())
    encoder.train()
    seen = observe(sig)
    state = encoder.encode(seen).state
    (state * torch.randn_like(state)).sum().backward()
    learned = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert learned == {"project.0.weight", "project.1.weight", "project.1.bias", "project.3.weight", "project.3.bias"}
    assert all(float(encoder.get_parameter(name).grad.abs().sum()) > 0 for name in learned)
    assert all(torch.equal(x, kept[name]) for name, x in encoder._network.state_dict().items())
    assert not any(p.requires_grad for p in encoder._network.parameters())
    assert torch.equal(encoder._features(seen["image"].flatten(0, 1)), encoder._features(seen["image"].flatten(0, 1)))


def test_weights_are_stored_once_and_only_if_asked():
    sig = signature((16, 16, 3))
    away, inside = (config(keep=keep).build(sig) for keep in (False, True))
    away.initialise()
    assert not any(name.startswith("network") for name in away.state_dict())
    assert not any("0.weight" in name for name in away.state_dict())
    assert {f"network.{name}" for name in four().state_dict()} <= set(inside.state_dict())


def test_other_weights_than_those_of_the_training_are_refused():
    sig = signature((16, 16, 3))
    encoder = config().build(sig)
    encoder.initialise()
    stored = {name: x.clone() for name, x in encoder.state_dict().items()}
    again = config().build(sig)
    again.load_state_dict(stored)
    seen = observe(sig)
    assert torch.equal(again.encode(seen).state, encoder.encode(seen).state)
    other = config().build(sig)
    other.load_state_dict(stored | {"digest": stored["digest"].flip(0)})
    with pytest.raises(MismatchError, match="the weights of cut into four on whose features this was trained"):
        other.encode(seen)


def test_reading_the_network_draws_no_random_numbers():
    encoder = config().build(signature((16, 16, 3)))
    before = torch.random.get_rng_state()
    encoder.initialise()
    assert torch.equal(before, torch.random.get_rng_state())


def test_copies_share_the_network():
    encoder = config().build(signature((16, 16, 3)))
    twin = copy.deepcopy(encoder)
    encoder.initialise()
    assert twin._network is encoder._network
    assert twin.project is not encoder.project


@pytest.mark.parametrize("keep", [False, True])
def test_it_can_be_built_from_the_header_of_a_run(keep):
    """What counts allocations for stored weights does not count those of a network that is not stored."""
    sig = signature((16, 16, 3))
    names = {torch.float32: ("F32", 4), torch.int64: ("I64", 8), torch.uint8: ("U8", 1)}
    header, at = {}, 0
    for name, x in config(keep=keep).build(sig).state_dict().items():
        kind, width = names[x.dtype]
        header[name] = TensorHeader(kind, tuple(x.shape), (at, at := at + width * x.numel()))
    build_like(lambda: config(keep=keep).build(sig), header, "a run", config(keep=keep))


def test_weights_of_a_file_are_read_and_checked(tmp_path, monkeypatch):
    sig = signature((16, 16, 3))
    network = four()
    nn.init.normal_(network[0].weight)
    path = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), path)
    encoder = config(weights=str(path)).build(sig)
    encoder.initialise()
    assert torch.equal(encoder._network[0].weight, network[0].weight)
    with pytest.raises(SteersmanError, match=r"expected the weights of SHA-256 abcd… in .*weights\.safetensors"):
        config(weights=str(path), sha256="abcd").build(sig).initialise()
    moved = config(weights="/nowhere/weights.safetensors").build(sig)
    with pytest.raises(SteersmanError, match="no such file; put it there, or name the folder"):
        moved.initialise()
    monkeypatch.setenv("STEERSMAN_WEIGHTS", str(tmp_path))
    moved.initialise()
    save_file({"0.weight": torch.zeros(2)}, path)
    with pytest.raises(SteersmanError, match=r"expected weights that fit cut into four in weights\.safetensors"):
        config(weights=str(path)).build(sig).initialise()


@pytest.mark.parametrize(("changes", "words"), [
    ({"size": -1}, "sizes of at least 0"),
    ({"mean": (0.5,)}, "a mean and a positive deviation for each of 3 channels"),
    ({"weights": "x", "pretrained": True}, "drop `weights` or `pretrained`"),
    ({"model": "timm/resnet18"}, "expected weights for timm/resnet18; got none; name a safetensors file"),
])
def test_settings_that_cannot_be_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        config(**changes)


def test_what_does_not_fit_is_refused_in_one_line():
    with pytest.raises(ConfigError, match=r"registered: .*cut into four.*got 'theirs'; import the module"):
        config(model="theirs").build(signature((16, 16, 3)))
    with pytest.raises(ConfigError, match="pictures of 1 or 3 channels; got 4"):
        config().build(signature((16, 16, 4)))
    with pytest.raises(ConfigError, match="a class token of cut into four; got none"):
        config(pool="class").build(signature((16, 16, 3)))
    with pytest.raises(ConfigError, match="does not begin with 'timm/'"):
        register_backbone("timm/mine")
    register_backbone("a list")(_Lists)
    with pytest.raises(ConfigError, match=r"features \(N, W\), .* of a backbone; got list"):
        config(model="a list").build(signature((16, 16, 3)))
    encoder = config().build(signature((16, 16, 3)))
    with pytest.raises(MismatchError, match="use observations of the world that this encoder was built for"):
        encoder.encode(observe(signature((8, 8, 3))))


class _Lists(nn.Module):
    def forward(self, x):
        return [x]


def test_its_config_survives_json_and_stands_in_a_mix():
    sig = signature((16, 16, 3), speed=2)
    mixed = MixedEncoder.Config(parts={"image": config(), "speed": VectorEncoder.Config(hidden=(8,), size=3)}, size=6)
    assert convert(msgspec.to_builtins(mixed), PerceptionConfig) == mixed
    encoder = mixed.build(sig)
    encoder.initialise()
    seen = observe(sig)
    encoder.calibrate({name: x.flatten(0, 1) for name, x in seen.items()})
    assert float(encoder.parts["image"].centre.abs().sum()) > 0
    assert bool(encoder.parts["image"].digest.any())
    assert encoder.encode(seen).state.shape == (2, 3, 6)


# timm ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def _timm():
    pytest.importorskip("timm", reason="needs the extra timm")


@pytest.mark.usefixtures("_timm")
@pytest.mark.parametrize("model", ["timm/test_vit", "timm/test_resnet", "timm/test_convnext", "timm/test_maxvit"])
def test_models_of_timm_give_tokens(model):
    sig = frames(signature((64, 64, 3)), 2)
    encoder = config(model=model, keep=True, size=0).build(sig)
    assert encoder.latent_shape == (encoder.form.places, 2 * encoder.network.num_features)
    assert encoder.encode(observe(sig, 1, 2)).state.shape == (1, 2, *encoder.latent_shape)


@pytest.mark.usefixtures("_timm")
def test_a_class_token_of_timm_and_weights_of_a_file(tmp_path):
    import timm

    theirs = timm.create_model("test_vit", num_classes=0, img_size=(48, 48)).eval()
    path = tmp_path / "vit.safetensors"
    save_file(theirs.state_dict(), path)
    sig = signature((48, 48, 3))
    encoder = config(model="timm/test_vit", weights=str(path), pool="class", size=0, mean=(0.0,) * 3,
                     deviation=(1.0,) * 3).build(sig)
    seen = observe(sig, 1, 2)
    expected = theirs.forward_features(seen["image"][0].permute(0, 3, 1, 2) / 255)[:, 0]
    torch.testing.assert_close(encoder.encode(seen).state[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("_timm")
def test_a_model_or_size_that_timm_does_not_have_is_refused():
    with pytest.raises(ConfigError, match=r"a model of timm, such as .*'vit_of_mine'"):
        config(model="timm/vit_of_mine", keep=True).build(signature((48, 48, 3)))
    with pytest.raises(ConfigError, match="features of timm/vit_small_patch16_dinov3 for pictures of 50×50"):
        config(model="timm/vit_small_patch16_dinov3", keep=True).build(signature((50, 50, 3)))


@pytest.mark.usefixtures("_timm")
def test_a_download_that_fails_is_told_in_words(monkeypatch):
    import timm

    plain = timm.create_model

    def offline(name, pretrained=False, **how):
        if pretrained:
            raise OSError("no route to host")
        return plain(name, **how)

    monkeypatch.setattr(timm, "create_model", offline)
    encoder = config(model="timm/test_vit", pretrained=True).build(signature((48, 48, 3)))
    with pytest.raises(SteersmanError, match=r"the published weights of timm/test_vit; got OSError: no route to host"):
        encoder.initialise()


def test_without_timm_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(SteersmanError, match=r'pip install "steersman\[timm\]"'):
        config(model="timm/test_vit", keep=True).build(signature((48, 48, 3)))
