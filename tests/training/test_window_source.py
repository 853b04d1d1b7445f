"""Windows are drawn inside episodes, evenly or by error, and by nothing but seed, step and errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman.core import DataError
from steersman.training import Sampler


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    window=st.integers(1, 12),
    seed=st.integers(0, 2**40),
    step=st.integers(-1, 10**9),
    prioritise=st.booleans(),
)
def test_a_window_never_leaves_its_episode(
    lengths: list[int], window: int, seed: int, step: int, prioritise: bool
) -> None:
    if max(lengths) < window:
        with pytest.raises(DataError, match=f"at least {window} steps; got the longest has {max(lengths)}"):
            Sampler(lengths, window, 16, seed, prioritise)
        return
    sampler = Sampler(lengths, window, 16, seed, prioritise)
    sampler.report(torch.arange(len(lengths)), torch.linspace(0, 1, len(lengths)))
    episode, start = sampler.draw(step)
    assert episode.shape == start.shape == (16,)
    assert bool((start >= 0).all())
    assert bool((start + window <= torch.tensor(lengths)[episode]).all())


def test_no_episode_at_all_is_said_plainly() -> None:
    with pytest.raises(DataError, match="got no episode"):
        Sampler([], 4, 2, 0, False)


def test_every_window_is_equally_likely() -> None:
    lengths, window = [3, 8, 2, 12], 3
    sampler = Sampler(lengths, window, 20_000, 0, False)
    episode, start = sampler.draw(5)
    counts = torch.bincount(episode * 100 + start, minlength=400)
    fitting = [e * 100 + s for e, n in enumerate(lengths) for s in range(n - window + 1)]
    expected = 20_000 / len(fitting)
    assert int(counts[fitting].sum()) == 20_000
    chi2 = float(((counts[fitting] - expected) ** 2 / expected).sum())
    assert chi2 < 45, f"chi-square {chi2:.1f} with {len(fitting) - 1} degrees of freedom"


def test_prioritised_episodes_follow_their_errors_within_the_clip() -> None:
    sampler = Sampler([10] * 4, 5, 40_000, 0, True)
    sampler.report(torch.tensor([0, 1, 2]), torch.tensor([0.0, 1.0, 2.0]))  # the fourth was not seen yet
    np.testing.assert_allclose(sampler.weights(), [0.2, 1.0, 2.0, 1.0])
    share = torch.bincount(sampler.draw(0)[0], minlength=4) / 40_000
    torch.testing.assert_close(share, torch.tensor([0.2, 1.0, 2.0, 1.0]) / 4.2, atol=0.01, rtol=0)
    sampler.report(torch.tensor([0, 1, 2, 3]), torch.tensor([1e6, 1.0, 1.0, 1.0]))
    assert sampler.weights()[0] < 10
    assert sampler.weights()[1] == 0.2


def test_a_draw_depends_on_seed_and_step_alone() -> None:
    a, b = (Sampler([30] * 5, 4, 8, 7, False) for _ in range(2))
    for step in (9, 0, 3):
        a.draw(step)
    assert all(torch.equal(x, y) for x, y in zip(a.draw(1), b.draw(1), strict=True))
    assert not torch.equal(a.draw(1)[1], a.draw(2)[1])
    assert not torch.equal(a.draw(1)[1], Sampler([30] * 5, 4, 8, 8, False).draw(1)[1])
