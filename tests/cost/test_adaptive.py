"""Margins that follow a changing world: the stated share holds before, through and behind a change, where calibrated
ones break; the rule against a loop; as JSON it goes on."""

from __future__ import annotations

import math

import msgspec
import pytest
import torch

from steersman.core import Guardrail, Imagined, PlanningError, Readout
from steersman.cost import AdaptiveMargins, Box, HalfSpace, Margins, OnColumns, calibrate_margins


class Itself(Readout):
    """The state is the columns."""

    columns = ("x", "y")

    def read(self, states, context=None):
        return states


def errors(count, seed, size=1.0, horizon=4):
    g = torch.Generator().manual_seed(seed)
    return size * torch.randn(count, horizon, generator=g).cumsum(1).abs()


@pytest.fixture(scope="module")
def start():
    return calibrate_margins(errors(4000, 0), 0.95)


def test_the_stated_share_holds_through_a_change_where_calibrated_margins_break(start):
    one = AdaptiveMargins.begin(start)
    for window in errors(1500, 1).split(1):
        one = one.after(window)
    assert 0.93 < one.held[0] < 0.97
    behind = replace_counts(one)
    wider = errors(1500, 2, size=4.0)
    for window in wider.split(1):
        behind = behind.after(window)
    assert float((wider <= torch.tensor(start.by_step)).all(1).double().mean()) < 0.5
    assert 0.92 < behind.held[0] < 0.97
    assert 2.5 < behind.factors[0] < 6
    again = replace_counts(behind)
    for window in errors(3000, 3).split(1):
        again = again.after(window)
    assert again.factors[0] < 1.6  # margins that are not needed any more are given back
    assert again.held[0] > 0.93


def replace_counts(one):
    return msgspec.structs.replace(one, windows=(0,), missed=(0.0,))


def test_the_bound_on_misses_holds_for_errors_that_nobody_drew(start):
    """An opponent that knows the margin: for long far within it, then just beyond as often as it can."""
    one, top = AdaptiveMargins.begin(start), 0.0
    for t in range(400):
        score = min(one.factors[0] * (1.01 if t // 100 % 2 else 0.2), 8.0)
        one = one.after(score * torch.tensor(start.by_step)[None])
        top = max(top, score)
    assert one.missed[0] > 30  # it finds some
    assert one.missed[0] / 400 <= 0.05 + (math.log(max(1.0, top)) + one.rate) / (one.rate * 400) + 1e-9


def test_several_windows_and_each_step_by_itself_against_a_loop(start):
    one = AdaptiveMargins.begin(start, together=False, rate=0.3, least=0.5)
    factors, missed = [1.0] * 4, [0.0] * 4
    for t in range(30):
        batch = errors(3, 10 + t, size=2.0)
        batch[0, 3] = math.nan
        if t == 7:
            batch[:, 2] = math.nan
        one = one.after(batch)
        for h in range(4):
            scores = [float(x) / start.by_step[h] for x in batch[:, h].double() if not math.isnan(x)]
            if not scores:
                continue
            miss = sum(s > factors[h] for s in scores) / len(scores)
            factors[h] = max(0.5, factors[h] * math.exp(0.3 * (miss - (1 - 0.95))))
            missed[h] += miss
    assert one.factors == pytest.approx(factors, rel=1e-9)
    assert one.missed == pytest.approx(missed, rel=1e-9)
    assert one.windows == (30, 30, 29, 30)
    nothing = torch.full((2, 4), math.nan)
    assert one.after(nothing) == one


def test_as_json_it_goes_on(start):
    one = AdaptiveMargins.begin(start).after(errors(1, 5, 9.0))
    again = msgspec.json.decode(msgspec.json.encode(one), type=AdaptiveMargins)
    assert again == one
    assert again.after(errors(1, 6)) == one.after(errors(1, 6))


def test_a_guardrail_takes_them_and_its_configuration_holds_them(start):
    one = AdaptiveMargins.begin(start).after(torch.full((1, 4), 50.0))
    states = torch.zeros(1, 1, 5, 2)
    readout = Itself()
    for guardrail in (Box(readout, {"x": (-1e4, 1e4)}, margin={"x": 0.1}), HalfSpace(readout, {"x": 1.0}, 1e4),
                      OnColumns(readout, lambda y: y["x"] - 1e4, name="x")):
        put = one.put(guardrail)
        gained = put.margin(Imagined(states), torch.zeros(1, 1, 4, 1)) - guardrail.bare().margin(
            Imagined(states), torch.zeros(1, 1, 4, 1))
        unit = gained[0, 0] / torch.tensor(one.margins.by_step)
        torch.testing.assert_close(unit, unit[:1].expand(4), rtol=1e-2, atol=0)
        assert float(unit[0]) > 0
    assert one.put(HalfSpace(readout, {"x": 1.0}, 1.0)).config.margin == one.margins
    with pytest.raises(PlanningError, match="a guardrail that keeps a margin"):
        one.put(Plain())


class Plain(Guardrail):
    """One without a margin."""

    name = "plain"

    def margin(self, imagined, actions):
        return torch.zeros(1, 1, 1)


@pytest.mark.parametrize(("words", "message"), [
    ({"rate": 0.0}, "rate and least"), ({"least": 1.5}, "rate and least"),
])
def test_what_cannot_be_is_refused(start, words, message):
    with pytest.raises(PlanningError, match=message):
        AdaptiveMargins.begin(start, **words)
    with pytest.raises(PlanningError, match="margins above 0"):
        AdaptiveMargins.begin(Margins((0.0, 1.0), 0.9, 10, 10))
    with pytest.raises(PlanningError, match=r"finite errors \(n, 4\)"):
        AdaptiveMargins.begin(start).after(torch.zeros(1, 3))
    with pytest.raises(PlanningError, match="1 factors"):
        AdaptiveMargins(start=start, factors=(), windows=(), missed=())
