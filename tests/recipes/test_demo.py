"""The demo, tiny: every stage, every key, every artefact, and a report that shows them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from steersman.cli import main
from steersman.core import RunError
from steersman.data import Dataset
from steersman.evaluation import PROTOCOLS
from steersman.recipes.demo import Sizes, demo
from steersman.recipes.demo_pictures import dot_position
from steersman.runs import Run
from steersman.runs.artefacts import DataCard, Film, Flight, Lines, Map, Summary, Table, read_all
from steersman.studio import build
from steersman.worlds import Painter, TwoRooms
from steersman.worlds.rooms_sampling import sample_free, sample_layouts

TINY = Sizes(log=20, log_steps=17, steps=4, batch_size=4, like=4, never=4, three=4, greedy=2, cem=1, guarded=4,
             labels=260, frames=40, step_limit=6)
KEYS = {
    "success", "success_ci95", "spl", "heldout_spl", "three_rooms_spl", "random_success", "greedy_success",
    "cem_success", "heldout_success", "heldout_success_ci95", "heldout_random_success", "zero_shot_three_rooms",
    "episodes", "solved_at_start", "wall_crossings", "planning_seconds", "guardrail", "seconds", "run",
}


class Quiet:
    """Watches without a word, and remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.steps: list[int] = []
        self.gauges: dict[str, float] = {}

    def say(self, message: str) -> None:
        self.said.append(message)

    def count(self, label: str, done: int, total: int | None) -> None:
        self.said.append(label)

    def __call__(self, progress: Any) -> None:
        self.steps.append(progress.step)
        self.gauges = dict(progress.gauges)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Quiet]:
    path, watcher = tmp_path_factory.mktemp("demo") / "run", Quiet()
    return path, demo(path, 3, watcher, TINY), watcher


def test_every_promised_figure_is_there(done: tuple[Path, dict[str, Any], Quiet]) -> None:
    path, facts, _ = done
    assert set(facts) >= KEYS
    assert set(facts["guardrail"]) >= {"violations", "success", "unguarded_violations", "unguarded_success", "bound",
                                       "spl", "unguarded_spl"}
    assert set(facts["seconds"]) >= {"data", "train", "evaluate", "total"}
    assert facts["seconds"]["total"] >= sum(facts["seconds"][k] for k in ("data", "train", "evaluate")) - 0.05
    assert facts["episodes"] == 4
    assert facts["solved_at_start"] == 0
    assert facts["wall_crossings"] == 0
    assert facts["run"] == str(path)
    assert Run.open(path).read_json("demo.json")["success_ci95"] == facts["success_ci95"]


def test_people_see_training_collapse_gauges_and_the_position_probe(done: tuple[Path, dict[str, Any], Quiet]) -> None:
    _, _, watcher = done
    assert watcher.steps == [1, 2, 3, 4]
    assert {"std_mean", "effective_rank", "probe/x", "probe/y"} <= set(watcher.gauges)
    assert "recording random walks" in watcher.said
    assert any("enter the disk" in line for line in watcher.said)


def test_the_log_stays_with_the_run(done: tuple[Path, dict[str, Any], Quiet]) -> None:
    path, _, _ = done
    assert len(Dataset.open(path / "log")) == 20
    assert Run.open(path).manifest.data["path"] == "log"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_report_shows_all_of_it(done: tuple[Path, dict[str, Any], Quiet]) -> None:
    path, _, _ = done
    found = {kind: read_all(path, kind) for kind in (Table, Film, Map, Lines, Flight, DataCard, Summary)}
    assert not [bad for _, sentences in found.values() for bad in sentences]
    count = {kind.__name__: len(good) for kind, (good, _) in found.items()}
    assert count == {"Table": 2, "Film": 7, "Map": 2, "Lines": 1, "Flight": 2, "DataCard": 1, "Summary": 1}
    for film in found[Film][0]:
        assert len(film.tracks) == 2
        assert len(film.tracks[1].distances) == len(film.steps)
        roles = {mark.role for mark in film.tracks[0].marks}
        assert {"start", "goal", "actual"} <= roles
        assert ("forbidden" in roles) == ("disk" in film.group)
    table = found[Table][0][0]
    assert {row.label for row in table.rows} >= {"greedy latent distance", "CEM, same model",
                                                 "strongest random walker"}
    page = build(path).read_text()
    assert "A forbidden disk on the way" in page
    assert "nearest logged frame" in page


def test_a_place_in_use_is_refused_before_anything_is_recorded(done: tuple[Path, dict[str, Any], Quiet]) -> None:
    path, _, _ = done
    with pytest.raises(RunError, match="choose another name"):
        demo(path, 0, Quiet(), TINY)


def test_the_dot_is_found_in_the_picture_whatever_the_floor() -> None:
    generator = torch.Generator().manual_seed(0)
    layout = sample_layouts(TwoRooms.Config(), 64, generator)
    place = sample_free(layout, torch.zeros(64, dtype=torch.long), generator)
    frames = Painter(layout, 0.02, generator).frames(place[:, None], generator)
    found = dot_position(frames)
    assert found.shape == (64, 1, 2)
    assert float((found[:, 0] - place).norm(dim=1).max()) < 0.5


def test_evaluate_with_the_demos_seed_measures_the_demos_episodes(
    done: tuple[Path, dict[str, Any], Quiet], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, facts, _ = done
    shutil.copytree(path, tmp_path / "run")

    def measured(name: str) -> dict[str, Any]:
        short = msgspec.structs.replace(PROTOCOLS[name], step_limit=TINY.step_limit)
        monkeypatch.setitem(PROTOCOLS, name, short)
        words = f"evaluate {tmp_path / 'run'} --protocol {name} --episodes 4 --labels 260 --seed 3 --json"
        assert main(words.split()) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert found["seed"] == 3
        return found

    like, held_out, guarded = (measured(name) for name in ("two-rooms", "held-out", "guarded"))
    for key in ("success", "spl", "random_success", "success_ci95"):
        assert like[key] == facts[key]
    assert (held_out["success"], held_out["spl"]) == (facts["heldout_success"], facts["heldout_spl"])
    told = facts["guardrail"]
    for key in ("success", "spl", "violations", "infeasible_decisions"):
        assert guarded[key] == told[key]
    assert guarded["guardrail"] == {key: told[key] for key in guarded["guardrail"]}
