"""`steersman train` looks at the cameras of a log before it trains: one line for each fault, and none to learn from a
camera that shows nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from steersman.core import ActionSpec, ObservationSpec, Recording, Signature
from steersman.core.recording import Array
from steersman.data import write

SEEN = Signature({"camera": ObservationSpec("image", (16, 16, 1))}, ActionSpec("continuous", low=(-1.0,), high=(1.0,)))


def log(path: Path, fault: Callable[[Array], Array]) -> Path:
    """A bar that goes left and right as it is pushed, filmed with a little noise."""
    g, recordings = np.random.default_rng(0), []
    for _ in range(12):
        acted = g.uniform(-1, 1, (24, 1)).astype(np.float32)
        at = (8 + np.append(0, acted[:, 0].cumsum()))[:, None, None]
        film = 60 + 150 * np.exp(-((np.arange(16) - at) ** 2) / 4) + g.normal(size=(25, 16, 16))
        recordings.append(Recording({"camera": fault(film.clip(0, 255).astype(np.uint8)[..., None])}, acted))
    return write(path, SEEN, recordings)


def frozen(film: Array) -> Array:
    film[5:16] = film[5]
    return film


def test_a_camera_that_froze_is_said_before_training_and_the_log_chooses_the_pace(
    steersman: Callable[..., Any], tmp_path: Path
) -> None:
    said = steersman("train", "--data", log(tmp_path / "log.npz", frozen), "--recipe", "pixels", "--dry-run",
                     "--set", "window=3", "--set", "batch_size=4", "--set", "rollout=[]")
    assert "for 11 rows at the longest, while actions vary and the world moves on: the camera froze: drop" in said.out
    assert "pace: a model step is" in said.out


def test_a_camera_that_is_covered_is_refused_in_one_line(steersman: Callable[..., Any], tmp_path: Path) -> None:
    said = steersman("train", "--data", log(tmp_path / "log.npz", np.zeros_like), "--recipe", "pixels", "--dry-run")
    assert said.code == 1
    assert "expected a camera that shows something; got camera shows one picture only; check the camera" in said.err
