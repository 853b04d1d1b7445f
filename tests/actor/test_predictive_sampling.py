"""Predictive sampling: against a loop, its splines, choices that are held."""

from __future__ import annotations

import itertools

import pytest
import torch
from problems import MOVES, choose, reach

from steersman.actor import PredictiveSampling
from steersman.actor.sampling.predictive_sampling import spline
from steersman.core import ConfigError, Streams


@pytest.mark.parametrize("kind", ["hold", "linear", "cubic"])
@pytest.mark.parametrize(("knots", "horizon"), [(1, 4), (2, 2), (3, 7), (5, 15), (6, 6)])
def test_splines_share_out_and_pass_through_their_knots(kind, knots, horizon):
    matrix = spline(knots, horizon, kind)
    assert matrix.shape == (horizon, knots)
    torch.testing.assert_close(matrix.sum(1), torch.ones(horizon))
    values = torch.linspace(-1, 2, knots) if knots > 1 else torch.tensor([0.5])
    curve = matrix @ values
    assert curve[0] == values[0]
    assert curve[-1] == values[-1]
    if kind == "linear":
        torch.testing.assert_close(curve, torch.linspace(float(values[0]), float(values[-1]), horizon))
    if kind == "hold":
        assert set(curve.tolist()) == set(values.tolist())
    if knots == horizon:
        torch.testing.assert_close(matrix, torch.eye(knots))


def test_it_equals_a_loop_over_iterations_and_candidates():
    config = PredictiveSampling.Config(samples=20, iterations=3, horizon=6, knots=3, spread=0.6, decay=0.5)
    goal = torch.tensor([2.0, -1.0])
    plan = config.build().plan(reach([[0.0, 0.0]], goal[None], seeds=[4]))
    streams, nominal = Streams(torch.tensor([4]), torch.tensor([0])), torch.zeros(6, 2)
    for number in range(3):
        noise = streams.normal(20, 2, 3)[0]
        best = (float("inf"), nominal)
        for k in range(20):
            tried = nominal.clone()
            for t, a in itertools.product(range(6) if k else (), range(2)):
                place = t * 2 / 5
                left = min(int(place), 1)
                push = noise[k, a, left] * (1 - place + left) + noise[k, a, left + 1] * (place - left)
                tried[t, a] = (nominal[t, a] + 0.6 * 0.5**number * push).clamp(-1, 1)
            energy = float((tried.cumsum(0) - goal).square().mean(1).sum())
            best = min(best, (energy, tried), key=lambda pair: pair[0])
        nominal = best[1]
    torch.testing.assert_close(plan.actions[0], nominal, rtol=1e-5, atol=1e-5)


def test_choices_are_held_between_knots_and_reach_the_goal():
    problem = choose([[0.0, 0.0]], [[4.0, 0.0]], MOVES)
    plan = PredictiveSampling.Config(samples=100, iterations=8, horizon=4, knots=2).build().plan(problem)
    assert plan.actions.flatten().tolist() == [1, 1, 1, 1]
    once = PredictiveSampling.Config(samples=100, iterations=1, horizon=4, knots=2).build().plan(problem)
    first, second = once.actions[0, :, 0].chunk(2)
    assert len(set(first.tolist())) == len(set(second.tolist())) == 1


@pytest.mark.parametrize("changes", [{"knots": -1}, {"spread": 0.0}, {"decay": 1.5}, {"samples": 0}])
def test_impossible_settings_are_refused(changes):
    with pytest.raises(ConfigError):
        PredictiveSampling.Config(**changes)
