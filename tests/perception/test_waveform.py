"""The encoder of waveforms: both fronts, calibration, silence, refusals."""

from __future__ import annotations

import math

import pytest
import torch
from seen_kinds import EVERY, observe, only

from steersman.core import ConfigError, MismatchError, ObservationSpec, Signature
from steersman.nn.grid_convolution import GridConv
from steersman.perception import WaveformEncoder

SMALL = {"patch": 4, "widths": (6, 8), "size": 5}
fronts = pytest.mark.parametrize("front", ["spectrum", "samples"])


@fronts
@pytest.mark.parametrize("pool", ["flatten", "mean", "tokens"])
@pytest.mark.parametrize("shape", [(32, 2), (33, 1), (1, 3), (2, 1)])
def test_any_length_gives_the_declared_shapes_and_gradients_reach_every_weight(front, pool, shape):
    sig = Signature({"sound": ObservationSpec("waveform", shape)}, EVERY.action)
    encoder = WaveformEncoder.Config(front=front, pool=pool, **SMALL).build(sig)
    for module in encoder.stages.modules():
        if isinstance(module, GridConv):
            torch.nn.init.normal_(module.convolution.weight)
    state = encoder.encode(observe(sig)).state
    assert state.shape == (3, 4, *encoder.latent_shape)
    torch.testing.assert_close(encoder.encode({"sound": observe(sig)["sound"][:, 1]}).state, state[:, 1])
    (state * torch.randn_like(state)).sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in encoder.parameters())


def test_the_spectrum_knows_the_tone_and_not_its_phase():
    sig = Signature({"sound": ObservationSpec("waveform", (64, 1))}, EVERY.action)
    encoder = WaveformEncoder.Config(**SMALL).build(sig)
    time, phase = torch.arange(64) / 64, torch.tensor([0.0, 0.7, 2.0])[:, None]
    tones = {k: torch.sin(2 * math.pi * k * time + phase)[..., None] for k in (8, 12)}
    encoder.calibrate({"sound": torch.cat(list(tones.values()))})
    front = {k: encoder._front(x) for k, x in tones.items()}
    assert front[8].mean(0)[:, 0].argmax() == 8
    assert front[12].mean(0)[:, 0].argmax() == 12
    states = {k: encoder.encode({"sound": x}).state.detach() for k, x in tones.items()}
    between = float((states[8] - states[12]).norm(dim=-1).mean())
    within = max(float((s - s.mean(0)).norm(dim=-1).max()) for s in states.values())
    assert within < 0.3 * between


@fronts
def test_values_enter_with_zero_mean_and_unit_deviation_and_silence_is_no_outlier(front):
    encoder = WaveformEncoder.Config(front=front, **SMALL).build(only("sound"))
    sound = observe(only("sound"), 1, 400)["sound"][0] * torch.tensor([1e-3, 50.0]) + torch.tensor([0.0, 3.0])
    encoder.calibrate({"sound": sound})
    x = (encoder._front(sound) - encoder.mean) / encoder.deviation
    dims = (0,) if front == "spectrum" else (0, 1)
    torch.testing.assert_close(x.mean(dims), torch.zeros(x.mean(dims).shape), atol=1e-3, rtol=0)
    torch.testing.assert_close(x.std(dims, correction=0), torch.ones(x.std(dims).shape), atol=1e-3, rtol=0)
    silent = (encoder._front(torch.zeros(1, 32, 2)) - encoder.mean) / encoder.deviation
    assert float(silent.abs().max()) < 25
    flat = WaveformEncoder.Config(front=front, **SMALL).build(only("sound"))
    flat.calibrate({"sound": torch.zeros(10, 32, 2)})
    assert bool(torch.isfinite(flat.encode({"sound": torch.zeros(1, 1, 32, 2)}).state).all())


def test_what_does_not_fit_is_refused_in_one_line():
    with pytest.raises(ConfigError, match="exactly one observation of kind waveform; got text"):
        WaveformEncoder.Config().build(only("text"))
    with pytest.raises(ConfigError, match="positive sizes"):
        WaveformEncoder.Config(patch=0)
    encoder = WaveformEncoder.Config(**SMALL).build(only("sound"))
    for wrong in ({"sound": torch.zeros(2, 3, 31, 2)}, {"state": torch.zeros(2, 3, 4)}):
        with pytest.raises(MismatchError, match=r"'sound' of float32 and shape \(…, 32, 2\)"):
            encoder.encode(wrong)
