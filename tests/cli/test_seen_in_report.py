"""A training on pictures ends with what the model sees in its report; labels for it can be given afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from filmed_dot import log_of

from steersman.agent import Agent
from steersman.cli import main
from steersman.runs import Run
from steersman.runs.artefacts import Film, Lines, Map, Table, read_all

QUICK = ("--steps", "3", "--batch-size", "4", "--window", "3", "--size", "8", "--width", "8", "--held-out", "0.3",
         "--set", 'pace={"step": 2, "frames": 2}', "--set", "gauge_every=1")


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained, hardly, on pictures of a dot."""
    folder = tmp_path_factory.mktemp("filmed")
    log_of(folder / "log")
    assert main(["train", "--recipe", "pixels", "--data", str(folder / "log"), "--out", str(folder / "run"),
                 *QUICK]) == 0
    return folder / "run"


def test_a_training_on_pictures_shows_what_it_sees(filmed: Path) -> None:
    names = {kind: [x.name for x in read_all(filmed, kind)[0]] for kind in (Film, Map, Table)}
    assert names == {Film: ["seen-film-0", "seen-film-1"], Map: ["seen-looks-0"], Table: ["collapse"]}
    page = (filmed / "report" / "report.html").read_text()
    assert page.index("What the model sees") < page.index("Has the latent collapsed?") < page.index("Parts of the loss")
    assert "<h2>Results</h2>" not in page
    assert "<h2>Episodes</h2>" not in page
    assert "<h2>Energy</h2>" not in page
    assert sum(path.stat().st_size for path in (filmed / "films").iterdir()) < 100_000


def test_labels_become_columns_of_goals(filmed: Path, steersman: Callable, tmp_path: Path) -> None:
    from steersman.cli.goals import goal

    log_of(tmp_path / "labels", 8, 12, labelled=True, seed=9)
    ended = steersman("fit", filmed, "--labels", tmp_path / "labels", "--json")
    assert ended.code == 0, ended.err
    facts = ended.json
    assert (facts["columns"], facts["labels"], facts["tested"]) == (["x", "y"], 96, 24)
    assert f"x: R² {facts['r2']['x']:.3f}" in ended.err
    assert "measured on 24 of 96 labels, to which the read-out was fitted afterwards" in ended.err
    agent = Agent.load(Run.open(filmed))
    assert goal("x=12,y=9", agent, filmed).targets == {"x": 12.0, "y": 9.0}
    lines = read_all(filmed, Lines)[0]
    assert [x.title for x in lines] == ["x", "y"]
    assert [line.label for line in lines[0].lines] == ["truth", "from frames", "imagined"]
    assert lines[0].caption.startswith("An episode of the labels, labels, read without having been fitted to it. Off")
    assert lines[0].caption.split(". ")[0] in (filmed / "report" / "report.html").read_text()


def test_labels_in_a_file_are_read_as_any_log_is(filmed: Path, steersman: Callable, tmp_path: Path) -> None:
    from steersman import data

    log = log_of(tmp_path / "labels", 6, 12, labelled=True)
    data.write("labels.npz", log.signature, (e.recording() for e in log.episodes()))
    ended = steersman("fit", filmed, "--labels", "labels.npz", "--distance", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["columns"] == ["x", "y"]
    assert ended.json["kept"] == ["cost.temporal-distance"]


@pytest.mark.parametrize(("words", "said"), [
    (["--labels", "nowhere.npz"], "nowhere.npz"),
    (["--labels", "silent"], "columns of numbers beside the pictures"),
    (["--labels", "few"], "at least 20 labelled moments; got 12; label more"),
    (["--labels", "few", "--known", "logged"], "--distance, --critic and --drop; got 2 of them"),
])
def test_mistakes_in_labels_are_one_line(
    filmed: Path, steersman: Callable, tmp_path: Path, words: list[str], said: str
) -> None:
    log_of(tmp_path / "silent", 4, 12)
    log_of(tmp_path / "few", 1, 12, labelled=True)
    ended = steersman("fit", filmed, *words)
    assert ended.code in (1, 2)
    assert said in ended.err
    assert len(ended.err.strip().splitlines()) == 1
