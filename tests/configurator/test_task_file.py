"""Tasks as files: the task that Python would give, and one line with what there is for what there is not."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))

from plain_point import SIGNATURE, Always, Columns, agent

from steersman.agent import read_task
from steersman.configurator import Known, parse_task
from steersman.core import (
    Budget,
    ColumnGoal,
    ObservationGoal,
    Risk,
    SteersmanError,
    TaskSettings,
    UsageError,
)
from steersman.cost import Box

FENCE = Box(Columns(), {"y": (-1.0, 1.0)}, name="fence")
KNOWN = Known(SIGNATURE, ("goal", "action"), Columns(), {"fence": FENCE}, ("gone",))

WHOLE = """
name = "across"
guardrails = ["fence", "x<=2"]
weights = {action = 0.5}
horizon = 6
trusted = 9
fallback = [0.0, 0.0]
planner = {samples = 64}
skill = "still"
levels = ["plan", "corrector"]
react = 1
attend = ""
budget = {calls = 500}
risk = {scenarios = 8, over = "cvar", tail = 0.2}
[goal.columns]
x = 1
[goal.scale]
x = 0.5
"""

STAGED = """
guardrails = ["fence"]
weights = {action = 2.0}
[[stage]]
name = "up"
goal = {columns = {x = 0.0, y = 0.5}}
guardrails = ["x<=0.5"]
within = {y = 0.1}
until = ["x>=-1", "x<=0.25"]
steps = 20
planner = {samples = 32}
[[stage]]
name = "over"
weights = {goal = 3.0}
goal = {columns = {x = 1.0}}
"""


def test_a_file_is_the_task_that_python_would_give():
    task = parse_task(WHOLE, KNOWN)
    assert task.goal == ColumnGoal({"x": 1.0}, {"x": 0.5})
    assert dict(task.weights) == {"goal": 1.0, "action": 0.5}
    assert task.guardrails[0] is FENCE
    assert task.guardrails[1].limits == {"x": (-math.inf, 2.0)}
    assert (task.name, task.horizon, task.trusted, task.fallback.tolist()) == ("across", 6, 9, [0.0, 0.0])
    assert (task.budget, task.risk) == (Budget(500), Risk(8, "cvar", 0.2))
    assert task.settings == TaskSettings({"samples": 64}, "still", ("plan", "corrector"), 1)


def test_stages_of_a_file_have_ends_limits_and_what_the_file_says_for_all():
    task = parse_task(STAGED, KNOWN)
    up, over = task.stages
    assert up.until == {"x": (-1.0, 0.25), "y": (0.4, 0.6)}
    assert (up.steps, over.endless, task.stage_names) == (20, True, ("up", "over"))
    assert [dict(stage.task.weights) for stage in task.stages] == [{"goal": 1.0, "action": 2.0}, {"goal": 3.0}]
    assert [rail.name for rail in task.at(0).guardrails] == ["fence", "x<=0.5"]
    assert [rail.name for rail in task.at(1).guardrails] == ["fence"]
    assert task.at(0).settings.planner == {"samples": 32}
    assert task.goal is over.task.goal


def test_goals_are_pictures_and_observations_too(tmp_path):
    np.save(tmp_path / "there.npy", np.array([0.5, -1.0]))
    for words in ('[goal]\npicture = "there.npy"', '[goal.observation]\nvector = "there.npy"',
                  "[goal.observation]\nvector = [0.5, -1.0]"):
        task = parse_task(words, KNOWN, tmp_path / "task.toml")
        assert isinstance(task.goal, ObservationGoal)
        assert task.goal.observation["vector"].tolist() == [0.5, -1.0]


def test_a_goal_may_be_left_to_whoever_reads_and_weights_to_the_agent():
    given = ColumnGoal({"y": 0.0})
    known = Known(SIGNATURE, ("goal",), Columns(), weigh=lambda goal: {"goal": 7.0})
    task = parse_task("horizon = 3", known, goal=lambda: given)
    assert task.goal is given
    assert task.weights == {"goal": 7.0}


X = "[goal.columns]\nx = 1\n"
WRONG = [
    ("gaol = 1", "a field of a task of goal,"),
    ("[goal]\ncolums = {x = 1}", "a field of goal of columns,"),
    ("[[stage]]\nwithn = {x = 1}", "a field of stage of within,"),
    ("[goal.columns]\nz = 1", "a column in the goal of the task of x, y; got 'z'"),
    ("[goal.observation]\nvektor = [1, 0]", "an observation in the goal of the task of vector; got 'vektor'"),
    ("[goal.observation]\nvector = [1]", "expected 2 numbers (x, y) as a goal; got 1"),
    ('[goal]\npicture = "none.png"', "no such file; check the name: it is looked for beside the task"),
    ('[goal]\ncolumns = {x = 1}\npicture = "a.png"', "one of columns, picture and observation"),
    ("horizon = 3", "a goal, or stages that have goals"),
    ('horizon = "3"', "Expected `int | null`, got `str` - at `$.horizon`"),
    ("= 3", "a task as TOML in the task"),
    ("weights = {gaol = 1.0}\n" + X, "a cost term in the weights of the task of goal, action; got 'gaol'"),
    ('guardrails = ["fnece"]\n' + X, "or the name of a guardrail that is kept with the run: fence; got 'fnece'"),
    ('guardrails = ["gone"]\n' + X, "a guardrail 'gone' that was fitted to these weights; got one of others"),
    ('guardrails = ["z<=1"]\n' + X, "with a column of x, y; got 'z<=1'"),
    ('[[stage]]\nname = "a"\nsteps = 3', "a goal of stage 'a'"),
    ('[[stage]]\nname = "a"\ngoal = {columns = {x = 1}}\nwithin = {y = 1}', "a column of the goal of stage 'a' of x;"),
    ('[[stage]]\ngoal = {columns = {x = 1}}\nuntil = ["z>=1"]', "a column of x, y; got 'z>=1'"),
    ("[[stage]]\ngoal = {columns = {x = 1}}\n[[stage]]\ngoal = {columns = {x = 1}}", "an end of stage 'of no name'"),
    ('risk = {over = "best"}\n' + X, "Invalid enum value 'best'"),
    ('planner = {smaples = 3}\n' + X, "a setting of the planner 'cem' of samples,"),
    ('planner = {type = "cemm"}\n' + X, "a planner of cem,"),
    ('planner = {samples = "many"}\n' + X, "settings that the planner 'cem' takes"),
    ('skill = "graps"\n' + X, "a skill of grasp, still; got 'graps'"),
    ('levels = ["plann", "corrector"]\n' + X, "a level of plan, corrector; got 'plann'"),
    ('levels = ["plan", "memory"]\n' + X, "a level of corrector, plan; got 'memory'"),
    ('levels = []\n' + X, "a skill that acts while the level 'plan' rests; got none; skills: "),
    ('attend = "left"\n' + X, "expected a learned task; got 'left', and there is none"),
]


@pytest.mark.parametrize(("words", "says"), WRONG, ids=range(len(WRONG)))
def test_what_there_is_not_is_answered_in_one_line_the_nearest_first(words, says, tmp_path):
    acting = agent()
    acting.add_guardrail("fence", FENCE)
    acting.additions.outdated = ("gone",)
    acting.add_policy("grasp", Always(0.0, 0.0))
    acting.add_policy("still", Always(0.0, 0.0))
    path = tmp_path / "task.toml"
    path.write_text(words)

    def read():
        parse_task(words, KNOWN)  # it has a term beside the goal; what only an agent knows is refused there
        read_task(path, acting)

    with pytest.raises(SteersmanError) as error:
        read()
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path):
    with pytest.raises(UsageError, match="a readable task at"):
        read_task(tmp_path / "none.toml", agent())
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="a task as TOML"):
        read_task(tmp_path / "bytes.toml", agent())


def test_an_agent_carries_out_the_stages_of_a_file(tmp_path):
    path, acting = tmp_path / "task.toml", agent()
    path.write_text('[[stage]]\nname = "up"\ngoal = {columns = {y = 0.3}}\nwithin = {y = 0.1}\n'
                    '[[stage]]\nname = "over"\ngoal = {columns = {x = 1.0}}\n')
    task, place, said = read_task(path, acting), torch.zeros(1, 2), []
    for _ in range(6):
        plan = acting.act({"vector": place}, task)
        place = place + 0.1 * plan.action
        said.append(plan.reason[0].rpartition(", ")[2])
    assert said[0] == "'up'"
    assert said[-1] == "'over'"
