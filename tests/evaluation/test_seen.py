"""A run with a camera leaves films, curves and maps for its report; each call puts its own in place of the last's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from filmed_dot import LABELLED, SEEN, log_of, pictures, run_of

from steersman import training
from steersman.agent import Agent
from steersman.agent.labelling import fit_to_labels
from steersman.core import ActionSpec, Episode, ObservationSpec, Pace, Signature
from steersman.data import CacheWriter, Dataset
from steersman.evaluation import show_columns, show_seen
from steersman.perception import ConvEncoder, MixedEncoder
from steersman.runs import Run
from steersman.runs.artefacts import Film, Lines, Map, read_all
from steersman.studio import build
from steersman.training.parts import shown


def parts(run: Run) -> tuple[Dataset, Dataset, bool]:
    return shown(training.stored_config(run), training.open_log(run))


def named(run: Run, kind: type[Film] | type[Lines] | type[Map]) -> list[str]:
    good, bad = read_all(run.path, kind)
    assert not bad
    return [x.name for x in good]


@pytest.mark.parametrize("tokens", [False, True])
def test_films_and_a_map_of_what_was_held_out(tmp_path: Path, tokens: bool) -> None:
    run = run_of(tmp_path / "run", log_of(tmp_path / "log"), tokens=tokens)
    written = show_seen(run, *parts(run))
    assert written == ("seen-film-0", "seen-film-1", "seen-looks-0")
    assert named(run, Lines) == []  # nothing says what a column is
    film = read_all(run.path, Film)[0][0]
    assert film.title == "An episode that was never trained on"
    assert film.steps == tuple(range(0, 19, 2))
    assert "Nearest of 120 logged moments" in film.caption  # of 21 rows in each of six episodes, 20 have a past
    page = build(run.path).read_text()
    assert "What the model sees" in page
    assert "Where in the picture the state is read" in page
    assert page.count('class="film"') == 2


def test_columns_beside_the_picture_are_drawn_and_replaced(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", log_of(tmp_path / "log"), dots=True)
    fit_to_labels(run, log_of(tmp_path / "labels", 6, 12, labelled=True, seed=3))
    agent, labels = Agent.load(run), log_of(tmp_path / "others", 2, 12, labelled=True, seed=4)
    show_seen(run, *parts(run))
    assert named(run, Lines) == ["seen-column-0", "seen-column-1"]
    assert len(read_all(run.path, Lines)[0][0].lines) == 2
    written = show_columns(run, agent, labels.paced(agent.signature.pace), "an episode of the labels")
    assert [path.stem for path in written] == ["seen-column-0", "seen-column-1"]
    assert len(read_all(run.path, Lines)[0][0].lines) == 3
    assert "An episode of the labels. Off the truth by" in build(run.path).read_text()
    short = log_of(tmp_path / "short", 2, 3, labelled=True).paced(agent.signature.pace)
    assert show_columns(run, agent, short, "an episode") == []
    assert named(run, Lines) == ["seen-column-0", "seen-column-1"]


def test_two_cameras_and_choices(tmp_path: Path) -> None:
    signature = Signature({**SEEN.observations, "wrist": ObservationSpec("image", (16, 24, 1))},
                          ActionSpec("discrete", choices=3))
    g = torch.Generator().manual_seed(0)
    episodes = []
    for _ in range(6):
        image = pictures(torch.rand(13, 2, generator=g) * 10 + 5)
        episodes.append(Episode({"image": image, "wrist": image[:, 4:20, :, :1]},
                                torch.randint(3, (12, 1), generator=g)))
    with CacheWriter(tmp_path / "log", signature, origin="two") as writer:
        writer.append(episodes)
        writer.finish()
    run = run_of(tmp_path / "run", Dataset.open(tmp_path / "log"))
    written = show_seen(run, *parts(run))
    assert written == ("seen-film-0", "seen-film-1", "seen-film-2", "seen-film-3", "seen-looks-0", "seen-looks-1")
    films, maps = read_all(run.path, Film)[0], read_all(run.path, Map)[0]
    assert films[1].title == "An episode that was never trained on, wrist"
    assert films[1].size == (24, 16)
    assert maps[1].caption.startswith("Above: pictures of wrist from ")


def test_a_run_without_a_world_model_shows_where_it_looks(tmp_path: Path) -> None:
    from steersman.recipes import pictures as recipe

    signature = Signature(SEEN.observations, ActionSpec("none"))
    g = torch.Generator().manual_seed(0)
    log = [Episode({"image": pictures(torch.rand(1, 2, generator=g) * 10 + 5)}, torch.zeros(0, 0)) for _ in range(40)]
    with CacheWriter(tmp_path / "log", signature, origin="single") as writer:
        writer.append(log)
        writer.finish()
    dataset = Dataset.open(tmp_path / "log")
    config = recipe.recipe(steps=1)
    with training.create_run(tmp_path / "run", config, dataset, recipe="pictures") as run:
        training.train(config, dataset, run)
    run = Run.open(tmp_path / "run")
    assert show_seen(run, *parts(run)) == ("seen-looks-0",)
    assert "1 is as much as the distance between two moments" in read_all(run.path, Map)[0][0].value_title


def test_a_run_without_a_camera_shows_nothing(tmp_path: Path) -> None:
    from steersman.recipes import vectors

    signature = Signature({"vector": LABELLED.observations["vector"]}, SEEN.action)
    g = torch.Generator().manual_seed(0)
    with CacheWriter(tmp_path / "log", signature, origin="numbers") as writer:
        writer.append([Episode({"vector": torch.randn(30, 2, generator=g)}, torch.rand(29, 2, generator=g))
                       for _ in range(4)])
        writer.finish()
    dataset = Dataset.open(tmp_path / "log")
    config = vectors.recipe(steps=1)
    with training.create_run(tmp_path / "run", config, dataset, recipe="vectors") as run:
        training.train(config, dataset, run)
    assert show_seen(Run.open(tmp_path / "run"), dataset, dataset) == ()


def test_where_nothing_was_held_out_the_end_of_the_log_is_shown_and_said(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", log_of(tmp_path / "log", 2, 40), Pace(), held_out=0.0)
    show_seen(run, *parts(run))
    assert read_all(run.path, Film)[0][0].title == "An episode that was trained on, too"


def test_a_mixed_encoder_is_asked_with_its_vectors_as_they_are(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", log_of(tmp_path / "log", labelled=True))
    assert isinstance(Agent.load(run).perception, MixedEncoder)
    assert ConvEncoder in {type(x) for x in Agent.load(run).perception.parts.values()}
    assert show_seen(run, *parts(run))[-1] == "seen-looks-0"
