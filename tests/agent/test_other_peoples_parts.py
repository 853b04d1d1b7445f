"""Parts by others: trained, stored, resumed and loaded like ours once registered, refused in one line otherwise."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from steersman import training
from steersman.agent import Agent, AgentConfig, from_pretrained, save_pretrained
from steersman.core import (
    ColumnGoal,
    ConfigError,
    Episode,
    ObservationSpec,
    PartError,
    Perception,
    Planner,
    Signature,
    Task,
    UsageError,
    parts,
    register,
)  # fmt: skip
from steersman.core.parts import PerceptionConfig, convert, origins
from steersman.core.signature import ActionSpec
from steersman.data import CacheWriter, Dataset
from steersman.perception import MixedEncoder, VectorEncoder
from steersman.runs import Run

THEIRS = '''
import msgspec, torch
from torch import nn
from steersman.actor import CEM
from steersman.core import (Cost, Imagined, Latent, Loss, Objective, Perception, Belief, Planner, Readout, WorldModel,
                            register)
from steersman.perception import LinearReadout

struct = dict(frozen=True, forbid_unknown_fields=True, kw_only=True)

class Twice(Perception):
    @register(Perception)
    class Config(msgspec.Struct, tag="twice", **struct):
        factor: float = 2.0
        def build(self, signature): return Twice(self.factor)
    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
    latent_shape = (2,)
    def encode(self, observation, task=None): return Latent(observation["p"] * self.factor)

class Push(WorldModel):
    @register(WorldModel)
    class Config(msgspec.Struct, tag="push", **struct):
        def build(self, signature, latent_shape, context_shape): return Push()
    def __init__(self):
        super().__init__()
        self.move = nn.Linear(2, 2)
    def begin(self, latent, actions, exogenous=None): return Belief(latent.state[:, -1])
    def imagine(self, belief, actions, exogenous=None, u=None):
        moved = belief.state[:, None, None] + self.move(actions).cumsum(2)
        return Imagined(torch.cat([belief.state[:, None, None].expand(-1, actions.shape[1], 1, -1), moved], 2))

class Near(Objective):
    @register(Objective)
    class Config(msgspec.Struct, tag="near", **struct):
        weight: float = 1.0
        def build(self, signature, latent_shape, context_shape): return Near()
    def forward(self, batch):
        error = (batch.predicted.states[:, :, 1:] - batch.targets()).square().mean()
        return Loss(error, {"near": error.detach()})

class Patient(Planner):
    @register(Planner)
    class Config(msgspec.Struct, tag="patient", **struct):
        samples: int = 32
        def build(self): return Patient(self.samples)
    def __init__(self, samples): self.inner = CEM.Config(samples=samples, elites=4, iterations=2, horizon=2).build()
    def plan(self, problem): return self.inner.plan(problem)

class Dear(Cost):
    name = "dear"
    @register(Cost)
    class Config(msgspec.Struct, tag="dear", **struct):
        def build(self, signature): return Dear()
    def energy(self, imagined, actions, task): return actions.square().sum(-1)

class Plain(LinearReadout):
    @register(Readout)
    class Config(msgspec.Struct, tag="plain", **struct):
        def build(self, columns, latent_shape):
            plain = Plain(columns, latent_shape)
            plain.config = self
            return plain
'''


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What is registered, as it was before, for a test to change."""
    monkeypatch.setattr(parts, "_PARTS", {box: dict(tags) for box, tags in parts._PARTS.items()})
    yield parts._PARTS
    sys.modules.pop("their_parts", None)


@pytest.fixture
def theirs(known: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Somebody's module, imported."""
    (tmp_path / "their_parts.py").write_text(THEIRS)
    monkeypatch.chdir(tmp_path)
    from steersman.cli import imports

    imports.load(["their_parts"])
    return sys.modules["their_parts"]


def config(theirs: Any, **changes: Any) -> training.TrainConfig:
    agent = AgentConfig(
        perception=theirs.Twice.Config(factor=3.0), world_model=theirs.Push.Config(),
        planner=theirs.Patient.Config(samples=16), costs=(theirs.Dear.Config(),), readout=theirs.Plain.Config(),
    )
    settings = {"steps": 4, "window": 3, "batch_size": 4, "checkpoint_seconds": 0, "precision": "fp32"} | changes
    return training.TrainConfig(agent=agent, objectives=(theirs.Near.Config(),), **settings)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    signature = Signature({"p": ObservationSpec("vector", (2,), ("x", "y"))},
                          ActionSpec("continuous", low=(-1.0, -1.0), high=(1.0, 1.0)))
    moves = torch.rand(4, 10, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with CacheWriter(tmp_path / "walks", signature, origin="walks") as writer:
        writer.append(Episode({"p": torch.cat([torch.zeros(1, 2), m.cumsum(0)])}, m) for m in moves)
        writer.finish()
    return Dataset.open(tmp_path / "walks")


def forget(known: Any, theirs: Any) -> None:
    for tags in known.values():
        for tag in [tag for tag, kind in tags.items() if kind.__module__ == "their_parts"]:
            del tags[tag]
    del sys.modules["their_parts"]


def test_every_box_may_be_somebody_elses(theirs: Any, known: Any, dataset: Dataset, tmp_path: Path) -> None:
    from steersman.agent.fitting import fit_readout

    with training.create_run(tmp_path / "run", config(theirs), dataset, recipe="theirs") as run:
        stopped = training.train(config(theirs), dataset, run, stop=lambda: True)
    assert not stopped.finished
    assert run.manifest.config["parts"] == {
        "Cost dear": "their_parts:Dear.Config", "Objective near": "their_parts:Near.Config",
        "Planner patient": "their_parts:Patient.Config", "Readout plain": "their_parts:Plain.Config",
        "Perception twice": "their_parts:Twice.Config", "WorldModel push": "their_parts:Push.Config",
    }  # fmt: skip
    assert training.resume(run.path).finished
    assert fit_readout(Run.open(run.path), dataset) is not None
    agent = Agent.load(run.path)
    assert agent.config == config(theirs).agent
    plan = agent.act({"p": torch.zeros(2)}, Task(ColumnGoal({"x": 0.5}), weights={"goal": 1.0, "dear": 0.1}))
    assert set(plan.energy) == {"goal", "dear"}
    save_pretrained(agent, tmp_path / "model")
    assert from_pretrained(tmp_path / "model").config == agent.config
    forget(known, theirs)
    needs = (r"got 'twice' \(Twice\.Config of their_parts\); this run needs the part 'twice': import the module that "
             r"registers it; on the command line: --import their_parts$")
    for attempt, place in [(Agent.load, "run"), (training.resume, "run"), (from_pretrained, "model")]:
        with pytest.raises(PartError, match=needs):
            attempt(tmp_path / place)
    assert "their_parts" not in sys.modules, "a run imports nothing by itself"


def test_the_command_line_imports_what_it_is_told_to(
    theirs: Any, known: Any, dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from steersman.cli import main

    with training.create_run(tmp_path / "run", config(theirs), dataset, recipe="theirs") as run:
        training.train(config(theirs), dataset, run, stop=lambda: True)
    forget(known, theirs)
    assert main(["train", "--resume", str(run.path)]) == 2
    assert "--import their_parts" in capsys.readouterr().err
    assert main(["train", "--resume", str(run.path), "--import", "no_such_module"]) == 2
    assert "expected a module that can be imported for --import no_such_module" in capsys.readouterr().err
    assert main(["train", "--resume", str(run.path), "--import", str(tmp_path / "their_parts.py")]) == 0


def test_a_part_that_nobody_could_read_back_is_refused_before_training(
    known: Any, dataset: Dataset, tmp_path: Path
) -> None:
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="mine"):
        def build(self, signature: Signature) -> Perception:
            raise AssertionError

    agent = AgentConfig(perception=Config(), world_model=None)  # type: ignore[arg-type]
    wrong = training.TrainConfig(agent=agent, objectives=(None,), steps=1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"put @core\.register\(BOX\) on the Config"):
        training.create_run(tmp_path / "run", wrong, dataset, recipe="mine")
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_registered_says_why(known: Any) -> None:
    class Loose(msgspec.Struct, tag="loose"):
        pass

    class Vector(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="vector"):
        pass

    with pytest.raises(ConfigError, match="got a Struct without one of these"):
        register(Perception)(Loose)
    with pytest.raises(ConfigError, match="got another kind of class"):
        register(Perception)(dict)
    with pytest.raises(ConfigError, match=r"'vector', which steersman\.perception\.vector:VectorEncoder\.Config has"):
        register(Perception)(Vector)
    with pytest.raises(ConfigError, match="a box of Perception"):
        register(Signature)
    register(Planner)(Vector)  # a tag is a box's own
    assert known["Planner"]["vector"] is Vector


def test_a_cell_run_twice_counts_as_the_newer(known: Any) -> None:
    def cell() -> type:
        class Mine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="mine"):
            pass

        return register(Perception)(Mine)

    first, second = cell(), cell()
    assert first is not second
    assert known["Perception"]["mine"] is second


def test_parts_within_parts_and_errors_with_their_way() -> None:
    mixed = MixedEncoder.Config(parts={"p": VectorEncoder.Config(size=3)})
    stored = msgspec.to_builtins(mixed)
    assert convert(stored, PerceptionConfig) == mixed
    assert origins(mixed) == {}
    stored["parts"]["p"]["size"] = "three"
    with pytest.raises(msgspec.ValidationError, match=r"Expected `int`, got `str` in 'vector' at `size`"):
        convert(stored, PerceptionConfig)
    with pytest.raises(msgspec.ValidationError, match="Expected a Perception with its `type`"):
        convert({"parts": 3}, PerceptionConfig)
    deep: dict[str, Any] = {"type": "mixed"}
    for _ in range(5000):
        deep = {"type": "mixed", "parts": {"p": deep}}
    with pytest.raises(msgspec.ValidationError, match="a few levels deep"):
        convert(deep, PerceptionConfig)


def test_what_a_foreign_file_calls_a_module_is_not_repeated() -> None:
    with pytest.raises(PartError, match=r"got 'odd'; this run needs the part 'odd': import the module .* it$"):
        convert({"type": "odd"}, PerceptionConfig, origins={"Perception odd": "x; rm -rf /:Config"})


def test_an_unknown_file_is_a_usage_error() -> None:
    from steersman.cli import imports

    with pytest.raises(UsageError, match="FileNotFoundError"):
        imports.load(["nowhere/parts.py"])
