"""Margins that grow with the horizon: what they promise, and how guardrails keep them."""

from __future__ import annotations

import math

import pytest
import torch

from steersman.core import Imagined, PlanningError, Readout
from steersman.cost import Box, HalfSpace, Margins, OnColumns, Region, StepMargin, calibrate_margins


class Itself(Readout):
    """The state is the columns."""

    columns = ("x", "y")

    def read(self, states, context=None):
        return states


def errors_of(units, per_unit, seed, horizon=6):
    """Errors that grow with the step and are alike within a unit: (units · per_unit, H), the unit of each."""
    g = torch.Generator().manual_seed(seed)
    unit = torch.arange(units).repeat_interleave(per_unit)
    size = torch.empty(units).exponential_(generator=g)[unit]
    steps = torch.randn(units * per_unit, horizon, generator=g).cumsum(1).abs()
    return steps * size[:, None] * torch.arange(1.0, horizon + 1), unit


@pytest.mark.parametrize(("per_unit", "level"), [(1, 0.9), (4, 0.9), (1, 0.7)])
def test_a_new_window_stays_within_all_margins_at_once_as_often_as_promised(per_unit, level):
    held = []
    for seed in range(60):
        errors, unit = errors_of(120, per_unit, seed)
        margins = calibrate_margins(errors, level, unit=unit, seed=seed)
        new, _ = errors_of(200, per_unit, 1000 + seed)
        held.append(float((new <= torch.tensor(margins.by_step)).all(1).double().mean()))
    mean = sum(held) / len(held)
    assert level - 0.012 <= mean <= level + 0.035


def test_margins_grow_as_errors_do_and_known_growth_uses_every_window():
    errors, unit = errors_of(400, 1, 0)
    margins = calibrate_margins(errors, 0.9, unit=unit)
    assert list(margins.by_step) == sorted(margins.by_step)
    assert (margins.count, margins.units, margins.level) == (300, 300, 0.9)
    known = calibrate_margins(errors, 0.9, growth=torch.arange(1.0, 7.0))
    assert known.count == 400
    q = (errors / torch.arange(1.0, 7.0)).amax(1).sort().values[math.ceil(401 * 0.9) - 1]
    torch.testing.assert_close(torch.tensor(known.by_step), q * torch.arange(1.0, 7.0))
    assert "90.0%" in str(margins)


def test_with_recourse_margins_stop_growing_and_promise_the_steps_until_there():
    errors, unit = errors_of(400, 1, 0)
    short = calibrate_margins(errors, 0.95, unit=unit, growth=torch.arange(1.0, 7.0), recourse=2)
    assert short == calibrate_margins(errors[:, :2], 0.95, unit=unit, growth=torch.arange(1.0, 3.0), recourse=2)
    assert (len(short.by_step), short.lasting) == (2, True)
    assert "at step 2 and later (95.0%" in str(short)
    assert short.promise.startswith("with a probability of 0.95, the next 2 steps together turn out no worse")
    new, _ = errors_of(4000, 1, 1)
    kept = torch.tensor(short.by_step)
    assert 0.93 <= float((new[:, :2] <= kept).all(1).double().mean()) <= 0.97
    whole = calibrate_margins(errors, 0.95, unit=unit, growth=torch.arange(1.0, 7.0))
    assert short.by_step[0] < whole.by_step[0]
    imagined, actions = future(horizon=6)
    box = Box(Itself(), {"x": (-9.0, 0.5)}, margin={"x": short})
    expected = [short.by_step[min(h, 1)] for h in range(6)]
    torch.testing.assert_close(box.margin(imagined, actions), box.bare().margin(imagined, actions)
                               + torch.tensor(expected))


def test_errors_on_the_safe_side_ask_for_no_margin():
    assert calibrate_margins(-torch.rand(500, 2), 0.9).by_step == (0.0, 0.0)


@pytest.mark.parametrize(
    ("errors", "more", "match"),
    [
        (torch.rand(30), {}, "windows, steps"),
        (torch.full((300, 2), math.nan), {}, "none of them NaN"),
        (torch.rand(20, 2), {}, "at least 40 windows"),
        (torch.rand(100, 2), {"level": 0.999}, "at least 999 episodes"),
        (torch.rand(100, 2), {"unit": torch.arange(100) % 4}, "at least 99 episodes"),
        (torch.rand(100, 2), {"unit": torch.arange(3)}, "a unit for each"),
        (torch.rand(100, 2), {"growth": torch.tensor([1.0, 0.0])}, "positive"),
        (torch.rand(100, 2), {"recourse": 3}, "recourse of 1 to 2 steps"),
        (torch.rand(100, 2), {"recourse": 0}, "recourse of 1 to 2 steps"),
    ],
)
def test_what_cannot_be_promised_is_refused(errors, more, match):
    with pytest.raises(PlanningError, match=match):
        calibrate_margins(errors, **more)


def future(seed=0, horizon=4):
    states = torch.randn(2, 3, horizon + 1, 2, generator=torch.Generator().manual_seed(seed))
    return Imagined(states), torch.zeros(2, 3, horizon, 2)


BY_STEP = Margins((0.1, 0.2, 0.4, 0.8), 0.9, 100, 100)


@pytest.mark.parametrize(
    "make",
    [
        lambda m: OnColumns(Itself(), lambda c: c["x"] - c["y"], margin=m),
        lambda m: HalfSpace(Itself(), {"x": 1.0, "y": -1.0}, 0.0, margin=m),
        lambda m: Box(Itself(), {"x": (-9.0, 0.5)}, margin={"x": m}),
    ],
)
def test_every_guardrail_on_columns_keeps_a_margin_for_each_step(make):
    imagined, actions = future()
    plain, wide = make(0.0), make(BY_STEP)
    expected = plain.margin(imagined, actions) + torch.tensor(BY_STEP.by_step)
    torch.testing.assert_close(wide.margin(imagined, actions), expected)
    shorter = Imagined(imagined.states[:, :, :3])
    torch.testing.assert_close(wide.margin(shorter, actions[:, :, :2]), expected[:, :, :2])
    with pytest.raises(PlanningError, match="margins for 5 steps; got 4"):
        wide.margin(*future(horizon=5))
    now = imagined.states[:, :, :-1]
    shifted = Imagined(torch.cat([now[:, :, :1], now], 2))
    torch.testing.assert_close(wide.standing(now), plain.margin(shifted, actions) + 0.1)
    torch.testing.assert_close(wide.standing(now[:, 0, 0]), wide.standing(now)[:, 0, 0])


def test_a_region_keeps_a_margin_for_each_step_and_knows_its_level():
    mask = torch.zeros(20, 30, dtype=torch.bool)
    mask[10, 15] = True
    way = Imagined(torch.tensor([[[[2.0, 10.0], [5.0, 10.0], [8.0, 10.0], [11.0, 10.0]]]]))
    actions = torch.zeros(1, 1, 3, 2)
    plain = Region(Itself(), mask).margin(way, actions)
    wide = Region(Itself(), mask, margin=[1.0, 2.0, 3.0])
    torch.testing.assert_close(wide.margin(way, actions), plain + torch.tensor([1.0, 2.0, 3.0]))
    assert wide.clear == 1.0
    level = wide.standing(way.states)
    torch.testing.assert_close(level[0, 0], torch.tensor([2.0, 5.0, 8.0, 11.0]) - 15 + 1.0 + 0.71)
    torch.testing.assert_close(wide.standing(way.states[0, 0]), level[0, 0])
    slow = Region(Itself(), mask).barrier(way, actions, 0.25)  # a reserve of 12.3 px, of which 3 px are a quarter
    assert (slow <= 0).tolist() == [[[True, False, False]]]
    lost = Imagined(torch.full_like(way.states, math.nan))
    assert not bool((wide.margin(lost, actions) <= 0).any())
    assert not bool((wide.standing(lost.states) <= 0).any())


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, [0.1, -1.0], []])
def test_margins_that_are_none_are_refused(value):
    with pytest.raises(PlanningError, match="finite margin"):
        StepMargin(value)
