"""What holds for every view: rows by themselves, randomness from u alone, shapes, refusals; and what each one does."""

from __future__ import annotations

import math

import msgspec
import pytest
import torch
from seen_kinds import EVERY, observe, only, uniform
from torch.nn import functional as F

from steersman.core import ConfigError, MismatchError, ObservationSpec, Signature
from steersman.core.looking import View
from steersman.core.parts import convert, registered
from steersman.core.view_configs import ViewConfig
from steersman.perception import views

CONFIGS = [
    views.ResizedCrop.Config(), views.Flip.Config(vertical=0.5), views.Colour.Config(), views.Blur.Config(),
    views.Rotation.Config(), views.Noise.Config(), views.Noise.Config(probability=0.5),
    views.TimeCrop.Config(moments=3), views.SpaceCrop.Config(size=(5, 7)), views.Roll.Config(), views.Gain.Config(),
    views.TimeShift.Config(samples=20),
    views.Translate.Config(), views.Zoom.Config(probability=0.7), views.Patch.Config(probability=0.8),
    views.AnotherLook(moments=2), views.ColumnDropout.Config(share=0.5), views.TokenDropout.Config(share=(0.5, 0.5)),
    views.Chain.Config(views=(views.ResizedCrop.Config(), views.Colour.Config(), views.Noise.Config(),
                              views.TimeCrop.Config(moments=2))),
]
each = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__struct_config__.tag)


def test_every_view_is_tried_here():
    assert {type(config) for config in CONFIGS} == {
        config for config in registered(View) if config.__module__.startswith("steersman.")}


@each
def test_a_row_is_seen_alike_whatever_the_batch_around_it(config):
    view, seen = config.build(EVERY), observe(EVERY, 5)
    u = uniform(5, view.uniform)
    torch.manual_seed(0)
    whole = view.look(seen, u)
    torch.manual_seed(1)
    order = torch.tensor([3, 1])
    some = view.look({name: x[order] for name, x in seen.items()}, u[order])
    assert torch.equal(some.parameters, whole.parameters[order])
    for name, x in whole.observation.items():
        assert torch.equal(some.observation[name], x[order]), name
        alone = view.look({n: y[4:] for n, y in seen.items()}, u[4:]).observation[name]
        assert torch.equal(alone, x[4:]), name


@each
def test_what_is_shown_is_what_the_signature_says_and_differs_from_what_was_given(config):
    view, given = config.build(EVERY), observe(EVERY)
    kept = {name: x.clone() for name, x in given.items()}
    looked = view.look(given, uniform(3, view.uniform))
    assert all(torch.equal(given[name], x) for name, x in kept.items()), "the observation was written into"
    assert looked.parameters.shape == (3, len(view.parameters))
    assert looked.parameters.dtype == torch.float32
    assert looked.observation.keys() == given.keys()
    for name, spec in view.shown.observations.items():
        x = looked.observation[name]
        assert tuple(x.shape[2:]) == spec.shape
        assert x.dtype == getattr(torch, spec.dtype)
    changed = [name for name, x in given.items()
               if x.shape != looked.observation[name].shape or not torch.equal(x, looked.observation[name])]
    assert changed


FRESH = ("noise", "patch", "token-dropout", "time-crop", "time-shift", "chain", "another-look")
"""What differs from moment to moment by what it is."""


@pytest.mark.parametrize("config", [c for c in CONFIGS if c.__struct_config__.tag not in FRESH], ids=str)
def test_moments_of_a_row_are_seen_alike(config):
    view, given = config.build(EVERY), observe(EVERY, t=1)
    still = {name: x.expand(-1, 4, *x.shape[2:]) for name, x in given.items()}
    looked = view.look(still, uniform(3, view.uniform))
    for name, x in looked.observation.items():
        assert torch.equal(x, x[:, :1].expand_as(x)), name


@each
def test_its_config_survives_json(config):
    assert convert(msgspec.json.decode(msgspec.json.encode(config)), ViewConfig) == config


@pytest.mark.parametrize(("config", "names"), [
    (views.ResizedCrop.Config(), ("state",)), (views.Roll.Config(), ("camera",)), (views.Gain.Config(), ("flow",)),
    (views.ColumnDropout.Config(), ("text",)), (views.TokenDropout.Config(), ("sound",)),
    (views.Noise.Config(), ("text",)), (views.Flip.Config(observations=("state",)), ("camera", "state")),
    (views.Flip.Config(observations=("depth",)), ("camera",)),
    (views.Chain.Config(views=(views.Flip.Config(),)), ("state",)),
])
def test_a_view_that_the_data_cannot_give_is_refused_in_one_line(config, names):
    with pytest.raises(ConfigError, match="use a view that fits the data") as error:
        config.build(only(*names))
    assert "\n" not in str(error.value)


@each
def test_observations_of_another_world_are_refused(config):
    view, given = config.build(EVERY), observe(EVERY)
    wrong = {name: x[:, :1, :3] for name, x in given.items()}
    with pytest.raises(MismatchError):
        view.look(wrong, uniform(3, view.uniform))
    with pytest.raises(MismatchError, match=r"nothing|no observation"):
        view.look({}, uniform(3, view.uniform))


@pytest.mark.parametrize(("make", "words"), [
    (lambda: views.ResizedCrop.Config(scale=(0.0, 1.0)), "above 0"),
    (lambda: views.ResizedCrop.Config(scale=(0.5, 1.5)), "`scale`"),
    (lambda: views.Flip.Config(horizontal=1.5), "`horizontal`"),
    (lambda: views.Colour.Config(hue=0.7), "`hue`"),
    (lambda: views.Colour.Config().build(_grey()), "set saturation, hue, grey and tint to 0"),
    (lambda: views.Blur.Config(sigma=(0.1, 20.0)).build(EVERY), "more than 40 pixels"),
    (lambda: views.Blur.Config(sigma=(2.0, 1.0)), "`sigma`"),
    (lambda: views.Noise.Config(scale=(1.0, 2.0)).build(EVERY), "one for each channel"),
    (lambda: views.TimeCrop.Config(moments=0), "at least 1 moment"),
    (lambda: views.SpaceCrop.Config(size=(9, 9)).build(EVERY), "crop to fewer points"),
    (lambda: views.SpaceCrop.Config(size=(4,)).build(EVERY), "crop to fewer points"),
    (lambda: views.Roll.Config().build(_closed()), "a periodic axis"),
    (lambda: views.TimeShift.Config(samples=32).build(EVERY), "less than a moment"),
    (lambda: views.TokenDropout.Config(token=50).build(EVERY), r"0\.\.49"),
    (lambda: views.ColumnDropout.Config(fill=(0.0,)).build(EVERY), "4 fills"),
])
def test_impossible_settings_are_refused_in_one_line(make, words):
    with pytest.raises(ConfigError, match=words) as error:
        make()
    assert "\n" not in str(error.value)


def _grey() -> Signature:
    return Signature({"camera": ObservationSpec("image", (8, 8, 1))}, EVERY.action)


def _closed() -> Signature:
    return Signature({"flow": ObservationSpec("field", (8, 8, 1))}, EVERY.action)


# Pictures -------------------------------------------------------------------------------------------------------


def test_a_crop_reads_the_box_that_its_parameters_name():
    view = views.ResizedCrop.Config().build(only("camera"))
    ramp = (torch.arange(16)[:, None] * 10 + torch.arange(20) * 2)[None, None, :, :, None].expand(6, 1, -1, -1, 3)
    looked = view.look({"camera": ramp.to(torch.uint8)}, uniform(6, 4))
    for row in range(6):
        top, left, height, width = looked.parameters[row].double().tolist()
        for i in range(16):
            for j in range(20):
                y, x = (top + height * (i + 0.5) / 16) * 16 - 0.5, (left + width * (j + 0.5) / 20) * 20 - 0.5
                expected = min(max(y, 0), 15) * 10 + min(max(x, 0), 19) * 2
                assert abs(float(looked.observation["camera"][row, 0, i, j, 0]) - expected) < 0.51


def test_crops_have_the_areas_aspects_and_places_that_were_asked_for():
    view = views.ResizedCrop.Config(scale=(0.3, 0.5), aspect=(0.5, 2.0)).build(only("camera"))
    p = view.look(observe(only("camera"), 4000, 1), uniform(4000, 4)).parameters
    top, left, height, width = p.unbind(1)
    inside = (height < 1) & (width < 1)
    area, aspect = (height * width)[inside], (width / height)[inside]
    assert 0.2999 < float(area.min()) < 0.31
    assert 0.49 < float(area.max()) < 0.5001
    assert 0.499 < float(aspect.min()) < 0.55
    assert 1.8 < float(aspect.max()) < 2.001
    assert abs(float(aspect.log().mean())) < 0.03
    assert float((top + height).max()) <= 1.00001
    assert abs(float((left / (1 - width)).nanmean()) - 0.5) < 0.03


def test_the_whole_picture_is_a_crop_and_no_angle_is_a_rotation():
    given = observe(only("camera"))
    for config in (views.ResizedCrop.Config(scale=(1.0, 1.0), aspect=(1.0, 1.0)), views.Rotation.Config(probability=0),
                   views.Colour.Config(probability=0, grey=0), views.Blur.Config(probability=0),
                   views.Noise.Config(probability=0), views.Zoom.Config(probability=0),
                   views.Zoom.Config(factor=(1.0, 1.0)), views.Translate.Config(pixels=0),
                   views.Patch.Config(probability=0)):
        view = config.build(only("camera"))
        assert torch.equal(view.look(given, uniform(3, view.uniform)).observation["camera"], given["camera"]), config


def test_flips_are_exact_and_as_often_as_asked():
    view = views.Flip.Config(horizontal=1.0, vertical=1.0).build(only("camera"))
    given = observe(only("camera"))
    assert torch.equal(view.look(given, uniform(3, 2)).observation["camera"], given["camera"].flip(2, 3))
    seldom = views.Flip.Config(horizontal=0.3).build(only("camera"))
    some = seldom.look(observe(only("camera"), 2000, 1), uniform(2000, 2))
    assert abs(float(some.parameters[:, 0].mean()) - 0.3) < 0.03
    assert float(some.parameters[:, 1].max()) == 0


@pytest.mark.parametrize("fill", ["border", "reflection", "grey"])
def test_a_quarter_turn_is_exact_and_anticlockwise(fill):
    square = Signature({"camera": ObservationSpec("image", (9, 9, 3))}, EVERY.action)
    view = views.Rotation.Config(degrees=(90.0, 90.0), fill=fill).build(square)
    given = observe(square)["camera"]
    turned = view.look({"camera": given}, uniform(3, 2)).observation["camera"]
    assert torch.equal(turned, given.rot90(1, (2, 3)))


def test_corners_beyond_the_edge_are_filled_with_grey():
    square = Signature({"camera": ObservationSpec("image", (9, 9, 3))}, EVERY.action)
    view = views.Rotation.Config(degrees=(45.0, 45.0), fill="grey").build(square)
    turned = view.look({"camera": torch.zeros(1, 1, 9, 9, 3, dtype=torch.uint8)}, uniform(1, 2)).observation["camera"]
    assert int(turned[0, 0, 0, 0, 0]) == 128
    assert int(turned[0, 0, 4, 4, 0]) == 0


def test_colours_equal_the_stages_one_after_the_other():
    view = views.Colour.Config(probability=1.0, saturation=0.5, grey=0.3).build(only("camera"))
    given = observe(only("camera"), 12, 2)
    looked = view.look(given, uniform(12, 6))
    luma = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    yiq = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]]).double()
    assert len(looked.parameters[:, 4].unique()) == 2
    for row in range(12):
        b, c, s, h, grey = looked.parameters[row].double().tolist()
        x = given["camera"][row].double() * b
        x = c * x + (1 - c) * (x @ luma).mean()
        x = s * x + (1 - s) * (x @ luma)[..., None]
        cos, sin = math.cos(2 * math.pi * h), math.sin(2 * math.pi * h)
        turn = torch.tensor([[1, 0, 0], [0, cos, -sin], [0, sin, cos]], dtype=torch.float64)
        x = x @ (torch.linalg.inv(yiq) @ turn @ yiq).T
        x = (x @ luma)[..., None].expand_as(x) if grey else x
        error = looked.observation["camera"][row].double() - x.clamp(0, 255)
        assert float(error.abs().max()) < 0.52, row


def test_one_channel_has_brightness_and_contrast():
    view = views.Colour.Config(saturation=0, hue=0, grey=0, probability=1.0).build(_grey())
    given = observe(_grey())
    looked = view.look(given, uniform(3, 6))
    b, c = looked.parameters[0, :2].tolist()
    x = given["camera"][0].float() * b
    expected = (c * x + (1 - c) * x.mean()).clamp(0, 255)
    assert float((looked.observation["camera"][0].float() - expected).abs().max()) < 0.52


def test_blur_equals_a_convolution_of_each_row():
    view = views.Blur.Config(sigma=(0.5, 2.0), probability=0.4).build(only("camera"))
    given = observe(only("camera"), 6, 1)
    looked = view.look(given, uniform(6, 2, seed=2))
    sigmas = looked.parameters[:, 0]
    assert 0 < int((sigmas == 0).sum()) < 6
    for row in range(6):
        offsets = torch.arange(-4, 5)
        kernel = torch.exp(-0.5 * (offsets / sigmas[row]) ** 2) if sigmas[row] else (offsets == 0).float()
        kernel = kernel / kernel.sum()
        x = F.pad(given["camera"][row].permute(0, 3, 1, 2).float(), (4, 4, 4, 4), mode="reflect")
        expected = F.conv2d(x, (kernel[:, None] * kernel).expand(3, 1, 9, 9).contiguous(), groups=3)
        error = looked.observation["camera"][row].permute(0, 3, 1, 2).float() - expected
        assert float(error.abs().max()) < 0.51


# Other kinds ----------------------------------------------------------------------------------------------------


def test_noise_has_the_deviation_that_its_parameter_says_in_each_channels_unit():
    sig = only("state")
    view = views.Noise.Config(deviation=(0.5, 1.0), scale=(1.0, 10.0, 100.0, 0.0)).build(sig)
    given = observe(sig, 4, 2000)
    looked = view.look(given, uniform(4, view.uniform))
    added = (looked.observation["state"] - given["state"]) / looked.parameters[:, :1, None]
    torch.testing.assert_close(added.std(1).mean(0), torch.tensor([1.0, 10.0, 100.0, 0.0]), rtol=0.05, atol=1e-6)
    assert abs(float((added[0, :, 0] * added[1, :, 0]).mean())) < 0.1, "rows share their noise"
    assert abs(float((added[0, 1:, 0] * added[0, :-1, 0]).mean())) < 0.1, "moments share it"


def test_a_piece_of_a_clip_is_cut_at_one_place_from_all_observations():
    view = views.TimeCrop.Config(moments=3).build(EVERY)
    given = observe(EVERY, 200, 6)
    looked = view.look(given, uniform(200, 1))
    starts = looked.parameters[:, 0].long()
    assert starts.unique().tolist() == [0, 1, 2, 3]
    for row in (0, 7, 100):
        piece = slice(int(starts[row]), int(starts[row]) + 3)
        assert all(torch.equal(x[row], given[name][row, piece]) for name, x in looked.observation.items())
    with pytest.raises(MismatchError, match="use longer windows"):
        view.look(observe(EVERY, 2, 2), uniform(2, 1))


def test_a_part_of_a_field_may_reach_over_a_periodic_end_and_no_other():
    view = views.SpaceCrop.Config(size=(5, 7)).build(EVERY)
    given = observe(EVERY, 300)["flow"]
    looked = view.look({"flow": given}, uniform(300, 2))
    first = looked.parameters.long()
    assert sorted(first[:, 0].unique().tolist()) == list(range(8))
    assert sorted(first[:, 1].unique().tolist()) == list(range(6))
    for row in range(0, 300, 37):
        x = given[row].roll((-int(first[row, 0]), -int(first[row, 1])), (1, 2))[:, :5, :7]
        assert torch.equal(looked.observation["flow"][row], x)
    spec = view.shown.observations["flow"]
    assert (spec.shape, spec.extent, spec.periodic) == ((5, 7, 2), (1.25, 1.75), (False, False))
    assert view.shown.observations["camera"] == EVERY.observations["camera"]
    whole = views.SpaceCrop.Config(size=(8, 7)).build(EVERY).shown.observations["flow"]
    assert whole.periodic == (True, False)


def test_a_roll_is_exact_and_along_periodic_axes_only():
    view = views.Roll.Config().build(EVERY)
    given = observe(EVERY, 100)["flow"]
    looked = view.look({"flow": given}, uniform(100, 2))
    shifts = looked.parameters.long()
    assert sorted(shifts[:, 0].unique().tolist()) == list(range(8))
    assert int(shifts[:, 1].abs().max()) == 0
    for row in (0, 50):
        assert torch.equal(looked.observation["flow"][row], given[row].roll(int(shifts[row, 0]), 1))


@pytest.mark.parametrize("axes", [1, 3])
def test_fields_of_one_and_three_axes(axes):
    sig = Signature({"flow": ObservationSpec("field", (*(6, 5, 4)[:axes], 2), periodic=(True,) * axes)}, EVERY.action)
    given = observe(sig, 4, 2)["flow"]
    looked = views.Roll.Config().build(sig).look({"flow": given}, uniform(4, axes))
    shifts = looked.parameters[2].long().tolist()
    assert torch.equal(looked.observation["flow"][2], given[2].roll(shifts, tuple(range(1, axes + 1))))
    cut = views.SpaceCrop.Config(size=(3, 2, 2)[:axes]).build(sig).look({"flow": given}, uniform(4, axes))
    first = [-int(x) for x in cut.parameters[2]]
    expected = given[2].roll(first, tuple(range(1, axes + 1)))[(slice(None), *map(slice, (3, 2, 2)[:axes]))]
    assert torch.equal(cut.observation["flow"][2], expected)


def test_gain_is_in_decibels():
    view = views.Gain.Config(decibels=(20.0, 20.0)).build(only("sound"))
    given = observe(only("sound"))["sound"]
    looked = view.look({"sound": given}, uniform(3, 2)).observation["sound"]
    torch.testing.assert_close(looked, 10 * given)


def test_a_shift_moves_samples_over_moments_and_mirrors_at_the_ends():
    view = views.TimeShift.Config(samples=5).build(only("sound"))
    given = observe(only("sound"), 200)["sound"]
    looked = view.look({"sound": given}, uniform(200, 1))
    shifts = looked.parameters[:, 0].long()
    assert sorted(shifts.unique().tolist()) == list(range(-5, 6))
    for row in (0, 9, 60):
        clip, k = given[row].flatten(0, 1), int(shifts[row])
        padded = F.pad(clip.T[None], (5, 5), mode="reflect")[0].T
        assert torch.equal(looked.observation["sound"][row].flatten(0, 1), padded[5 - k : 5 - k + len(clip)])


def test_dropped_columns_are_named_and_hold_their_fill():
    view = views.ColumnDropout.Config(share=0.3, fill=(1.0, 2.0, 3.0, 4.0)).build(only("state"))
    assert view.parameters == ("state.a", "state.b", "state.c", "state.d")
    given = observe(only("state"), 3000, 1)["state"]
    looked = view.look({"state": given}, uniform(3000, 4))
    missing = looked.parameters.bool()
    assert abs(float(looked.parameters.mean()) - 0.3) < 0.02
    expected = torch.where(missing[:, None], torch.tensor([1.0, 2.0, 3.0, 4.0]), given)
    assert torch.equal(looked.observation["state"], expected)


def test_tokens_are_dropped_as_often_as_the_parameter_says():
    view = views.TokenDropout.Config(share=(0.2, 0.6), token=49).build(only("text"))
    given = {"text": torch.zeros(8, 500, 10, dtype=torch.int32)}
    looked = view.look(given, uniform(8, view.uniform))
    share = (looked.observation["text"] == 49).float().mean((1, 2))
    torch.testing.assert_close(share, looked.parameters[:, 0], atol=0.03, rtol=0)


def test_a_chain_hands_each_view_what_the_one_before_shows():
    config = views.Chain.Config(views=(views.SpaceCrop.Config(size=(5, 7)), views.SpaceCrop.Config(size=(3, 3)),
                                       views.TimeCrop.Config(moments=2)))
    chain, given = config.build(EVERY), observe(EVERY)
    u = uniform(3, chain.uniform)
    assert chain.parameters == ("0.first.0", "0.first.1", "1.first.0", "1.first.1", "2.start")
    assert chain.shown.observations["flow"].shape == (3, 3, 2)
    one = chain.views[0].look(given, u[:, :2])
    two = chain.views[1].look(one.observation, u[:, 2:4])
    three = chain.views[2].look(two.observation, u[:, 4:])
    looked = chain.look(given, u)
    assert all(torch.equal(looked.observation[name], x) for name, x in three.observation.items())
    assert torch.equal(looked.parameters, torch.cat([one.parameters, two.parameters, three.parameters], 1))
    with pytest.raises(ConfigError, match=r"draw `view\.uniform` a row"):
        chain.look(given, u[:, :3])
    nothing = views.Chain.Config().build(EVERY).look(given, torch.empty(3, 0))
    assert nothing.parameters.shape == (3, 0)
    assert nothing.observation is given
