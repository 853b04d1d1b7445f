"""Models that grow: a declared change resumes exactly, an undeclared shape is refused."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from small_world import SIGNATURE, Drift, config
from torch import Tensor, nn

from steersman.agent import Agent, from_pretrained, save_pretrained
from steersman.core import Change, CheckpointError, ConfigError
from steersman.nn import DenseMembers, apply_changes, layers_of, merged
from steersman.runs import Run
from steersman.runs.checkpoints import MODEL
from steersman.training import CheckpointStore, create_run, grow, resume, train
from steersman.training.learner import Learner
from steersman.training.processes import Processes

DATA = Drift()
WEIGHT = "world_model.from_state"
ADDED = Change(kind="added", module=WEIGHT, layer="second", rank=3)


def stopped(path: Path, at: int = 12, **changes: Any) -> Path:
    c = config(**changes)
    create_run(path, c, DATA, recipe="test").close()
    count = iter(range(1000))
    train(c, DATA, Run.open(path), stop=lambda: next(count) >= at)
    return path


def kept(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    run = Run.open(path)
    found = CheckpointStore(run.checkpoints_dir, run.manifest.id).load()
    return found.model, found.state


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("changes", [
    (ADDED,), (ADDED, Change(kind="frozen", module="perception")),
    (ADDED, Change(kind="added", module=WEIGHT, layer="third", rank=2),
     Change(kind="merged", module=WEIGHT, layer="second")),
    (ADDED, Change(kind="removed", module=WEIGHT, layer="second")),
])
def test_a_declared_change_resumes_exactly(tmp_path: Path, changes: tuple[Change, ...], average: float) -> None:
    for name in ("whole", "parts"):
        grow(stopped(tmp_path / name, average=average), changes, dataset=DATA)
    whole = resume(tmp_path / "whole", dataset=DATA)
    count = iter(range(1000))
    part = resume(tmp_path / "parts", dataset=DATA, stop=lambda: next(count) >= 6)
    assert (whole.step, part.step) == (30, 18)
    resume(tmp_path / "parts", dataset=DATA)
    for a, b in zip(kept(tmp_path / "whole"), kept(tmp_path / "parts"), strict=True):
        assert same(a, b)
    file = Run.open(tmp_path / "parts").checkpoint()
    assert [c.kind for c in file.changes] == [c.kind for c in changes]
    assert {c.step for c in file.changes} == {12}
    touched = [c.module.partition(".")[0] for c in changes]
    assert file.modules == {box: touched.count(box) for box in ("perception", "world_model", "objectives")}


def test_a_new_layer_changes_nothing_at_first_and_learns_then(tmp_path: Path) -> None:
    path = stopped(tmp_path / "run")
    before, moments = kept(path)
    grow(path, [ADDED], dataset=DATA)
    after, state = kept(path)
    original = f"{WEIGHT}.parametrizations.weight.original"
    assert torch.equal(after[original], before[f"{WEIGHT}.weight"])
    up = next(name for name in after if name.endswith("second.up"))
    assert not after[up].any()
    stays = "optimiser.first.world_model.to_change.weight"
    assert torch.equal(state[stays], moments[stays])
    assert moments[stays].any()
    first = "optimiser.first."
    assert torch.equal(state[f"{first}{original}"], moments[f"{first}{WEIGHT}.weight"])
    resume(path, dataset=DATA)
    assert kept(path)[0][up].any()
    learned = kept(path)[1][f"{first}{original}"]
    grow(path, [Change(kind="merged", module=WEIGHT, layer="second")], dataset=DATA)
    assert torch.equal(kept(path)[1][f"{first}{WEIGHT}.weight"], learned)


def test_a_merged_layer_leaves_what_the_model_computes_and_a_removed_one_takes_it_back(tmp_path: Path) -> None:
    path = stopped(tmp_path / "run")
    grow(path, [ADDED], dataset=DATA)
    count = iter(range(1000))
    resume(path, dataset=DATA, stop=lambda: next(count) >= 6)
    window = DATA.windows(torch.arange(6), torch.zeros(6, dtype=torch.long), 8)

    def imagined() -> Tensor:
        run = Run.open(path)
        file, found = run.checkpoint(), CheckpointStore(run.checkpoints_dir, run.manifest.id).load()
        learner = Learner(config(), SIGNATURE, torch.device("cpu"), Processes(), file.changes)
        learner.load(found.model, found.state)
        with torch.no_grad():
            return learner.make(window, config().stages[0]).predicted.states

    grown = imagined()
    grow(path, [Change(kind="merged", module=WEIGHT, layer="second")], dataset=DATA)
    torch.testing.assert_close(imagined(), grown)
    assert f"{WEIGHT}.weight" in kept(path)[0]
    assert resume(path, dataset=DATA).finished


@pytest.mark.parametrize("kind", ["merged", "removed"])
def test_what_grew_in_one_sitting_is_taken_back_in_the_next_from_averages_too(tmp_path: Path, kind: Any) -> None:
    path = stopped(tmp_path / "run", average=0.9)
    grow(path, [ADDED], dataset=DATA)
    count = iter(range(1000))
    resume(path, dataset=DATA, stop=lambda: next(count) >= 4)
    grow(path, [Change(kind=kind, module=WEIGHT, layer="second")], dataset=DATA)
    assert f"{WEIGHT}.weight" in kept(path)[0]
    grow(path, [ADDED], dataset=DATA)
    assert resume(path, dataset=DATA).finished


def test_an_agent_of_a_grown_run_acts_with_what_has_grown(tmp_path: Path) -> None:
    path = stopped(tmp_path / "run")
    grow(path, [ADDED], dataset=DATA)
    resume(path, dataset=DATA)
    agent = Agent.load(path)
    model = kept(path)[0]
    assert same({f"world_model.{n}": x for n, x in agent.world_model.state_dict().items()},
                {n: x for n, x in model.items() if n.startswith("world_model.")})
    assert list(layers_of(agent.world_model.from_state)) == ["second"]
    plain = from_pretrained(save_pretrained(agent, tmp_path / "folder"))
    assert not layers_of(plain.world_model.from_state)
    torch.testing.assert_close(plain.world_model.from_state.weight, agent.world_model.from_state.weight)


def test_a_grown_model_whose_declaration_is_missing_is_refused_in_one_line(tmp_path: Path) -> None:
    path = stopped(tmp_path / "run")
    grow(path, [ADDED], dataset=DATA)
    run = Run.open(path)
    store = CheckpointStore(run.checkpoints_dir, run.manifest.id)
    found = store.load()
    memory = {name: x for name, x in found.memory.items() if name != "changes"}
    store.save(found.step, found.model, found.state, memory, found.metrics)
    for use in (lambda: resume(path, dataset=DATA), lambda: Agent.load(path)):
        with pytest.raises(CheckpointError, match="parametrizations") as caught:
            use()
        assert "\n" not in f"{caught.value}"
    memory["changes"] = [{"kind": "melted", "module": WEIGHT}]
    store.save(found.step, found.model, found.state, memory, found.metrics)
    with pytest.raises(CheckpointError, match=r"declared changes in .*melted"):
        resume(path, dataset=DATA)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Change(kind="frozen", module="world_modle"), "a module 'world_modle'"),
        (Change(kind="merged", module=WEIGHT, layer="first"), r"a layer over '.*': second; got 'first'"),
        (ADDED, "that is not there yet; got 'second'"),
        (Change(kind="added", module="objectives", layer="x", rank=1), "a module with a weight matrix"),
        (Change(kind="added", module=WEIGHT, layer="x", rank=99), "a rank of at most"),
        (Change(kind="added", module=WEIGHT, layer="keys", rank=1), "that torch gives to nothing; got 'keys'"),
        (Change(kind="added", module=WEIGHT, layer="training", rank=1), "that torch gives to nothing"),
        (Change(kind="frozen", module=""), "something that learns; got every parameter frozen"),
    ],
)
def test_a_change_that_does_not_fit_leaves_the_checkpoint_as_it_is(tmp_path: Path, change: Change, said: str) -> None:
    path = stopped(tmp_path / "run")
    grow(path, [ADDED], dataset=DATA)
    before = (Run.open(path).checkpoint().path / MODEL).read_bytes()
    with pytest.raises((ConfigError, CheckpointError), match=said) as caught:
        grow(path, [change], dataset=DATA)
    assert "\n" not in f"{caught.value}"
    assert (Run.open(path).checkpoint().path / MODEL).read_bytes() == before


@pytest.mark.parametrize(("module", "x"), [
    (nn.Linear(6, 4), torch.randn(5, 6)), (nn.Conv2d(3, 4, 3), torch.randn(2, 3, 8, 8)),
    (DenseMembers(3, 6, 4), torch.randn(3, 5, 6)),
])
def test_layers_lie_over_any_weight_matrix(module: nn.Module, x: Tensor) -> None:
    parts = nn.ModuleDict({"m": module})
    plain, weight = module(x), module.weight.detach().clone()
    apply_changes(parts, [Change(kind="added", module="m", layer="a", rank=2)])
    assert torch.equal(module(x), plain)
    layer = layers_of(module)["a"]
    with torch.no_grad():
        layer.up.normal_()
    low = (layer.up @ layer.down).reshape(weight.shape)
    torch.testing.assert_close(module.weight, weight + low)
    apply_changes(parts, [Change(kind="merged", module="m", layer="a")])
    torch.testing.assert_close(module.weight, weight + low)
    assert {name for name, _ in module.named_parameters()} == {"weight", "bias"}
    again = [nn.ModuleDict({"m": nn.Linear(6, 4)}) for _ in range(2)]
    for one in again:
        apply_changes(one, [Change(kind="added", module="m", layer="a", rank=2)])
    assert torch.equal(*(layers_of(one["m"])["a"].down for one in again)), "the first numbers are the layer's own"


def test_a_change_is_checked_where_it_is_written() -> None:
    with pytest.raises(ConfigError, match="a rank of at least 1"):
        Change(kind="added", module="m", layer="a")
    with pytest.raises(ConfigError, match="a layer's name"):
        Change(kind="merged", module="m", layer="a.b")
    assert msgspec.convert(msgspec.to_builtins(ADDED), Change) == ADDED


def test_taking_a_layer_off_a_model_leaves_its_copies_as_they_are() -> None:
    one = nn.ModuleDict({"m": nn.Linear(6, 4)})
    apply_changes(one, [Change(kind="added", module="m", layer="a", rank=2)])
    with torch.no_grad():
        layers_of(one["m"])["a"].up.normal_()
    other, weight = copy.deepcopy(one), one["m"].weight.detach().clone()
    plain = merged(one)
    assert not layers_of(plain["m"])
    torch.testing.assert_close(plain["m"].weight, weight)
    apply_changes(one, [Change(kind="merged", module="m", layer="a")])
    torch.testing.assert_close(one["m"].weight, weight)
    torch.testing.assert_close(other["m"].weight, weight)
    assert list(layers_of(other["m"])) == ["a"]
    apply_changes(other, [Change(kind="removed", module="m", layer="a")])
    assert not torch.allclose(other["m"].weight, weight)


def test_far_more_declared_changes_than_a_checkpoint_holds_are_refused_at_once(tmp_path: Path) -> None:
    path = stopped(tmp_path / "run")
    run = Run.open(path)
    store = CheckpointStore(run.checkpoints_dir, run.manifest.id)
    found = store.load()
    adds = [{"kind": "added", "module": WEIGHT, "layer": f"l{i}", "rank": 1} for i in range(20_000)]
    store.save(found.step, found.model, found.state, found.memory | {"changes": adds}, found.metrics)
    began = time.process_time()
    with pytest.raises(CheckpointError, match="got far more") as caught:
        resume(path, dataset=DATA)
    assert "\n" not in f"{caught.value}"
    assert time.process_time() - began < 8, "a cost that grows with the number of layers, not with its square"
