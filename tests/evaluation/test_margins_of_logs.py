"""Margins from an agent and its log: nothing where the model is right, what it takes where it is wrong, as promised."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from exact_world import Pushed, agent_of, log_of

from steersman.core import DataError, PlanningError, UsageError
from steersman.cost import AdaptiveMargins, BadStates, Box, HalfSpace, OnColumns
from steersman.evaluation import lived_errors, margins_kept, measure_margins

H = 4


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    place = tmp_path_factory.mktemp("logs")
    return tuple(log_of(place / f"{seed}", 60, 12, seed, noise=0.05) for seed in range(3))


def test_a_drifting_model_needs_a_margin_on_the_side_that_it_drifts_from(logs):
    learned, later, _ = logs
    agent = agent_of(Pushed(drift=-0.5))  # it thinks x and y smaller than they are
    low = measure_margins(agent, learned, later, Box(agent.readout, {"x": (-1, math.inf)}), level=0.9, horizon=H)
    high = measure_margins(agent, learned, later, Box(agent.readout, {"x": (-math.inf, 1)}), level=0.9, horizon=H)
    assert low.by_step == (0.0,) * H
    steps = torch.tensor(high.by_step)
    assert bool((steps >= 0.5 * torch.arange(1, H + 1)).all())
    assert bool((steps <= 0.5 * torch.arange(1, H + 1) + 0.6).all())
    assert (high.level, high.units) == (0.9, 60)
    both = HalfSpace(agent.readout, {"x": 1.0, "y": 1.0}, 1.0)
    assert measure_margins(agent, learned, later, both, level=0.9, horizon=H).by_step[0] > high.by_step[0] + 0.3


def test_the_promise_is_kept_on_a_log_that_was_not_seen(logs):
    learned, later, fresh = logs
    agent = agent_of(Pushed(gain=0.8))
    limit = Box(agent.readout, {"x": (-math.inf, 1)})
    margins = measure_margins(agent, learned, later, limit, level=0.9, horizon=H)
    assert 0.82 <= margins_kept(agent, fresh, limit, margins, seed=7) <= 0.98
    less = replace(margins, by_step=tuple(x / 3 for x in margins.by_step))
    assert margins_kept(agent, fresh, limit, less, seed=7) < 0.7


def test_with_recourse_only_the_steps_until_there_are_followed_and_promised(logs):
    learned, later, fresh = logs
    agent = agent_of(Pushed(gain=0.8))
    limit = Box(agent.readout, {"x": (-math.inf, 1)})
    margins = measure_margins(agent, learned, later, limit, level=0.9, horizon=40, recourse=2)  # no window has 40 steps
    assert (len(margins.by_step), margins.lasting) == (2, True)
    assert margins.by_step[0] < measure_margins(agent, learned, later, limit, level=0.9, horizon=H).by_step[0]
    assert 0.82 <= margins_kept(agent, fresh, limit, margins, seed=7) <= 0.98


def test_a_margin_that_the_limit_has_already_does_not_count(logs):
    learned, later, _ = logs
    agent = agent_of(Pushed())
    bare = Box(agent.readout, {"x": (-9, 9)})
    kept = Box(agent.readout, {"x": (-9, 9)}, margin={"x": 0.7})
    first, second = (measure_margins(agent, learned, later, x, level=0.9, horizon=H) for x in (bare, kept))
    assert first == second


def test_what_cannot_be_calibrated_is_said(logs):
    learned, later, _ = logs
    agent = agent_of(Pushed())
    box = Box(agent.readout, {"x": (-9, 9)})
    with pytest.raises(PlanningError, match=r"at least 999 .* to promise 99.9%; got 60"):
        measure_margins(agent, learned, later, box, level=0.999, horizon=H)
    with pytest.raises(DataError, match="episodes of at least 40 steps"):
        measure_margins(agent, learned, later, box, horizon=40)
    with pytest.raises(UsageError, match="horizon of at least 1"):
        measure_margins(agent, learned, later, box, horizon=0)
    states = torch.randn(200, 2)
    bad = BadStates.fit(states, states[:, 0] > 0, share=0.9, config=BadStates.Config(steps=2))
    with pytest.raises(UsageError, match="guardrail on columns of x, y; got bad states"):
        measure_margins(agent, learned, later, bad, horizon=H)
    code = OnColumns(agent.readout, lambda y: y["x"] - 1, name="code")
    assert measure_margins(agent, learned, later, code, level=0.5, horizon=H).level == 0.5


def windows_of(log, count, seed=0):
    episode = torch.randint(len(log.lengths), (count,), generator=torch.Generator().manual_seed(seed))
    return log.windows(episode, torch.zeros(count, dtype=torch.long), H)


def test_errors_of_what_was_lived_are_the_drift_of_the_model_and_nothing_far_from_the_limit(logs):
    agent = agent_of(Pushed(drift=-0.5))
    lived = windows_of(logs[2], 40)
    high = lived_errors(agent, lived, Box(agent.readout, {"x": (-math.inf, 1)}, margin={"x": 0.3}))
    torch.testing.assert_close(high.mean(0), 0.5 * torch.arange(1.0, H + 1), rtol=0, atol=0.2)
    low = lived_errors(agent, lived, Box(agent.readout, {"x": (-1, math.inf)}))
    torch.testing.assert_close(low, -high, rtol=1e-4, atol=1e-4)
    assert float(lived_errors(agent, lived, Box(agent.readout, {"x": (-math.inf, 1e6)}), near=10.0).abs().max()) == 0


def test_margins_follow_when_the_model_begins_to_be_wrong(logs):
    """Calibrated where the model was right; then it drifts: calibrated margins break, those that follow do not."""
    learned, later, fresh = logs
    limit = Box(agent_of(Pushed()).readout, {"x": (-math.inf, 1)})
    start = measure_margins(agent_of(Pushed()), learned, later, limit, level=0.9, horizon=H)
    wrong, now = agent_of(Pushed(drift=-0.5)), AdaptiveMargins.begin(start)
    assert margins_kept(wrong, fresh, limit, start) < 0.2
    for window in lived_errors(wrong, windows_of(fresh, 400), limit).split(1):
        now = now.after(window)
    assert now.held[0] > 0.8
    assert margins_kept(wrong, fresh, limit, now.margins) > 0.8
