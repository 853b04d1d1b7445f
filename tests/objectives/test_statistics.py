import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from steersman.objectives import statistics


def test_two_processes_equal_one_with_the_whole_batch(tmp_path):
    """Values and gradients of every objective, to 1e-5; one fresh interpreter forks both."""
    script = Path(__file__).with_name("two_processes.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr


def test_mean_is_weighted_and_broadcasts():
    x = torch.randn(5, 3, 2)
    w = torch.rand(5, 1, 1)
    assert float(statistics.mean(x)) == pytest.approx(float(x.double().mean()), rel=1e-5)
    expected = (w.double() * x.double()).sum() / (w.double().sum() * 6)
    assert float(statistics.mean(x, w)) == pytest.approx(float(expected), rel=1e-5)


def test_covariance_is_unbiased_for_each_population():
    x = torch.randn(3, 20, 4, dtype=torch.float64).float() + 100
    expected = torch.stack([torch.cov(p.double().T) for p in x])
    torch.testing.assert_close(statistics.covariance(x).double(), expected, rtol=1e-4, atol=1e-5)
    assert float(statistics.covariance(x[:, :1]).abs().sum()) == 0.0


def test_variance_within_pools_the_sequences():
    x = torch.randn(5, 7, 4)
    expected = x.double().var(1).mean(0)
    torch.testing.assert_close(statistics.variance_within(x).double(), expected, rtol=1e-5, atol=1e-6)
    assert float(statistics.variance_within(x[:, :1]).abs().sum()) == 0.0
