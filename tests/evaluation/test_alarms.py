"""The threshold of surprise: exceeded as rarely as stated in a log like the one it was calibrated on, and often where
the world changed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from small_world import SIGNATURE, agent

from steersman.agent import Agent
from steersman.agent.building.parts import build_parts
from steersman.core import Episode, PlanningError, UsageError
from steersman.data import CacheWriter, Dataset
from steersman.evaluation import calibrate_alarm
from steersman.evaluation.alarms import surprises
from steersman.evaluation.tape import record


def log(folder, seed, episodes=150, steps=16, gain=0.0):
    """A point that stays where it is but for noise, or is moved by its actions."""
    g = torch.Generator().manual_seed(seed)
    actions = 2 * torch.rand(episodes, steps, 2, generator=g) - 1
    moves = 1e-3 * torch.randn(episodes, steps, 3, generator=g)
    moves[..., :2] += gain * actions
    states = torch.randn(episodes, 1, 3, generator=g) + torch.cat([torch.zeros(episodes, 1, 3), moves.cumsum(1)], 1)
    with CacheWriter(folder, SIGNATURE, origin="test") as writer:
        writer.append([Episode({"vector": s}, a) for s, a in zip(states, actions, strict=True)])
        writer.finish()
    return Dataset.open(folder)


@pytest.fixture(scope="module")
def still():
    """An agent that foresees that nothing moves."""
    torch.manual_seed(0)
    config = agent()
    made = build_parts(config, SIGNATURE)
    for layer in ("to_change",):
        for weight in getattr(made["world_model"], layer).parameters():
            torch.nn.init.zeros_(weight)
    return Agent(config, SIGNATURE, made["perception"], made["world_model"])


def exceeded(agent, dataset, alarm):
    tape = record(agent, dataset, 20_000)
    rows = (tape.ahead >= alarm.window).nonzero()[:, 0]
    return float((surprises(agent, tape, rows, alarm.window).mean(1).exp() > alarm.threshold).double().mean())


def test_the_rate_of_false_alarms_is_as_stated_and_a_change_is_told(still, tmp_path):
    alarm = calibrate_alarm(still, log(tmp_path / "a", 0), level=0.05, window=3)
    assert (alarm.level, alarm.window, alarm.units) == (0.05, 3, 150)
    assert 0.02 < exceeded(still, log(tmp_path / "b", 1), alarm) < 0.08
    assert exceeded(still, log(tmp_path / "c", 2, gain=0.01), alarm) > 0.9


def test_too_few_episodes_for_a_rate_and_numbers_out_of_range_are_refused(still, tmp_path):
    few = log(tmp_path / "a", 0, episodes=3, steps=8)
    with pytest.raises(PlanningError, match="at least 99 episodes, or pieces of 6 steps"):
        calibrate_alarm(still, few, level=0.01, window=3)
    with pytest.raises(UsageError, match="a level within"):
        calibrate_alarm(still, few, level=0.0)
