"""From a world seen by a camera to a measured agent by the commands alone, its moments of several pictures included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import torch
from PIL import Image

from steersman.agent import Agent
from steersman.agent.distance import weights_towards
from steersman.core import ColumnGoal, ObservationGoal, Task
from steersman.runs import Run
from steersman.worlds import OURS

SMALL = ["--set", "steps=2", "--set", "batch_size=4", "--window", "4", "--set", "agent.planner.samples=8", "--set",
         "agent.planner.elites=2", "--set", "agent.planner.horizon=2", "--set", 'pace={"step": 3, "frames": 3}']


def test_a_camera_agent_is_trained_measured_and_given_a_picture_as_its_goal(steersman: Callable) -> None:
    assert steersman("collect", "arm", "--episodes", "10", "--length", "30", "--out", "log").code == 0
    trained = steersman("train", "--recipe", "pixels", "--data", "log", "--out", "run", *SMALL)
    assert trained.code == 0, trained.err
    measured = steersman("evaluate", "run", "--protocol", "arm-picture", "--episodes", "2", "--json")
    assert measured.code == 0, measured.err
    assert measured.json["episodes"] == 2
    assert 0 < measured.json["steps"] <= 50
    far = ["--protocol", "arm-picture", "--episodes", "2", "--weight", "goal=0", "--weight", "temporal-distance=1"]
    unknown = steersman("evaluate", "run", *far)
    assert "fit the term first (`steersman fit`)" in unknown.err
    assert steersman("fit", "run", "--distance").code == 0
    by_steps = steersman("evaluate", "run", *far, "--json")
    assert by_steps.code == 0, by_steps.err
    agent = Agent.load("run")
    picture = OURS["arm"].begin(1, 0).observe()
    assert weights_towards(agent, ObservationGoal(picture)) == {"goal": 0.0, "temporal-distance": 1.0}
    assert weights_towards(agent, ColumnGoal({"finger_x": 0.0})) == {"goal": 1.0}
    unsaid = steersman("evaluate", "run", *far[:4], "--json")
    alike = steersman("evaluate", "run", *far[:4], "--weight", "goal=1", "--json")
    assert (unsaid.json["steps"], unsaid.json["success"]) == (by_steps.json["steps"], by_steps.json["success"])
    assert alike.code == 0, alike.err
    own = steersman("evaluate", "run", "--episodes", "2", "--json")  # its columns were not labelled
    assert own.code != 0
    assert "finger_x" in own.err
    other = steersman("evaluate", "run", "--protocol", "pendulum", "--episodes", "2")
    assert "image[64, 64, 3]" in other.err, "the world's picture is named, not the stack"
    Image.fromarray(OURS["arm"].begin(1, 5).observe()["image"][0].numpy()).save("goal.png")
    why = steersman("run", "run", "--env", "arm", "--goal", "goal.png", "--episodes", "1", "--json")
    assert "image[64, 64, 9]" not in why.err
    refused = steersman("rehearse", "run", "--env", "arm", "--goal", "goal.png")
    assert refused.code != 0
    assert len(refused.err.strip().splitlines()) == 1


def test_one_picture_is_a_goal_that_stands_still(steersman: Callable) -> None:
    assert steersman("collect", "arm", "--episodes", "6", "--length", "30", "--out", "log").code == 0
    assert steersman("train", "--recipe", "pixels", "--data", "log", "--out", "run", *SMALL).code == 0
    agent = Agent.load(Run.open(Path("run")))
    trials = OURS["arm"].begin(2, 7)
    seen = trials.observe()["image"]
    moment = {"image": torch.cat([seen] * 3, -1)}
    plans = []
    for goal in (seen, torch.cat([seen] * 3, -1), seen[0]):
        agent.reset(0)
        plans.append(agent.act(moment, Task(ObservationGoal({"image": goal}))).actions)
    assert torch.equal(plans[0], plans[1])
    assert torch.equal(plans[0][0], plans[2][0])
    assert msgspec.to_builtins(agent.signature.pace) == {"step": 3, "frames": 3, "apart": 1}
