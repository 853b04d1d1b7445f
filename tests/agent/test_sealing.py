"""Intrinsic costs of an agent: sealed when it is built, compared when it is loaded and after every update."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from small_world import Drift, config
from small_world import agent as parts

from steersman import training
from steersman.agent import Agent, from_pretrained, save_pretrained
from steersman.core import ConfigError, Cost, ObservationGoal, SealError, Task, register
from steersman.cost import EffortCost, SmoothnessCost

DATA = Drift()


class Pain(Cost):
    """A cost with a number in it."""

    name = "pain"

    @register(Cost)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="test-pain"):
        limit: float = 1.5

        def build(self, signature):
            return Pain(self.limit)

    def __init__(self, limit):
        self.limit, self.weight = limit, torch.full((3,), limit)
        LIVING.append(self)

    def energy(self, imagined, actions, task):
        return (imagined.states[:, :, 1:, 0].abs() - self.limit).clamp(min=0)


LIVING: list[Pain] = []


def settings(**more):
    agent = msgspec.structs.replace(parts(), **{"costs": (EffortCost.Config(),), "intrinsic": (Pain.Config(),), **more})
    return config(agent=agent, steps=4)


@pytest.fixture
def trained(tmp_path):
    c = settings()
    with training.create_run(tmp_path / "run", c, DATA, recipe="test") as run:
        training.train(c, DATA, run)
    return tmp_path / "run"


def test_a_sealed_cost_is_weighed_like_the_others(trained):
    agent = Agent.load(trained)
    goal = ObservationGoal({"vector": torch.zeros(3)})
    plan = agent.act({"vector": torch.ones(3)}, Task(goal, {"goal": 1.0, "pain": 5.0, "effort": 0.1}))
    assert set(plan.energy) == {"goal", "pain", "effort"}
    plan = agent.act({"vector": torch.ones(3)}, Task(goal, {"goal": 1.0}))
    assert set(plan.energy) == {"goal", "pain"}, "an intrinsic cost weighs 1 where the task does not name it"
    assert "silences" not in plan.reason[0]
    plan = agent.act({"vector": torch.ones(3)}, Task(goal, {"goal": 1.0, "pain": 0.0}))
    assert set(plan.energy) == {"goal"}
    assert plan.reason[0].endswith("; the task silences 'pain'")


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda c: c["train"]["agent"]["intrinsic"][0].update(limit=9.0), r"limit: 1.5 became 9.0; weight"),
        (lambda c: c["train"]["agent"].update(intrinsic=[]), "that were sealed: pain; got none"),
        (lambda c: c["train"]["agent"]["intrinsic"].append({"type": "smoothness"}), "pain; got pain, smoothness"),
        (lambda c: c.pop("seals"), "that were sealed: none"),
        (lambda c: c["seals"]["pain"].update(weight="float32[3] 0"), "weight: float32"),
    ],
)
def test_a_run_whose_intrinsic_costs_were_edited_is_refused(trained, edit, match):
    manifest = json.loads((trained / "manifest.json").read_text())
    edit(manifest["config"])
    (trained / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SealError, match=match):
        Agent.load(trained)


def test_an_agent_whose_cost_was_changed_does_not_begin_another_episode(trained):
    agent = Agent.load(trained)
    agent.reset()
    LIVING[-1].weight[1] = 0
    with pytest.raises(SealError, match="'pain' as it was when the agent was built; got weight"):
        agent.reset()


def test_training_stops_when_a_step_changes_one(tmp_path):
    c = settings()

    def meddle(progress):
        if progress.step == 2:
            for cost in LIVING:
                cost.limit = 0.0

    with (
        training.create_run(tmp_path / "run", c, DATA, recipe="test") as run,
        pytest.raises(SealError, match=r"limit: 1.5 became 0.0"),
    ):
        training.train(c, DATA, run, progress=meddle)


def test_training_leaves_intrinsic_costs_bit_identical(trained):
    before = Agent.load(trained).sealed[0].fingerprint
    stored = json.loads((trained / "manifest.json").read_text())["config"]["seals"]["pain"]
    assert before == stored


def test_a_folder_for_hubs_keeps_the_seals(trained, tmp_path):
    agent = Agent.load(trained)
    folder = save_pretrained(agent, tmp_path / "model")
    assert from_pretrained(folder).sealed[0].fingerprint == agent.sealed[0].fingerprint
    assert "pain" in json.loads((folder / "config.json").read_text())["seals"]


def test_two_costs_of_one_name_are_refused(tmp_path):
    twice = msgspec.structs.replace(parts(), costs=(SmoothnessCost.Config(),), intrinsic=(SmoothnessCost.Config(),))
    c = config(agent=twice, steps=1)
    with training.create_run(tmp_path / "run", c, DATA, recipe="test") as run:
        training.train(c, DATA, run)
    with pytest.raises(ConfigError, match="smoothness twice"):
        Agent.load(tmp_path / "run")


def test_a_fitted_term_can_be_added_and_hides_no_other(trained):
    agent = Agent.load(trained)
    agent.add_cost(SmoothnessCost(agent.signature.action))
    goal = ObservationGoal({"vector": torch.zeros(3)})
    assert "smoothness" in agent.act({"vector": torch.ones(3)}, Task(goal, {"goal": 1.0, "smoothness": 1.0})).energy
    with pytest.raises(ConfigError, match="pain twice"):
        agent.add_cost(Pain(9.0))
