"""LeRobot v3: videos of several episodes in one file, foreign datasets, what is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from steersman.core import ActionSpec, DataError, ObservationSpec, Recording, Signature, UsageError
from steersman.data import ReadOptions, read, write

pytest.importorskip("av")
CAMERA = Signature(
    {"state": ObservationSpec("vector", (2,), ("a", "b")), "top": ObservationSpec("image", (32, 48, 3))},
    ActionSpec("continuous", (-1.0,), (1.0,)),
)


def film(signature: Signature, steps: int, seed: int) -> Recording:
    """A bright square that moves over a shaded floor: smooth, as pictures are."""
    random = np.random.default_rng(seed)
    height, width, channels = signature.observations["top"].shape
    frames = np.empty((steps + 1, height, width, channels), np.uint8)
    for t in range(steps + 1):
        frames[t] = np.linspace(0, 160, width)[:, None] + 20 * seed
        frames[t, 4:14, 2 + t : 14 + t] = 230
    return Recording(
        {"state": random.normal(size=(steps + 1, 2)).astype(np.float32), "top": frames},
        random.uniform(-1, 1, (steps, 1)).astype(np.float32),
    )


@pytest.mark.parametrize("shape", [(32, 48, 3), (31, 45, 1)])
def test_pictures_come_back_nearly_and_in_their_place(tmp_path: Path, shape: tuple[int, ...]) -> None:
    signature = Signature({**CAMERA.observations, "top": ObservationSpec("image", shape)}, CAMERA.action)
    log = [film(signature, steps, seed) for seed, steps in enumerate((6, 12, 3))]
    write(tmp_path / "log", signature, log, format="lerobot")
    assert len(list((tmp_path / "log").rglob("*.mp4"))) == 1
    source = read(tmp_path / "log")
    assert source.signature == signature
    for back, original in zip(source.recordings(), log, strict=True):
        assert np.array_equal(back.observations["state"], original.observations["state"])
        assert np.array_equal(back.actions, original.actions)
        error = back.observations["top"].astype(int) - original.observations["top"]
        assert np.abs(error).mean() < 4
        other = np.roll(original.observations["top"], 1, axis=0)
        assert np.abs(error).mean() < np.abs(back.observations["top"].astype(int) - other).mean()


def foreign(folder: Path, **info: Any) -> None:
    """Two episodes, as somebody's robot records them: pictures in the table, named joints, no description."""
    rows = 7
    pictures = []
    for i in range(rows):
        buffer = io.BytesIO()
        Image.fromarray(np.full((8, 6, 3), 10 * i, np.uint8)).save(buffer, "PNG")
        pictures.append({"bytes": buffer.getvalue(), "path": f"{i}.png"})
    table = pa.table({
        "observation.state": pa.array([[0.5 * i, -1.0 * i] for i in range(rows)], pa.list_(pa.float32())),
        "observation.images.wrist": pictures,
        "action": pa.array([[0.1 * i] for i in range(rows)], pa.list_(pa.float32())),
        "timestamp": pa.array([0.0, 0.1, 0.2, 0.0, 0.1, 0.2, 0.3], pa.float32()),
        "episode_index": [0, 0, 0, 1, 1, 1, 1], "task_index": [0] * rows, "next.reward": [0.0] * rows,
    })
    (folder / "meta").mkdir(parents=True)
    (folder / "data" / "chunk-000").mkdir(parents=True)
    pq.write_table(table, folder / "data" / "chunk-000" / "file-000.parquet", row_group_size=2)
    features = {
        "observation.state": {"dtype": "float32", "shape": [2], "names": {"motors": ["shoulder", "elbow"]}},
        "observation.images.wrist": {"dtype": "image", "shape": [3, 8, 6], "names": ["channels", "height", "width"]},
        "observation.tactile": {"dtype": "float32", "shape": [4, 4], "names": None},
        "action": {"dtype": "float32", "shape": [1], "names": ["shoulder"]},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    }
    info = {"codebase_version": "v3.0", "fps": 10, "total_episodes": 2, "features": features} | info
    (folder / "meta" / "info.json").write_text(json.dumps(info))


def test_a_foreign_dataset(tmp_path: Path) -> None:
    foreign(tmp_path / "log")
    source = read(tmp_path / "log")
    assert source.signature.observations == {
        "state": ObservationSpec("vector", (2,), ("shoulder", "elbow")), "wrist": ObservationSpec("image", (8, 6, 3))
    }
    assert source.signature.action.names == ("shoulder",)
    assert source.signature.action.high == pytest.approx((0.5,))
    assert "ignored feature: observation.tactile" in " ".join(source.notes)
    first, second = source.recordings()
    assert (len(first), len(second)) == (2, 3)
    assert first.observations["wrist"][2].tolist() == np.full((8, 6, 3), 20).tolist()
    assert first.times is not None
    assert first.times == pytest.approx([0, 0.1, 0.2])
    only = read(tmp_path / "log", ReadOptions(observation=("*state",), low=(-1.0,), high=(1.0,)))
    assert set(only.signature.observations) == {"state"}


@pytest.mark.parametrize(("info", "words"), [
    ({"codebase_version": "v2.1"}, "version 3.*v2.1.*LeRobot's own script"),
    ({"total_episodes": 3}, "2 episodes in data/, 3"), ({"fps": 0}, "0.0 frames a second"),
    ({"features": {}}, "a feature 'action'"), ({"features": 3}, "a sound LeRobot dataset"),
])
def test_what_info_says_is_checked(tmp_path: Path, info: dict[str, Any], words: str) -> None:
    foreign(tmp_path / "log", **info)
    with pytest.raises(DataError, match=words):
        read(tmp_path / "log")


def test_rows_at_odd_times_are_to_be_resampled_first(tmp_path: Path) -> None:
    log = film(CAMERA, 4, 0)
    timed = Recording(log.observations, log.actions, times=np.array([0.0, 0.1, 0.25, 0.3, 0.4]))
    with pytest.raises(UsageError, match=r"--period 0\.1"):
        write(tmp_path / "log", CAMERA, [timed], format="lerobot")
    assert not list(tmp_path.iterdir())
