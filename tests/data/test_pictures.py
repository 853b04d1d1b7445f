"""Folders of pictures: what Pillow reads comes as (H, W, C) bytes, what changes is noted, what is damaged is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lone import comes_back, everything, nothing_but, refused, signature, still
from PIL import Image

from steersman.core import DataError, ObservationSpec, Signature, UsageError
from steersman.core.recording import Array
from steersman.data import ReadOptions, Source, convert, read, repair, write

RANDOM = np.random.default_rng(0)
CAMERA = signature("front", ObservationSpec("image", (12, 9, 3)))


def pixels(*shape: int) -> Array:
    return RANDOM.integers(0, 256, shape, np.uint8)


def first(source: Source) -> Array:
    return everything(source)[0].observations["image"]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_what_is_written_comes_back_bit_for_bit_with_its_labels_in_order(tmp_path: Path, channels: int) -> None:
    kind = signature("front", ObservationSpec("image", (12, 9, channels)))
    labels = ["cat", "dog", "cat", "a/b"] + ["cat"] * 8
    log = [still("front", pixels(1, 12, 9, channels), info={"label": label}) for label in labels]
    source = comes_back(tmp_path / "log", kind, log, "pictures")
    assert [r.info["label"] for r in source.recordings()] == labels
    assert (tmp_path / "log" / "a" / "b" / "episode_000003.png").is_file()


@pytest.mark.parametrize("label", ["../out", "/out", ".hidden/x", "x/../../y"])
def test_a_label_never_leaves_the_folder(tmp_path: Path, label: str) -> None:
    write(tmp_path / "log", CAMERA, [still("front", pixels(1, 12, 9, 3), info={"label": label})], format="pictures")
    nothing_but(tmp_path, ["log"])
    nothing_but(tmp_path / "log", ["episode_000000.png", "steersman.json"])


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_lossless_files_of_other_programs(tmp_path: Path, suffix: str) -> None:
    image = pixels(7, 5, 3)
    lossless = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(image).save(tmp_path / f"x.{suffix}", **lossless)  # type: ignore[arg-type]
    for place in (tmp_path, tmp_path / f"x.{suffix}"):
        source = read(place)
        assert source.signature == signature("image", ObservationSpec("image", (7, 5, 3)))
        assert np.array_equal(first(source), image[None])
        assert source.notes == ()


def test_natural_order_and_class_folders(tmp_path: Path) -> None:
    for name in ("dog/10.png", "dog/9.png", "cat/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((2, 2), int(Path(name).stem), np.uint8)).save(tmp_path / name)
    log = everything(read(tmp_path))
    assert [(r.info["label"], int(r.observations["image"].max())) for r in log] == [("cat", 2), ("dog", 9), ("dog", 10)]
    assert [len(r) for r in log] == [0, 0, 0]


def test_all_grey_stays_grey_and_grey_among_colours_becomes_colour(tmp_path: Path) -> None:
    grey = pixels(4, 6)
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert np.array_equal(first(read(tmp_path))[0, ..., 0], grey)
    Image.fromarray(pixels(4, 6, 3)).save(tmp_path / "b.png")
    source = read(tmp_path)
    assert source.notes == ("1 of 2 pictures in grey among others in colour, read as RGB",)
    assert np.array_equal(first(source)[0], np.repeat(grey[..., None], 3, -1))


def test_palettes_transparency_and_16_bits_are_read_and_noted(tmp_path: Path) -> None:
    colours = Image.fromarray(np.kron(pixels(2, 2, 3), np.ones((2, 3, 1), np.uint8)))
    colours.quantize(4).save(tmp_path / "palette.png")
    clear = np.dstack([np.asarray(colours), np.zeros((4, 6), np.uint8)])
    Image.fromarray(clear).save(tmp_path / "rgba.png")
    Image.fromarray(np.full((4, 6), 0x7F12, np.uint16)).save(tmp_path / "sixteen.png")
    colours.convert("CMYK").save(tmp_path / "print.tif")
    source = read(tmp_path)
    said = " ".join(source.notes)
    for words in ("with a palette", "transparency, which is left out", "upper 8 are kept", "in CMYK"):
        assert f"1 of 4 pictures {words}" in said or words in said
    by_name = {r.info["file"]: r.observations["image"][0] for r in source.recordings()}
    assert np.array_equal(by_name["palette.png"], np.asarray(colours))
    assert np.array_equal(by_name["rgba.png"], np.asarray(colours))
    assert (by_name["sixteen.png"] == 0x7F).all()


def test_a_camera_that_was_held_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.linspace(0, 200, 8 * 16, dtype=np.uint8).reshape(8, 16)).save(tmp_path / "x.jpg", exif=exif)
    image = first(read(tmp_path))[0]
    assert image.shape == (16, 8, 1)
    assert image[0].mean() < image[-1].mean()
    assert image[0, 0] > image[0, -1]


def test_another_size_is_refused_by_name_with_both_sizes_or_resized_when_asked(tmp_path: Path) -> None:
    for name in "abc":
        Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(tmp_path / f"{name}.png")
    Image.fromarray(np.full((20, 31, 3), 90, np.uint8)).save(tmp_path / "b.png")
    refused(lambda: read(tmp_path), DataError, r"20×30 as 2 of 3 are; got 20×31 in .*b\.png; .*--resize")
    source = read(tmp_path, ReadOptions(resize=(10, 12)))
    assert source.signature.observations["image"].shape == (10, 12, 3)
    assert any("resized to 10×12 from 20×30, 20×31" in note for note in source.notes)
    assert all((r.observations["image"] == 90).all() for r in source.recordings())
    refused(lambda: ReadOptions(resize=(0, 5)), UsageError, "a height and a width")


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def bomb(content: bytes) -> bytes:
    """A PNG that says it is 60,000 × 60,000."""
    import zlib

    head = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + content[24:29]
    return content[:12] + head + zlib.crc32(head).to_bytes(4, "big") + content[33:]


@pytest.mark.parametrize(("damage", "words"), [
    (cut, r"a sound picture at .*b\.png"), (bomb, r"b\.png; got .*(bomb|60000×60000)"),
    (lambda _: b"", r"a sound picture at .*b\.png"), (lambda _: b"GIF89a", r"a sound picture at .*b\.png"),
])
def test_a_damaged_picture_is_refused_by_name(tmp_path: Path, damage, words: str) -> None:  # type: ignore[no-untyped-def]
    for name in "abc":
        Image.fromarray(pixels(20, 30, 3)).save(tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_bytes(damage((tmp_path / "b.png").read_bytes()))
    refused(lambda: everything(read(tmp_path)), DataError, words)
    refused(lambda: convert(read(tmp_path), tmp_path / "out", format="pictures"), DataError, words)
    nothing_but(tmp_path, ["a.png", "b.png", "c.png"])


def test_all_damaged_pictures_are_named_at_once(tmp_path: Path) -> None:
    for name in "abcd":
        Image.fromarray(pixels(20, 30, 3)).save(tmp_path / f"{name}.png")
    for name in "bd":
        (tmp_path / f"{name}.png").write_bytes(b"")
    refused(lambda: read(tmp_path), DataError, r"a sound picture at .*b\.png; .*1 more are unsound: d\.png")


def test_of_a_folder_the_pictures_before_a_cut_one_are_repaired(tmp_path: Path) -> None:
    for name in "abc":
        Image.fromarray(pixels(20, 30, 3)).save(tmp_path / f"{name}.png")
    (tmp_path / "c.png").write_bytes((tmp_path / "c.png").read_bytes()[:600])
    kept = repair(str(tmp_path))
    assert [r.info["file"] for r in kept.source.recordings()] == ["a.png", "b.png"]
    assert kept.lost[0].startswith("lost: episode 2")


def test_folders_without_pictures_of_several_kinds_and_with_tables(tmp_path: Path) -> None:
    refused(lambda: read(tmp_path, ReadOptions(format="pictures")), DataError, "pictures .*got an empty folder")
    refused(lambda: read(tmp_path), DataError, "known format.*a folder of another kind")
    Image.fromarray(pixels(2, 2, 3)).save(tmp_path / "a.png")
    (tmp_path / "README.md").write_text("what these are")
    assert read(tmp_path).notes == ("left out: 1 files that are no pictures (.md)",)
    (tmp_path / "LICENSE.txt").write_text("yours")
    refused(lambda: read(tmp_path), DataError, "1 of pictures, 2 of text; .*--format pictures or text")
    (tmp_path / "LICENSE.txt").unlink()
    np.save(tmp_path / "b.npy", np.zeros((2, 3, 3), np.float32))
    refused(lambda: read(tmp_path), DataError, "1 of pictures, 1 of fields; .*--format pictures or fields")
    assert len(everything(read(tmp_path, ReadOptions(format="pictures")))) == 1
    (tmp_path / "labels.csv").write_text("name,label\na,1\n")
    refused(lambda: read(tmp_path), DataError, "known format.*a folder of another kind")
    assert len(everything(read(tmp_path, ReadOptions(format="pictures")))) == 1


def test_what_a_folder_of_pictures_cannot_hold_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    vector = Signature(CAMERA.observations | {"arm": ObservationSpec("vector", (1,))}, CAMERA.action)
    refused(lambda: write(tmp_path / "x", vector, [], format="pictures"), UsageError, r"arm \(vector\).*\.npz or \.h5")
    film = [still("front", pixels(3, 12, 9, 3))]
    refused(lambda: write(tmp_path / "x", CAMERA, film, format="pictures"), UsageError, "one of 3")
    refused(lambda: write(tmp_path / "x", CAMERA, [], format="pictures"), DataError, "at least one episode")
    five = signature("front", ObservationSpec("image", (12, 9, 5)))
    refused(lambda: write(tmp_path / "x", five, [], format="pictures"), UsageError, "1 to 4 channels")
    nothing_but(tmp_path, [])


def test_a_description_that_does_not_fit(tmp_path: Path) -> None:
    write(tmp_path / "log", CAMERA, [still("front", pixels(1, 12, 9, 3))], format="pictures")
    beside = tmp_path / "log" / "steersman.json"
    good = beside.read_text()
    for change, words in (
        (("[12,9,3]", "[12,8,3]"), r"12×8 in .*as steersman\.json says; got 12×9"),
        (('"image"', '"vector"'), "a valid description|one observation of kind image"),
        (("{", "["), "a valid description"),
    ):
        assert change[0] in good
        beside.write_text(good.replace(*change))
        refused(lambda: read(tmp_path / "log"), DataError, words)
