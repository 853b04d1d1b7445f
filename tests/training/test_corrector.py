"""Updates from experience: a function of weights, log, number and Config; made, taken back and refused bit for bit."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from small_world import SIGNATURE, Drift, agent, config

from steersman.agent.building.fingerprint import model_fingerprint
from steersman.agent.building.parts import build_parts
from steersman.core import ConfigError, Corrector, Episode, MismatchError, Signature, UsageError, parts
from steersman.core.parts import CorrectorConfig, convert
from steersman.core.signature import ActionSpec, ObservationSpec
from steersman.data import CacheWriter, Dataset
from steersman.objectives import InverseDynamics, Prediction, VICReg
from steersman.runs.experience import ExperienceReader
from steersman.runs.experiencing import ExperienceWriter, Moments
from steersman.runs.frames import segments
from steersman.training import GradientCorrector, create_run, open_data, train

SETTINGS = GradientCorrector.Config(replay=0.0, windows=8, window=4, reach=60, lr=1e-3, undo=2)


def boxes(seed=0, history=1):
    torch.manual_seed(seed)
    made = build_parts(agent(history), SIGNATURE)
    return made["perception"].eval(), made["world_model"].eval()


def experience(folder, episodes=6, retain=1 << 30):
    """Episodes of the drifting point, two and two side by side."""
    data, steps = Drift(8, 20, 5), 20
    writer = ExperienceWriter(folder, SIGNATURE, retain=retain)
    for pair in range(0, episodes, 2):
        for t in range(steps + 1):
            actions = data.actions[pair : pair + 2, t - 1].numpy()
            writer.append(Moments(
                {"vector": data.states[pair : pair + 2, t].numpy()}, actions, first=np.full(2, t == 0)))
    writer.close()
    return folder


def corrector(settings=SETTINGS, **more):
    made = boxes()
    return GradientCorrector(settings, SIGNATURE, *made, **more), made


def state(made):
    return {f"{i}.{n}": x.clone() for i, m in enumerate(made) for n, x in m.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def test_proposing_changes_nothing_and_is_the_same_each_time(tmp_path):
    experience(tmp_path / "x")
    one, made = corrector()
    before, drawn = state(made), torch.random.get_rng_state()
    update = one.propose(tmp_path / "x", 100)
    assert same(state(made), before)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert (update.number, update.since, update.through) == (1, 40, 100)
    assert update.weights.keys() == {f"world_model.{n}" for n, _ in made[1].named_parameters()}
    assert update.told["loss after"] < update.told["loss before"]
    assert same(one.propose(tmp_path / "x", 100).weights, update.weights)
    assert not same(one.propose(tmp_path / "x", 99).weights, update.weights)
    one.stand_at(1)
    assert not same(one.propose(tmp_path / "x", 100).weights, update.weights)


def test_what_was_lived_later_or_is_out_of_reach_does_not_count(tmp_path):
    experience(tmp_path / "x")
    experience(tmp_path / "y", episodes=8)
    size = sum(path.stat().st_size for _, path in segments(tmp_path / "x"))
    experience(tmp_path / "z", retain=round(0.85 * size))
    assert 0 < ExperienceReader(tmp_path / "z").span().start <= 40
    a, b, c = (corrector()[0].propose(tmp_path / name, 100) for name in "xyz")
    assert same(a.weights, b.weights)
    assert same(a.weights, c.weights)


def test_accepted_and_taken_back_bit_for_bit(tmp_path):
    experience(tmp_path / "x")
    one, made = corrector()
    states = [state(made)]
    for through in (60, 90, 120):
        one.accept(one.propose(tmp_path / "x", through))
        states.append(state(made))
    assert one.updates == 3
    assert not any(same(a, b) for a, b in itertools.pairwise(states))
    for before in (states[2], states[1]):
        one.roll_back()
        assert same(state(made), before)
    assert one.updates == 1
    with pytest.raises(UsageError, match="one of the last 2 updates to take back; got none that is kept"):
        one.roll_back()
    again = one.propose(tmp_path / "x", 90)
    one.accept(again)
    assert same(state(made), states[2])
    with pytest.raises(UsageError, match="update 3; got 2; propose again"):
        one.accept(again)


PROCESS = """
import sys; sys.path[:0] = {path!r}
from pathlib import Path; from test_corrector import *
one, made = corrector()
for through in (60, 90):
    one.accept(one.propose(Path({folder!r}), through))
print(model_fingerprint(made))
"""


def test_another_process_makes_the_same_updates(tmp_path):
    experience(tmp_path / "x")
    one, made = corrector()
    for through in (60, 90):
        one.accept(one.propose(tmp_path / "x", through))
    code = PROCESS.format(path=[*sys.path, str(Path(__file__).parent)], folder=str(tmp_path / "x"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == model_fingerprint(made)


def test_nothing_to_learn_from_is_no_update_and_says_why(tmp_path):
    experience(tmp_path / "x")
    one, made = corrector()
    before = state(made)
    assert one.propose(tmp_path / "x", 4) is None
    assert "an episode of at least 4 steps since moment 0: the longest has 1" in one.reason
    name, value = next(made[1].named_parameters())
    with torch.no_grad():
        value.fill_(float("inf"))
    assert one.propose(tmp_path / "x", 100) is None
    assert "loss or gradient of" in one.reason
    assert one.updates == 0
    with torch.no_grad():
        value.copy_(before[f"1.{name}"])
    assert one.propose(tmp_path / "x", 100) is not None
    assert one.reason == ""


def test_a_share_of_the_runs_own_log_is_replayed(tmp_path):
    data = Drift()
    experience(tmp_path / "lived")
    with CacheWriter(tmp_path / "log", SIGNATURE) as writer:
        writer.append([Episode({"vector": s}, a) for s, a in zip(data.states, data.actions, strict=True)])
        writer.finish("drift-0")
    log, settings = Dataset.open(tmp_path / "log"), config(steps=2, held_out=0.25)
    with create_run(tmp_path / "run", settings, log, recipe="test") as run:
        train(settings, log, run)
    assert len(open_data(run).lengths) == 12
    half = msgspec.structs.replace(SETTINGS, replay=0.5)
    made = boxes()
    one = half.build(*made, tmp_path / "run")
    assert len(one.log.lengths) == 9  # what is held out stays out
    update = one.propose(tmp_path / "lived", 100)
    assert not same(update.weights, corrector()[0].propose(tmp_path / "lived", 100).weights)
    assert same(update.weights, half.build(*boxes(), tmp_path / "run").propose(tmp_path / "lived", 100).weights)
    with pytest.raises(ConfigError, match="the log that the weights were trained on; got none"):
        corrector(half)


def test_perception_learns_too_where_something_prevents_collapse(tmp_path):
    experience(tmp_path / "x")
    both = msgspec.structs.replace(
        SETTINGS, modules=("perception", "world_model"), objectives=(Prediction.Config(), VICReg.Config()))
    update = corrector(both)[0].propose(tmp_path / "x", 100)
    assert {n.split(".")[0] for n in update.weights} == {"perception", "world_model"}


def test_history_is_seen_before_a_rollout(tmp_path):
    experience(tmp_path / "x")
    made = boxes(history=3)
    one = GradientCorrector(SETTINGS, SIGNATURE, *made, history=3)
    assert one.propose(tmp_path / "x", 100).told["loss after"] > 0


BAD = {
    "window": ({"window": 0}, "window of at least 1"), "reach": ({"reach": 3}, "a reach above the window of 4"),
    "replay": ({"replay": 1.0}, r"replay in \[0, 1\)"), "no module": ({"modules": ()}, "modules, each once"),
    "collapse": ({"modules": ("perception",)}, "an objective that prevents collapse"),
    "no objective": ({"objectives": ()}, "at least one objective"), "lr": ({"lr": 0.0}, "lr and clip above 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_settings_that_do_not_fit_are_refused(name):
    changes, words = BAD[name]
    with pytest.raises(ConfigError, match=words):
        msgspec.structs.replace(SETTINGS, **changes)


def test_parts_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="objectives without parameters of their own"):
        corrector(msgspec.structs.replace(SETTINGS, objectives=(InverseDynamics.Config(),)))
    with pytest.raises(ConfigError, match="a window of at least 5 steps"):
        GradientCorrector(SETTINGS, SIGNATURE, *boxes(), history=5)
    other = Signature({"p": ObservationSpec("vector", (2,))}, ActionSpec("discrete", choices=2))
    ExperienceWriter(tmp_path / "x", other).close()
    with pytest.raises(MismatchError, match="observations"):
        corrector()[0].propose(tmp_path / "x", 1)


def test_it_is_registered_and_its_settings_are_read_back():
    assert GradientCorrector.Config in parts.registered(Corrector)
    assert convert(msgspec.to_builtins(SETTINGS), CorrectorConfig) == SETTINGS
