"""A corrector is asked only while surprise stands above its threshold; without surprise no weight changes, bit for
bit."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from small_world import Drift, config

from steersman.actor import CEM
from steersman.agent import Agent, Alarm, Transition, Watch, correct_with, record_decisions, record_experience
from steersman.agent.replay import replays
from steersman.core import Corrector, ObservationGoal, Task, Update, UsageError
from steersman.core.surprising import nothing_foreseen, surprise_of
from steersman.runs import Run
from steersman.runs.updates import Journal
from steersman.training import GradientCorrector, create_run, train

AIM = Task(ObservationGoal({"vector": torch.tensor([0.5, 0.0, -0.5])}))
SETTINGS = GradientCorrector.Config(replay=0.0, windows=8, window=4, steps=2, reach=30, lr=3e-3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path, data = tmp_path_factory.mktemp("alarm") / "run", Drift()
    c = config(steps=4)
    with create_run(path, c, data, recipe="test") as run:
        train(c, data, run)
    return path


@pytest.fixture
def run(trained, tmp_path):
    return Run.open(shutil.copytree(trained, tmp_path / "run"))


class Asked(Corrector):
    """Counts how often it is asked, and has nothing to propose."""

    def __init__(self):
        self.times = 0

    config = updates = None
    updates = 0

    def stand_at(self, updates):
        pass

    def propose(self, experience, through):
        self.times += 1

    def accept(self, update: Update):
        raise AssertionError

    roll_back = accept


def live(run, threshold, corrector=None, decisions=12, b=2):
    """Act in a world that is not that of the weights."""
    agent = Agent.load(run, planner=CEM.Config(samples=16, iterations=2, elites=4, horizon=4).build())
    record_experience(agent, run)
    corrector = corrector or SETTINGS.build(agent.perception, agent.world_model, run.path)
    correct_with(agent, run, corrector, alarm=Alarm(threshold=threshold, level=0.01, window=3))
    recorder = record_decisions(agent, run)
    agent.reset(3)
    g, state, made = torch.Generator().manual_seed(0), torch.zeros(b, 3), []
    agent.experience(Transition({"vector": state}))
    for _ in range(decisions):
        action = agent.act({"vector": state}, AIM).actions[:, 0]
        state = state + 0.1 * torch.randn(b, 3, generator=g)
        made.append(agent.experience(Transition({"vector": state}, action)))
    recorder.close()
    agent.log.close()
    return agent, made


def test_without_surprise_nobody_is_asked_and_not_a_bit_changes(run):
    asked = Asked()
    agent, made = live(run, 1e6, asked)
    assert asked.times == 0
    assert made == [None] * 12
    assert agent.fingerprint() == Agent.load(run).fingerprint()
    assert agent.standing.updates == 0
    assert not Journal(run.path / "experience").path.exists()


def test_with_surprise_it_is_asked_at_every_decision_and_after_an_update_surprise_is_watched_anew(run):
    asked = Asked()
    live(run, 1e-9, asked)
    assert asked.times == 9  # the first decision foresaw nothing, and a window is three moments
    agent, made = live(run, 1e-9)
    assert [update is not None for update in made] == [*[False] * 3, *[True, False, False] * 3]
    assert agent.standing.updates == 3
    notes = Journal(run.path / "experience").corrections(4)
    assert all(note.told["surprise"] > note.told["threshold"] for note in notes)
    assert all(r.identical for r in replays(run))


def test_surprise_is_known_where_what_was_carried_out_is_what_was_planned(run):
    agent = Agent.load(run, planner=CEM.Config(samples=16, iterations=2, elites=4, horizon=4).build())
    agent.reset(0)
    plan = agent.act({"vector": torch.zeros(2, 3)}, AIM)
    kept = agent.state
    agent.act({"vector": torch.zeros(2, 3)}, AIM, since=plan.actions[:, :1])
    assert bool(agent.surprise.known.all())
    agent.resume(kept)
    agent.act({"vector": torch.zeros(2, 3)}, AIM, since=plan.actions[:, :1] * 0.5)
    assert not bool(agent.surprise.known.any())


def test_the_mean_is_over_logarithms_and_moments_of_which_nothing_was_foreseen_do_not_count():
    watch = Watch(Alarm(threshold=1e-3, level=0.01, window=2))
    watch.saw(None)
    watch.saw(nothing_foreseen(torch.zeros(2, 3)))
    one = surprise_of(torch.zeros(2, 3), torch.tensor([[0.1] * 3, [0.01] * 3]), 1)
    watch.saw(one)
    assert watch.standing == 0
    watch.saw(one)
    assert watch.standing == pytest.approx(1e-3)
    watch.saw(replace(one, energy=one.energy * 4))
    assert watch.standing == pytest.approx(2e-3)
    assert watch.raised
    watch.forget()
    assert not watch.raised


@pytest.mark.parametrize("words", [{"threshold": 0.0}, {"threshold": float("inf")}, {"level": 1.0}, {"window": 0}])
def test_an_alarm_without_a_threshold_is_refused(words):
    with pytest.raises(UsageError, match="calibrate it"):
        Alarm(**({"threshold": 1.0, "level": 0.1} | words))
