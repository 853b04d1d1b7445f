"""Views of moments that stack several pictures, and the views that another camera's look is made of."""

from __future__ import annotations

import math

import pytest
import torch
from seen_kinds import EVERY, observe, uniform
from torch import Tensor

from steersman.core import ConfigError, ObservationSpec, Pace, Signature
from steersman.core.pacing import stacked, unstacked
from steersman.perception import views

FRAMES = 3
ONE = Signature({"camera": ObservationSpec("image", (16, 20, 3))}, EVERY.action)
STACK = ONE.paced(Pace(step=2, frames=FRAMES, apart=1))
ALIKE = [
    views.ResizedCrop.Config(), views.Translate.Config(), views.Zoom.Config(fill="grey"), views.Flip.Config(),
    views.Rotation.Config(), views.Blur.Config(), views.Colour.Config(probability=1.0, grey=0.5, tint=0.3),
]


def apart(x: Tensor) -> Tensor:
    """(B, T, H, W, F·C) -> (B, T·F, H, W, C)."""
    return unstacked(x, FRAMES).flatten(1, 2)


@pytest.mark.parametrize("config", ALIKE, ids=lambda config: config.__struct_config__.tag)
def test_pictures_of_a_stack_are_seen_as_they_would_be_one_after_the_other(config):
    view, single = config.build(STACK), config.build(ONE)
    given, u = observe(STACK, 4, 2)["camera"], uniform(4, view.uniform)
    looked, expected = view.look({"camera": given}, u), single.look({"camera": apart(given)}, u)
    assert torch.equal(apart(looked.observation["camera"]), expected.observation["camera"])
    assert torch.equal(looked.parameters, expected.parameters)
    assert not torch.equal(looked.observation["camera"], given)


def test_noise_on_a_stack_is_of_one_deviation_and_its_channels_scales_are_those_of_one_picture():
    view = views.Noise.Config(deviation=(0.2, 0.6), scale=(10.0, 20.0, 50.0), probability=0.5).build(STACK)
    given = torch.full((8, 6, *STACK.observations["camera"].shape), 128, dtype=torch.uint8)
    looked = view.look({"camera": given}, uniform(8, view.uniform))
    added = apart(looked.observation["camera"]).double() - 128
    sigma = looked.parameters[:, 0].double()
    assert 0 < int((sigma == 0).sum()) < 8
    scale = torch.tensor([10.0, 20.0, 50.0], dtype=torch.float64)
    found = added.unflatten(1, (6, FRAMES)).permute(0, 2, 5, 1, 3, 4).flatten(3).std(3)  # row, picture, channel
    expected = ((sigma[:, None] * scale).square() + (sigma > 0)[:, None] / 12).sqrt()
    torch.testing.assert_close(found, expected[:, None].expand_as(found), rtol=0.08, atol=1e-9)
    assert not torch.equal(added[:, 0], added[:, 1]), "pictures share their noise"


def test_a_translation_is_exact_and_the_edge_comes_in():
    view = views.Translate.Config(pixels=5).build(ONE)
    given = observe(ONE, 60, 2)["camera"]
    looked = view.look({"camera": given}, uniform(60, 2))
    right, down = looked.parameters.long().unbind(1)
    assert sorted(right.unique().tolist()) == sorted(down.unique().tolist()) == list(range(-5, 6))
    rows, columns = torch.arange(16), torch.arange(20)
    for row in range(60):
        y, x = (rows - down[row]).clamp(0, 15), (columns - right[row]).clamp(0, 19)
        assert torch.equal(looked.observation["camera"][row], given[row][:, y][:, :, x])


def test_a_zoom_reads_from_the_middle_nearer_or_farther():
    view = views.Zoom.Config(factor=(0.5, 2.0), probability=0.8).build(ONE)
    ramp = (torch.arange(16)[:, None] * 10 + torch.arange(20) * 2)[None, None, :, :, None].expand(40, 1, -1, -1, 3)
    looked = view.look({"camera": ramp.to(torch.uint8)}, uniform(40, 2))
    factors = looked.parameters[:, 0]
    assert 0.5 <= float(factors.min()) < 0.7
    assert 1.5 < float(factors.max()) <= 2.0
    assert 2 <= int((factors == 1).sum()) <= 16
    for row in range(40):
        y, x = (((torch.arange(n) - (n - 1) / 2) / factors[row] + (n - 1) / 2).clamp(0, n - 1) for n in (16, 20))
        expected = 10 * y[:, None] + 2 * x
        assert float((looked.observation["camera"][row, 0, :, :, 0] - expected).abs().max()) < 0.51


def test_factors_of_a_zoom_are_as_often_nearer_as_farther():
    small = Signature({"camera": ObservationSpec("image", (2, 2, 1))}, EVERY.action)
    view = views.Zoom.Config(factor=(0.5, 2.0)).build(small)
    factors = view.look(observe(small, 3000, 1), uniform(3000, 2)).parameters[:, 0]
    assert abs(float(factors.log().mean())) < 0.02


def test_a_tint_is_a_factor_for_each_colour_after_all_else():
    config = views.Colour.Config(hue=0.5, probability=0.6, grey=0.0, brightness=0.2)
    plain = config.build(ONE)
    tinted = views.Colour.Config(hue=0.5, probability=0.6, grey=0.0, brightness=0.2, tint=0.3).build(ONE)
    given, u = (observe(ONE, 12, 2)["camera"] * 0.4).to(torch.uint8), uniform(12, 9)
    before = plain.look({"camera": given}, u[:, :6])
    looked = tinted.look({"camera": given}, u)
    assert tinted.parameters[:5] == plain.parameters
    assert torch.equal(looked.parameters[:, :5], before.parameters)
    tint = looked.parameters[:, 5:]
    assert 0.7 <= float(tint.min()) < 0.8
    assert 1.2 < float(tint.max()) <= 1.3
    untouched = looked.parameters[:, 0] == 1
    assert 0 < int(untouched.sum()) < 12
    assert bool((tint[untouched] == 1).all())
    seen, cut = before.observation["camera"], looked.observation["camera"]
    inside = (seen > 0) & (seen < 255)
    expected = (seen.float() * tint[:, None, None, None]).clamp(0, 255)
    assert float((cut.float() - expected)[inside].abs().max()) <= 0.5 * 1.3 + 0.51


# A patch that moves ---------------------------------------------------------------------------------------------


def test_a_patch_is_a_rectangle_of_tiles_of_the_size_that_its_parameters_name():
    view = views.Patch.Config(size=(0.3, 0.6), speed=0.0, tiles=2, probability=0.7).build(ONE)
    given = torch.full((200, 1, 16, 20, 3), 7, dtype=torch.uint8)
    looked = view.look({"camera": given}, uniform(200, view.uniform))
    covered = (looked.observation["camera"] != 7).any(-1)[:, 0]
    rows, columns = covered.any(2), covered.any(1)
    assert torch.equal(rows[:, :, None] & columns[:, None], covered), "not a rectangle"
    height, width = looked.parameters[:, 0] * 16, looked.parameters[:, 1] * 16
    none = height == 0
    assert 30 < int(none.sum()) < 90
    assert int(covered[none].sum()) == 0
    assert bool((rows[~none].sum(1) <= height[~none] + 1).all())
    whole = ~none & ~rows[:, 0] & ~rows[:, -1] & ~columns[:, 0] & ~columns[:, -1]
    assert int(whole.sum()) > 30
    assert float((rows.sum(1) - height)[whole].abs().max()) < 1
    assert float((columns.sum(1) - width)[whole].abs().max()) < 1
    for row in whole.nonzero()[:, 0][:10]:
        colours = looked.observation["camera"][row, 0][covered[row]].unique(dim=0)
        assert 2 <= len(colours) <= 4
    textures = looked.observation["camera"][whole].flatten(1).unique(dim=0)
    assert len(textures) == int(whole.sum()), "rows share a texture"


def test_pictures_and_moments_show_the_patch_where_it_is_at_their_time():
    config = views.Patch.Config(size=(0.2, 0.5), speed=0.1)
    stack = ONE.paced(Pace(step=3, frames=FRAMES, apart=2))
    view, single = config.build(stack), config.build(ONE)
    u = uniform(5, view.uniform)
    given = torch.zeros(5, 5, *stack.observations["camera"].shape, dtype=torch.uint8)
    seen = unstacked(view.look({"camera": given}, u).observation["camera"], FRAMES)
    alone = single.look({"camera": torch.zeros(5, 13, 16, 20, 3, dtype=torch.uint8)}, u).observation["camera"]
    compared = 0
    for t in range(5):
        for i in range(FRAMES):
            if 3 * t - 2 * i >= 0:
                assert torch.equal(seen[:, t, i], alone[:, 3 * t - 2 * i]), (t, i)
                compared += 1
    assert compared == 12
    assert not torch.equal(alone[:, 0], alone[:, 3]), "it stands still"


def test_a_patch_turns_at_the_edges_and_goes_steadily_between():
    view = views.Patch.Config(size=(0.2, 0.2), speed=0.2).build(ONE)
    looked = view.look({"camera": torch.zeros(30, 60, 16, 20, 3, dtype=torch.uint8)}, uniform(30, view.uniform))
    rows = (looked.observation["camera"] > 0).any(-1).any(3).double()
    inside = (rows[..., 0] + rows[..., -1] == 0) & (rows.sum(2) > 0)
    middle = (rows * torch.arange(16)).sum(2) / rows.sum(2).clamp(min=1)
    speed = looked.parameters[:, 2].abs() * 16
    both = inside[:, 1:] & inside[:, :-1]
    change = middle.diff(dim=1).abs()
    assert int(both.sum()) > 500
    assert float((change - speed[:, None])[both].max()) < 1.01
    fast = speed > 2
    turned = (middle.diff(dim=1)[fast].sign() * both[fast]).sum(1).abs() < both[fast].sum(1)
    assert bool(turned.all()), "some never turn"


# Another camera's look ------------------------------------------------------------------------------------------


def test_another_look_changes_every_picture_and_nothing_else():
    signature = Signature({
        "front": ObservationSpec("image", (16, 20, 3)), "side": ObservationSpec("image", (24, 24, 1)),
        "infrared": ObservationSpec("image", (12, 12, 5)), "state": ObservationSpec("vector", (4,)),
    }, EVERY.action).paced(Pace(frames=2))
    view = views.AnotherLook(moments=2).build(signature)
    given = observe(signature, 6, 5)
    looked = view.look(given, uniform(6, view.uniform))
    assert view.parameters[0] == "0.start"
    starts = looked.parameters[:, 0].long()
    for name, x in given.items():
        kept = torch.stack([x[row, start : start + 2] for row, start in enumerate(starts)])
        seen = looked.observation[name]
        assert seen.shape == kept.shape
        alike = (seen == kept).flatten(1).all(1)
        assert int(alike.sum()) == (6 if name == "state" else 0), name


@pytest.mark.parametrize(("make", "words"), [
    (lambda: views.Translate.Config(pixels=16).build(ONE), "0 to 15 pixels"),
    (lambda: views.Translate.Config(pixels=-1).build(ONE), "0 to 15 pixels"),
    (lambda: views.Zoom.Config(factor=(0.1, 1.0)), "`factor`"),
    (lambda: views.Zoom.Config(probability=2.0), "`probability`"),
    (lambda: views.Patch.Config(size=(0.5, 0.1)), "`size`"),
    (lambda: views.Patch.Config(speed=-1.0), "`speed`"),
    (lambda: views.Patch.Config(speed=math.inf), "`speed`"),
    (lambda: views.Patch.Config(tiles=0), "at least 1 tile"),
    (lambda: views.Colour.Config(tint=1.5), "`tint`"),
    (lambda: views.AnotherLook(moments=-1), r"0 moments \(all\) or more"),
    (lambda: views.AnotherLook(noise=-1.0), "`deviation`"),
    (lambda: views.AnotherLook(factor=(2.0, 1.0)), "`factor`"),
    (lambda: views.AnotherLook().build(Signature({"s": ObservationSpec("vector", (2,))}, EVERY.action)),
     "use a view that fits the data"),
    (lambda: views.Noise.Config(scale=(1.0,) * 9).build(STACK), "3 scales, one for each channel"),
])
def test_impossible_settings_are_refused_in_one_line(make, words):
    with pytest.raises(ConfigError, match=words) as error:
        make()
    assert "\n" not in str(error.value)


def test_a_stack_of_grey_pictures_has_light_and_no_colours():
    grey = Signature({"camera": ObservationSpec("image", (8, 8, 1))}, EVERY.action).paced(Pace(frames=3))
    with pytest.raises(ConfigError, match="set saturation, hue, grey and tint to 0"):
        views.Colour.Config().build(grey)
    view = views.Colour.Config(saturation=0, hue=0, grey=0, probability=1.0).build(grey)
    given = observe(grey)
    looked = view.look(given, uniform(3, 6))
    b, c = looked.parameters[0, :2].tolist()
    x = given["camera"][0].float() * b
    expected = (c * x + (1 - c) * x.mean()).clamp(0, 255)
    assert float((looked.observation["camera"][0].float() - expected).abs().max()) < 0.52
    assert stacked(unstacked(given["camera"], 3)).equal(given["camera"])
