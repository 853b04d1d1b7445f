"""The vector encoder: normalisation by the log, columns side by side, refusals."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ActionSpec, ConfigError, DataError, ObservationSpec, Signature
from steersman.perception import VectorEncoder

SIGNATURE = Signature(
    {
        "a": ObservationSpec("vector", (2,)),
        "b": ObservationSpec("vector", (1,)),
        "i": ObservationSpec("image", (8, 8, 3)),
    },
    ActionSpec("continuous", (-1.0,), (1.0,)),
)


def log(n=500):
    g = torch.Generator().manual_seed(0)
    a = torch.randn(n, 2, generator=g) * torch.tensor([5.0, 0.0]) + torch.tensor([100.0, 7.0])
    return {"a": a, "b": torch.rand(n, 1, generator=g) * 1e-3, "i": torch.zeros(n, 8, 8, 3, dtype=torch.uint8)}


def test_columns_enter_with_zero_mean_and_unit_deviation_and_constants_stay_finite():
    encoder = VectorEncoder.Config().build(SIGNATURE)
    encoder.calibrate(log())
    rows = torch.cat([log()["a"], log()["b"]], -1)
    normal = (rows - encoder.mean) / encoder.deviation
    torch.testing.assert_close(normal.mean(0), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(normal.std(0, correction=0), torch.tensor([1.0, 0.0, 1.0]), atol=1e-3, rtol=0)


def test_statistics_travel_with_the_weights():
    encoder, other = (VectorEncoder.Config().build(SIGNATURE) for _ in range(2))
    encoder.calibrate(log())
    other.load_state_dict(encoder.state_dict())
    observation = {name: value[None, :4] for name, value in log().items()}
    latent = encoder.encode(observation)
    assert latent.state.shape == (1, 4, 32) == (1, 4, *encoder.latent_shape)
    assert latent.context is None
    assert torch.equal(other.encode(observation).state, latent.state)


def test_only_the_named_vectors_are_read():
    encoder = VectorEncoder.Config(observations=("b",), size=4).build(SIGNATURE)
    observation = {name: value[None, :4] for name, value in log().items()}
    before = encoder.encode(observation).state
    observation["a"] = observation["a"] + 1
    assert torch.equal(before, encoder.encode(observation).state)


@pytest.mark.parametrize("names", [("i",), ("nothing",)])
def test_what_is_no_vector_is_refused(names):
    with pytest.raises(ConfigError, match="vector observations"):
        VectorEncoder.Config(observations=names).build(SIGNATURE)


def test_a_signature_without_vectors_is_refused():
    with pytest.raises(ConfigError, match="image encoder"):
        VectorEncoder.Config().build(Signature({"i": SIGNATURE.observations["i"]}, SIGNATURE.action))


def test_observations_of_another_world_are_refused():
    encoder = VectorEncoder.Config().build(SIGNATURE)
    with pytest.raises(DataError, match="add b"):
        encoder.encode({"a": torch.zeros(1, 1, 2)})
    with pytest.raises(DataError, match="3 columns"):
        encoder.encode({"a": torch.zeros(1, 1, 5), "b": torch.zeros(1, 1, 1)})


def test_kept_columns_are_the_first_entries_of_the_latent():
    encoder = VectorEncoder.Config(size=4, keep=True).build(SIGNATURE)
    width = sum(spec.shape[0] for spec in SIGNATURE.observations.values() if spec.kind == "vector")
    observation = {
        name: 3 + 2 * torch.randn(5, 7, *spec.shape)
        for name, spec in SIGNATURE.observations.items() if spec.kind == "vector"
    }
    encoder.calibrate(observation)
    state = encoder.encode(observation).state
    assert encoder.latent_shape == (width + 4,) == state.shape[2:]
    columns = torch.cat([observation[name] for name in encoder.observations], -1)
    torch.testing.assert_close(state[..., :width] * encoder.deviation + encoder.mean, columns)


def test_columns_alone_are_a_latent_and_nothing_is_trained():
    encoder = VectorEncoder.Config(size=0, keep=True, hidden=()).build(SIGNATURE)
    encoder.calibrate(log())
    rows = torch.cat([log()["a"], log()["b"]], -1)[None]
    state = encoder.encode({name: value[None] for name, value in log().items()}).state
    assert encoder.latent_shape == (3,)
    assert torch.equal(state, (rows - encoder.mean) / encoder.deviation)
    assert not list(encoder.parameters())
    with pytest.raises(ConfigError, match="size=0 only with keep"):
        VectorEncoder.Config(size=0)
