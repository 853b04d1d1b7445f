"""Configurations that came with weights: what the weights do not fit is refused before it is allocated."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from small_world import Drift, agent, config

from steersman.agent import Agent
from steersman.core import CheckpointError, SteersmanError
from steersman.runs import Run
from steersman.training import create_run, resume, train

DATA = Drift()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("blueprint") / "run"
    c = config(steps=2)
    with create_run(path, c, DATA, recipe="test") as opened:
        train(c, DATA, opened)
    return path


def hostile(run: Path, tmp_path: Path, change) -> Path:
    """A copy of the run whose manifest asks for something else."""
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    change(manifest["config"]["train"], manifest)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def set_at(*keys, value):
    def change(train_config, manifest):
        at = train_config["agent"]
        for key in keys[:-1]:
            at = at[key]
        at[keys[-1]] = value
    return change


ENORMOUS = {
    "wide": set_at("world_model", "width", value=200_000),
    "deep": set_at("world_model", "depth", value=1_000_000),
    "beyond any cap": set_at("world_model", "width", value=10**12),
    "beyond 64 bits": set_at("world_model", "width", value=2**63 - 1),
    "many layers": set_at("perception", "hidden", value=[300_000, 300_000]),
    "many members": set_at("world_model", "members", value=1_000_000),
    "another model": set_at("world_model", value={"type": "transformer", "depth": 100_000}),
    "large pictures": set_at("perception", value={"type": "vit", "patch": 1}),
}


@pytest.mark.parametrize("kind", ENORMOUS)
def test_an_enormous_model_is_refused_before_it_is_allocated(run, tmp_path, kind):
    copy = hostile(run, tmp_path, ENORMOUS[kind])
    before = peak()
    for attempt in (lambda: Agent.load(copy), lambda: resume(copy, dataset=DATA)):
        with pytest.raises(SteersmanError) as error:
            attempt()
        assert "\n" not in str(error.value)
    assert peak() - before < 200 << 20


def test_a_planner_that_imagines_more_than_a_machine_holds_is_refused(run, tmp_path):
    planner = {"type": "icem", "samples": 1_000_000, "horizon": 1_000_000}
    with pytest.raises(CheckpointError, match="imagined steps"):
        Agent.load(hostile(run, tmp_path, set_at("planner", value=planner)))


def test_weights_of_another_configuration_are_named(run, tmp_path):
    with pytest.raises(CheckpointError, match=r"world_model\.\S+ in .*17.*, as its configuration says; got F32 .*16"):
        Agent.load(hostile(run, tmp_path, set_at("world_model", "width", value=17)))


def test_an_objective_that_the_checkpoint_has_no_weights_for_is_refused_on_resume(run, tmp_path):
    def change(train_config, manifest):
        train_config["objectives"].append({"type": "inverse_dynamics", "hidden": [300_000, 300_000]})
    before = peak()
    with pytest.raises(SteersmanError):
        resume(hostile(run, tmp_path, change), dataset=DATA)
    assert peak() - before < 200 << 20


def test_an_honest_run_loads_and_goes_on(run, tmp_path):
    copy = hostile(run, tmp_path, lambda train_config, manifest: train_config.update(steps=3))
    assert Agent.load(copy).config == agent()
    assert resume(copy, dataset=DATA).step == 3


# Deeply nested JSON ------------------------------------------------------------------------------------------------

DEEP = "[" * 200_000 + "]" * 200_000


def test_deeply_nested_json_is_one_sentence(run, tmp_path):
    copy = hostile(run, tmp_path, lambda *_: None)
    checkpoint = max((copy / "checkpoints").iterdir())
    opened = Run.open(copy)
    (copy / "metrics.jsonl").write_text('{"step": 1, "x": ' + DEEP + "}\n")
    (copy / "deep.json").write_text(DEEP)
    (checkpoint / "manifest.json").write_text('{"format": 1, "state": {"x": ' + DEEP + "}}")
    (copy / "writer.lock").write_text(DEEP)
    attempts = [opened.metrics.read, lambda: opened.read_json("deep.json"), opened.checkpoint]
    (copy / "manifest.json").write_text('{"format": 1, "config": {"x": ' + DEEP + "}}")
    for attempt in (*attempts, lambda: Run.open(copy)):
        with pytest.raises(SteersmanError, match=r"deep|JSON object") as error:
            attempt()
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 500
    with opened.writer():
        pass  # a lock that is no lock is recovered


def test_a_header_that_is_deeply_nested_is_one_sentence(tmp_path):
    from steersman.runs.tensors import read_header

    path = tmp_path / "x.safetensors"
    header = ('{"a": ' + DEEP + "}").encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match="nested"):
        read_header(path)
    assert msgspec.json.decode(b"[]") == []
