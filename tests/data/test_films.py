"""Films without a table: frames and their own times, several containers, sizes, and films that are none."""

from __future__ import annotations

from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from lone import everything, nothing_but, refused, signature, still

from steersman.core import DataError, ObservationSpec, UsageError
from steersman.core.recording import Array
from steersman.data import Limits, ReadOptions, convert, read, write
from steersman.data.formats.video import VideoWriter

av = pytest.importorskip("av")


def greys(frames: int, height: int = 16, width: int = 24) -> Array:
    """Frame i is a field of grey 30 i."""
    return np.stack([np.full((height, width, 3), 30 * i, np.uint8) for i in range(frames)])


def levels(frames: Array) -> list[int]:
    return [round(float(frame.mean()) / 30) for frame in frames]


def film(path: Path, frames: Array, fps: float = 10, codec: str = "", stamps: list[int] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not codec:
        with closing(VideoWriter(path, frames.shape[1:], fps)) as writer:
            writer.append(frames)
        return
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = (stamps or range(len(frames)))[number], 1 / Fraction(fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(("name", "codec"), [
    ("a.mp4", ""), ("a.mov", "mpeg4"), ("a.avi", "mpeg4"), ("a.webm", "libvpx"), ("a.mkv", "mpeg4"), ("a.gif", "gif"),
])
def test_frames_and_times_of_every_container(tmp_path: Path, name: str, codec: str) -> None:
    if codec and codec not in av.codecs_available:
        pytest.skip(f"PyAV without {codec}")
    film(tmp_path / name, greys(6), codec=codec)
    for place in (tmp_path, tmp_path / name):
        source = read(place)
        assert source.format == "films"
        assert source.signature == signature("image", ObservationSpec("image", (16, 24, 3)))
        (episode,) = everything(source)
        assert levels(episode.observations["image"]) == [0, 1, 2, 3, 4, 5]
        assert np.allclose(episode.times, np.arange(6) / 10, atol=1e-3)  # type: ignore[arg-type]
        assert episode.actions.shape == (5, 0)


def test_times_are_the_films_own(tmp_path: Path) -> None:
    film(tmp_path / "a.mkv", greys(4), codec="mpeg4", stamps=[5, 6, 9, 20])
    (episode,) = everything(read(tmp_path))
    assert np.allclose(episode.times, [0, 0.1, 0.4, 1.5], atol=2e-3)  # type: ignore[arg-type]


def test_what_is_written_comes_back_nearly_so(tmp_path: Path) -> None:
    kind = signature("cam", ObservationSpec("image", (32, 48, 1)))
    ramp = np.linspace(0, 200, 48)[:, None]
    log = [
        still("cam", np.broadcast_to(ramp + 4 * np.arange(n)[:, None, None, None], (n, 32, 48, 1)).astype(np.uint8),
              times=np.arange(n) * 0.05, info={"label": label}) for n, label in ((6, "walk"), (1, "run"), (3, "walk"))
    ]
    write(tmp_path / "log", kind, log, format="films")
    source = read(tmp_path / "log")
    assert (source.signature, source.notes) == (kind, ())
    for back, original in zip(source.recordings(), log, strict=True):
        assert back.info["label"] == original.info["label"]
        assert np.allclose(back.times, original.times)  # type: ignore[arg-type]
        assert np.abs(back.observations["cam"].astype(int) - original.observations["cam"]).mean() < 4
    assert any("lossy" in note for note in convert(source, tmp_path / "again", format="films").notes)


def test_other_sizes_are_refused_by_name_or_resized_and_other_rates_are_said(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", greys(3))
    film(tmp_path / "b.mp4", greys(4), fps=20)
    source = read(tmp_path)
    assert source.notes == (
        "frames a second differ: 10 (1 films), 20 (1 films); a step is not equally long in all of them",
    )
    film(tmp_path / "b.mp4", greys(4, 32, 24))
    refused(lambda: read(tmp_path), DataError, r"16×24 as .*a\.mp4; got 32×24 in .*b\.mp4; .*--resize")
    source = read(tmp_path, ReadOptions(resize=(8, 12)))
    assert source.notes == ("resized to 8×12 from 16×24, 32×24",)
    log = everything(source)
    assert [levels(e.observations["image"]) for e in log] == [[0, 1, 2], [0, 1, 2, 3]]
    assert log[0].observations["image"].shape == (3, 8, 12, 3)


@pytest.mark.parametrize("name", ["b.mp4", "b.avi", "b.gif", "b.webm"])
@pytest.mark.parametrize("content", [b"", b"not a film", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n"])
def test_what_is_no_film_is_refused_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refused(lambda: everything(read(tmp_path)), DataError, rf"a sound film at .*{name}")
    nothing_but(tmp_path, [name])


def test_a_container_under_the_name_of_another_is_refused(tmp_path: Path) -> None:
    film(tmp_path / "a.mkv", greys(3), codec="mpeg4")
    (tmp_path / "a.mkv").rename(tmp_path / "a.mp4")
    refused(lambda: everything(read(tmp_path)), DataError, r"a sound film at .*a\.mp4")


def test_a_film_that_does_not_fit_into_memory_says_to_resize(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", np.zeros((64, 1000, 1000, 3), np.uint8))
    small = Limits(memory=150 << 20, memory_per_byte=0.0)
    refused(lambda: everything(read(tmp_path, limits=small)), DataError, "fit into memory.*--resize HEIGHT WIDTH")
    (episode,) = everything(read(tmp_path, ReadOptions(resize=(10, 10)), limits=small))
    assert episode.observations["image"].shape == (64, 10, 10, 3)


def test_films_without_a_frame_or_cut(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = 16, 24, "yuv420p"
        container.start_encoding()
    refused(lambda: everything(read(tmp_path)), DataError, r"a sound film at .*a\.avi; got .*no frame")
    film(tmp_path / "a.mkv", greys(6), codec="mpeg4")
    (tmp_path / "a.avi").unlink()
    content = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(content[:200])
    refused(lambda: everything(read(tmp_path)), DataError, r"a sound film at .*a\.mkv")


def test_a_film_beside_a_table_stays_a_folder(tmp_path: Path) -> None:
    film(tmp_path / "front.mp4", greys(6))
    (tmp_path / "log.csv").write_text("x,push\n" + "".join(f"{i},{i % 3}.5\n" for i in range(6)))
    assert read(tmp_path, ReadOptions(action=("push",))).format == "folder"


def test_what_films_cannot_hold(tmp_path: Path) -> None:
    four = signature("cam", ObservationSpec("image", (16, 24, 4)))
    refused(lambda: write(tmp_path / "x", four, [], format="films"), UsageError, "1 or 3 channels in a film")
    nothing_but(tmp_path, [])
