"""Settings of a task, its own and a configurator's: they change what acts, and nothing that was learned."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))

from plain_point import PLANNER, SIGNATURE, Always, agent, walk

from steersman.actor import CEM, ICEM, Reactive, Seeded
from steersman.agent.levels import begin_ledger
from steersman.configurator import Preset, Presets
from steersman.core import (
    Budget,
    ColumnGoal,
    ConfigError,
    Cost,
    Memory,
    PlanningError,
    SubTask,
    Task,
    TaskSettings,
    TensorRecord,
)
from steersman.core.parts import ConfiguratorConfig, convert

AIM = Task(ColumnGoal({"x": 1.0}, {"x": 0.1}))


class Height(Cost):
    name = "height"

    def energy(self, imagined, actions, task):
        return (imagined.states[:, :, 1:, 1] - 1.0).square()


def planner_of(acting, task):
    """Who planned for it, as the agent chose."""
    acting.configure(task)
    return acting.setting.planners.of(acting.setting.asked.settings)


def test_weights_alone_change_what_is_done():
    """u and v, nothing else: the same agent goes right, or up, or both."""
    acting = agent()
    acting.add_cost(Height())
    ends = {name: walk(acting, replace(AIM, weights=weights), [[0.0, 0.0]], 12)[0][0, -1] for name, weights in {
        "right": {"goal": 1.0}, "up": {"goal": 0.0, "height": 100.0}, "both": {"goal": 1.0, "height": 100.0}}.items()}
    assert ends["right"][0] > 0.8 > 0.5 > ends["right"][1].abs()
    assert ends["up"][1] > 0.8 > 0.5 > ends["up"][0].abs()
    assert ends["both"].min() > 0.8


def test_fields_of_the_planner_are_the_tasks_and_another_planner_by_its_type():
    acting = agent()
    assert planner_of(acting, AIM) is acting.planner
    finer = planner_of(acting, replace(AIM, settings=TaskSettings({"samples": 64, "horizon": 7})))
    assert finer.config == msgspec.structs.replace(PLANNER, samples=64, horizon=7)
    assert planner_of(acting, replace(AIM, settings=TaskSettings({"horizon": 7, "samples": 64}))) is finer
    other = planner_of(acting, replace(AIM, settings=TaskSettings({"type": "icem", "samples": 20})))
    assert other.config == ICEM.Config(samples=20)
    plan = acting.act({"vector": torch.zeros(1, 2)}, replace(AIM, settings=TaskSettings({"horizon": 7})))
    assert plan.actions.shape[1] == 7


def test_a_skill_is_among_the_candidates_and_acts_alone_where_planning_rests():
    acting = agent(CEM.Config(samples=2, iterations=1, elites=1, horizon=3))
    acting.add_policy("right", Always(1.0, 0.0))
    seeded = replace(AIM, settings=TaskSettings(skill="right"))
    alone = replace(AIM, settings=TaskSettings(skill="right", levels=()))
    assert isinstance(planner_of(acting, seeded), Seeded)
    assert isinstance(planner_of(acting, alone), Reactive)
    places, plans = walk(acting, seeded, [[0.0, 0.0]], 8)
    assert places[0, -1, 0] > 0.7  # two candidates, of which one is the skill
    places, plans = walk(acting, alone, [[-3.0, 0.0]], 3)
    assert torch.equal(plans[0].action, torch.tensor([[1.0, 0.0]]))
    assert plans[0].calls.tolist() == [1]
    acting.add_policy("right", Always(-1.0, 0.0))  # another one of the same name counts at once
    assert acting.act({"vector": torch.zeros(1, 2)}, alone).action[0, 0] == -1.0


def test_a_skill_may_belong_to_one_stage():
    acting = agent()
    acting.add_policy("left", Always(-1.0, 0.0))
    stage = SubTask(Task(ColumnGoal({"x": 1.0}), settings=TaskSettings(skill="left")), steps=2)
    task = replace(AIM, stages=(stage,), settings=TaskSettings({"samples": 8}))
    acting.configure(task)
    first, last = (acting.setting.planners.of(acting.setting.asked.at(i).settings) for i in (0, 1))
    assert isinstance(first, Seeded)
    assert first.planner.config.samples == last.config.samples == 8


def test_another_react_is_for_whole_episodes():
    acting = agent()
    acting.act({"vector": torch.zeros(1, 2)}, AIM)
    with pytest.raises(PlanningError, match="for as long as an episode lasts"):
        acting.act({"vector": torch.zeros(1, 2)}, replace(AIM, settings=TaskSettings(react=1)))
    acting.reset()
    acting.configure(replace(AIM, settings=TaskSettings(react=1)))
    assert acting.rows == 1


# A configurator ---------------------------------------------------------------------------------------------------


PRESETS = Presets.Config(
    tasks={"careful": Preset(planner={"samples": 96}, calls=400, weights={"height": 100.0}, horizon=5)},
    otherwise=Preset(planner={"iterations": 2, "samples": 16}),
)


def asked(task):
    acting = agent(configurator=PRESETS)
    acting.add_cost(Height())
    planner = planner_of(acting, task)
    return acting.setting.asked, planner.config


def test_presets_count_by_name_then_for_all_and_the_task_itself_wins():
    task, config = asked(replace(AIM, name="careful"))
    assert (config.samples, config.iterations) == (96, 2)
    assert (task.horizon, task.budget, dict(task.weights)) == (5, Budget(400), {"height": 100.0, "goal": 1.0})
    task, config = asked(AIM)
    assert (config.samples, task.horizon, task.budget) == (16, None, Budget())
    task, config = asked(replace(AIM, name="careful", horizon=3, weights={"height": 0.0}, budget=Budget(seconds=2.0),
                                 settings=TaskSettings({"samples": 8})))
    assert (config.samples, config.iterations, task.horizon) == (8, 2, 3)
    assert task.budget == Budget(400, 2.0)
    assert task.weights["height"] == 0.0


def test_presets_change_behaviour_by_weights_alone():
    acting = agent(configurator=Presets.Config(tasks={"high": Preset(weights={"height": 100.0})}))
    acting.add_cost(Height())
    ends = [walk(acting, replace(AIM, name=name), [[0.0, 0.0]], 12)[0][0, -1, 1] for name in ("", "high")]
    assert ends[0].abs() < 0.5 < 0.8 < ends[1]


def test_presets_are_for_stages_by_their_own_names():
    stage = SubTask(replace(AIM, name="careful"), steps=2)
    task, _ = asked(replace(AIM, name="rest", stages=(stage,)))
    assert (task.at(0).horizon, task.at(1).horizon) == (5, None)
    assert task.at(0).settings.planner["samples"] == 96


def test_presets_are_stored_and_read_as_other_parts_are():
    plain = msgspec.to_builtins(PRESETS)
    assert plain["type"] == "presets"
    assert convert(plain, ConfiguratorConfig) == PRESETS
    assert not list(PRESETS.build(SIGNATURE).parameters())
    with pytest.raises(ConfigError, match="at least 1 in 'slow'"):
        Presets.Config(tasks={"slow": Preset(horizon=0, calls=0)})


# Levels that rest ---------------------------------------------------------------------------------------------------


class Counting(Memory):
    """How often each episode was written to."""

    def initial(self, batch):
        return Held(torch.zeros(batch))

    def read(self, state, query):
        return query

    def write(self, state, key, value):
        return Held(state.times + 1)


@dataclass(frozen=True)
class Held(TensorRecord):
    times: torch.Tensor


def test_a_memory_that_rests_is_not_written_to():
    acting = agent()
    acting.further = replace(acting.further, memory=Counting())
    acting.ledger = begin_ledger(acting.further, acting.world_model, False)
    for levels, times in ((None, 1.0), (("plan", "memory"), 2.0), (("plan",), 2.0)):
        acting.act({"vector": torch.zeros(1, 2)}, replace(AIM, settings=TaskSettings(levels=levels)))
        assert acting.state.memory.times.tolist() == [times], levels


def test_a_corrector_that_rests_is_not_asked():
    acting, asked = agent(), []
    acting.log = SimpleNamespace(append=lambda *a, **k: None, count=3, flush=lambda: None)
    acting.learning = SimpleNamespace(due=lambda count: True, learn=asked.append, saw=lambda surprise: None)
    for levels in (("plan",), ("plan", "corrector")):
        acting.act({"vector": torch.zeros(1, 2)}, replace(AIM, settings=TaskSettings(levels=levels)))
        acting.experience(None)
    assert asked == [3]
