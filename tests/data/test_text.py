"""Text as tokens, watched and spoken; files that are no UTF-8 are refused by name and place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lone import NONE, comes_back, everything, nothing_but, refused, same, signature, still

from steersman.core import ActionSpec, DataError, ObservationSpec, Recording, Signature, UsageError
from steersman.core.recording import Array
from steersman.data import ReadOptions, convert, read, write

BYTES = ObservationSpec("tokens", (1,), vocabulary=256)
SPOKEN = ReadOptions(action=("text",))


def tokens(text: str | bytes) -> Array:
    content = text if isinstance(text, bytes) else text.encode()
    return np.frombuffer(content, np.uint8).astype(np.int32)[:, None]


def test_a_file_is_an_episode_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Grüße\n", encoding="utf-8")
    source = read(tmp_path / "a.txt")
    assert source.signature == signature("text", BYTES)
    assert source.steps == 7
    (episode,) = everything(source)
    assert bytes(episode.observations["text"][:, 0].astype(np.uint8)).decode() == "Grüße\n"
    assert episode.actions.shape == (7, 0)


def test_words_are_actions_when_asked(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc")
    source = read(tmp_path / "a.txt", SPOKEN)
    assert source.signature == Signature({"text": BYTES}, ActionSpec("discrete", choices=256))
    (episode,) = everything(source)
    assert episode.actions.tolist() == [[98], [99]]
    assert np.array_equal(episode.actions, episode.observations["text"][1:])
    assert source.fingerprint != read(tmp_path / "a.txt").fingerprint
    refused(lambda: read(tmp_path / "a.txt", ReadOptions(action=("words",))), UsageError, r"'text' as the action")


def test_a_folder_is_read_in_natural_order_without_what_is_no_text(tmp_path: Path) -> None:
    for name in ("ch10.md", "ch2.md", "sub/x.py", ".git/config.txt", "__pycache__/x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "model.bin").write_bytes(b"\xff\xff")
    (tmp_path / "empty.txt").touch()
    source = read(tmp_path)
    assert [r.info for r in source.recordings()] == [
        {"file": "ch2.md"}, {"file": "ch10.md"}, {"file": "sub/x.py", "label": "sub"},
    ]
    assert source.notes == (
        "left out: 1 files that are no text (.bin)", "left out: 1 files of less than 1 bytes (empty.txt)",
    )


def test_any_suffix_when_the_format_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.log").write_text("x")
    refused(lambda: read(tmp_path), DataError, "known format")
    assert len(everything(read(tmp_path, ReadOptions(format="text")))) == 1


@settings(max_examples=12, deadline=None)
@given(st.lists(st.text(min_size=2), min_size=1, max_size=3), st.booleans())
def test_what_is_written_comes_back_byte_by_byte(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], spoken: bool
) -> None:
    path = tmp_path_factory.mktemp("text") / "log"
    kind = Signature({"said": BYTES}, ActionSpec("discrete", choices=256) if spoken else NONE)
    log = [still("said", tokens(text)) for text in texts]
    if spoken:
        log = [Recording(e.observations, e.observations["said"][1:].astype(np.int64)) for e in log]
    write(path, kind, log, format="text")
    source = read(path, limits=None)
    assert source.signature == kind
    for back, original in zip(source.recordings(), log, strict=True):
        same(back, original)


def test_a_log_comes_back_through_the_parser(tmp_path: Path) -> None:
    log = [still("said", tokens(text)) for text in ("a", "käse", "\0\n" * 50)]
    comes_back(tmp_path / "log", signature("said", BYTES), log, "text")


@pytest.mark.parametrize(("content", "words"), [
    (b"good\nbad \xff here", r"b\.txt; got byte 0xff at offset 9 \(line 2\)"),
    ("Käse".encode("latin-1"), r"b\.txt; got byte 0xe4 at offset 1 \(line 1\)"),
    ("Käse".encode("utf-16"), r"byte 0xff at offset 0 \(line 1\), which begins as UTF-16 does"),
    ("ok ü".encode()[:-1], "byte 0xc3 at offset 3"),
])
def test_what_is_no_utf8_is_refused_by_name_and_place(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.txt").write_text("fine")
    (tmp_path / "b.txt").write_bytes(content)
    refused(lambda: everything(read(tmp_path)), DataError, words)
    refused(lambda: convert(read(tmp_path), tmp_path / "out", format="text"), DataError, words)
    nothing_but(tmp_path, ["a.txt", "b.txt"])


def test_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    refused(lambda: read(tmp_path), DataError, "text in .*got 1 empty files")
    (tmp_path / "a.txt").write_text("x")
    assert len(everything(read(tmp_path))) == 1
    refused(lambda: read(tmp_path, SPOKEN), DataError, "text in .*got 1 empty files")


def test_what_text_cannot_hold(tmp_path: Path) -> None:
    def refuse(kind: Signature, log: list[Recording], error: type[UsageError] | type[DataError], words: str) -> None:
        refused(lambda: write(tmp_path / "x", kind, log, format="text"), error, words)

    wide = ObservationSpec("tokens", (1,), vocabulary=257)
    refuse(signature("t", wide), [], UsageError, r"vocabulary of 256; got \(1,\) of 257")
    refuse(signature("t", BYTES), [still("t", tokens(b"a\xff"))], DataError, "byte 0xff at offset 1")
    acted = Signature({"t": BYTES}, ActionSpec("discrete", choices=256))
    other = Recording({"t": tokens("abc")}, np.array([[98], [97]]))
    refuse(acted, [other], DataError, "next token of 't'; got 97 before 99 at row 1")
    moved = Signature({"t": BYTES}, ActionSpec("continuous", (-1.0,), (1.0,)))
    refuse(moved, [], UsageError, "nothing beside the observation.*continuous actions")
    nothing_but(tmp_path, [])
