"""`inspect`, `data doctor`, `data convert` and `train --dry-run` on logs of every kind: an answer, or one line that
says what is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from kinds import FIELD, PICTURES, TEXT, WAVE, WORDS, recorded

from steersman.core import ActionSpec, ObservationSpec, Signature
from steersman.data import write

VECTORS = Signature({"v": ObservationSpec("vector", (3,), ("a", "b", "c"))}, ActionSpec("none"))
WORDS_OF = {"flow": "u, v; periodic × open", "sound": "16000 samples a second", "text": "different", "image": "6×5×3"}


def log(path: Path, signature: Signature) -> Path:
    random = np.random.default_rng(0)
    return write(path, signature, [recorded(signature, steps, random) for steps in (5, 4, 9)])


@pytest.mark.parametrize("signature", [FIELD, PICTURES, TEXT, WAVE, WORDS], ids=lambda s: next(iter(s.observations)))
def test_a_log_of_any_kind_is_described_examined_and_converted(
    steersman: Callable[..., Any], tmp_path: Path, signature: Signature
) -> None:
    path = log(tmp_path / "log.npz", signature)
    (name,) = signature.observations
    said = steersman("inspect", path)
    assert said.code == 0
    assert WORDS_OF[name] in said.out
    assert ("nobody acts" in said.out) == (signature.action.kind == "none")
    examined = steersman("data", "doctor", path, "--html", tmp_path / "page.html", "--json")
    assert examined.json["observations"][0]["name"] == name
    assert any(f["kind"] == "left-out" for f in examined.json["findings"])
    assert steersman("data", "convert", path, "log.h5").code == 0
    assert steersman("inspect", "log.h5", "--json").json["episodes"] == 3
    refused = steersman("data", "convert", path, "other.csv")
    assert refused.code
    assert "observations of kind vector in a csv log" in refused.err
    assert not Path("other.csv").exists()
    short = steersman("train", "--data", path, "--dry-run")
    assert short.code == 1, "the longest episode is shorter than a window"
    assert "an episode of at least 12 steps; got the longest has 9" in short.err
    fits = ("--recipe", "foresee", "--window", "4", "--history", "2", "--batch-size", "4")
    assert steersman("train", "--data", path, *fits, "--dry-run").code == 0


def test_a_table_without_an_action_is_examined_and_converted_when_told_so(
    steersman: Callable[..., Any], tmp_path: Path
) -> None:
    rows = np.cumsum(np.random.default_rng(0).normal(size=(300, 2)), 0)
    (tmp_path / "log.csv").write_text("x,y\n" + "".join(f"{a},{b}\n" for a, b in rows))
    assert "--no-action" in steersman("inspect", "log.csv").err + steersman("data", "schema", "log.csv").err
    examined = steersman("data", "doctor", "log.csv", "--no-action", "--json")
    assert examined.json["trainable"]
    assert any("nobody acts" in f["what"] for f in examined.json["findings"])
    assert steersman("data", "convert", "log.csv", "log.parquet", "--no-action").code == 0
    assert "nobody acts" in steersman("inspect", "log.parquet").out


def test_a_run_whose_log_had_no_action_learns_is_measured_and_has_nothing_to_plan(
    steersman: Callable[..., Any], tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    course = [recorded(VECTORS, 60, random) for _ in range(8)]
    smooth = [replace(r, observations={"v": np.cumsum(r.observations["v"], 0, dtype=np.float32)}) for r in course]
    path = write(tmp_path / "log.npz", VECTORS, smooth)
    words = ("train", "--recipe", "tiny", "--data", path, "--set", "held_out=0.25")
    assert steersman(*words, "--dry-run", "--json").json["episodes"] == 8
    done = steersman(*words, "--out", "run", "--json")
    assert done.json["finished"]
    assert "nobody acts" in done.err
    assert "Nobody acts, so there is no true-action rank" in steersman("evaluate", "run", "--offline").out
    for command in (("run", "run", "--env", "Pendulum-v1", "--goal", "1,0,0"),
                    ("rehearse", "run", "--env", "Pendulum-v1", "--goal", "1,0,0", "--keep", "a<=1")):
        refused = steersman(*command)
        assert refused.code
        assert "it can perceive and foresee, there is nothing to plan" in refused.err
        assert "\n" not in refused.err.strip()


def test_a_run_that_only_learned_to_see_says_so_before_it_asks_for_what_was_held_out(
    steersman: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, picture in enumerate(np.random.default_rng(0).integers(0, 255, (6, 16, 16, 3), np.uint8)):
        Image.fromarray(picture).save(folder / f"{i}.png")
    assert steersman("train", "--data", folder, "--out", "run", "--set", "steps=2", "--set", "batch_size=4",
                     "--set", "precision=fp32").code == 0
    refused = steersman("evaluate", "run", "--offline")
    assert "got an agent that only learned to see" in refused.err, "held-out pictures would not help"


def test_a_training_without_actions_goes_on_exactly_where_it_was_left(tmp_path: Path) -> None:
    from tiny_recipe import recipe

    from steersman.data import load
    from steersman.training import create_run, resume, train

    random, done = np.random.default_rng(0), [0]
    path = write(tmp_path / "log.npz", VECTORS, [recorded(VECTORS, 30, random) for _ in range(4)])
    data = load(path, tmp_path / "cache")
    config = msgspec.structs.replace(recipe(steps=8), held_out=0.0)

    def count(progress: Any) -> None:
        done[0] = progress.step

    ended = []
    for name, until in (("parts", 4), ("whole", 99)):
        with create_run(tmp_path / name, config, data, recipe="tiny") as run:
            train(config, data, run, progress=count, stop=lambda until=until: done[0] >= until)  # type: ignore[misc]
        ended.append(run)
    assert ended[0].checkpoint().step < ended[1].checkpoint().step
    resume(ended[0].path, dataset=data)
    files = [{p.name: p.read_bytes() for p in run.checkpoint().path.glob("*.safetensors")} for run in ended]
    assert files[0]
    assert files[0] == files[1]
