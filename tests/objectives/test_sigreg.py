import hashlib

import pytest
import torch
from objective_batches import batch, signature

from steersman.core import ConfigError
from steersman.objectives import SIGReg
from steersman.objectives.sigreg import epps_pulley


def build(**config):
    return SIGReg.Config(**{"slices": 64, **config}).build(signature(), (4,), None)


def transcribed(x, knots=17, last=3.0):
    """LeJEPA's listing in float64: one cosine and one sine for every knot, sample and slice."""
    x = x.double()
    t = torch.linspace(0, last, knots, dtype=torch.float64)
    rule = torch.full_like(t, 2 * last / (knots - 1))
    rule[[0, -1]] /= 2
    gaussian = torch.exp(-(t**2) / 2)
    angle = x[..., None] * t
    gap = (angle.cos().mean(-3) - gaussian) ** 2 + angle.sin().mean(-3) ** 2
    return x.shape[-2] * (gap @ (rule * gaussian))


@pytest.mark.parametrize(("shape", "knots", "last"), [((7, 3), 17, 3.0), ((2, 9, 5), 17, 3.0), ((4, 2), 3, 2.0)])
def test_score_and_gradient_equal_the_transcription(shape, knots, last):
    x = (2 * torch.randn(shape, dtype=torch.float64) + 0.5).requires_grad_()
    ours, theirs = epps_pulley(x, knots, last), transcribed(x, knots, last)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    mix = torch.randn_like(ours)
    torch.testing.assert_close(
        *(torch.autograd.grad((y * mix).sum(), x)[0] for y in (ours, theirs)), rtol=1e-10, atol=1e-12
    )


def test_recurrence_holds_in_float32():
    x = torch.cat([torch.randn(200, 50), torch.randn(56, 50) * 30])
    torch.testing.assert_close(epps_pulley(x).double(), transcribed(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [10, 1000])
def test_collapsed_samples_score_forty_percent_of_n(n):
    assert float(epps_pulley(torch.zeros(n, 1)) / n) == pytest.approx(0.402, abs=1e-3)


@pytest.mark.parametrize("n", [32, 128, 1024])
def test_gaussian_samples_score_about_one_whatever_n(n):
    torch.manual_seed(0)
    assert float(epps_pulley(torch.randn(n, 4000)).mean()) == pytest.approx(1.05, abs=0.1)


def test_each_moment_is_tested_apart_or_all_at_once():
    b = batch(windows=50, state=torch.randn(50, 6, 4))
    for per_step in (True, False):
        objective = build(per_step=per_step)
        u = objective.directions(4, torch.device("cpu"))
        torch.testing.assert_close(u.norm(dim=0), torch.ones(64))
        state = b.latent.state.detach()
        samples = state.transpose(0, 1) if per_step else state.flatten(0, 1)
        loss = objective(b)
        assert float(loss.parts["sigreg"]) == pytest.approx(float(transcribed(samples @ u).mean()), rel=1e-4)
        assert float(loss.total) == pytest.approx(0.09 * float(loss.parts["sigreg"]))


def test_slices_are_new_each_call_and_the_same_after_a_resume():
    b, whole = batch(), build()
    values = [float(whole(b).total) for _ in range(4)]
    assert len(set(values)) == 4
    first = build()
    for _ in range(2):
        first(b)
    resumed = build()
    torch.manual_seed(99)  # the global generator has no say
    resumed.load_state_dict(first.state_dict())
    assert [float(resumed(b).total) for _ in range(2)] == values[2:]
    assert float(build(seed=1)(b).total) not in values
    whole.eval()
    assert float(whole(b).total) == float(whole(b).total)


@pytest.mark.parametrize("state", [torch.zeros(6, 6, 4), torch.zeros(1, 6, 4), torch.full((6, 6, 4), 1e4)])
def test_collapse_is_finite_and_scores_high(state):
    b = batch(windows=len(state), state=state)
    loss = build()(b)
    assert float(loss.parts["sigreg"]) > 0.3 * len(state)
    loss.total.backward()
    assert bool(torch.isfinite(b.latent.state.grad).all())


def test_tokens_count_as_samples():
    b = batch(state=torch.randn(6, 6, 3, 4))
    objective = build()
    samples = b.latent.state.detach().transpose(0, 1).reshape(6, 18, 4)
    expected = transcribed(samples @ objective.directions(4, torch.device("cpu"))).mean()
    assert float(objective(b).parts["sigreg"]) == pytest.approx(float(expected), rel=1e-4)


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="knots >= 3"):
        SIGReg.Config(knots=2)


def test_with_subspaces_each_slice_lies_in_one_of_them_and_they_stay():
    objective = SIGReg.Config(slices=40, subspaces=4, subspace_size=3, seed=5).build(signature(), (8,), None)
    bases = objective.bases
    assert bases.shape == (4, 8, 3)
    torch.testing.assert_close(bases.mT @ bases, torch.eye(3).expand(4, 3, 3), atol=1e-5, rtol=0)
    state = torch.randn(20, 6, 8)
    b = batch(windows=20, state=state)
    scores = []
    for _ in range(2):
        u = objective.directions(8, torch.device("cpu"))
        torch.testing.assert_close(u.norm(dim=0), torch.ones(40))
        within = torch.stack([bases[k] @ bases[k].T @ u[:, 10 * k : 10 * k + 10] for k in range(4)], 1).flatten(1)
        torch.testing.assert_close(within, u, atol=1e-5, rtol=0)
        by_subspace = [
            transcribed(state.transpose(0, 1) @ bases[k] @ (bases[k].T @ u[:, 10 * k : 10 * k + 10])) for k in range(4)
        ]
        loss = objective(b)
        assert float(loss.parts["sigreg"]) == pytest.approx(float(torch.stack(by_subspace).mean()), rel=1e-4)
        scores.append(float(loss.parts["sigreg"]))
    assert scores[0] != scores[1]
    torch.testing.assert_close(objective.bases, bases)
    again = SIGReg.Config(slices=40, subspaces=4, subspace_size=3, seed=5).build(signature(), (8,), None)
    assert torch.equal(again.bases, bases)
    other = SIGReg.Config(slices=40, subspaces=4, subspace_size=3, seed=6).build(signature(), (8,), None)
    assert not torch.equal(other.bases, bases)


def test_what_no_subspace_sees_is_free():
    objective = SIGReg.Config(slices=64, subspaces=2, subspace_size=2).build(signature(), (8,), None)
    seen = torch.linalg.qr(objective.bases.transpose(0, 1).flatten(1)).Q
    hidden = torch.linalg.svd(torch.eye(8) - seen @ seen.T).U[:, :4]
    base = torch.randn(50, 6, 8)
    plain = objective.eval()(batch(windows=50, state=base)).parts["sigreg"]
    moved = objective(batch(windows=50, state=base + 9 * torch.randn(50, 6, 4) @ hidden.T)).parts["sigreg"]
    torch.testing.assert_close(plain, moved, rtol=1e-3, atol=1e-4)


def test_a_plain_sigreg_keeps_the_state_and_the_slices_that_it_had():
    objective = build()
    assert list(objective.state_dict()) == ["draws"]
    first = objective.directions(4, torch.device("cpu"))
    digest = hashlib.blake2b(b"0:0", digest_size=4).digest()
    g = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
    assert torch.equal(first, torch.nn.functional.normalize(torch.randn(4, 64, generator=g), dim=0))


@pytest.mark.parametrize(("config", "message"), [
    ({"subspaces": 70}, "subspaces <= slices"), ({"subspace_size": 2}, "only with subspaces"),
    ({"subspaces": 5}, "sub-spaces of 1 to 4"), ({"subspaces": 2, "subspace_size": 5}, "sub-spaces of 1 to 4"),
])
def test_subspaces_that_do_not_fit_are_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        build(**config)
