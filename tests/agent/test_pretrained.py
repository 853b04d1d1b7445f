"""Folders for model hubs: the same plans after a round trip, a filled card, and nothing foreign gets in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
import torch
from msgspec import UNSET

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from small_world import Drift, agent, config

from steersman.actor import CEM, ICEM
from steersman.agent import Agent, AgentConfig, from_pretrained, push_to_hub, save_pretrained
from steersman.agent.building.origin import origin_of
from steersman.agent.sharing.pretrained import Stored
from steersman.cli.agents import agent_at
from steersman.core import (
    CheckpointError,
    ColumnGoal,
    ConfigError,
    ObservationGoal,
    RunError,
    SteersmanError,
    Task,
    UsageError,
)
from steersman.core.parts import convert
from steersman.perception import KernelReadout, LinearReadout, VectorEncoder
from steersman.runs import Run
from steersman.runs.artefacts import Column, Figure, Row, Table, write
from steersman.runs.trust import NAME, Bounds, Coverage, Errors, Rank, Trust, save_trust
from steersman.training import create_run, train

DATA = Drift()
TABLE = Table(
    name="drift", title="Goals | reached", columns=(Column(key="success", title="success", form="share"),),
    rows=(Row(label="agent", figures={"success": Figure(value=0.97, low=0.93, high=0.99, n=100)}),
          Row(label="random", figures={}, kind="baseline")),
    protocol={"episodes": 100}, notes=("0 of 100 <violations>",),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("pretrained") / "run"
    parts = msgspec.structs.replace(
        agent(), readout=LinearReadout.Config(ridge=1e-4), planner=ICEM.Config(samples=16, iterations=2, horizon=3))
    c = config(steps=2, agent=parts)
    with create_run(path, c, DATA, recipe="drift") as opened:
        train(c, DATA, opened)
    write(path, TABLE)
    return path


def fitted(run, **changes):
    loaded = Agent.load(run)
    readout = changes.pop("readout", LinearReadout.Config(ridge=1e-4)).build(("x", "y", "z"), (8,))
    readout.fit(torch.randn(50, 8), torch.randn(50, 3), 0)
    return Agent(loaded.config, loaded.signature, loaded.perception, loaded.world_model, readout=readout.eval(),
                 origin=loaded.origin, **changes)


def plans(one, goal):
    one.reset([3, 4])
    moments = {"vector": torch.randn(2, 3, generator=torch.Generator().manual_seed(0))}
    return [one.act(moments, Task(goal)) for _ in range(2)]


@pytest.mark.parametrize("readout", [LinearReadout.Config(), KernelReadout.Config(centres=20)])
@pytest.mark.parametrize("goal", [ObservationGoal({"vector": torch.ones(3)}), ColumnGoal({"y": 0.3})])
def test_plans_are_the_same_bit_for_bit_after_a_round_trip(run, tmp_path, goal, readout):
    ours = fitted(run, readout=readout, planner=CEM.Config(samples=12, iterations=2, elites=3, horizon=4).build())
    theirs = from_pretrained(save_pretrained(ours, tmp_path / "model"))
    assert theirs.planner.config == ours.planner.config
    assert theirs.readout.scale == ours.readout.scale
    assert theirs.origin == ours.origin
    for a, b in zip(plans(ours, goal), plans(theirs, goal), strict=True):
        assert torch.equal(a.actions, b.actions)
        assert torch.equal(a.imagined.states, b.imagined.states)
        assert a.reason == b.reason
    again = save_pretrained(theirs, tmp_path / "again")
    for file in ("config.json", "model.safetensors", "README.md"):
        assert (again / file).read_bytes() == (tmp_path / "model" / file).read_bytes()


def test_the_card_is_filled(run, tmp_path):
    text = (save_pretrained(fitted(run), tmp_path / "model") / "README.md").read_text()
    head, _, body = text.removeprefix("---\n").partition("\n---\n")
    assert "library_name: steersman" in head.splitlines()
    manifest = Run.open(run).manifest
    for said in (manifest.data["fingerprint"], manifest.id, "12 episodes, 240 steps", "2 of 2", "prediction, vicreg",
                 "| observation `vector` | vector 3 | x, y, z |", "-1 to 1", "97.0% [93.0%, 99.0%]", "Goals | reached",
                 "0 of 100 &lt;violations>", "`x`, `y`, `z`", "from_pretrained", "## Limits"):
        assert said in body, said
    code = body.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")


def test_an_agent_without_a_run_or_read_out_says_so(run, tmp_path):
    loaded = Agent.load(run)
    bare = Agent(loaded.config, loaded.signature, loaded.perception, loaded.world_model)
    text = (save_pretrained(bare, tmp_path / "model") / "README.md").read_text()
    assert "Not recorded" in text
    assert "Nothing yet" in text
    assert "no read-out" in text
    assert from_pretrained(tmp_path / "model").readout is None


def test_parts_that_the_configuration_does_not_build_are_refused(run, tmp_path):
    loaded = Agent.load(run)
    other = VectorEncoder.Config(hidden=(5,), size=8).build(loaded.signature)
    wrong = Agent(loaded.config, loaded.signature, other, loaded.world_model)
    with pytest.raises(ConfigError, match="configuration builds"):
        save_pretrained(wrong, tmp_path / "model")
    assert not (tmp_path / "model").exists()


# How far it may be trusted -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("measured", "says"), [
    (7, ""), (0, "predicts better than no change"), (UNSET, "none; measure the run with `steersman evaluate RUN"),
])
def test_a_measured_horizon_travels_with_the_folder_or_is_said_to_be_missing(run, tmp_path, measured, says):
    ours = fitted(run)
    ours.origin = msgspec.structs.replace(ours.origin, trusted=measured)
    folder = save_pretrained(ours, tmp_path / "model")
    assert ("trusted" in json.loads((folder / "config.json").read_bytes())["origin"]) == (measured is not UNSET)
    assert from_pretrained(folder).trusted is None
    if not says:
        assert from_pretrained(folder, trusted=True).trusted == measured
        assert agent_at(str(folder), trusted=True).trusted == measured
        return
    with pytest.raises(UsageError, match=says):
        from_pretrained(folder, trusted=True)


def test_a_horizon_of_other_weights_does_not_travel(run):
    opened = Run.open(run)
    zero = (0.1,)
    errors = Errors(model=zero, persistence=zero, linear=zero, low=zero, high=zero)
    record = Trust(
        checkpoint=2, data="", source="", unit="episode", units=9, windows=9, episodes=9, steps=1, horizon=1, begins=1,
        judged="latent", level=0.9, rank=Rank(mean=0, low=0, high=0, chance=0.5, moments=9, candidates=9),
        latent=errors, columns=None, by_column={}, bounds=Bounds(each=zero, up_to=zero, episode=zero), bands={},
        coverage=Coverage(step=1, mean=None, later=None, low=None, high=None),
    )
    try:
        save_trust(opened, record)
        assert (origin_of(opened, 2).trusted, origin_of(opened, 1).trusted) == (1, UNSET)
        (opened.path / NAME).write_text("{")
        assert origin_of(opened, 2).trusted is UNSET
    finally:
        (opened.path / NAME).unlink()


# Untrusted folders ---------------------------------------------------------------------------------------------------


def resealed(folder, **agent_changes):
    """config.json with another agent, its hash made right again: what an attacker would do."""
    stored = msgspec.json.decode((folder / "config.json").read_bytes())
    stored["agent"] |= agent_changes
    changed = convert(stored, Stored)
    (folder / "config.json").write_bytes(changed.sealed())


@pytest.mark.parametrize("change", [
    {"world_model": {"type": "residual", "width": 900_000, "depth": 3, "members": 1}},
    {"world_model": {"type": "transformer", "width": 4096, "depth": 1_000_000}},
    {"perception": {"type": "vector", "hidden": [1_000_000] * 50, "size": 8}},
    {"planner": {"type": "icem", "samples": 1_000_000, "horizon": 1_000_000}},
    {"planner": {"type": "search", "nodes": 10**15}},
])
def test_a_hostile_configuration_is_refused_without_being_built(run, tmp_path, change):
    import resource

    folder = save_pretrained(fitted(run), tmp_path / "model")
    resealed(folder, **change)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError) as error:
        from_pretrained(folder)
    assert "\n" not in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def damage(folder, kind):
    for name in ("config.json", "model.safetensors"):
        path = folder / name
        content = path.read_bytes()
        if kind == "truncated":
            yield path, content, content[: len(content) // 2]
        elif kind == "empty":
            yield path, content, b""
        elif kind == "deep":
            yield path, content, b'{"format": 1, "agent": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        elif kind == "pickle":
            yield path, content, b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00cposix\nsystem\n."
        elif kind == "foreign":
            yield path, content, json.dumps({"format": 1, "model_type": "bert"}).encode()
        else:
            g = torch.Generator().manual_seed(1)
            for place in torch.randint(0, len(content) * 8, (25,), generator=g).tolist():
                flipped = bytearray(content)
                flipped[place // 8] ^= 1 << place % 8
                yield path, content, bytes(flipped)


@pytest.mark.parametrize("kind", ["truncated", "empty", "deep", "pickle", "foreign", "bit-flipped"])
def test_damaged_and_foreign_files_are_refused_in_one_line(run, tmp_path, kind):
    folder = save_pretrained(fitted(run), tmp_path / "model")
    for path, whole, damaged in damage(folder, kind):
        path.write_bytes(damaged)
        with pytest.raises(SteersmanError) as error:
            from_pretrained(folder)
        assert "\n" not in str(error.value)
        path.write_bytes(whole)
    from_pretrained(folder)


def test_what_is_missing_or_of_a_later_format_is_said(run, tmp_path):
    with pytest.raises(RunError, match="no such folder"):
        from_pretrained(tmp_path / "nothing")
    folder = save_pretrained(fitted(run), tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="weights at"):
        from_pretrained(folder)
    (folder / "config.json").write_text('{"format": 99}')
    with pytest.raises(CheckpointError, match="update steersman"):
        from_pretrained(folder)


# The hub, by a stub --------------------------------------------------------------------------------------------------


@pytest.fixture
def stub(monkeypatch, tmp_path):
    """A hub in a folder: what is sent can be fetched."""
    remote, calls = tmp_path / "remote", []

    class HfApi:
        def __init__(self, token=None):
            calls.append(("token", token))

        def create_repo(self, name, private, exist_ok):
            calls.append(("create", name, private, exist_ok))

        def upload_folder(self, repo_id, folder_path, commit_message, revision):
            import shutil

            shutil.copytree(folder_path, remote / repo_id)
            return f"https://hub.example/{repo_id}/commit/1"

    def snapshot_download(name, revision, token, allow_patterns):
        calls.append(("download", name, revision, tuple(allow_patterns)))
        if not (remote / name).exists():
            raise OSError(f"404: {name}\nmore lines")
        return str(remote / name)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(
        HfApi=HfApi, snapshot_download=snapshot_download))
    return calls


def test_what_is_pushed_can_be_loaded_by_its_id(run, stub):
    ours = fitted(run)
    assert push_to_hub(ours, "somebody/drift", token="t").endswith("somebody/drift/commit/1")
    theirs = from_pretrained("somebody/drift", revision="main")
    goal = ColumnGoal({"x": 0.1})
    assert torch.equal(plans(ours, goal)[1].actions, plans(theirs, goal)[1].actions)
    assert stub == [
        ("token", "t"), ("create", "somebody/drift", True, True),
        ("download", "somebody/drift", "main", ("config.json", "model.safetensors", "README.md")),
    ]
    with pytest.raises(RunError, match="404") as error:
        from_pretrained("somebody/else")
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="OWNER/NAME"):
        push_to_hub(ours, "no id at all")


def test_the_hubs_library_is_imported_only_when_it_is_needed(run, tmp_path, monkeypatch):
    code = ("import sys; from steersman import Agent; Agent.load; import steersman.agent\n"
            "assert 'huggingface_hub' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    from_pretrained(save_pretrained(fitted(run), tmp_path / "model"))
    with pytest.raises(UsageError, match=r"steersman\[hub\]"):
        push_to_hub(fitted(run), "somebody/drift")
    assert AgentConfig


def test_a_folder_of_an_earlier_version_that_knew_fewer_fields_is_still_whole():
    import json

    from steersman.agent.sharing.pretrained import seal_holds
    from steersman.runs.files import pretty, sha256

    plain = {"agent": {"history": 1}, "sha256": ""}
    sealed = pretty(plain | {"sha256": sha256(pretty(plain))})
    assert seal_holds(sealed)
    assert not seal_holds(sealed.replace(b"1", b"2", 1))
    assert not seal_holds(pretty(plain))
    assert json.loads(sealed)["agent"] == {"history": 1}
