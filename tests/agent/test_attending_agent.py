"""An agent that attends: perception is given the task, goals are encoded for it, and unknown names are refused."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from plain_point import PLANNER, SIGNATURE, Plain, Pushed

from steersman.agent import Agent, AgentConfig, FurtherBoxes
from steersman.configurator import Preset, Presets
from steersman.core import Latent, ObservationGoal, PlanningError, SubTask, Task, TaskSettings, UsageError
from steersman.perception import VectorEncoder
from steersman.world_model import ResidualModel


class Turning(Plain):
    """What is to be attended to comes first: "y" swaps the columns."""

    tasks = ("x", "y")

    def encode(self, observation, task=None):
        seen = observation["vector"]
        names = ("",) * len(seen) if task is None else task.settings.attend
        names = (names,) * len(seen) if isinstance(names, str) else names
        swapped = torch.tensor([name == "y" for name in names])
        return Latent(torch.where(swapped[:, None, None], seen.flip(-1), seen))


def agent(history=1):
    config = AgentConfig(perception=VectorEncoder.Config(), world_model=ResidualModel.Config(), planner=PLANNER,
                         goal_space="latent", history=history)
    return Agent(config, SIGNATURE, Turning(), Pushed())


def aim(attend):
    return Task(ObservationGoal({"vector": torch.tensor([0.5, -0.5])}), settings=TaskSettings(attend=attend))


def test_moments_and_goals_are_encoded_for_the_task():
    acting, start = agent(), torch.tensor([[0.5, 0.0]])
    plan = acting.act({"vector": start}, aim("x"))
    assert torch.equal(plan.imagined.states[0, 0, 0], start[0])
    assert plan.action[0, 1] < -0.5  # the state is (0.5, 0.0), the goal (0.5, -0.5)
    acting.reset()
    plan = acting.act({"vector": start}, aim("y"))
    assert torch.equal(plan.imagined.states[0, 0, 0], start[0].flip(0))
    assert plan.action[0, 0] < -0.5  # the state is (0.0, 0.5), the goal (-0.5, 0.5)


def test_another_task_encodes_the_same_goal_anew():
    acting, goal = agent(), ObservationGoal({"vector": torch.tensor([0.5, -0.5])})
    for name, first in (("x", 0.5), ("y", -0.5)):
        acting.configure(Task(goal, settings=TaskSettings(attend=name)))
        assert acting.setting.asked.goal.latent.state[0, 0] == first


def test_episodes_side_by_side_attend_each_to_its_own():
    acting, start = agent(), torch.tensor([[0.5, 0.0], [0.5, 0.0], [0.1, 0.2]])
    task = aim(("x", "y", "y"))
    plan = acting.act({"vector": start}, task)
    assert acting.setting.asked.goal.latent.state.tolist() == [[0.5, -0.5], [-0.5, 0.5], [-0.5, 0.5]]
    assert plan.imagined.states[:, 0, 0].tolist() == [[0.5, 0.0], [0.0, 0.5], pytest.approx([0.2, 0.1])]
    on = torch.tensor([True, False, True])
    acting.select(on)
    plan = acting.act({"vector": start[on]}, task.rows(on, 3))
    assert plan.imagined.states[1, 0, 0].tolist() == pytest.approx([0.2, 0.1])


def test_what_is_encoded_outside_of_a_decision_attends_to_what_it_is_told():
    acting, start = agent(), {"vector": torch.tensor([0.5, 0.0])}
    acting.act(start, aim("y"))
    assert acting.encode(start).state.tolist() == [[0.5, 0.0]]
    assert acting.encode(start, aim("y")).state.tolist() == [[0.0, 0.5]]


@pytest.mark.parametrize("task", [aim("z"), replace(aim("x"), settings=TaskSettings(attend=("x", "z")))])
def test_a_task_that_was_not_learned_is_refused_with_those_that_were(task):
    with pytest.raises(UsageError, match="a learned task of x, y; got 'z'"):
        agent().act({"vector": torch.zeros(len(task.settings.attend), 2)}, task)


def test_what_a_configurator_says_of_a_task_is_attended_to():
    presets = Presets.Config(tasks={"swapped": Preset(attend="y")})
    config = AgentConfig(perception=VectorEncoder.Config(), world_model=ResidualModel.Config(), planner=PLANNER,
                         goal_space="latent", configurator=presets)
    acting = Agent(config, SIGNATURE, Turning(), Pushed(),
                   further=FurtherBoxes(configurator=presets.build(SIGNATURE)))
    plan = acting.act({"vector": torch.tensor([[0.5, 0.0]])}, replace(aim(""), name="swapped"))
    assert plan.imagined.states[0, 0, 0].tolist() == [0.0, 0.5]
    assert acting.setting.asked.goal.latent.state.tolist() == [[-0.5, 0.5]]


def test_stages_attend_to_what_the_whole_task_does():
    stage = SubTask(replace(aim(""), name="first"), steps=1)
    task = replace(aim("y"), stages=(stage,))
    plan = agent().act({"vector": torch.tensor([[0.5, 0.0]])}, task)
    assert plan.imagined.states[0, 0, 0].tolist() == [0.0, 0.5]


def test_a_history_of_one_task_is_not_read_for_another():
    acting, start = agent(history=2), {"vector": torch.tensor([0.5, 0.0])}
    acting.act(start, aim("x"))
    with pytest.raises(PlanningError, match="got 'y' after 'x'"):
        acting.act(start, aim("y"))
    acting.reset()
    acting.act(start, aim("y"))
    single = agent()
    single.act(start, aim("x"))
    single.act(start, aim("y"))
    assert not single.surprise.known.any()  # what was foreseen for the other task says nothing of this one
