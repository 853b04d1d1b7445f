"""Logs on an even grid: what holds, what is interpolated, and an account that adds up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman.core import DataError, Recording, UsageError
from steersman.data import read
from steersman.data.resampling import Account, on_grid, resample


def recording(times: list[float]) -> Recording:
    """A line, pictures of their row's number, actions and inputs of their row's number."""
    t, n = np.array(times), len(times)
    pictures = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 2, 2, 1)).copy()
    rows = np.arange(n - 1, dtype=np.float32)[:, None]
    return Recording({"x": (2 * t[:, None]).astype(np.float32), "cam": pictures}, rows, -rows, t)


def test_vectors_are_interpolated_images_nearest_actions_hold() -> None:
    account = Account(0.1)
    even = on_grid(recording([5.0, 5.1, 5.25, 5.5]), 0.1, 1.0, account, "a test")
    assert even is not None
    assert even.times == pytest.approx([5.0, 5.1, 5.2, 5.3, 5.4, 5.5])
    assert even.observations["x"][:, 0] == pytest.approx([10, 10.2, 10.4, 10.6, 10.8, 11])
    assert even.observations["cam"][:, 0, 0, 0].tolist() == [0, 1, 2, 2, 3, 3]
    assert even.actions[:, 0].tolist() == [0, 1, 1, 2, 2]
    assert even.exogenous is not None
    assert even.exogenous[:, 0].tolist() == [0, -1, -1, -2, -2]
    assert (account.before, account.after, account.kept, account.made, account.dropped) == (4, 6, 3, 1, 0)
    assert account.largest_gap == pytest.approx(0.25)


def test_a_log_that_is_even_already_stays_to_the_bit() -> None:
    log = recording([i / 3 for i in range(50)])
    account = Account(1 / 3)
    even = on_grid(log, 1 / 3, 1.0, account, "a test")
    assert even is not None
    assert all(np.array_equal(even.observations[n], log.observations[n]) for n in log.observations)
    assert np.array_equal(even.actions, log.actions)
    assert (account.kept, account.moved, account.made, account.dropped) == (50, 0, 0, 0)


@settings(max_examples=100, deadline=None)
@given(gaps=st.lists(st.floats(0.01, 3.0), min_size=1, max_size=30), period=st.floats(0.05, 5.0))
def test_the_account_adds_up_and_nothing_leaves_the_range(gaps: list[float], period: float) -> None:
    log = recording(np.cumsum([0.0, *gaps]).tolist())
    account = Account(period)
    even = on_grid(log, period, 1.0, account, "a test")
    assert account.kept + account.moved + account.made == account.after
    assert account.before == len(log) + 1
    if even is None:
        assert account.left_out == 1
        return
    assert len(even) + 1 == account.after
    x, original = even.observations["x"], log.observations["x"]
    assert x.min() >= original.min() - 1e-4
    assert x.max() <= original.max() + 1e-4
    assert set(even.actions[:, 0]) <= set(log.actions[:, 0])
    assert np.diff(even.times) == pytest.approx(np.full(len(even), period))  # type: ignore[arg-type]


def test_a_source_in_milliseconds_and_what_cannot_be_resampled(tmp_path: Path) -> None:
    rows = "".join(f"{1000 + 20 * i},{i},{i % 3}.5\n" for i in range(6))
    (tmp_path / "log.csv").write_text("time,x,action\n" + rows)
    done = resample(read(tmp_path / "log.csv"), 0.04, unit=0.001)
    (episode,) = done.source.recordings()
    assert episode.observations["vector"][:, 0].tolist() == [0, 2, 4]
    assert done.account.words().startswith("resampled to 0.04 s: 6 rows became 3 (3 kept, 0 moved, 0 made, 3 dropped)")
    assert done.source.fingerprint != read(tmp_path / "log.csv").fingerprint
    with pytest.raises(DataError, match=r"at most 1000 times more rows.*unit of time"):
        list(resample(read(tmp_path / "log.csv"), 0.001).source.recordings())
    (tmp_path / "log.csv").write_text("step,x,action\n0,0,1.5\n1,1,2.5\n2,2,1.5\n")
    with pytest.raises(DataError, match=r"times of the rows.*--time"):
        list(resample(read(tmp_path / "log.csv"), 0.1).source.recordings())
    with pytest.raises(UsageError, match="a positive period"):
        resample(read(tmp_path / "log.csv"), 0.0)
