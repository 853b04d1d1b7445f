import msgspec
import pytest
import torch
from pictures import observe, signature, stacked
from seen_kinds import EVERY
from seen_kinds import observe as observe_kinds

from steersman.core import ConfigError, MismatchError, Signature
from steersman.core.parts import PerceptionConfig, convert
from steersman.perception import ConvEncoder, MixedEncoder, SceneEncoder, VectorEncoder, ViTEncoder

CONV = ConvEncoder.Config(widths=(4, 6), size=5)
VECTOR = VectorEncoder.Config(hidden=(8,), size=3)


def test_parts_stand_side_by_side_or_are_fused():
    sig = signature((16, 16, 3), speed=2)
    seen = observe(sig)
    side = MixedEncoder.Config(parts={"image": CONV, "speed": VECTOR}, size=0).build(sig)
    assert side.latent_shape == (8,)
    state = side.encode(seen).state
    torch.testing.assert_close(state[..., :5], side.parts["image"].encode({"image": seen["image"]}).state)
    torch.testing.assert_close(state[..., 5:], side.parts["speed"].encode({"speed": seen["speed"]}).state)
    fused = MixedEncoder.Config(parts={"image": CONV, "speed": VECTOR}, size=6).build(sig)
    assert fused.encode(seen).state.shape == (2, 3, *fused.latent_shape) == (2, 3, 6)
    assert fused.context_shape is None
    assert fused.survey(seen) is None


def test_without_parts_every_image_and_all_vectors_are_read():
    sig = signature((16, 16, 3), (8, 8, 1), speed=2, angle=1)
    encoder = MixedEncoder.Config().build(sig)
    assert encoder.reads == {"image": ("image",), "image2": ("image2",), "vectors": ("angle", "speed")}
    seen = observe(sig)
    base = encoder.encode(seen).state
    for name in sig.observations:
        changed = encoder.encode({**seen, name: seen[name].flip(0)}).state
        assert not torch.allclose(base, changed), name


def test_vectors_are_calibrated():
    sig = signature((8, 8, 3), speed=2)
    encoder = MixedEncoder.Config(parts={"image": CONV, "speed": VECTOR}).build(sig)
    rows = {name: value.flatten(0, 1) for name, value in observe(sig, 10, 10).items()}
    rows["speed"] = rows["speed"] * 4 + 9
    encoder.calibrate(rows)
    torch.testing.assert_close(encoder.parts["speed"].mean, rows["speed"].mean(0))


def test_one_part_may_draw_the_scene_map():
    sig = signature((16, 16, 3), (16, 16, 3), speed=2)
    scene = SceneEncoder.Config(image="image", patch=4)
    encoder = MixedEncoder.Config(parts={"image": scene, "image2": CONV, "speed": VECTOR}).build(sig)
    seen = observe(sig)
    assert encoder.context_shape == encoder.parts["image"].context_shape
    assert encoder.context_shape == (4, 4, 64)
    assert encoder.survey(seen).shape == (2, 3, 16, 64)
    assert encoder.encode(seen).attention.shape == (2, 3, 16)
    two = {"image": scene, "image2": ViTEncoder.Config(patch=4, map_width=4)}
    with pytest.raises(ConfigError, match="at most one part with a scene map; got image, image2"):
        MixedEncoder.Config(parts=two).build(sig)


def test_what_does_not_fit_is_refused():
    sig = signature((16, 16, 3), speed=2)
    with pytest.raises(ConfigError, match="parts for observations among image, speed; got depth"):
        MixedEncoder.Config(parts={"depth": CONV}).build(sig)
    with pytest.raises(ConfigError, match="exactly one image observation; got images: none"):
        MixedEncoder.Config(parts={"speed": CONV}).build(sig)
    encoder = MixedEncoder.Config(parts={"image": CONV, "speed": VECTOR}).build(sig)
    with pytest.raises(MismatchError, match="add speed"):
        encoder.encode({"image": observe(sig)["image"]})


def test_its_config_survives_json():
    config = MixedEncoder.Config(parts={"image": CONV, "speed": VECTOR}, size=6)
    assert convert(msgspec.to_builtins(config), PerceptionConfig) == config


def test_every_kind_has_a_part_and_its_own_block():
    encoder = MixedEncoder.Config(size=0).build(EVERY)
    assert encoder.reads == {name: (name,) for name in ("camera", "flow", "sound", "text")} | {"vectors": ("state",)}
    given = observe_kinds(EVERY)
    base = encoder.encode(given).state
    other = {name: x.flip(0) for name, x in given.items()}
    changed = [(encoder.encode({**given, name: other[name]}).state != base).any(0).any(0) for name in given]
    assert bool((torch.stack(changed).sum(0) == 1).all()), "blocks overlap, or nobody reads them"
    encoder.calibrate({name: x.flatten(0, 1) for name, x in given.items()})
    assert float(encoder.parts["flow"].mean.abs().sum()) > 0


def test_an_observation_called_vectors_keeps_its_name():
    sig = signature((8, 8, 3), speed=2)
    named = Signature({"vectors": sig.observations["image"], "speed": sig.observations["speed"]}, sig.action)
    assert MixedEncoder.Config().build(named).reads == {"vectors": ("vectors",), "vectors_": ("speed",)}


PROJECTED = ConvEncoder.Config(widths=(4, 6), size=24, activation="relu", projector=7)


def share_of(encoder, name, seen):
    """How much of the state's variance stems from one part, the others standing still."""
    with torch.no_grad():
        still = {other: x if other == name else x[:1, :1].expand_as(x) for other, x in seen.items()}
        whole, alone = (encoder.encode(x).state.flatten(0, 1).var(0).sum() for x in (seen, still))
    return float(alone / whole)


@pytest.mark.parametrize("size", [0, 200])
def test_balanced_parts_make_equal_shares_of_the_state(size):
    """Columns of three features in other units beside a picture of several frames and 24 features."""
    torch.manual_seed(0)
    sig = stacked(signature((16, 12, 2), speed=2), 3)
    seen = observe(sig, 16, 16)
    parts = {"image": PROJECTED, "speed": VECTOR}
    shares = {}
    for balanced in (False, True):
        encoder = MixedEncoder.Config(parts=parts, size=size, balanced=balanced).build(sig)
        encoder.parts["speed"].network[-1].weight.data *= 0.1
        encoder.calibrate({name: x.flatten(0, 1) for name, x in seen.items()})
        for _ in range(100):
            encoder.encode(seen)
        shares[balanced] = share_of(encoder.eval(), "image", seen)
    assert abs(shares[True] - 0.5) < 0.15 < shares[False] - 0.5, shares


def test_balanced_parts_learn():
    sig = stacked(signature((16, 12, 2), speed=2), 3)
    encoder = MixedEncoder.Config(parts={"image": PROJECTED, "speed": VECTOR}, size=6, balanced=True).build(sig)
    assert encoder.parts["image"].frames == 3
    for p in encoder.parameters():
        if p.dim() > 1:
            torch.nn.init.normal_(p, std=0.2)
    state = encoder.encode(observe(sig)).state
    assert state.shape == (2, 3, 6)
    (state * torch.randn_like(state)).sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in encoder.parameters() if p.grad is not None)
    assert sum(p.grad is None for p in encoder.parameters()) == 0


def test_without_balance_weights_are_named_as_before():
    sig = signature((16, 16, 3), speed=2)
    names = MixedEncoder.Config(parts={"image": CONV, "speed": VECTOR}).build(sig).state_dict()
    assert {name.split(".")[0] for name in names} == {"parts", "project"}


def test_parts_take_their_weights_before_training():
    class Told(VectorEncoder):
        told = False

        def initialise(self):
            self.told = True

    encoder = MixedEncoder.Config(parts={"image": CONV, "speed": VECTOR}).build(sig := signature((8, 8, 3), speed=2))
    encoder.parts["speed"] = Told(VECTOR, Signature({"speed": sig.observations["speed"]}, sig.action))
    encoder.initialise()
    assert encoder.parts["speed"].told
