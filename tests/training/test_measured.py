"""A value that is only repeated does not count: not in the prediction loss, not in the read-out, not in the probe."""

from __future__ import annotations

import torch

from steersman.core import ActionSpec, ObservationSpec, Signature, Window
from steersman.objectives import Prediction, measured_share, step_errors
from steersman.perception import LinearReadout, MixedEncoder, MLPReadout, VectorEncoder
from steersman.training import RidgeProbe, imagine_windows
from steersman.training.gauges import Moment
from steersman.world_model import ResidualModel

SIGNATURE = Signature(
    {"fast": ObservationSpec("vector", (2,), ("x", "v")), "lab": ObservationSpec("vector", (1,), ("lab",), 4)},
    ActionSpec("continuous", low=(-1.0,), high=(1.0,)),
)
MEASURED = torch.tensor([[True, False, False, False, True], [False, True, False, False, False]]).repeat(4, 1)


def window(seed: int = 0, stale: float = 0.0) -> Window:
    """Eight windows of four steps; `stale` is added to what is not measured."""
    g = torch.Generator().manual_seed(seed)
    lab = torch.randn(8, 5, 1, generator=g)
    fast = torch.randn(8, 5, 2, generator=g)
    lab = lab + stale * ~MEASURED[..., None]
    rows = torch.arange(8)
    return Window({"fast": fast, "lab": lab}, torch.rand(8, 4, 1, generator=g), None, rows, rows, {"lab": MEASURED})


def test_the_prediction_loss_ignores_repeated_values_and_nothing_else() -> None:
    torch.manual_seed(0)
    encoder = VectorEncoder.Config(size=8).build(SIGNATURE)
    model = ResidualModel.Config(width=16).build(SIGNATURE, (8,), None)
    loss = Prediction.Config().build(SIGNATURE, (8,), None)

    def batch(stale: float = 0.0, fast: float = 0.0):  # type: ignore[no-untyped-def]
        w = window(stale=stale)
        w.observations["fast"][:, 2:] += fast
        b = imagine_windows(encoder, model, w, torch.tensor([0]), 4)
        clean = imagine_windows(encoder, model, window(), torch.tensor([0]), 4)
        # the same rollouts, other targets
        return type(b).rolled(w, b.latent, b.starts, clean.predicted, measured=b.measured)

    base = loss(batch())
    assert torch.allclose(base.total, loss(batch(stale=5.0)).total)
    assert not torch.allclose(base.total, loss(batch(fast=5.0)).total)
    share = measured_share(batch())
    assert share is not None
    slow = encoder.blocks["lab"] / 8
    assert torch.allclose(share[:2, 0], torch.tensor([[1 - slow, 1 - slow, 1 - slow, 1], [1, *[1 - slow] * 3]]))
    errors = (batch().predicted.states[:, :, 1:] - batch().targets()).square()
    known = batch().measured_targets()
    assert known is not None
    by_hand = torch.stack([e[k.expand_as(e)].mean() for e, k in zip(errors[:, 0], known[:, 0], strict=True)])
    weights = known.expand_as(errors).float().sum((1, 2, 3))
    assert torch.allclose(base.total, (by_hand * weights).sum() / weights.sum(), rtol=1e-5)
    assert step_errors(batch()).shape == (8, 1, 4)


def test_what_mixes_observations_counts_only_whole_moments() -> None:
    rows = {"lab": MEASURED}
    mixed = MixedEncoder.Config(size=6).build(SIGNATURE).measured(rows)
    assert torch.equal(mixed.expand(8, 5, 6), MEASURED[..., None].expand(8, 5, 6))
    parts = {"fast": VectorEncoder.Config(size=3), "lab": VectorEncoder.Config(size=2)}
    beside = MixedEncoder.Config(parts=parts, size=0).build(SIGNATURE).measured(rows)
    assert bool(beside[..., :3].all())
    assert torch.equal(beside[..., 3:], MEASURED[..., None].expand(8, 5, 2))


def test_readouts_and_probes_learn_a_column_from_its_measurements() -> None:
    g = torch.Generator().manual_seed(0)
    states = torch.randn(400, 6, generator=g)
    values = torch.stack([states[:, 0], 3 * states[:, 1] + 1], 1)
    known = torch.ones(400, 2, dtype=torch.bool)
    known[:, 1] = torch.rand(400, generator=g) < 0.3
    wrong = torch.where(known, values, 100.0)
    for config in (LinearReadout.Config(), MLPReadout.Config(steps=150)):
        readout = config.build(("a", "b"), (6,))
        readout.fit(states, wrong, measured=known)
        assert float((readout.read(states) - values).square().mean()) < 0.1
        assert 2.0 < readout.scale["b"] < 4.0
    probe = RidgeProbe.of(SIGNATURE)
    assert probe is not None
    w = window()
    latent = torch.cat([w.observations["fast"], w.observations["lab"]], -1).detach()
    batch = imagine_windows(
        VectorEncoder.Config(size=8).build(SIGNATURE), ResidualModel.Config().build(SIGNATURE, (8,), None), w,
        torch.tensor([0]), 4,
    )
    stale = window(stale=1e6)
    seen = type(batch).rolled(stale, type(batch.latent)(latent), batch.starts, batch.predicted)
    assert probe(Moment(1, seen))["probe/lab"] < 1.0
