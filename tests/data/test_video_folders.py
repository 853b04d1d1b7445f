"""A folder of mp4 and CSV in its three shapes, and what does not fit together."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from test_lerobot import CAMERA, film

from steersman.core import DataError, ObservationSpec, Recording, Signature, UsageError
from steersman.data import ReadOptions, read, write
from steersman.data.formats.video import VideoReader, VideoWriter

pytest.importorskip("av")
CSV = "x,v,push\n" + "".join(f"{i / 10},{-i},{(i % 3) / 2}\n" for i in range(6))
PUSH = ReadOptions(action=("push",))


def video(path: Path, frames: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(VideoWriter(path, (16, 24, 3), 10)) as writer:
        writer.append(np.stack([np.full((16, 24, 3), 30 * i, np.uint8) for i in range(frames)]))


def greys(recording: Recording, name: str) -> list[int]:
    return [round(float(frame.mean()) / 30) for frame in recording.observations[name]]


def test_what_is_written_comes_back_with_pictures_nearly_so(tmp_path: Path) -> None:
    log = [film(CAMERA, steps, seed) for seed, steps in enumerate((6, 3))]
    times = [np.cumsum(np.random.default_rng(i).uniform(0.01, 0.1, len(e) + 1)) for i, e in enumerate(log)]
    log = [Recording(e.observations, e.actions, times=t) for e, t in zip(log, times, strict=True)]
    write(tmp_path / "log", CAMERA, log, format="folder")
    source = read(tmp_path / "log")
    assert (source.format, source.signature) == ("folder", CAMERA)
    for back, original in zip(source.recordings(), log, strict=True):
        assert np.array_equal(back.observations["state"], original.observations["state"])
        assert np.array_equal(back.actions, original.actions)
        assert np.array_equal(back.times, original.times)  # type: ignore[arg-type]
        assert np.abs(back.observations["top"].astype(int) - original.observations["top"]).mean() < 4


def test_one_video_beside_one_table(tmp_path: Path) -> None:
    (tmp_path / "robot.csv").write_text(CSV)
    video(tmp_path / "front.mp4", 6)
    source = read(tmp_path, PUSH)
    assert source.signature.observations["front"] == ObservationSpec("image", (16, 24, 3))
    (episode,) = source.recordings()
    assert greys(episode, "front") == [0, 1, 2, 3, 4, 5]


def test_videos_named_like_their_tables(tmp_path: Path) -> None:
    for name in ("run_2", "run_10"):
        (tmp_path / f"{name}.csv").write_text(CSV)
        video(tmp_path / f"{name}.mp4", 6)
    assert [greys(e, "image") for e in read(tmp_path, PUSH).recordings()] == [[0, 1, 2, 3, 4, 5]] * 2
    (tmp_path / "run_10.mp4").unlink()
    with pytest.raises(DataError, match=r"no run_10\.mp4"):
        read(tmp_path, PUSH)


def test_too_few_frames_or_videos_are_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(CSV)
    video(tmp_path / "front.mp4", 4)
    with pytest.raises(DataError, match="4 frames where 6 are needed"):
        list(read(tmp_path, PUSH).recordings())
    (tmp_path / "front.mp4").unlink()
    video(tmp_path / "front" / "a.mp4", 6)
    video(tmp_path / "front" / "b.mp4", 6)
    with pytest.raises(DataError, match=r"1 videos in .*front, one an episode; got 2"):
        read(tmp_path, PUSH)
    with pytest.raises(UsageError, match=r"write \.csv"):
        write(tmp_path / "x", Signature({"s": ObservationSpec("vector", (1,))}, CAMERA.action), [], format="folder")


def test_frames_by_number_wherever_one_left(tmp_path: Path) -> None:
    video(tmp_path / "a.mp4", 8)
    for counted in (False, True):
        with closing(VideoReader(tmp_path / "a.mp4", counted=counted)) as reader:
            for start in (3, 4, 0, 7, 2):
                assert round(float(reader.frames(start, 1).mean()) / 30) == start
            assert reader.count() == 8
