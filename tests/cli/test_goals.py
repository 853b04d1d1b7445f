"""What `--goal` understands: whatever can be said in Python; and what it answers to what it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from steersman.agent import Agent, AgentConfig, store_additions
from steersman.cli import goals
from steersman.core import (
    ActionSpec,
    CallableGoal,
    ColumnGoal,
    LatentGoal,
    ObservationGoal,
    ObservationSpec,
    Signature,
    SteersmanError,
)
from steersman.cost import TemporalDistance
from steersman.perception import ConvEncoder, MixedEncoder, VectorEncoder
from steersman.runs import Run
from steersman.training import open_data
from steersman.world_model import ResidualModel

FOLLOW = '{"type": "cem", "samples": 8, "iterations": 1, "elites": 2, "horizon": 3}'


def seeing() -> Agent:
    """An untrained agent that sees a picture and where its arm is, and has no read-out."""
    signature = Signature({"eye": ObservationSpec("image", (8, 6, 3)), "arm": ObservationSpec("vector", (2,))},
                          ActionSpec("continuous", (-1.0,), (1.0,)))
    perception = MixedEncoder.Config(parts={"eye": ConvEncoder.Config(widths=(4,), size=3),
                                            "arm": VectorEncoder.Config(hidden=(4,), size=3)})
    config = AgentConfig(perception=perception, world_model=ResidualModel.Config(width=8))
    built = perception.build(signature)
    return Agent(config, signature, built,
                 config.world_model.build(signature, built.latent_shape, built.context_shape))


@pytest.fixture(scope="module")
def swinging(pendulum: Path) -> Agent:
    return Agent.load(pendulum)


def test_numbers_are_the_observation_that_python_would_give(swinging: Agent) -> None:
    found = goals.goal("1, 0,-0.5", swinging)
    assert isinstance(found, ObservationGoal)
    assert found.observation["vector"].tolist() == [1.0, 0.0, -0.5]
    named = goals.goal("vector=1,0,-0.5", swinging)
    assert torch.equal(named.observation["vector"], found.observation["vector"])


def test_columns_have_values_and_scales(swinging: Agent) -> None:
    assert goals.goal("speed=0, cos=1~0.25", swinging) == ColumnGoal({"speed": 0.0, "cos": 1.0}, {"cos": 0.25})


def test_an_observation_of_several_parts_is_named_or_comes_from_files(tmp_path: Path) -> None:
    agent, pixels = seeing(), np.arange(144, dtype=np.uint8).reshape(8, 6, 3)
    Image.fromarray(pixels).save(tmp_path / "eye.png")
    np.save(tmp_path / "eye.npy", pixels)
    np.savez(tmp_path / "both.npz", eye=pixels, arm=np.array([0.5, -1.0]))
    for words in (f"eye={tmp_path / 'eye.png'};arm=0.5,-1", f"arm=0.5,-1;eye={tmp_path / 'eye.npy'}",
                  str(tmp_path / "both.npz")):
        found = goals.goal(words, agent)
        assert found.observation["eye"].numpy().tolist() == pixels.tolist()
        assert found.observation["arm"].tolist() == [0.5, -1.0]
        assert found.observation["arm"].dtype == torch.float32
    arm = goals.goal("arm=0.5,-1", agent)
    assert list(arm.observation) == ["arm"]


def test_a_moment_of_the_log_is_what_was_observed_then(pendulum: Path, swinging: Agent) -> None:
    logged = open_data(Run.open(pendulum)).episode(1).observations["vector"][7]
    for words in ("log:1:7", "log:208"):
        assert torch.equal(goals.goal(words, swinging, pendulum).observation["vector"], logged)


def test_a_latent_is_encoded_on_demand_or_read_from_a_file(pendulum: Path, swinging: Agent, tmp_path: Path) -> None:
    there = swinging.encode({"vector": torch.tensor([1.0, 0.0, 0.0])}).state
    np.save(tmp_path / "there.npy", there[0].numpy())
    for words in ("latent:1,0,0", "latent:vector=1,0,0", f"latent={tmp_path / 'there.npy'}"):
        found = goals.goal(words, swinging)
        assert isinstance(found, LatentGoal)
        assert torch.equal(found.latent.state, there)
    assert isinstance(goals.goal("latent:log:0:3", swinging, pendulum), LatentGoal)


def test_code_is_imported_because_it_is_named(swinging: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def slow(columns, imagined):\n    return columns['speed'] ** 2\n"
    (tmp_path / "energies.py").write_text(code)
    (tmp_path / "goals_of_mine.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    for words in (f"{tmp_path / 'energies.py'}:slow", "goals_of_mine:slow"):
        found = goals.goal(words, swinging)
        assert isinstance(found, CallableGoal)
        assert found.name == "slow"
        assert found.energy({"speed": torch.tensor(3.0)}, None) == 9.0


WRONG = [
    ("1,0", "expected 3 numbers (cos, sin, speed) as a goal; got 2"),
    ("1,0,x", "got 'x'"),
    ("spee=0", "columns among cos, sin, speed"),
    ("speed=0~0", "above 0 after ~"),
    ("speed=0~x", "got 'x'"),
    ("goal.png", "a file (.png"),
    ("here.png", "give observations by name: vector=0,…"),
    ("vector=here.png", "numbers or an .npy for the vector vector"),
    ("wide.npy", "finite numbers (3,) (float32) for vector in wide.npy; got float64 (4,)"),
    ("nan.npy", "(3,) with NaN or infinity"),
    ("stray.npz", "observations among vector vector in stray.npz; got place"),
    ("torn.npz", "write it with numpy.save or savez"),
    ("log:9:9", "an episode in 0..1"),
    ("log:1:999", "a row in 0..200 of episode 1"),
    ("log:99999", "a row in 0..401 of the log"),
    ("latent:cos=1", "of vector vector, give all numbers"),
    ("latent:1,0", "expected 3 numbers"),
    ("latent=stray.npz", "a latent (4,) of finite numbers in stray.npz; got several arrays"),
    ("latent=nan.npy", "got float64 (3,) with NaN or infinity"),
    ("latent=none.npy", "latent:1,0,0 encodes numbers"),
    ("nowhere.py:goal", "a Python file at nowhere.py"),
    ("no_such_module:goal", "for --goal no_such_module"),
    ("math:pi", "a function pi in math: energy(columns, imagined)"),
]


@pytest.mark.parametrize(("words", "says"), WRONG, ids=[words for words, _ in WRONG])
def test_a_goal_that_fits_nothing_is_answered_in_one_line_with_what_there_is(
    words: str, says: str, pendulum: Path, steersman: Callable, tmp_path: Path
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "here.png")
    np.save(tmp_path / "wide.npy", np.zeros(4))
    np.save(tmp_path / "nan.npy", np.full(3, np.nan))
    np.savez(tmp_path / "stray.npz", place=np.zeros(3))
    (tmp_path / "torn.npz").write_bytes(b"PK\3\4 torn")
    ended = steersman("run", str(pendulum), "--env", "Pendulum-v1", "--goal", words)
    assert ended.code in (1, 2)
    assert len(ended.err.splitlines()) == 1, ended.err
    assert says in ended.err


def test_what_the_answers_advise_can_be_done(pendulum: Path, steersman: Callable, tmp_path: Path) -> None:
    """Every fix that an error about a goal names, taken by its word."""
    np.save(tmp_path / "there.npy", np.array([1.0, 0.0, 0.0]))
    (tmp_path / "mine.py").write_text("def slow(columns, imagined):\n    return columns['speed'] ** 2\n")
    run = ["run", str(pendulum), "--env", "Pendulum-v1", "--episodes", "1", "--goal"]
    for words in ("1,0,0", "vector=1,0,0", "there.npy", "log:1:40", "latent:log:1:40", "mine.py:slow"):
        ended = steersman(*run, words)
        assert ended.code == 0, (words, ended.err)
    agent = Agent.load(pendulum)
    plain = TemporalDistance(agent.perception.latent_shape, TemporalDistance.Config(steps=3, hidden=(8,), size=4))
    plain.fit(torch.randn(20, *agent.perception.latent_shape), torch.zeros(20))
    agent.add_cost(plain)
    store_additions(agent, Run.open(pendulum))
    weigh = ["--weight", "temporal-distance=1"]
    refused = steersman(*run, "cos=1", *weigh)
    assert "fitted without columns" in refused.err
    assert "--goal latent:…" in refused.err
    assert "steersman fit RUN --distance" in refused.err
    assert steersman(*run, "latent:1,0,0", *weigh).code == 0
    code = steersman(*run, "mine.py:slow", *weigh)
    assert "weigh temporal-distance 0" in code.err
    assert steersman(*run, "mine.py:slow", "--weight", "temporal-distance=0").code == 0
    assert steersman("fit", str(pendulum), "--drop", "temporal-distance").code == 0


def test_planners_of_latents_take_numbers_and_moments(pendulum: Path, steersman: Callable) -> None:
    astar = f'{{"type": "astar", "graph": {{"nodes": 30}}, "follow": {FOLLOW}}}'
    for words in ("1,0,0", "log:1:40"):
        ended = steersman("run", str(pendulum), "--env", "Pendulum-v1", "--episodes", "1", "--planner", astar,
                          "--goal", words)
        assert ended.code == 0, ended.err


def test_pictures_without_a_read_out_have_no_columns_and_hear_what_they_have(tmp_path: Path) -> None:
    agent = seeing()
    Image.new("RGB", (5, 5)).save(tmp_path / "small.png")
    for words, says in (
        ("x=1", "a whole observation of image eye, vector arm"), ("1,0", "eye=FILE;arm=0,…"),
        (f"eye={tmp_path / 'small.png'}", "a picture of 6×8 pixels; got 5×5"), ("eye=1,2", "a file for eye"),
        ("arm=1,2;nose=3", "observations among image eye, vector arm in a goal; got 'nose'"),
        ("latent:arm=1,2", "none of eye; add it (on the command line: NAME=…;NAME=…)"),
        ("log:0", "a run with a log"),
    ):
        with pytest.raises(SteersmanError) as error:
            goals.goal(words, agent)
        assert says in str(error.value), words


@pytest.mark.parametrize("words", ["no.npy", "vector=no.npy", "latent:no.npz"])
def test_a_file_that_is_not_there_is_called_so(swinging: Agent, words: str) -> None:
    with pytest.raises(SteersmanError, match="no such file"):
        goals.goal(words, swinging)


def test_a_column_with_two_values_is_refused(swinging: Agent) -> None:
    with pytest.raises(SteersmanError, match="'cos' twice"):
        goals.goal("cos=1,cos=0", swinging)


def test_code_that_fails_is_told_to_whoever_wrote_it(swinging: Agent, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def energy(columns, imagined):\n    return columns['nope']\n")
    found = goals.goal(f"{tmp_path / 'mine.py'}:energy", swinging)
    assert isinstance(found, CallableGoal)
    with pytest.raises(SteersmanError, match="KeyError: 'nope'"):
        found.energy({}, None)  # type: ignore[arg-type]
