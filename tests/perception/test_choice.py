"""The plain choice of an encoder reads everything that a log has."""

from __future__ import annotations

import msgspec
import pytest
import torch
from seen_kinds import EVERY, observe, only

from steersman.core import ActionSpec, ConfigError, ObservationSpec, PerceptionConfig, Signature
from steersman.core.parts import convert
from steersman.perception import (
    ConvEncoder,
    FieldEncoder,
    MixedEncoder,
    TokenEncoder,
    VectorEncoder,
    WaveformEncoder,
    for_signature,
)

VECTORS = Signature({"a": ObservationSpec("vector", (2,)), "b": ObservationSpec("vector", (3,))}, ActionSpec("none"))


@pytest.mark.parametrize(("signature", "kind", "size"), [
    (only("camera"), ConvEncoder, 7), (only("flow"), FieldEncoder, 7), (only("sound"), WaveformEncoder, 7),
    (only("text"), TokenEncoder, 7), (only("state"), VectorEncoder, 11), (VECTORS, VectorEncoder, 12),
    (only("sound", "state"), MixedEncoder, 7), (EVERY, MixedEncoder, 7),
], ids=lambda x: getattr(x, "__name__", ""))
def test_every_observation_is_read_and_gradients_flow(signature, kind, size):
    config = for_signature(signature, 7)
    assert type(config) is kind.Config
    assert convert(msgspec.json.decode(msgspec.json.encode(config)), PerceptionConfig) == config
    encoder = config.build(signature)
    assert encoder.latent_shape == (size,)
    given = observe(signature)
    encoder.calibrate({name: x.flatten(0, 1) for name, x in given.items()})
    state = encoder.encode(given).state
    assert state.shape == (3, 4, size)
    state.square().sum().backward()
    for name, x in given.items():
        assert not torch.allclose(encoder.encode({**given, name: x.flip(0)}).state, state), name


def test_nothing_to_see_is_refused():
    with pytest.raises(ConfigError, match="at least one observation"):
        for_signature(Signature({}, ActionSpec("none")))
