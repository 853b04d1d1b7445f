"""Quadratic programs: the conditions of a solution, rows that cannot be kept, rows that say nothing, neighbours."""

from __future__ import annotations

import math

import pytest
import torch

from steersman.actor.descent.quadratic import solve_quadratic


def programs(count=6, unknowns=8, rows=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    root = draw(count, unknowns, unknowns)
    hessian = root @ root.mT + 1e-3 * torch.eye(unknowns)
    scale = 10.0 ** torch.linspace(-3, 3, count)[:, None]
    low = -0.1 - torch.rand(count, unknowns, generator=g)
    return (hessian * scale[..., None], 3 * draw(count, unknowns) * scale, draw(count, rows, unknowns),
            draw(count, rows).abs() / 4, low.double(), torch.ones(count, unknowns, dtype=torch.float64))


def test_a_solution_meets_the_conditions_of_karush_kuhn_and_tucker():
    hessian, slope, rows, most, low, high = programs()
    d, prices = solve_quadratic(hessian, slope, rows, most, low, high)
    reserve = most - (rows @ d[..., None])[..., 0]
    assert float(reserve.min()) > -1e-4
    assert bool((prices >= 0).all())
    size = slope.abs().amax(1, keepdim=True)
    assert float((prices * reserve / size).abs().max()) < 1e-4
    assert bool((prices / size > 1e-2).any())
    uphill = ((hessian @ d[..., None])[..., 0] + slope + (rows.mT @ prices[..., None])[..., 0]) / size
    held_low, held_high = d - low < 1e-4, high - d < 1e-4
    assert bool((held_low | held_high).any())
    assert float(uphill[~held_low & ~held_high].abs().max()) < 1e-4
    assert float(uphill[held_low].min()) > -1e-4
    assert float(uphill[held_high].max()) < 1e-4


def test_rows_that_contradict_each_other_are_broken_by_little_instead_of_failing():
    one = torch.eye(1, dtype=torch.float64)[None]
    rows, most = torch.tensor([[[1.0], [-1.0]]]), torch.tensor([[-0.25, -0.25]])  # d <= -1/4 and d >= 1/4
    d, _ = solve_quadratic(one, torch.tensor([[0.7]]), rows, most, torch.tensor([[-1.0]]), torch.tensor([[1.0]]))
    assert abs(float(d)) <= 0.2501  # all points between break them by 1/2 in all; outside it is more
    far = solve_quadratic(one, torch.tensor([[0.7]]), rows[:, 1:], torch.tensor([[-3.0]]), torch.tensor([[-1.0]]),
                          torch.tensor([[1.0]]))[0]
    assert float(far) == pytest.approx(1.0, abs=1e-4)


def test_rows_that_say_nothing_are_left_out():
    hessian, slope, rows, most, low, high = programs(rows=2)
    plain, prices = solve_quadratic(hessian, slope, rows, most, low, high)
    silent = torch.cat([rows, torch.zeros_like(rows), torch.full_like(rows, math.nan)], 1)
    more = torch.cat([most, -torch.ones_like(most), most], 1)
    d, all_prices = solve_quadratic(hessian, slope, silent, more, low, high)
    torch.testing.assert_close(d, plain, atol=1e-3, rtol=0)
    torch.testing.assert_close(all_prices[:, :2], prices, atol=1e-3, rtol=1e-2)
    assert not bool(all_prices[:, 2:].any())
    without, none = solve_quadratic(hessian, slope, rows[:, :0], most[:, :0], low, high)
    assert none.shape == (6, 0)
    assert bool(((without >= low) & (without <= high)).all())


def test_a_program_is_solved_the_same_alone_and_among_others():
    whole = programs()
    together, prices = solve_quadratic(*whole)
    for i in (0, 3):
        d, alone = solve_quadratic(*(x[i : i + 1] for x in whole))
        torch.testing.assert_close(d[0], together[i], atol=1e-12, rtol=0)
        torch.testing.assert_close(alone[0], prices[i], rtol=1e-9, atol=1e-12)
