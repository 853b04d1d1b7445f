"""The read-out that learns its metric: against the posterior in full, directions that matter, noise, values that are
missing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from steersman.core import ConfigError
from steersman.perception import ColumnReadout, GaussianProcessReadout, KernelReadout


def few(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def unread(readout: ColumnReadout, states: Tensor, values: Tensor) -> list[float]:
    """1 - R² of each column."""
    missed = (readout.read(states) - values).square().mean(0) / values.var(0)
    return [float(x) for x in missed]


def test_it_is_the_posterior_mean_of_its_kernel() -> None:
    states = few(80, 3).double()
    values = torch.stack([states[:, 0].sin() * 3 + 7, states.sum(1)], 1)
    readout = GaussianProcessReadout.Config(centres=80, steps=20).build(("a", "b"), (3,)).double()
    readout.fit(states, values)
    inside = ((states - readout.state_mean) / readout.state_deviation) @ readout.metric
    apart = torch.cdist(inside, inside).square()
    # what is read is a line and a sum of bumps around the centres, in the metric
    by_hand = inside @ readout.linear + (-0.5 * apart).exp()[:, _order(readout, inside)] @ readout.weight
    torch.testing.assert_close(readout.read(states), by_hand * readout.deviation + readout.mean)
    torch.testing.assert_close(readout.read(states), values, atol=0.05, rtol=0.02)


def _order(readout: GaussianProcessReadout, inside: Tensor) -> Tensor:
    """Which row each centre is."""
    return torch.cdist(readout.centre, inside).argmin(1)


def test_numbers_that_do_not_matter_are_left_out_where_one_length_for_all_drowns_in_them() -> None:
    states = few(700, 16)
    values = torch.stack([(2 * states[:, 0]).sin(), states[:, 0] * states[:, 1]], 1)
    missed = {}
    for config in (KernelReadout.Config(), GaussianProcessReadout.Config(full=False), GaussianProcessReadout.Config()):
        readout = config.build(("wave", "product"), (16,))
        readout.fit(states[:250], values[:250])
        missed[type(config), getattr(config, "full", None)] = max(unread(readout, states[250:], values[250:]))
    assert missed[KernelReadout.Config, None] > 0.7
    assert missed[GaussianProcessReadout.Config, False] < 0.25
    assert missed[GaussianProcessReadout.Config, True] < 0.25


def test_a_full_metric_is_taken_where_what_matters_lies_across_the_numbers() -> None:
    states = few(700, 6)
    turn = torch.linalg.qr(few(6, 6, 1)).Q
    values = (2 * states @ turn[:, :1]).sin()
    missed = []
    for full in (False, True):
        readout = GaussianProcessReadout.Config(full=full).build(("wave",), (6,))
        readout.fit(states[:200], values[:200])
        missed += unread(readout, states[200:], values[200:])
    assert missed[1] < 0.5 * missed[0]
    assert bool((readout.metric - readout.metric.diag().diag()).any())


def test_a_column_that_is_nothing_but_noise_is_read_near_its_mean_and_harms_no_other() -> None:
    states = few(700, 4)
    values = torch.stack([states[:, 0].sin(), few(700, 1, 2)[:, 0]], 1)
    readout = GaussianProcessReadout.Config().build(("wave", "noise"), (4,))
    readout.fit(states[:200], values[:200])
    wave, noise = unread(readout, states[200:], values[200:])
    assert wave < 0.02
    assert noise < 1.1
    kernel = KernelReadout.Config().build(("wave", "noise"), (4,))
    kernel.fit(states[:200], values[:200])
    assert unread(kernel, states[200:], values[200:])[1] > 1.3


def test_values_that_were_not_measured_do_not_count_and_more_rows_than_centres_do() -> None:
    states = few(1500, 3)
    values = torch.stack([states[:, 0].sin(), states[:, 1]], 1)
    known = torch.ones_like(values, dtype=torch.bool)
    known[::3, 1] = False
    spoilt = torch.where(known, values, 99.0)
    config = GaussianProcessReadout.Config(centres=60, steps=40)
    readout = config.build(("wave", "line"), (3,))
    readout.fit(states[:1200], spoilt[:1200], measured=known[:1200])
    assert max(unread(readout, states[1200:], values[1200:])) < 0.02
    again = config.build(("wave", "line"), (3,))
    again.fit(states[:1200], spoilt[:1200], measured=known[:1200])
    assert torch.equal(again.read(states), readout.read(states))


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="centres, steps and a rate"):
        GaussianProcessReadout.Config(steps=0)
