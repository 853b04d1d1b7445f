"""The commands at work, in this process: train, resume, dry run, collect, inspect, report, evidence, completion."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from steersman import evidence
from steersman.cli.app import COMMANDS, command
from steersman.runs import Run
from steersman.runs.artefacts import Column, DataCard, Figure, Row, Table, read_all


def test_every_command_ends_its_help_with_an_example(steersman: Callable) -> None:
    for name in COMMANDS:
        ended = steersman(name, "--help")
        assert ended.code == 0, ended.err
        example = ended.out.split("\nexample:\n")[1]
        assert all(f"steersman {name}" in line for line in example.strip().splitlines())
        assert (command(name).__doc__ or "").split("\n")[0][:40] in " ".join(ended.out.split())
    whole = steersman("--help")
    assert whole.out.rstrip().endswith("steersman demo")
    assert all(f"\n  {name}" in whole.out for name in COMMANDS)
    assert steersman().out == whole.out
    assert steersman("--version").out.startswith("steersman 0.")


def test_training_leaves_a_whole_run_that_is_its_own(steersman: Callable, log: Path, tmp_path: Path) -> None:
    ended = steersman("train", "--recipe", "tiny", "--data", "log.csv", "--out", "runs/a", "--steps", "8",
                      "--width", "6", "--seed", "3", "--set", "batch_size=3", "--set", "agent.planner.horizon=7",
                      "--json")
    assert ended.code == 0, ended.err
    facts = ended.json
    assert {"run", "step", "finished", "loss", "gauges", "report"} <= set(facts)
    assert (facts["step"], facts["finished"]) == (8, True)
    assert len(ended.out.splitlines()) == 1
    run = Run.open("runs/a")
    train = run.manifest.config["train"]
    assert (train["steps"], train["batch_size"], train["seed"], train["agent"]["planner"]["horizon"]) == (8, 3, 3, 7)
    assert train["agent"]["world_model"]["width"] == 6
    assert run.manifest.data["path"] == "log"  # inside the run: it can be moved
    assert (tmp_path / "runs" / "a" / "log" / "index.json").exists()
    card = read_all(run.path, DataCard)[0][0]
    assert (card.episodes, card.steps) == (3, 87)
    assert [c.name for c in card.columns] == ["x", "v", "push"]
    assert Path(facts["report"]).exists()
    assert {p.name for p in tmp_path.iterdir()} == {"log.csv", "runs"}
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["a"]


def test_a_run_that_was_left_goes_on_with_nothing_but_its_name(
    steersman: Callable, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from steersman import training

    original = training.train

    def interrupted(*arguments: object, **options: object) -> object:
        return original(*arguments, **options, stop=lambda: time.monotonic() > 0)

    monkeypatch.setattr(training, "train", interrupted)
    left = steersman("train", "--recipe", "tiny", "--data", "log.csv", "--out", "runs/a")
    assert left.code == 1
    assert "`steersman train --resume runs/a` goes on" in left.out
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    log.unlink()
    (tmp_path / "runs" / "a").rename(tmp_path / "moved")
    done = steersman("train", "--resume", "moved", "--json")
    assert done.code == 0, done.err
    assert (done.json["step"], done.json["finished"]) == (12, True)


def test_a_dry_run_forecasts_and_leaves_nothing(steersman: Callable, log: Path, tmp_path: Path) -> None:
    ended = steersman("train", "--recipe", "tiny", "--data", "log.csv", "--dry-run", "--json")
    assert ended.code == 0, ended.err
    facts = ended.json
    assert facts["steps"] == 12
    assert facts["log_steps"] == 87
    assert facts["parameters"] > 0
    assert len(facts["step_seconds"]) == 2
    assert 0 < facts["seconds"] < 60
    assert [p.name for p in tmp_path.iterdir()] == ["log.csv"]


def test_a_recipe_brings_its_own_options(steersman: Callable) -> None:
    text = steersman("train", "--recipe", "tiny", "--help").out
    assert "numbers in a hidden layer, and nothing else" in " ".join(text.replace("│", " ").split())
    assert "--schedule {cosine,constant}" in text
    assert "--parts" not in text
    assert "tiny" in steersman("train", "--help").out


def test_a_log_of_vectors_needs_no_recipe(steersman: Callable, log: Path) -> None:
    ended = steersman("train", "--data", "log.csv", "--set", "steps=2", "--set", "batch_size=4", "--out", "a", "--json")
    assert ended.code == 0, ended.err
    run = Run.open("a")
    assert run.manifest.recipe == "vectors"
    assert (run.path / "readouts" / "observation.json").exists()
    assert run.manifest.config["train"]["agent"]["planner"]["type"] == "icem"


def test_collect_writes_what_inspect_reads(steersman: Callable) -> None:
    assert steersman("collect", "Pendulum-v1", "--steps", "250", "--out", "p.csv", "--seed", "1").code == 0
    assert steersman("collect", "two-rooms", "--episodes", "3", "--length", "4", "--out", "rooms").code == 0
    table, rooms = (steersman("inspect", name, "--json").json for name in ("p.csv", "rooms"))
    assert (table["kind"], table["episodes"], table["steps"]) == ("log", 2, 250)
    assert (rooms["kind"], rooms["episodes"], rooms["longest"]) == ("dataset", 3, 4)
    again = steersman("collect", "Pendulum-v1", "--steps", "250", "--out", "q.csv", "--seed", "1")
    assert again.code == 0
    assert Path("p.csv").read_bytes() == Path("q.csv").read_bytes()
    assert "cos, sin, speed" in steersman("inspect", "p.csv").out


DOT = """
import gymnasium, numpy as np
class Dot(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array"]}
    observation_space = gymnasium.spaces.Box(-9, 9, (1,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))
    def __init__(self, render_mode=None): self.render_mode = render_mode
    def reset(self, seed=None, options=None): self.x = 4.0; return np.array([self.x]), {}
    def step(self, action):
        self.x = min(max(self.x + float(action[0]), 0), 15)
        return np.array([self.x]), 0.0, False, False, {}
    def render(self):
        picture = np.full((16, 16, 3), 90, np.uint8); picture[4, int(self.x)] = 255; return picture
def make(**options): return Dot(**options)
def right(observation, generator):
    import torch
    assert observation["truth"].shape == (1, 1)
    return torch.ones(1, 1)
"""


def test_collect_films_any_environment_with_whoever_acts(steersman: Callable) -> None:
    from steersman.data import Dataset

    Path("dot.py").write_text(DOT)
    common = ("--pixels", "16", "--steps", "40", "--length", "20")
    for out, more in (("held", ("--hold", "4")), ("mine", ("--behaviour", "dot.py:right"))):
        assert steersman("collect", "dot.py:make", *common, "--out", out, *more).code == 0
    held, mine = (Dataset.open(name) for name in ("held", "mine"))
    assert held.signature.observations["image"].shape == (16, 16, 3)
    assert set(held.signature.observations) == {"image"}
    actions = held.episode(0).actions[:, 0]
    assert len(actions.unique()) <= 14, "not held"
    assert mine.lengths.tolist() == [20, 20]
    picture = mine.episode(0).observations["image"][5]
    assert int(picture[4, :, 0].argmax()) == 9


@pytest.mark.parametrize(("words", "says"), [
    (("two-rooms", "--hold", "5"), "leave --hold out"), (("pendulum-pixels", "--pixels", "64"), "leave --pixels out"),
    (("Pendulum-v1", "--steps", "9", "--behaviour", "scripted"), "add --pixels 64"),
    (("Pendulum-v1", "--steps", "9", "--behaviour", "nobody"), "FILE.py:FUNCTION"),
    (("Pendulum-v1", "--steps", "9", "--hold", "0.5"), "held for 1 step"),
    (("dot.py:make", "--steps", "9", "--pixels", "16", "--behaviour", "scripted"), "scripted behaviour"),
    (("dot.py:make", "--steps", "9", "--pixels", "4"), "at least 8"),
    (("dot.py:make", "--steps", "9", "--pixels", "16", "--behaviour", "dot.py:right", "--hold", "3"), "got both"),
])
def test_collect_says_who_cannot_act_or_be_filmed(steersman: Callable, words: tuple[str, ...], says: str) -> None:
    Path("dot.py").write_text(DOT)
    done = steersman("collect", *words, "--out", "x")
    assert done.code == 2
    assert says in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not Path("x").exists()


@pytest.mark.parametrize(("out", "to"), [("p.h5", ""), ("p.npz", ""), ("p-v0", ""), ("p", "minari-arrow")])
def test_collect_writes_what_the_name_asks_for(steersman: Callable, out: str, to: str) -> None:
    pytest.importorskip("h5py")
    done = steersman("collect", "Pendulum-v1", "--steps", "30", "--out", out, *(["--to", to] if to else []), "--json")
    found = steersman("inspect", out, "--json").json
    assert (found["kind"], found["steps"]) == ("log", 30)
    assert found["format"] == done.json["format"].removesuffix("-arrow")


def test_report_and_inspect_of_a_run(steersman: Callable) -> None:
    with Run.create("a-run", recipe="tiny", config={}, seeds={"seed": 0}, data={}) as run:
        run.metrics.append(7, loss=0.5)
    assert steersman("report", "a-run", "--json").json["report"].endswith("report.html")
    facts = steersman("inspect", "a-run", "--json").json
    assert (facts["kind"], facts["steps"]) == ("run", 7)


def measure(context: evidence.Context) -> evidence.Found:
    context.say("working")
    if context.seed == 6:
        raise ValueError("odd\nthing")
    return evidence.Found({"": {"success": 0.5}})


def sum_up(results: evidence.Results) -> evidence.Outcome:
    table = Table(name="t", title="A title", columns=(Column(key="s", title="success", form="share"),), rows=(
        Row(label="agent", figures={"s": Figure(value=0.5, low=0.4, high=0.6)}),
        Row(label="random", kind="baseline", figures={"s": Figure(value=0.1)})))
    return evidence.Outcome(results.finished[0].kept.figures, (table,))


@pytest.fixture
def experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    def cells(seed: int) -> tuple[evidence.Cell, ...]:
        return tuple(evidence.Cell("walk/far", measure, 3, seed + i, usual=i == 0) for i in range(3))

    monkeypatch.setattr(evidence, "experiment", lambda name: evidence.Experiment(name, cells, sum_up))


def test_evidence_lists_and_performs(steersman: Callable, experiment: None) -> None:
    assert set(steersman("evidence", "--json").json["experiments"]) == set(evidence.EXPERIMENTS)
    ended = steersman("evidence", "pendulum", "--seed", "4", "--out", "there", "--json")
    assert ended.code == 0, ended.err
    assert set(ended.json) == {"name", "seed", "figures", "seconds", "run"}
    assert (ended.json["name"], ended.json["seed"], ended.json["figures"]) == ("pendulum", 4, {"success": 0.5})
    assert ended.out.count("\n") == 1
    for words in ("working", "A title", "50.0%  40.0–60.0", "random", "2 of 3 cells are not performed"):
        assert words in ended.err


def test_evidence_names_what_failed_and_goes_on(steersman: Callable, experiment: None) -> None:
    ended = steersman("evidence", "pendulum", "--seed", "5", "--full", "--out", "there", "--json")
    assert ended.code == 1
    assert ended.json["failed"] == {"walk/far@6": "ValueError: odd thing"}
    assert ended.json["figures"] == {"success": 0.5}
    assert "walk/far@6 failed: ValueError: odd thing" in ended.err
    cells = steersman("evidence", "pendulum", "--seed", "5", "--out", "there", "--list", "--json").json["cells"]
    assert {name: cell["state"] for name, cell in cells.items()} == {
        "walk/far@5": "kept", "walk/far@6": "missing", "walk/far@7": "kept"}


def test_evidence_knows_the_nearest_row(steersman: Callable, experiment: None) -> None:
    ended = steersman("evidence", "pendulum", "--cell", "walk/fra")
    assert ended.code == 2
    assert "did you mean 'walk/far'?" in ended.err


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_commands_and_options(shell: str, steersman: Callable) -> None:
    ended = steersman("completion", shell)
    assert ended.code == 0, ended.err
    assert all(word in ended.out for name in COMMANDS for word in name.split())
    assert "--resume" in ended.out
    assert steersman("--print-completion", shell).out == ended.out
