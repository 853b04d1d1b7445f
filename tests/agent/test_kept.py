"""What was fitted is kept with a run and with a folder for hubs: the same bit for bit, or refused in words."""

from __future__ import annotations

import json
import math
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from small_world import Drift, config
from small_world import agent as parts

from steersman.agent import Agent, from_pretrained, record_decisions, save_pretrained, save_readout, store_additions
from steersman.agent.fitted.in_run import drop_addition, read_index
from steersman.core import (
    ConfigError,
    Cost,
    Imagined,
    MismatchError,
    ObservationGoal,
    SealError,
    SteersmanError,
    Task,
)
from steersman.cost import (
    Apart,
    BadStates,
    Box,
    CuriosityCost,
    EffortCost,
    HalfSpace,
    LearnedCost,
    Margins,
    OnColumns,
    Region,
    TemporalDistance,
)
from steersman.perception import KernelReadout, LinearReadout
from steersman.runs import Run
from steersman.runs.files import pretty
from steersman.runs.seals import seal
from steersman.training import create_run, train

DATA = Drift()
MARGINS = Margins((0.1, 0.2 + 1e-12, 1 / 3), 0.95, 120, 40)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("kept") / "run"
    c = config(steps=2, agent=msgspec.structs.replace(
        parts(), readout=LinearReadout.Config(), goal_space="latent"))
    with create_run(path, c, DATA, recipe="drift") as run:
        train(c, DATA, run)
        loaded = Agent.load(run)
        g = torch.Generator().manual_seed(0)
        readout = LinearReadout.Config().build(("x", "y", "z"), (8,))
        readout.fit(torch.randn(60, 8, generator=g), torch.randn(60, 3, generator=g), 0)
        save_readout(run, "observation", readout, LinearReadout.Config(), (8,), loaded.origin.checkpoint, 60)
    return path


@pytest.fixture
def run(trained, tmp_path):
    return Run.open(shutil.copytree(trained, tmp_path / "run"))


def fitted(agent):
    """The agent with one of everything that can be kept."""
    g = torch.Generator().manual_seed(1)
    states = torch.randn(400, 8, generator=g)
    learned = LearnedCost((8,), LearnedCost.Config(hidden=(12,), rounds=1, steps=3))
    learned.fit(states[:40], lambda: states[40:80])
    distance = TemporalDistance((8,), TemporalDistance.Config(hidden=(8,), size=4, steps=3))
    distance.fit(states, torch.arange(400) // 20)
    agent.add_cost(learned)
    agent.add_cost(distance, intrinsic=True)
    agent.add_cost(EffortCost(agent.signature.action))
    agent.add_cost(CuriosityCost(), intrinsic=True)
    own = KernelReadout.Config(centres=9).build(("x", "y"), (8,))
    own.fit(states[:30], states[:30, :2], 0)
    quick = BadStates.Config(steps=5, hidden=(6, 5))
    agent.add_guardrail("bad", BadStates.fit(states, states[:, 0] > 0.5, share=0.9, config=quick))
    agent.add_guardrail("box", Box(agent.readout, {"x": (-math.inf, 1.5), "y": (-2, 2)}, margin={"x": MARGINS},
                                   scale={"y": 3}))
    agent.add_guardrail("half", HalfSpace(agent.readout, {"x": 1, "z": -0.3}, 0.7, margin=0.1))
    agent.add_guardrail("apart", Apart(own, [("x", "y")], body=0.4, margin=(0.1, 0.2, 0.3)))
    mask = torch.zeros(6, 9, dtype=torch.bool)
    mask[2:4, 5:] = True
    agent.add_guardrail("region", Region(own, mask, margin=MARGINS))
    return agent


def judged(agent):
    """What each part says of the same futures, and a plan that weighs and keeps to some of them."""
    g = torch.Generator().manual_seed(2)
    imagined = Imagined(torch.randn(2, 3, 4, 8, generator=g))
    actions = torch.randn(2, 3, 3, 2, generator=g)
    goal = ObservationGoal({"vector": torch.ones(3)})
    found = {name: rail.margin(imagined, actions) for name, rail in agent.guardrails.items()}
    found |= {f"{name} level": rail.standing(imagined.states) for name, rail in agent.guardrails.items()}
    found["learned"] = agent.additions.costs["learned"].energy(imagined, actions, Task(goal))
    agent.reset([1, 2])
    weights = {"goal": 1.0, "learned": 0.5, "effort": 0.1, "temporal-distance": 0.2, "curiosity": 0.0}
    rails = (agent.guardrails["bad"], agent.guardrails["apart"])
    plan = agent.act({"vector": torch.randn(2, 3, generator=g)}, Task(goal, weights, rails, horizon=3))
    return found | {"actions": plan.actions} | {f"energy {k}": v for k, v in plan.energy.items()}


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_everything_is_the_same_bit_for_bit_in_the_run_and_in_a_folder(run, tmp_path):
    ours = fitted(Agent.load(run))
    assert store_additions(ours, run) == [
        "cost.learned", "cost.temporal-distance", "cost.effort", "cost.curiosity", "guardrail.bad", "guardrail.box",
        "guardrail.half", "guardrail.apart", "guardrail.region",
    ]
    theirs = Agent.load(run)
    same(judged(ours), judged(theirs))
    assert [cost.name for cost in theirs.sealed] == ["temporal-distance", "curiosity"]
    assert theirs.guardrails["box"].config.margin == {"x": MARGINS}
    assert theirs.guardrails["bad"].good_refused == ours.guardrails["bad"].good_refused
    assert theirs.guardrails["box"].readout is theirs.readout
    folder = save_pretrained(theirs, tmp_path / "model")
    again = from_pretrained(folder)
    same(judged(ours), judged(again))
    assert [cost.name for cost in again.sealed] == ["temporal-distance", "curiosity"]
    text = (folder / "README.md").read_text()
    assert "| `bad` | guardrail, refuses 90.0% of bad states | BadStates |" in text
    assert "| `box` | guardrail, margin at 95.0% | Box |" in text
    second = save_pretrained(again, tmp_path / "second")
    for file in ("config.json", "model.safetensors", "README.md"):
        assert (second / file).read_bytes() == (folder / file).read_bytes()


def test_an_agent_with_nothing_added_is_written_as_earlier_versions_read_it(run, tmp_path):
    stored = json.loads((save_pretrained(Agent.load(run), tmp_path / "model") / "config.json").read_text())
    assert stored["format"] == 1
    assert "kept" not in stored
    assert not (run.path / "kept").exists()


def test_parts_are_added_to_what_is_kept_replaced_and_dropped(run):
    agent = Agent.load(run)
    agent.add_guardrail("a", Box(agent.readout, {"x": (0, 1)}))
    store_additions(agent, run)
    other = Agent.load(run, additions=False)
    assert not other.guardrails
    other.add_guardrail("b", BadStates.fit(torch.randn(200, 8), torch.arange(200) % 2 == 0, share=0.9,
                                           config=BadStates.Config(steps=2)))
    store_additions(other, run)
    file, = (run.path / "kept").glob("*.safetensors")
    again = Agent.load(run)
    assert set(again.guardrails) == {"a", "b"}
    again.add_guardrail("b", Box(again.readout, {"x": (0, 2)}))
    store_additions(again, run)
    assert not file.exists()
    assert Agent.load(run).guardrails["b"].config.limits == {"x": (0, 2)}
    drop_addition(run, "guardrail", "a")
    assert set(Agent.load(run).guardrails) == {"b"}
    with pytest.raises(ConfigError, match=r"among guardrail.b; got cost.a"):
        drop_addition(run, "cost", "a")


def test_what_was_fitted_to_other_weights_is_left_out_and_named_and_refused_if_intrinsic(run):
    agent = Agent.load(run)
    agent.add_guardrail("a", Box(agent.readout, {"x": (0, 1)}))
    store_additions(agent, run)
    index = json.loads((run.path / "kept/kept.json").read_text())
    index["entries"][0]["model"] = "0" * 64
    write(run, index)
    later = Agent.load(run)
    assert (dict(later.guardrails), later.additions.outdated) == ({}, ("a",))
    agent.add_cost(CuriosityCost(), intrinsic=True)
    store_additions(agent, run)
    index = json.loads((run.path / "kept/kept.json").read_text())
    index["entries"][1]["model"] = "0" * 64
    write(run, index)
    with pytest.raises(SealError, match="intrinsic cost 'curiosity' was fitted to"):
        Agent.load(run)
    assert Agent.load(run, additions=False).sealed == ()


def write(run, index):
    """kept.json with its hash made right again: what somebody would do who knows how."""
    (run.path / "kept/kept.json").write_bytes(seal(pretty(index | {"sha256": ""})))


# What cannot be kept ------------------------------------------------------------------------------------------------


class Own(Cost):
    name = "own"

    def energy(self, imagined, actions, task):
        return imagined.states[:, :, 1:, 0]


def test_code_is_not_kept_and_says_so(run, tmp_path):
    agent = Agent.load(run)
    agent.add_guardrail("code", OnColumns(agent.readout, lambda y: y["x"]))
    for keep in (lambda: store_additions(agent, run), lambda: save_pretrained(agent, tmp_path / "model")):
        with pytest.raises(ConfigError, match=r"`config` of guardrail 'code'.*OnColumns.*code cannot be kept"):
            keep()
    other = Agent.load(run)
    other.add_cost(Own())
    with pytest.raises(ConfigError, match=r"register\(Cost\) knows; got Own"):
        store_additions(other, run)
    with pytest.raises(ConfigError, match="letters, digits"):
        other.add_guardrail("speed<=6", agent.guardrails["code"])
    assert not (run.path / "kept").exists()


def test_an_agent_of_another_run_is_not_kept_here(run, tmp_path):
    agent = Agent.load(run)
    c = config(steps=1)
    with create_run(tmp_path / "other", c, DATA, recipe="drift") as other:
        train(c, DATA, other)
        with pytest.raises(MismatchError, match="run of these weights"):
            store_additions(agent, other)


# Tampering -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def whole(run):
    agent = Agent.load(run)
    store_additions(fitted(agent), run)
    return run


def refused(run, match=None):
    with pytest.raises(SteersmanError, match=match) as error:
        Agent.load(run)
    assert "\n" not in str(error.value)
    return error.value


def test_missing_files_are_named(whole):
    files = sorted((whole.path / "kept").iterdir())
    for file in files:
        content = file.read_bytes()
        file.unlink()
        assert str(file.name) in str(refused(whole))
        file.write_bytes(content)
    Agent.load(whole)
    assert len(files) == 6


@pytest.mark.parametrize(("path", "value", "match"), [
    (("cost", "latent_shape"), [4], r"latents \(8,\)"),
    (("cost", "fitted", "hidden"), [13], "as its configuration says"),
    (("cost", "fitted", "hidden"), [900_000, 900_000], "numbers, as|at most"),
    (("cost", "name"), "../../etc/passwd", "letters, digits"),
    (("cost", "name"), "other", "other"),
    (("cost", "fitted", "type"), "unheard-of", "FittedCost that this process knows"),
    (("cost", "config"), {"type": "effort"}, "one configuration"),
    (("guardrail", "config", "hidden"), [7, 5], "a classifier of"),
    (("guardrail", "config", "hidden"), [10**9] * 50, "at most"),
    (("guardrail", "config", "share"), 1.5, "share between 0 and 1"),
    (("guardrail", "config"), {"type": "box", "limits": {"x": [0, 1]}}, "tensors of guardrail|as its conf"),
    (("guardrail", "config"), {"type": "box", "limits": {"heat": [0, 1]}}, "columns among"),
    (("guardrail", "latent_shape"), [3], r"latents \(8,\)"),
    (("guardrail", "readout"), {"config": {"type": "kernel", "centres": 10**6}, "columns": ["x"]}, "numbers, as|tens"),
    (("tensors", "sha256"), "../../../../etc/passwd", "SHA-256 of"),
    (("tensors", "sha256"), "0" * 64, "no such file"),
    (("tensors", "bytes"), 10**15, "bytes in"),
])
def test_an_index_that_was_edited_by_somebody_who_knows_how_is_still_refused(whole, path, value, match):
    index = json.loads((whole.path / "kept/kept.json").read_text())
    wanted = "cost" if path[0] != "guardrail" else "guardrail"
    at = next(e for e in index["entries"] if e[wanted] is not None)
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    write(whole, index)
    refused(whole, match)


def test_a_sealed_cost_whose_file_and_hashes_were_replaced_is_refused(whole):
    from safetensors.torch import load, save

    from steersman.runs.files import sha256

    index = json.loads((whole.path / "kept/kept.json").read_text())
    entry = next(e for e in index["entries"] if e["cost"] and e["cost"]["name"] == "temporal-distance")
    path = whole.path / "kept" / f"cost.temporal-distance-{entry['tensors']['sha256'][:12]}.safetensors"
    changed = load(path.read_bytes())
    changed["mean"][0] += 1e-3
    content = save(changed)
    entry["tensors"]["sha256"] = sha256(content)
    path.with_name(f"cost.temporal-distance-{sha256(content)[:12]}.safetensors").write_bytes(content)
    write(whole, index)
    assert isinstance(refused(whole, "'temporal-distance' as it was"), SealError)


def test_damaged_files_are_refused_in_one_line(whole):
    g = torch.Generator().manual_seed(3)
    for path in sorted((whole.path / "kept").iterdir()):
        content = path.read_bytes()
        places = torch.randint(0, len(content) * 8, (6,), generator=g).tolist()
        flipped = [bytearray(content) for _ in places]
        for damaged, place in zip(flipped, places, strict=True):
            damaged[place // 8] ^= 1 << place % 8
        pieces = [content[: len(content) // 2], b"", b"\x80\x04cposix\nsystem\n.", b"[" * 10_000, *map(bytes, flipped)]
        for damaged in pieces:
            path.write_bytes(damaged)
            refused(whole)
        path.write_bytes(content)
    Agent.load(whole)


def test_a_later_format_asks_for_an_update(whole):
    (whole.path / "kept/kept.json").write_text('{"format": 99, "new": {}}')
    refused(whole, "update steersman")


def test_hashes_that_fit_do_not_make_nonsense_acceptable(whole):
    """Structure-aware fuzzing: values of the index are exchanged, its hash made right again."""
    import random

    original = json.loads((whole.path / "kept/kept.json").read_text())
    values = [None, True, -1, 0, 10**12, 1e308, "", "x", [], {}, [[]], {"type": "box"}]
    draw = random.Random(4)
    for _ in range(200):
        index = json.loads(json.dumps(original))
        at, key = index, "entries"
        while isinstance(at[key], (dict, list)) and at[key] and draw.random() < 0.85:
            at = at[key]
            key = draw.choice(list(at) if isinstance(at, dict) else range(len(at)))
        at[key] = draw.choice(values)
        write(whole, index)
        with suppress(SteersmanError):
            Agent.load(whole)


def test_the_index_can_be_read_without_building_anything(whole):
    entries = read_index(whole).entries
    assert [e.record.name for e in entries][:2] == ["learned", "temporal-distance"]
    assert isinstance(entries[0].record.fitted, LearnedCost.Config)


# Recorded decisions --------------------------------------------------------------------------------------------------


def test_decisions_under_kept_guardrails_and_costs_are_made_again(run):
    from steersman.agent.replay import replays

    agent = fitted(Agent.load(run))
    store_additions(agent, run)
    recorder = record_decisions(agent, run)
    g = torch.Generator().manual_seed(5)
    goal, weights = ObservationGoal({"vector": torch.ones(3)}), {"goal": 1.0, "learned": 5.0, "curiosity": 0.0}
    for rails in ((), tuple(agent.guardrails.values())):
        agent.act({"vector": torch.randn(1, 3, generator=g)}, Task(goal, weights, rails, horizon=3))
    recorder.close()
    assert all(again.identical and not again.notes for again in replays(run))
    other = Agent.load(run, additions=False)
    learned = LearnedCost((8,), LearnedCost.Config(hidden=(12,), rounds=1, steps=4))
    learned.fit(torch.ones(4, 8), lambda: torch.zeros(4, 8))
    other.add_cost(learned)
    store_additions(other, run)
    again = list(replays(run))
    assert not again[0].identical
    assert again[0].notes == ("cost 'learned' was fitted to something else then",)
