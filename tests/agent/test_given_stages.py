"""A task in stages: carried out in order, under their own guardrails and the common ones, said, recorded, resumed."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from plain_point import Columns, agent, walk
from small_world import Drift, config
from small_world import agent as parts

from steersman.actor import ICEM
from steersman.agent import Agent, record_decisions
from steersman.agent.fitting import fit_readout
from steersman.agent.replay import replay, replays
from steersman.core import CallableGoal, ColumnGoal, ConfigError, PlanningError, SubTask, Task, TaskSettings
from steersman.cost import Box
from steersman.perception import LinearReadout
from steersman.runs import Run
from steersman.runs.decisions import TOGETHER, session_at
from steersman.training import create_run, train


def to(name="", **targets):
    return Task(ColumnGoal(targets, dict.fromkeys(targets, 0.1)), name=name)


def near(value, size=0.06):
    return value - size, value + size


def detour(**changes):
    """Up, then right, then down: the last goal straight away would be the way through (0.5, 0)."""
    stages = (SubTask(to("up", x=0.0, y=0.5), {"y": near(0.5)}), SubTask(to("right", x=1.0, y=0.5), {"x": near(1.0)}))
    return replace(to("down", x=1.0, y=0.0), stages=stages, **changes)


def test_stages_are_carried_out_in_order_and_said():
    acting = agent()
    places, plans = walk(acting, detour(), [[0.0, 0.0]], 36)
    said = [plan.reason[0].rpartition("; ")[2] for plan in plans]
    assert list(dict.fromkeys(said)) == [
        "stage 1 of 3, 'up'", "stage 2 of 3, 'right'", "stage 3 of 3, 'down'"]
    first, second = (next(i for i, words in enumerate(said) if words.startswith(f"stage {n}")) for n in (2, 3))
    assert abs(float(places[0, first, 1]) - 0.5) <= 0.06  # the moment at which the stage was over
    assert abs(float(places[0, second, 0]) - 1.0) <= 0.06
    assert (places[0, -1] - torch.tensor([1.0, 0.0])).norm() < 0.1
    straight, _ = walk(agent(), replace(detour(), stages=()), [[0.0, 0.0]], 36)
    assert places[0, :, 1].max() > 0.4 > 0.1 > straight[0, :, 1].max()


def test_a_stage_ends_after_its_steps_and_what_is_over_already_is_passed():
    acting = agent()
    stages = (SubTask(to("here", x=0.0, y=0.0), {"x": near(0.0), "y": near(0.0)}),
              SubTask(to("away", x=5.0, y=5.0), steps=3), SubTask(to("back", x=0.0, y=0.0)))
    _, plans = walk(acting, Task(ColumnGoal({}), stages=stages), [[0.0, 0.0]], 6)
    assert [plan.reason[0].rpartition(", ")[2] for plan in plans] == ["'away'"] * 3 + ["'back'"] * 3
    assert acting.state.spent.tolist() == [2]


def test_common_guardrails_hold_in_every_stage_and_own_ones_in_theirs():
    low = Box(Columns(), {"y": (-math.inf, 0.3)}, name="ceiling")
    wall = Box(Columns(), {"x": (-math.inf, 0.4)}, name="wall")
    first = SubTask(replace(to("first", x=1.0, y=1.0), guardrails=(wall,)), steps=12)
    task = replace(to("second", x=1.0, y=1.0), stages=(first,), guardrails=(low,))
    places, plans = walk(agent(), task, [[0.0, 0.0]], 26)
    assert (places[0, :, 1] <= 0.3 + 1e-6).all()
    assert (places[0, :13, 0] <= 0.4 + 1e-6).all()
    assert places[0, :13, 0].max() > 0.3
    assert places[0, -1, 0] > 0.9  # the wall was the first stage's own
    assert set(plans[0].vetoed) == {"ceiling", "wall"}
    assert set(plans[-1].vetoed) == {"ceiling"}


def test_episodes_at_different_stages_decide_as_if_alone():
    starts = [[0.0, 0.0], [0.0, 0.4], [0.9, 0.5]]
    acting = agent()
    together, plans = walk(acting, detour(), starts, 7, seeds=[3, 4, 5])
    assert acting.state.stage.unique().numel() > 1
    for i, start in enumerate(starts):
        alone, _ = walk(agent(), detour(), [start], 7, seeds=[3 + i])
        torch.testing.assert_close(together[i], alone[0])
    assert plans[-1].actions.shape == (3, 4, 2)


def test_stages_may_look_ahead_by_different_steps_and_plan_by_different_planners():
    stage = replace(to("coarse", x=1.0, y=0.5), horizon=2, settings=TaskSettings(planner=MPPI_SETTINGS))
    task = replace(to("fine", x=1.0, y=0.5), stages=(SubTask(stage, {"x": near(0.5, 0.1)}),))
    acting = agent()
    places, plans = walk(acting, task, [[0.0, 0.0], [0.5, 0.0]], 20)
    assert plans[0].actions.shape[1] == 2  # of both rows, as far as all look
    assert plans[-1].actions.shape[1] == 4
    assert (places[:, -1] - torch.tensor([1.0, 0.5])).norm(dim=1).max() < 0.1


MPPI_SETTINGS = {"type": "mppi", "samples": 32, "iterations": 2}


def test_the_stage_is_kept_where_the_agent_goes_on_from_a_state():
    acting, task = agent(), detour()
    places, _ = walk(acting, task, [[0.0, 0.0]], 12)
    state, place = acting.state, places[:, -1]
    assert state.stage.tolist() == [1]
    other = agent()
    other.resume(state)
    again = other.act({"vector": place}, detour())
    assert again.reason[0].endswith("stage 2 of 3, 'right'")
    assert torch.equal(again.actions, acting.act({"vector": place}, task).actions)


def test_an_episode_that_begins_begins_with_the_first_stage():
    acting, task = agent(), detour()
    walk(acting, task, [[0.0, 0.0], [0.0, 0.0]], 12)
    acting.begin(torch.tensor([1]))
    plan = acting.act({"vector": torch.tensor([[0.3, 0.5], [0.0, 0.0]])}, task)
    assert ["right" in plan.reason[0], "up" in plan.reason[1]] == [True, True]


def test_another_task_begins_with_its_own_first_stage():
    acting = agent()
    walk(acting, detour(), [[0.0, 0.0]], 12)
    plan = acting.act({"vector": torch.zeros(1, 2)}, to(x=1.0, y=0.0))
    assert "stage" not in plan.reason[0]
    plan = acting.act({"vector": torch.zeros(1, 2)}, replace(detour(), name="elsewhere"))
    assert plan.reason[0].endswith("stage 1 of 3, 'up'")


@pytest.mark.parametrize(("wrong", "says"), [
    (lambda: SubTask(detour(), steps=3), "without stages"),
    (lambda: SubTask(to(), {"x": (1.0, 0.0)}), "low <= high"),
    (lambda: SubTask(to(), steps=0), "at least one step"),
    (lambda: SubTask(replace(to(), settings=TaskSettings(react=1)), steps=1), "say them of the whole task"),
    (lambda: replace(to(), stages=(SubTask(to("a")), SubTask(to("b")))), "an end of stage 'a'"),
    (lambda: replace(to("a"), stages=(SubTask(to("a"), steps=1),)), "'a' twice"),
])
def test_stages_that_cannot_be_carried_out_are_refused(wrong, says):
    with pytest.raises(ConfigError, match=says):
        wrong()


def test_an_end_by_columns_that_nobody_reads_is_refused():
    task = replace(to(x=1.0), stages=(SubTask(to("a", x=1.0), {"speed": (0.0, 1.0)}),))
    with pytest.raises(PlanningError, match="columns of x, y; got speed"):
        agent().act({"vector": torch.zeros(1, 2)}, task)


def test_a_stage_whose_goal_is_code_is_for_episodes_that_are_at_it_together():
    code = Task(CallableGoal(lambda columns, imagined: (columns["x"] - 1).square()), name="code")
    task = replace(to("end", x=0.0), stages=(SubTask(code, {"x": near(1.0)}),))
    places, _ = walk(agent(), task, [[0.5, 0.0], [0.5, 0.3]], 5)
    assert places[:, -1, 0].min() > 0.9
    with pytest.raises(PlanningError, match="all episodes at one stage where its goal is code; got 1 of 2"):
        walk(agent(), task, [[0.0, 0.0], [1.0, 0.0]], 1)


# Recorded and replayed --------------------------------------------------------------------------------------------


class Seen(Drift):
    """The same with single moments, which a read-out is fitted to."""

    def measured(self, episode, row):
        return {}

    def frames(self, episode, row):
        return {"vector": self.states[episode, row]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path, data = tmp_path_factory.mktemp("staged") / "run", Seen()
    learned = config(agent=msgspec.structs.replace(parts(), readout=LinearReadout.Config()), steps=4)
    with create_run(path, learned, data, recipe="test") as made:
        train(learned, data, made)
    fit_readout(Run.open(path), data, rows=64)
    return path


def in_stages():
    aim, low = {"x": 0.5, "y": 0.0}, Task(ColumnGoal({"z": 0.0}), name="low", horizon=2)
    stages = (SubTask(Task(ColumnGoal(aim), name="go"), {"x": (0.2, 9.0)}, steps=5), SubTask(low, steps=TOGETHER))
    return Task(ColumnGoal(aim), name="end", stages=stages, settings=TaskSettings(planner={"samples": 12}))


def test_stages_are_recorded_and_replayed_bit_for_bit_from_anywhere(run):
    acting = Agent.load(run, planner=ICEM.Config(samples=16, iterations=2, horizon=3).build())
    recorder = record_decisions(acting, Run.open(run))
    acting.reset([1, 2])
    task, stages = in_stages(), []
    for step in range(TOGETHER + 9):
        x = -1.0 + 0.4 * step * torch.tensor([0.0, 1.0])[:, None] * torch.tensor([1.0, 0.0, 0.0])
        plan = acting.act({"vector": x}, task)
        stages.append(acting.state.stage.tolist())
    recorder.close()
    records = list(session_at(run, "latest").all())
    assert [list(record.stage) for record in records] == stages
    assert stages[0] == [0, 0]
    assert stages[4] == [0, 1]  # the second one came there by its column, the first waits for its steps
    assert stages[-1] == [2, 2]
    assert plan.reason[0].endswith("'end'")
    assert all(again.identical for again in replays(run))
    later = replay(run, TOGETHER + 1)  # from a whole record in the middle of a stage, warm starts from the file
    assert later.identical
    assert later.passed == 1


def test_a_recorded_task_keeps_what_is_left_to_chance(run):
    from steersman.agent.flight.forms import task_form, task_of
    from steersman.core import Risk

    task = replace(in_stages(), risk=Risk(4, "cvar", 0.2, 0.1))
    form, tensors = task_form(task, None)
    assert task_of(form, tensors, None) == task
