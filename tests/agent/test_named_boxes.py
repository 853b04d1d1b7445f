"""Every box can be somebody else's: stored with a run, loaded in another process, replayed, handed on as a folder."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from small_world import SIGNATURE, Drift

from steersman import training
from steersman.agent import (
    Agent,
    AgentConfig,
    corrector_of,
    from_pretrained,
    load_parts,
    record_decisions,
    save_pretrained,
    save_readout,
    store_additions,
)
from steersman.cli import imports
from steersman.core import ConfigError, ObservationGoal, PartError, Signature, Task, UsageError, parts
from steersman.objectives import VICReg
from steersman.perception import VectorEncoder
from steersman.runs import Run

HERE = Path(__file__).parent
MODULE = HERE / "boxes_of_others.py"
BOXES = sorted(parts._BOXES.values())
TRAINING_ONLY = {"Objective", "View", "Masks", "Optimiser"}
GOAL = Task(ObservationGoal({"vector": torch.ones(3)}), weights={"goal": 1.0, "haste": 0.1, "dislike": 0.1})

THERE = """
import json, sys, torch
from pathlib import Path
from steersman.agent import Agent, from_pretrained
from steersman.agent.replay import replays
from steersman.cli import imports
from steersman.core import PartError
run, folder, module, tests = sys.argv[1:]
said = {}
for name, attempt, place in (("run", Agent.load, run), ("folder", from_pretrained, folder)):
    try:
        attempt(place)
    except PartError as error:
        said[name] = str(error)
imports.load([module])
sys.path.insert(0, tests)
from test_named_boxes import heard
found = {name: heard(attempt(place)) for name, attempt, place in (
    ("run", Agent.load, run), ("folder", from_pretrained, folder))}
replayed = [again.identical for again in replays(run)]
print(json.dumps({"said": said, "found": found, "replayed": replayed}))
"""


@torch.no_grad()
def heard(agent: Agent) -> dict[str, object]:
    """What each box of the agent answers, as plain numbers: class first."""
    states = torch.linspace(-1, 1, 6).view(2, 3)
    agent.reset([3, 4])
    plan = agent.act({"vector": states}, GOAL)
    assert agent.state.memory is not None
    moved = agent.world_model.imagine(agent.world_model.begin(agent.encode({"vector": states}).map(
        lambda x: x[:, None]), torch.zeros(2, 0, 2)), plan.actions[:, None])
    answers = {
        "Perception": (agent.perception, agent.encode({"vector": states}).state),
        "WorldModel": (agent.world_model, moved.states),
        "LatentVariable": (agent.world_model.coin, agent.world_model.coin.draw(states, states, states)),
        "Planner": (agent.planner, plan.actions),
        "Cost": (next(cost for cost in agent.costs if cost.name == "haste"), plan.energy["haste"]),
        "FittedCost": (agent.additions.costs["dislike"], plan.energy["dislike"]),
        "Guardrail": (agent.guardrails["fence"], agent.guardrails["fence"].margin(moved, plan.actions)),
        "Readout": (agent.readout, agent.readout.read(states)),
        "Policy": (agent.planner.way, agent.planner.way.propose(plan_belief(agent, states), GOAL)),
        "FittedPolicy": (agent.policies["own"], torch.stack([
            agent.policies[name].propose(plan_belief(agent, states), GOAL) for name in ("own", "added")])),
        "Critic": (agent.critic, agent.critic.value(states)),
        "Memory": (agent.memory, agent.memory.read(agent.state.memory, states[:, None])),
        "Configurator": (agent.configurator, agent.configurator.configure(GOAL)["token"]),
    }
    return {box: [type(part).__qualname__, value.detach().double().flatten().tolist()]
            for box, (part, value) in answers.items()}


def plan_belief(agent: Agent, states: torch.Tensor) -> object:
    return agent.world_model.begin(agent.encode({"vector": states}).map(lambda x: x[:, None]), torch.zeros(2, 0, 2))


@pytest.fixture(scope="module")
def theirs():
    known = {box: dict(tags) for box, tags in parts._PARTS.items()}
    imports.load([str(MODULE)])
    yield importlib.import_module("boxes_of_others")
    parts._PARTS.clear()
    parts._PARTS.update(known)
    sys.modules.pop("boxes_of_others", None)


@pytest.fixture(scope="module")
def stored(theirs, tmp_path_factory):
    """A run and a folder that name somebody else's part in every box, and what its agent answers here."""
    place, data = tmp_path_factory.mktemp("boxes"), Drift()
    agent = AgentConfig(
        perception=theirs.Seeing.Config(), world_model=theirs.Moving.Config(), planner=theirs.Patient.Config(),
        costs=(theirs.Haste.Config(),), readout=theirs.Telling.Config(), goal_space="latent",
        critic=theirs.Valuing.Config(), memory=theirs.Adding.Config(), configurator=theirs.Setting.Config(),
        corrector=theirs.Learning.Config(), policies={"own": theirs.Habit.Config(), "keys": theirs.Habit.Config()},
    )
    config = training.TrainConfig(agent=agent, objectives=(theirs.Following.Config(),), steps=2, window=4, batch_size=4,
                                  precision="fp32", checkpoint_seconds=0, average=0.5)
    with training.create_run(place / "run", config, data, recipe="theirs") as run:
        training.train(config, data, run)
        loaded = load_parts(run)
        readout = theirs.Telling.Config().build(("x", "y", "z"), (3,))
        readout.fit(data.states[:, 3], data.states[:, 3], 0)
        save_readout(run, "observation", readout, theirs.Telling.Config(), (3,), loaded.step, 12)
        acting = Agent.load(run)
        torch.manual_seed(1)
        acting.add_policy("added", theirs.Habit((3,)))
        acting.add_cost(theirs.Dislike((3,)).requires_grad_(False))
        acting.add_guardrail("fence", theirs.Fence(torch.rand(())))
        store_additions(acting, run)
        recorder = record_decisions(acting, run)
        for k in range(3):
            acting.act({"vector": data.states[:2, k]}, GOAL)
        recorder.close()
        acting.recorder = None
        save_pretrained(acting, place / "folder")
    return place, heard(acting)


@pytest.fixture(scope="module")
def there(stored):
    """What another process finds."""
    done = subprocess.run(
        [sys.executable, "-c", THERE, str(stored[0] / "run"), str(stored[0] / "folder"), str(MODULE), str(HERE)],
        capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def under_box(names: dict[str, str]) -> set[str]:
    return {name.split()[0] for name in names}


@pytest.mark.parametrize("box", BOXES)
def test_a_part_of_somebody_else_is_in_what_is_stored_and_the_same_in_another_process(box, stored, there, theirs):
    place, here = stored
    run = Run.open(place / "run")
    manifest = run.manifest.config["parts"]
    kept = json.loads((run.path / "kept" / "kept.json").read_text())["parts"]
    folder = json.loads((place / "folder" / "config.json").read_text())["parts"]
    origin = {name: where for parts_ in (manifest, kept) for name, where in parts_.items()}
    assert origin[f"{box} {theirs.TAG}"].startswith("boxes_of_others:")
    assert (box in under_box(folder)) is (box not in TRAINING_ONLY)
    if box in here:
        assert there["found"]["run"][box] == here[box]
        assert there["found"]["folder"][box] == here[box]


def test_what_another_process_does_not_know_is_said_before_anything_is_built(there):
    for said in there["said"].values():
        assert "import the module that registers it; on the command line: --import boxes_of_others" in said
    assert set(there["said"]) == {"run", "folder"}


def test_decisions_of_an_agent_with_a_memory_are_replayed_bit_for_bit(there):
    assert there["replayed"] == [True] * 3


def test_weights_of_every_box_stand_under_its_name_in_checkpoint_and_folder(stored, theirs):
    from safetensors import safe_open

    from steersman.runs.checkpoints import MODEL

    expected = {"perception.factor", "world_model.move.weight", "critic.network.weight", "memory.weight",
                "configurator.tokens", "policy.own.network.weight", "policy.keys.network.weight"}
    names = {}
    for name, path in (("run", Run.open(stored[0] / "run").checkpoint().path / MODEL),
                       ("folder", stored[0] / "folder" / "model.safetensors")):
        with safe_open(path, "pt") as file:
            names[name] = set(file.keys())
    for found in names.values():
        assert expected <= found
    assert "kept.policy.added.network.weight" in names["folder"]
    text = (stored[0] / "folder" / "README.md").read_text()
    for row in ("| critic | Valuing |", "| policy `own` | Habit |"):
        assert row in text
    assert "| `added` | policy, `agent.policies` | Habit |" in text


@pytest.mark.parametrize("box", ["critic", "memory", "configurator", "policy.own"])
def test_the_fingerprint_covers_every_box_with_weights(box, stored):
    agent = Agent.load(stored[0] / "run")
    before = agent.fingerprint()
    with torch.no_grad():
        next(agent.further.named()[box].parameters()).add_(1e-3)
    assert agent.fingerprint() != before


def test_a_corrector_is_built_for_the_agents_own_weights(stored, theirs):
    run = Run.open(stored[0] / "run")
    agent = Agent.load(run)
    corrector = corrector_of(agent, run)
    assert type(corrector) is theirs.Learning
    assert corrector.perception is agent.perception
    assert corrector.run == run.path


def test_a_folder_of_an_agent_goes_round_without_a_bit_changed(stored, tmp_path):
    again = save_pretrained(from_pretrained(stored[0] / "folder"), tmp_path / "again")
    for file in ("config.json", "model.safetensors", "README.md"):
        assert (again / file).read_bytes() == (stored[0] / "folder" / file).read_bytes()


def test_boxes_that_do_not_fit_the_configuration_are_refused(stored, theirs):
    agent = Agent.load(stored[0] / "run")
    with pytest.raises(ConfigError, match=r"names: configurator, critic, memory, policy\.keys, policy\.own; got none"):
        Agent(agent.config, agent.signature, agent.perception, agent.world_model)
    with pytest.raises(ConfigError, match="no policy of the configuration has"):
        agent.add_policy("own", agent.policies["added"])
    with pytest.raises(ConfigError, match="at most 64 letters"):
        AgentConfig(perception=theirs.Seeing.Config(), policies={"a.b": theirs.Habit.Config()})


def test_training_again_from_a_checkpoint_is_the_same(stored, theirs, tmp_path):
    """Weights of further boxes and their average are part of what training goes on from."""
    config = training.stored_config(Run.open(stored[0] / "run"))
    states = []
    for name, stop in (("whole", False), ("pieces", True)):
        with training.create_run(tmp_path / name, config, Drift(), recipe="theirs") as run:
            trained = training.train(config, Drift(), run, stop=lambda stop=stop: stop)
        if not trained.finished:
            training.resume(run.path, dataset=Drift())
        states.append(load_parts(tmp_path / name).parts)
    for name, box in states[0].further.named().items():
        for key, value in box.state_dict().items():
            assert torch.equal(value, states[1].further.named()[name].state_dict()[key]), (name, key)


def test_a_box_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(ConfigError, match=r"a box of Perception, .*Critic, .*Optimiser; got Signature"):
        parts.register(Signature)


def test_what_is_registered_does_not_depend_on_what_was_imported_first(theirs):
    from steersman.core import Planner

    tags = [kind.__struct_config__.tag for kind in parts.registered(Planner)]
    assert tags == sorted(tags)
    with pytest.raises(PartError, match="a Critic that this process knows"):
        parts.convert({"type": "nobodys"}, parts.CriticConfig)


def test_a_run_that_only_learned_to_see_gives_its_perception_and_no_agent(tmp_path):
    from steersman.agent.building.parts import build_parts
    from steersman.agent.fitting import fit_readout
    from steersman.perception import LinearReadout
    from steersman.training.checkpoints import CheckpointStore

    class Seen(Drift):
        def frames(self, episode, row):
            return {"vector": self.states[episode, row]}

        def measured(self, episode, row):
            return {}

    agent = AgentConfig(perception=VectorEncoder.Config(hidden=(4,), size=2), readout=LinearReadout.Config())
    config = training.TrainConfig(agent=agent, objectives=(VICReg.Config(),), steps=1)
    built, data = build_parts(agent, SIGNATURE), Seen()
    with training.create_run(tmp_path / "run", config, data, recipe="seeing") as run:
        CheckpointStore(run.path / "checkpoints", run.manifest.id).save(1, built.state_dict(), {}, {})
    loaded = load_parts(tmp_path / "run")
    assert loaded.parts.world_model is None
    assert loaded.config == agent
    states = loaded.parts.perception.encode({"vector": data.states}).state
    assert torch.equal(states, built["perception"].eval().encode({"vector": data.states}).state)
    assert fit_readout(Run.open(tmp_path / "run"), data) is not None
    with pytest.raises(UsageError, match="to act; got an agent that only learned to see; train one with a `world_mod"):
        Agent.load(tmp_path / "run")


def test_a_policy_that_was_added_is_kept_until_it_is_dropped(stored, tmp_path):
    import shutil

    from steersman.agent.fitted.in_run import drop_addition, read_index

    run = Run.open(shutil.copytree(stored[0] / "run", tmp_path / "run"))
    assert read_index(run).format == 2
    drop_addition(run, "policy", "added")
    assert set(Agent.load(run).policies) == {"own", "keys"}
    assert read_index(run).format == 1, "as earlier versions read it"
    with pytest.raises(ConfigError, match=r"a kept part among cost\.dislike, guardrail\.fence; got policy\.added"):
        drop_addition(run, "policy", "added")
