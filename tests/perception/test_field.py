"""The encoder of fields: one to three axes, periodic or not, calibration, refusals."""

from __future__ import annotations

import pytest
import torch
from seen_kinds import EVERY, observe, only

from steersman.core import ConfigError, MismatchError, ObservationSpec, Signature
from steersman.nn.grid_convolution import GridConv, coarse, extended
from steersman.perception import FieldEncoder

SMALL = {"patch": 2, "widths": (6, 8), "size": 5}


def field(*points: int, channels: int = 2, periodic: tuple[bool, ...] = (), **more: int) -> Signature:
    spec = ObservationSpec("field", (*points, channels), periodic=periodic)
    return Signature({"flow": spec}, EVERY.action)


@pytest.mark.parametrize("pool", ["flatten", "mean", "tokens"])
@pytest.mark.parametrize("edge", ["replicate", "zero"])
@pytest.mark.parametrize(("points", "periodic"), [
    ((9,), (True,)), ((8, 5), ()), ((8, 5), (True, False)), ((6, 4, 5), (False, True, True)), ((1, 3), (True, True)),
])
def test_any_grid_gives_the_declared_shapes_and_gradients_reach_every_weight(points, periodic, edge, pool):
    sig = field(*points, periodic=periodic)
    encoder = FieldEncoder.Config(pool=pool, edge=edge, **SMALL).build(sig)
    for module in encoder.stages.modules():  # blocks start at zero, where no gradient passes
        if isinstance(module, GridConv):
            torch.nn.init.normal_(module.convolution.weight)
    state = encoder.encode(observe(sig)).state
    assert state.shape == (3, 4, *encoder.latent_shape)
    rows = {name: x[:, 0] for name, x in observe(sig).items()}
    torch.testing.assert_close(encoder.encode(rows).state, state[:, 0])
    (state * torch.randn_like(state)).sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in encoder.parameters())
    assert encoder.token_grid is None


def _stirred(encoder: FieldEncoder) -> FieldEncoder:
    for p in encoder.stages.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return encoder


@pytest.mark.parametrize("points", [(16,), (8, 12), (4, 8, 4)])
def test_a_periodic_field_has_no_beginning(points):
    sig = field(*points, periodic=(True,) * len(points))
    given = observe(sig)["flow"]
    shifts, axes = [4] * len(points), tuple(range(2, 2 + len(points)))
    rolled = {"flow": given.roll(shifts, axes)}
    mean = _stirred(FieldEncoder.Config(**{**SMALL, "pool": "mean"}).build(sig))
    torch.testing.assert_close(mean.encode(rolled).state, mean.encode({"flow": given}).state)
    tokens = _stirred(FieldEncoder.Config(**{**SMALL, "pool": "tokens"}).build(sig))
    places = coarse(points, 2, 2)
    before, after = (tokens.encode(x).state.unflatten(2, places) for x in ({"flow": given}, rolled))
    torch.testing.assert_close(after, before.roll([1] * len(points), axes))
    closed = field(*points)
    walls = _stirred(FieldEncoder.Config(**{**SMALL, "pool": "mean"}).build(closed))
    assert not torch.allclose(walls.encode(rolled).state, walls.encode({"flow": given}).state)


def test_axes_are_continued_each_in_its_own_way():
    x = torch.arange(12.0).view(1, 1, 3, 4)
    y = extended(x, 1, [1, 2], (True, False), "replicate")
    assert y.shape == (1, 1, 5, 7)
    assert y[0, 0, 0].tolist() == [8, 8, 9, 10, 11, 11, 11]
    assert y[0, 0, 4].tolist() == [0, 0, 1, 2, 3, 3, 3]
    z = extended(x, 1, [1, 1], (False, True), "zero")
    assert z[0, 0, 0].tolist() == [0] * 6
    assert z[0, 0, 1].tolist() == [3, 0, 1, 2, 3, 0]


def test_channels_enter_with_zero_mean_and_unit_deviation():
    sig = field(8, 8, channels=3)
    encoder = FieldEncoder.Config(**SMALL).build(sig)
    rows = observe(sig, 1, 200)["flow"][0] * torch.tensor([5.0, 0.0, 1e-3]) + torch.tensor([100.0, 7.0, 0.0])
    before = encoder.encode({"flow": rows}).state
    encoder.calibrate({"flow": rows})
    torch.testing.assert_close(encoder.mean, rows.mean((0, 1, 2)))
    assert float(encoder.deviation[1]) == 1, "a constant channel"
    torch.testing.assert_close(encoder.deviation[::2], rows.std((0, 1, 2), correction=0)[::2])
    assert not torch.allclose(encoder.encode({"flow": rows}).state, before)
    assert {"mean", "deviation"} <= encoder.state_dict().keys()


def test_what_does_not_fit_is_refused_in_one_line():
    with pytest.raises(ConfigError, match="exactly one observation of kind field; got camera"):
        FieldEncoder.Config().build(only("camera"))
    with pytest.raises(ConfigError, match="an observation 'state' of kind field"):
        FieldEncoder.Config(field="state").build(only("state", "flow"))
    with pytest.raises(ConfigError, match="positive sizes"):
        FieldEncoder.Config(widths=())
    encoder = FieldEncoder.Config(**SMALL).build(only("flow"))
    for wrong in ({"flow": torch.zeros(2, 3, 8, 11, 2)}, {"flow": torch.zeros(2, 8, 12, 2, dtype=torch.uint8)}, {}):
        with pytest.raises(MismatchError, match=r"'flow' of float32 and shape \(…, 8, 12, 2\)") as error:
            encoder.encode(wrong)
        assert "\n" not in str(error.value)
