"""ONNX exports: every kind of encoder and world model computes what torch computes, and plans the same plans."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
import torch

from steersman import check_world_model
from steersman.actor import CEM, ICEM, Search
from steersman.agent import Agent, AgentConfig
from steersman.core import (
    ActionSpec,
    CheckpointError,
    ColumnGoal,
    Latent,
    MismatchError,
    ObservationGoal,
    ObservationSpec,
    RunError,
    Signature,
    StorageError,
    Task,
    UsageError,
)
from steersman.export import agent_graphs, export_onnx, load_onnx
from steersman.export import onnx as onnx_module
from steersman.perception import (
    ConvEncoder,
    KernelReadout,
    LinearReadout,
    MixedEncoder,
    SceneEncoder,
    VectorEncoder,
    ViTEncoder,
)
from steersman.world_model import MapReader, ObserverModel, RecurrentModel, ResidualModel, TransformerModel
from steersman.world_model.latent_variable import Noise

VECTOR = {"vector": ObservationSpec("vector", (3,), ("x", "y", "z"))}
IMAGE = {"image": ObservationSpec("image", (16, 16, 3))}
WIDE = {"image": ObservationSpec("image", (8, 16, 3))}
PUSH = ActionSpec("continuous", low=(-1.0, -2.0), high=(1.0, 2.0))
CHOICE = ActionSpec("discrete", choices=3)
TRANSFORMER = TransformerModel.Config(width=16, depth=2, heads=2, head_width=8, hidden=16, context=3)

KINDS = {
    "vector and ensemble, continuous": (
        Signature(VECTOR, PUSH), VectorEncoder.Config(hidden=(8,), size=6),
        ResidualModel.Config(width=8, members=2), 1),
    "mixed and recurrent, discrete, exogenous": (
        Signature({**VECTOR, **IMAGE}, CHOICE, ("wind", "price")),
        MixedEncoder.Config(parts={"vector": VectorEncoder.Config(hidden=(8,), size=4),
                                   "image": ConvEncoder.Config(widths=(4, 8), size=4)}, size=6),
        RecurrentModel.Config(width=8), 1),
    "vision transformer and transformer, continuous": (
        Signature(IMAGE, PUSH), ViTEncoder.Config(width=16, depth=1, heads=2, hidden=16, projector=8, size=6),
        TRANSFORMER, 4),
    "vector and observer, continuous, exogenous": (
        Signature(VECTOR, PUSH, ("wind",)), VectorEncoder.Config(hidden=(8,), size=6),
        ObserverModel.Config(width=8, disturbances=3), 4),
    "tokens of patches and transformer on their grid, continuous": (
        Signature(WIDE, PUSH),
        ViTEncoder.Config(width=16, depth=1, heads=2, hidden=16, patch=4, size=4, pool="tokens"),
        msgspec.structs.replace(TRANSFORMER, grid=(2, 4)), 4),
    "scene and map reader": (
        Signature(WIDE, PUSH), SceneEncoder.Config(width=4, hidden=8, state=4, map_width=4, codes=8, features=1),
        MapReader.Config(width=8, layers=1), 1),
}


def agent_of(kind: str, planner=None) -> Agent:
    torch.manual_seed(0)
    signature, perception, model, history = KINDS[kind]
    config = AgentConfig(perception=perception, world_model=model, history=history,
                         planner=planner or CEM.Config(samples=12, iterations=2, elites=3, horizon=4))
    encoder = perception.build(signature)
    world = model.build(signature, encoder.latent_shape, encoder.context_shape)
    for module in (encoder, world):  # fresh blocks are identities: make every weight count
        for parameter in module.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    if kind.startswith("vector"):
        encoder.calibrate({"vector": 3 + 2 * torch.randn(50, 3)})
    return Agent(config, signature, encoder, world)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """kind -> (agent, its export); made when first asked for."""
    made = {}

    def of(kind):
        if kind not in made:
            agent = agent_of(kind)
            if kind.startswith("vector"):
                readout = KernelReadout.Config(centres=10).build(("x", "y", "z"), (6,))
                readout.fit(torch.randn(40, 6), torch.randn(40, 3), 0)
                agent = Agent(agent.config, agent.signature, agent.perception, agent.world_model,
                              readout=readout.eval())
            made[kind] = agent, export_onnx(agent, tmp_path_factory.mktemp("onnx") / "export")
        return made[kind]

    return of


def moments(signature, count, seed=0):
    g = torch.Generator().manual_seed(seed)
    return {name: torch.randint(0, 256, (count, *s.shape), generator=g, dtype=torch.uint8) if s.kind == "image"
            else torch.randn(count, *s.shape, generator=g) for name, s in signature.observations.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_plans_on_onnx_runtime_are_those_of_torch(exported, kind):
    agent, done = exported(kind)
    other = load_onnx(done.folder)
    assert max(done.worst.values()) <= 1e-4
    signature = agent.signature
    forecast = torch.randn(2, 4, len(signature.exogenous)) if signature.exogenous else None
    goal = moments(signature, 1, seed=9)
    goal = ObservationGoal({name: x[0] for name, x in goal.items()})
    for one in (agent, other):
        one.reset([5, 6])
    for t in range(5):  # longer than any history
        observation = moments(signature, 2, seed=t)
        mine, theirs = (one.act(observation, Task(goal), exogenous=forecast) for one in (agent, other))
        torch.testing.assert_close(theirs.action, mine.action, atol=1e-4, rtol=0)
        torch.testing.assert_close(theirs.imagined.states, mine.imagined.states, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(theirs.energy["goal"], mine.energy["goal"], atol=1e-3, rtol=1e-3)


def test_goals_on_columns_and_disagreement_come_through(exported):
    agent, done = exported("vector and ensemble, continuous")
    other = load_onnx(done.folder, planner=ICEM.Config(samples=12, iterations=2, elites=3, horizon=4).build())
    assert other.readout.scale == agent.readout.scale
    goal, observation = Task(ColumnGoal({"y": 0.5})), moments(agent.signature, 3)
    ours = Agent(agent.config, agent.signature, agent.perception, agent.world_model, readout=agent.readout,
                 planner=other.planner)
    mine, theirs = (one.act(observation, goal) for one in (ours, other))
    torch.testing.assert_close(theirs.actions, mine.actions, atol=1e-4, rtol=0)
    assert theirs.imagined.disagreement is not None
    torch.testing.assert_close(theirs.imagined.disagreement, mine.imagined.disagreement, atol=1e-4, rtol=1e-3)


def test_search_in_imagination_plans_on_onnx_runtime(exported):
    agent, done = exported("scene and map reader")
    planner = Search.Config(nodes=20, expand=4, directions=4, look=4)
    observation = moments(agent.signature, 2)
    goal = Task(ObservationGoal({"image": moments(agent.signature, 1, 4)["image"][0]}))
    ours = Agent(agent.config, agent.signature, agent.perception, agent.world_model, planner=planner.build())
    mine, theirs = (one.act(observation, goal) for one in (ours, load_onnx(done.folder, planner.build())))
    torch.testing.assert_close(theirs.action, mine.action, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", [k for k in KINDS if "transformer" in k or "observer" in k or "recurrent" in k])
def test_a_history_is_followed_on_onnx_runtime_as_in_torch(exported, kind):
    agent, done = exported(kind)
    model, (_, _, _, history) = load_onnx(done.folder).world_model, KINDS[kind]
    action, count = agent.signature.action, len(agent.signature.exogenous)
    shape = agent.perception.latent_shape
    assert check_world_model(model, action, shape, exogenous=count, history=history, differentiable=False)
    g = torch.Generator().manual_seed(0)
    states, inputs = torch.randn(2, 9, *shape, generator=g), torch.randn(2, 8, count, generator=g) if count else None
    past = torch.randint(3, (2, 8, 1), generator=g)
    past = past if action.kind == "discrete" else past.float().expand(-1, -1, 2) - 1
    measured, reset = torch.rand(2, 9, *shape, generator=g) < 0.7, torch.zeros(2, 9, dtype=torch.bool)
    reset[1, 6] = True
    theirs, mine = (m.filter(Latent(states), past, inputs, measured, reset) for m in (model, agent.world_model))
    torch.testing.assert_close(theirs.states, mine.states, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(theirs.surprise.energy, mine.surprise.energy, atol=1e-3, rtol=1e-3)


class Growing(RecurrentModel):
    """Hands on one tensor more at each step."""

    def imagine(self, belief, actions, exogenous=None, u=None):
        found = super().imagine(replace(belief, carry=belief.carry[:1]), actions, exogenous)
        return replace(found, carry=(*found.carry, found.carry[0]))


@pytest.mark.parametrize(("spoil", "words"), [
    (lambda model: setattr(model, "__class__", Growing), "grows or changes its form"),
    (lambda model: setattr(model, "begin", None), "function of state, action and a history"),
    (lambda model: setattr(model, "settle", lambda b: replace(b, shared=(b.state,))), "fast weights"),
    (lambda model: setattr(model, "settle", lambda b: replace(b, carry=(b.carry[0] + 1,))), "begin with zeros"),
    (lambda model: setattr(model, "latent_variable", Noise(1)), "leaves something to chance"),
])
def test_a_world_model_that_no_graph_stands_for_is_refused_in_words(spoil, words, tmp_path):
    agent = agent_of("mixed and recurrent, discrete, exogenous")
    spoil(agent.world_model)
    with pytest.raises(UsageError, match=words):
        export_onnx(agent, tmp_path / "out")


def test_a_history_that_grew_in_an_earlier_version_is_refused(exported, tmp_path):
    import json
    import shutil

    shutil.copytree(exported("vision transformer and transformer, continuous")[1].folder, tmp_path / "old")
    path = tmp_path / "old" / "export.json"
    plain = json.loads(path.read_text()) | {"carry": [{"name": "keys", "shape": [2, -1, 16], "limit": 2}], "format": 1}
    path.write_text(json.dumps(plain))
    with pytest.raises(CheckpointError, match="one that grows, of an earlier version; export the agent again"):
        load_onnx(tmp_path / "old")


def test_the_folder_says_what_is_in_it(exported):
    _, done = exported("vision transformer and transformer, continuous")
    text = (done.folder / "README.md").read_text()
    for said in ("`image` | uint8 | batch, 16, 16, 3", "`carry_0` | float32 | batch, candidates, 8, 16",
                 "`carry_1_next` | int64 | batch, candidates", "`next`", "latent state"):
        assert said in text, said
    assert sorted(path.name for path in done.folder.iterdir()) == [
        "README.md", "encode.onnx", "export.json", "step.onnx"]


# What is refused -----------------------------------------------------------------------------------------------------


def test_a_graph_that_differs_is_refused_and_nothing_is_written(tmp_path, monkeypatch):
    run = onnx_module.run_session
    monkeypatch.setattr(onnx_module, "run_session", lambda *a: [x + 3e-4 for x in run(*a)])
    monkeypatch.setattr(onnx_module, "agent_graphs", lambda agent, observation, seed: {
        "encode": agent_graphs(agent, observation, seed)["encode"]})
    with pytest.raises(MismatchError, match=r"encode\.onnx within 0.0001 of torch"):
        export_onnx(agent_of("vector and ensemble, continuous"), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_damaged_exports_and_folders_in_use_are_refused(exported, tmp_path):
    import shutil

    agent, done = exported("vision transformer and transformer, continuous")
    with pytest.raises(StorageError, match="in use"):
        export_onnx(agent, done.folder)
    with pytest.raises(RunError, match="no such folder"):
        load_onnx(tmp_path / "nothing")
    for name, content in (("step.onnx", b"foreign"), ("encode.onnx", None), ("export.json", b'{"format": 1}'),
                          ("export.json", b"[" * 100_000)):
        copy = tmp_path / f"{name}-{len(content or b'')}"
        shutil.copytree(done.folder, copy)
        (copy / name).unlink() if content is None else (copy / name).write_bytes(content)
        with pytest.raises(CheckpointError) as error:
            load_onnx(copy)
        assert "\n" not in str(error.value)


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"steersman\[onnx\]"):
        export_onnx(agent_of("scene and map reader"), tmp_path / "out")
    assert LinearReadout


def test_programs_for_torch_compute_the_same(exported, tmp_path):
    from steersman.export import export_programs

    agent, _ = exported("scene and map reader")
    worst = export_programs(agent, tmp_path / "programs")
    assert set(worst) == {"encode", "survey", "step"}
    program = torch.export.load(tmp_path / "programs" / "encode.pt2").module()
    observation = moments(agent.signature, 3)
    torch.testing.assert_close(program(observation["image"]), agent.encode(observation).state)
