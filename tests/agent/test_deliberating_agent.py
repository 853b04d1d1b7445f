"""An agent that deliberates as a task says: by skill and gate, within its filter, told, kept, and made again."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from plain_point import PLANNER, SIGNATURE, Always, agent
from small_world import Drift, config

from steersman.actor import Backup, Constant, Deliberate, DistilledPolicy, Gate
from steersman.actor.deliberation.gate import gate_of
from steersman.agent import Agent, record_decisions
from steersman.agent.fitted.gates import load_gate, store_gate
from steersman.agent.flight.forms import task_form, task_of
from steersman.agent.in_run import store_additions
from steersman.agent.replay import replays
from steersman.core import ColumnGoal, ConfigError, ObservationGoal, RunError, SubTask, Task, TaskSettings
from steersman.cost import Box
from steersman.runs import Run
from steersman.training import RolloutStage, create_run, train

FULL = 48 * 3 * 4
AIM = Task(ColumnGoal({"x": 1.0}, {"x": 0.1}), settings=TaskSettings(skill="right", deliberation=0.25))
HERE = {"vector": torch.zeros(64, 2)}


def _share(task: Task, share: float) -> Task:
    return replace(task, settings=replace(task.settings, deliberation=share))


def _acting(**more: object) -> Agent:
    acting = agent(**more)
    acting.add_policy("right", Always(0.5, 0.0))
    acting.gate = Gate(calls=FULL)
    return acting


def test_a_task_says_how_much_is_spent_and_the_plan_says_how_much_was() -> None:
    acting = _acting()
    spent = []
    for share in (0.0, 0.25, 1.0):
        acting.reset(5)
        plan = acting.act(HERE, _share(AIM, share))
        spent.append(float(plan.calls.double().mean()) / FULL)
        assert torch.allclose(plan.signals["share"], plan.calls.double() / FULL)
        assert all("of the full budget" in words for words in plan.reason)
    assert spent[0] < 0.01 < 0.15 < spent[1] < 0.35 < 0.9 < spent[2] <= 1


def test_what_was_not_foreseen_is_thought_about() -> None:
    acting = _acting()
    values = torch.linspace(-30, 0, 200, dtype=torch.float64)
    acting.gate = gate_of({"surprise": values}, FULL)
    acting.reset(0)
    acting.act(HERE, AIM)
    foreseen = torch.zeros(64, 2) + torch.tensor([0.05, 0.0])
    pushed = torch.arange(64) % 2 == 0
    seen = {"vector": torch.where(pushed[:, None], foreseen + 3.0, foreseen)}
    spent = acting.act(seen, AIM).signals["share"]
    assert float(spent[pushed].mean()) > 0.5 > 0.1 > float(spent[~pushed].mean())


def test_the_filter_of_the_agents_planner_stays_outside() -> None:
    still = Constant(SIGNATURE.action)
    acting = _acting()
    inner = Backup(PLANNER.build(), still, config=Backup.Config(steps=8, commit=(1,), lengths=(1, 2)))
    acting.planner = inner
    task = replace(AIM, guardrails=(Box(acting.readout, {"x": (-1.0, 0.12)}),))
    for share in (0.0, 0.25, 1.0):
        acting.reset(3)
        x = torch.zeros(64, 2)
        for _ in range(6):
            plan = acting.act({"vector": x}, _share(task, share))
            x = x + 0.1 * plan.action
            assert float(x[:, 0].max()) <= 0.12 + 1e-6
    found = acting.setting.planners.of(task.settings)
    assert isinstance(found, Backup)
    assert isinstance(found.planner, Deliberate)


def test_a_stage_may_deliberate() -> None:
    acting = _acting()
    stage = SubTask(replace(AIM, name="first"), steps=1)
    task = Task(ColumnGoal({"x": 1.0}, {"x": 0.1}), stages=(stage,))
    plan = acting.act(HERE, task)
    assert "share" in plan.signals
    assert "share" not in acting.act(HERE, task).signals


def test_what_is_missing_is_said_in_words() -> None:
    acting = _acting()
    with pytest.raises(ConfigError, match=r"a skill that acts where nothing is thought about.*skills: right"):
        acting.act(HERE, replace(AIM, settings=TaskSettings(deliberation=0.5)))
    acting.gate = None
    with pytest.raises(ConfigError, match="a gate that says where to think"):
        acting.act(HERE, AIM)
    for share in (-0.1, 1.01):
        with pytest.raises(ConfigError, match=r"within \[0, 1\] as `deliberation`"):
            TaskSettings(skill="right", deliberation=share)


def test_the_flight_recorders_form_of_a_task_says_it() -> None:
    form, tensors = task_form(AIM, None, (2,))
    assert task_of(form, tensors, None).settings == AIM.settings


def test_a_run_keeps_the_gate_and_its_decisions_are_made_again(tmp_path: Path) -> None:
    data, short = Drift(), config(rollout=(RolloutStage(until=1.0, starts=1, horizon=2),), steps=2)
    with create_run(tmp_path / "run", short, data, recipe="drift") as run:
        train(short, data, run)
    run = Run.open(tmp_path / "run")
    acting = Agent.load(run)
    acting.add_policy("habit", DistilledPolicy.Config(hidden=(4,)).build(
        acting.signature, acting.perception.latent_shape, acting.perception.context_shape))
    store_additions(acting, run)
    gate = gate_of({"habit": torch.linspace(0, 1, 50)}, 4000)
    store_gate(run, gate)
    assert load_gate(run) == gate
    acting = Agent.load(run)
    assert acting.gate == gate
    task = Task(ObservationGoal({"vector": torch.tensor([0.5, 0.0, -0.5])}),
                settings=TaskSettings(skill="habit", deliberation=0.3))
    record_decisions(acting, run)
    for step in range(5):
        plan = acting.act({"vector": torch.tensor([[0.1 * step, 0.0, 0.2], [0.0, 0.3, -0.1 * step]])}, task)
    assert "of the full budget" in plan.reason[0]
    acting.recorder.close()
    assert all(again.identical for again in replays(run))
    (run.path / "gate.json").write_text('{"calls": 0}')
    with pytest.raises(RunError, match="calibrate one again"):
        Agent.load(run)
