"""Recording experience, learning from it and replaying what was decided meanwhile, by the commands alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from steersman.runs import Run
from steersman.runs.experience import ExperienceReader


def test_an_agent_records_learns_and_is_replayed(pendulum: Path, steersman: Callable, tmp_path: Path) -> None:
    run = shutil.copytree(pendulum, tmp_path / "run")
    shutil.rmtree(run / "decisions", ignore_errors=True)
    log = Path(Run.open(pendulum).path / Run.open(pendulum).manifest.data["path"])
    assert log.exists()
    words = ["run", str(run), "--env", "Pendulum-v1", "--goal", "1,0,0", "--episodes", "2", "--seed", "3", "--json"]
    ended = steersman(*words, "--learn", "300")
    assert ended.code == 0, ended.err
    assert ended.json["moments"] == 402
    assert ended.json["updates"] == 1
    said = "402 moments of experience, 1 updates stand since the checkpoint"
    assert f"{said}: steersman inspect {run}/experience" in ended.err
    assert [len(r) for r in ExperienceReader(run / "experience").recordings()] == [200, 200]

    found = steersman("inspect", str(run / "experience"), "--json")
    assert found.code == 0, found.err
    assert found.json["steps"] == 400
    listed = steersman("replay", str(run), "--list", "--json")
    assert listed.json["replayable"] == 200
    assert [s["updates"] for s in listed.json["stretches"]] == [0, 1]
    last = listed.json["stretches"][1]["first"]
    again = steersman("replay", f"{run}:{last}", "--json")
    assert again.code == 0, again.err
    assert again.json["identical"] == 1

    ended = steersman(*words, "--experience")
    assert ended.json["moments"] == 804
    assert ended.json["updates"] == 0
    refused = steersman(*words, "--learn", "-1")
    assert refused.code == 2
    assert "--learn of at least 0 moments" in refused.err


def test_experience_is_trained_on(pendulum: Path, steersman: Callable, tmp_path: Path) -> None:
    run = shutil.copytree(pendulum, tmp_path / "run")
    words = ["run", str(run), "--env", "Pendulum-v1", "--goal", "1,0,0", "--episodes", "2", "--no-record"]
    assert steersman(*words, "--experience").code == 0
    ended = steersman("train", "--recipe", "vectors", "--data", str(run / "experience"), "--out", tmp_path / "next",
                      "--steps", "3", "--json")
    assert ended.code == 0, ended.err
    assert Run.open(tmp_path / "next").manifest.data["steps"] == 400


def test_triplets_need_an_intrinsic_cost(pendulum: Path, steersman: Callable, tmp_path: Path) -> None:
    run = shutil.copytree(pendulum, tmp_path / "run")
    refused = steersman("run", str(run), "--env", "Pendulum-v1", "--goal", "1,0,0", "--triplets")
    assert refused.code == 2
    assert "an agent with an intrinsic cost" in refused.err
    assert not (run / "triplets").exists()
