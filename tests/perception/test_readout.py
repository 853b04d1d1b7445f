"""Read-outs: closed form against least squares, a curved truth, units, storage, refusals."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ConfigError, DataError
from steersman.perception import GaussianProcessReadout, KernelReadout, LinearReadout, MLPReadout
from steersman.perception import readout as readouts


def data(n=2000, d=6):
    g = torch.Generator().manual_seed(0)
    states = torch.randn(n, d, generator=g) * torch.logspace(-1, 1, d) + 3
    linear = states @ torch.randn(d, 2, generator=g) * torch.tensor([1.0, 100.0]) + torch.tensor([5.0, -400.0])
    return states, linear


def test_linear_readout_finds_a_linear_truth_in_its_own_units():
    states, values = data()
    readout = LinearReadout.Config().build(("x", "y"), (6,))
    readout.fit(states, values)
    torch.testing.assert_close(readout.read(states), values, rtol=1e-3, atol=1e-2)
    assert readout.columns == ("x", "y")
    assert readout.scale["y"] == pytest.approx(float(values[:, 1].std(correction=0)), rel=1e-5)


def test_linear_readout_equals_ridge_regression():
    states, values = data(50)
    values = values + torch.randn(50, 2, generator=torch.Generator().manual_seed(1)) * 10
    readout = LinearReadout.Config(ridge=0.1).build(("x", "y"), (6,))
    readout.fit(states, values)
    x = ((states - states.mean(0)) / states.std(0, correction=0)).double()
    y = ((values - values.mean(0)) / values.std(0, correction=0)).double()
    rows = torch.cat([x, (50 * 0.1) ** 0.5 * torch.eye(6)]), torch.cat([y, torch.zeros(6, 2)])
    weight = torch.linalg.lstsq(*rows).solution
    torch.testing.assert_close(readout.weight.double(), weight.mT, rtol=1e-5, atol=1e-5)


def test_mlp_readout_finds_a_curved_truth_that_a_linear_one_misses():
    states, _ = data()
    unit = (states - 3) / torch.logspace(-1, 1, 6)
    values = (unit[:, :1] * unit[:, 1:2] + unit[:, 2:3].sin()) * 50 + 1000
    curved = MLPReadout.Config(hidden=(64, 64), steps=400).build(("z",), (6,))
    straight = LinearReadout.Config().build(("z",), (6,))
    errors = []
    for readout in (curved, straight):
        readout.fit(states[:1500], values[:1500])
        missed = (readout.read(states[1500:]) - values[1500:]).detach()
        errors.append(float(missed.square().mean() / values.var()))
    assert errors[0] < 0.05 < 0.5 < errors[1]
    again = MLPReadout.Config(hidden=(64, 64), steps=400).build(("z",), (6,))
    again.fit(states[:1500], values[:1500])
    assert torch.equal(again.read(states), curved.read(states)), "a fit depends on its seed only"


@pytest.mark.parametrize(
    "config", [LinearReadout.Config(), MLPReadout.Config(steps=5), KernelReadout.Config(centres=40),
               GaussianProcessReadout.Config(centres=40, steps=5)]
)
def test_fitted_readouts_travel_as_state_and_read_any_shape(config):
    states, values = data()
    readout, other = (config.build(("x", "y"), (2, 3)) for _ in range(2))
    readout.fit(states.unflatten(1, (2, 3)), values)
    other.load_state_dict(readout.state_dict())
    batch = states[:24].reshape(2, 3, 4, 2, 3)
    assert other.read(batch).shape == (2, 3, 4, 2)
    assert torch.equal(other.read(batch), readout.read(batch))
    torch.testing.assert_close(other.read(batch).reshape(24, 2), readout.read(states[:24].unflatten(1, (2, 3))))


def test_fitting_does_not_reach_the_encoder():
    states, values = data()
    states.requires_grad_()
    MLPReadout.Config(steps=2).build(("x", "y"), (6,)).fit(states, values)
    assert states.grad is None


def test_kernel_readout_equals_kernel_ridge_regression_in_any_number_of_pieces():
    states, _ = data(700)
    values = torch.stack([states[:, 0] * states[:, 1], states[:, 2]], 1)
    readout = KernelReadout.Config(centres=700, length=0.8, ridge=0.01).build(("x", "y"), (6,))
    readout.fit(states, values)
    x = ((states - states.mean(0)) / states.std(0, correction=0)).double()
    y = ((values - values.mean(0)) / values.std(0, correction=0)).double()
    kernel = torch.exp(-torch.cdist(x, x).square() / (2 * 0.8**2 * 6))
    fitted = kernel @ torch.linalg.solve(kernel + 0.01 * torch.eye(700), y)
    expected = fitted * values.std(0, correction=0) + values.mean(0)
    assert float((readout.read(states).double() - expected).abs().max()) < 0.01 * float(values.std())
    torch.testing.assert_close(readout.read(states[None, :3]), readout.read(states)[None, :3], rtol=1e-4, atol=1e-3)


def test_kernel_readout_needs_few_labels_for_a_curved_truth():
    states, _ = data(1300)
    unit = (states - 3) / torch.logspace(-1, 1, 6)
    values = (unit[:, :1] * 0.5).sin() + (unit[:, 1:2] * 0.5).cos()
    missed = {}
    for config in (KernelReadout.Config(), LinearReadout.Config()):
        readout = config.build(("z",), (6,))
        readout.fit(states[:300], values[:300])
        missed[type(readout)] = float((readout.read(states[300:]) - values[300:]).square().mean() / values.var())
    assert missed[KernelReadout] < 0.1 < missed[LinearReadout]
    with pytest.raises(ConfigError):
        KernelReadout.Config(centres=0).build(("z",), (6,))


@pytest.mark.parametrize(
    ("states", "values"),
    [
        (torch.zeros(5, 5), torch.zeros(5, 2)),
        (torch.zeros(5, 6), torch.zeros(4, 2)),
        (torch.zeros(1, 6), torch.zeros(1, 2)),
        (torch.full((5, 6), torch.nan), torch.zeros(5, 2)),
        (torch.zeros(5, 6), torch.full((5, 2), torch.inf)),
    ],
)
def test_rows_that_cannot_be_fitted_are_refused(states, values):
    with pytest.raises(DataError):
        LinearReadout.Config().build(("x", "y"), (6,)).fit(states, values)


def test_a_constant_column_reads_as_its_constant():
    states, values = data()
    values[:, 1] = 7.0
    readout = LinearReadout.Config().build(("x", "y"), (6,))
    readout.fit(states, values)
    torch.testing.assert_close(readout.read(states)[:, 1], torch.full((2000,), 7.0))


def test_columns_need_distinct_names():
    with pytest.raises(ConfigError, match="distinct"):
        LinearReadout.Config().build(("x", "x"), (6,))


def test_a_ridge_that_is_chosen_is_the_one_whose_left_out_rows_are_foretold_best():
    g = torch.Generator().manual_seed(3)
    for n, size in ((12, 30), (30, 7)):
        x, y = (torch.randn(n, w, generator=g, dtype=torch.float64) for w in (size, 2))
        y[:, 1] += 4 * x[:, 0]  # one column is noise, one can be told
        x, y = x - x.mean(0), y - y.mean(0)
        errors = []
        for ridge in readouts.RIDGES:
            missed = []
            for i in range(n):  # λ n as with all rows: what is left out is a row, not a share of the penalty
                keep = torch.arange(n) != i
                a, b = x[keep] - x[keep].mean(0), y[keep] - y[keep].mean(0)
                w = torch.linalg.solve(a.mT @ a + n * ridge * torch.eye(size).double(), a.mT @ b)
                missed.append(y[i] - y[keep].mean(0) - (x[i] - x[keep].mean(0)) @ w)
            errors.append(torch.stack(missed).square().mean(0))
        chosen = torch.stack(errors).argmin(0)
        expected = torch.stack([
            torch.linalg.solve(x.mT @ x + n * readouts.RIDGES[c] * torch.eye(size).double(), x.mT @ y[:, i])
            for i, c in enumerate(chosen)], 1)
        torch.testing.assert_close(readouts.chosen_ridge(x, y), expected, rtol=1e-6, atol=1e-8)
        assert chosen[0] > chosen[1]


def test_500_labels_are_enough_for_states_of_many_tokens_where_the_ridge_is_chosen():
    """64 tokens of 16 numbers, 5 quantities behind them: twice as many numbers as labels."""
    g = torch.Generator().manual_seed(0)
    hidden = torch.randn(1500, 5, generator=g)
    states = (hidden @ torch.randn(5, 64 * 16, generator=g)).tanh() + 0.5 * torch.randn(1500, 64 * 16, generator=g)
    states, values = states.view(-1, 64, 16), hidden[:, :1]
    unexplained = {}
    for ridge in (1e-6, None):
        readout = LinearReadout.Config(ridge=ridge).build(("x",), (64, 16))
        readout.fit(states[:500], values[:500])
        missed = readout.read(states[500:]) - values[500:]
        unexplained[ridge] = float(missed.square().mean() / values[500:].var())
    assert unexplained[None] < 0.07  # measured: .066, and .105 with 1e-6
    assert unexplained[None] < 0.8 * unexplained[1e-6]
    with pytest.raises(ConfigError, match="ridge >= 0"):
        LinearReadout.Config(ridge=-1.0)
