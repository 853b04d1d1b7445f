"""What people get wrong: one line that says what to do, the right exit code, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch

import steersman.cli.commands.evidence as evidence_command
from steersman.core import ActionSpec, Episode, ObservationSpec, Signature
from steersman.data import CacheWriter
from steersman.runs import Run

ONE_LINE = [
    # words, exit code, what the line must say
    (["traim"], 2, "did you mean `train`"),
    (["xyzzy"], 2, "--help"),
    (["--jsn"], 2, "expected a command"),
    (["train"], 2, "give --data PATH"),
    (["train", "--data", "pictures"], 2, "give --recipe NAME"),
    (["train", "--recipe", "tinny", "--data", "log.csv"], 2, "did you mean 'tiny'"),
    (["train", "--recipe", "tiny"], 2, "steersman collect"),
    (["train", "--recipe", "tiny", "--data", "nothing.csv"], 1, "nothing at nothing.csv"),
    (["train", "--recipe", "tiny", "--data", "."], 1, "a log of a known format"),
    (["train", "--recipe", "tiny", "--data", "log.csv", "--action", "torque"], 1, "torque"),
    (["train", "--recipe", "tiny", "--data", "log.csv", "--set", "stps=3"], 2, "there is agent"),
    (["train", "--recipe", "tiny", "--data", "log.csv", "--set", "steps"], 2, "PATH=VALUE"),
    (["train", "--recipe", "tiny", "--data", "log.csv", "--set", "steps=many"], 2, "steps"),
    (["train", "--recipe", "tiny", "--data", "log.csv", "--set", "steps=0"], 2, "steps of at least 1"),
    (["train", "--recipe", "tiny", "--data", "log.csv", "--set", "window=99"], 1, "99"),
    (["train", "--recipe", "tiny", "--data", "log.csv", "--out", "taken"], 1, "--resume"),
    (["train", "--resume", "nowhere"], 1, "no such folder"),
    (["train", "--resume", "taken", "--data", "log.csv"], 2, "--resume RUN alone"),
    (["train", "--resume", "foreign"], 1, "manifest"),
    (["train", "--resume", "future"], 1, "update steersman"),
    (["report", "nowhere"], 1, "no such folder"),
    (["report", "foreign"], 1, "manifest"),
    (["report", "log.csv"], 1, "run directory"),
    (["inspect", "nowhere"], 1, "check the path"),
    (["inspect", "foreign"], 1, "manifest"),
    (["inspect", "future"], 1, "update steersman"),
    (["inspect", "short.safetensors"], 1, "safetensors"),
    (["evidence", "pendlum"], 2, "did you mean 'pendulum'"),
    (["collect", "NoSuchWorld-v9", "--steps", "3", "--out", "a.csv"], 2, "Gymnasium"),
    (["collect", "Pendulum-v1", "--out", "a.csv"], 2, "give one"),
    (["collect", "Pendulum-v1", "--steps", "3", "--episodes", "3", "--out", "a.csv"], 2, "both"),
    (["collect", "two-rooms", "--episodes", "0", "--out", "a"], 2, "raise --episodes"),
    (["collect", "Pendulum-v1", "--steps", "3", "--out", "log.csv"], 2, "in use"),
]


@pytest.fixture
def folder(tmp_path: Path, log: Path) -> set[Path]:
    """Things that a command may trip over; what is there."""
    with Run.create(tmp_path / "taken", recipe="tiny", config={}, seeds={}, data={}):
        pass
    for name, content in {"foreign": b'{"name": "not ours"}', "future": b'{"format": 99}'}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_bytes(content)
    episode = Episode({"image": torch.zeros(3, 8, 8, 3, dtype=torch.uint8)}, torch.zeros(2, 1))
    signature = Signature({"image": ObservationSpec("image", (8, 8, 3))}, ActionSpec("continuous", (-1.0,), (1.0,)))
    with CacheWriter(tmp_path / "pictures", signature) as writer:
        writer.append(episode)
        writer.finish()
    (tmp_path / "short.safetensors").write_bytes(b"\xff\xff\xff\xff\xff\xff\xff\xff{}")
    return set(tmp_path.rglob("*"))


@pytest.mark.parametrize(("words", "code", "says"), ONE_LINE, ids=[" ".join(words) for words, _, _ in ONE_LINE])
def test_a_mistake_is_answered_in_one_line_and_leaves_nothing(
    words: list[str], code: int, says: str, steersman: Callable, folder: set[Path], tmp_path: Path
) -> None:
    ended = steersman(*words)
    lines = ended.err.splitlines()
    assert ended.code == code, ended.err
    assert len(lines) == 1, ended.err
    assert lines[0].startswith("steersman: expected ")
    assert says in lines[0]
    assert "Traceback" not in ended.err
    left = {p for p in tmp_path.rglob("*") if p not in folder and p.is_file()}
    assert not left, left


TYPOS = [
    (["train", "--recipe", "tiny", "--wdth", "3"], "--width"),
    (["train", "--recip", "tiny"], "--recipe"),
    (["report"], "RUN"),
    (["report", "a", "b"], "b"),
    (["doctor", "--quik"], "--quick"),
    (["completion", "fish"], "bash"),
    (["train", "--recipe", "tiny", "--steps", "few"], "--steps"),
    (["collect", "Pendulum-v1", "--steps", "3"], "--out"),
]


@pytest.mark.parametrize(("words", "hint"), TYPOS, ids=[" ".join(words) for words, _ in TYPOS])
def test_a_wrong_option_is_explained_with_the_near_ones(words: list[str], hint: str, steersman: Callable) -> None:
    ended = steersman(*words)
    assert ended.code == 2
    assert hint in ended.err
    assert ended.out == ""


def test_debug_shows_the_traceback_before_the_line(steersman: Callable) -> None:
    ended = steersman("report", "nowhere", "--debug")
    assert "Traceback" in ended.err
    assert ended.err.splitlines()[-1].startswith("steersman: expected a run directory")


@pytest.mark.parametrize(
    ("failure", "says"),
    [(ValueError("odd\nthing"), "a defect of steersman, not of yours: ValueError: odd thing; --debug"),
     (MemoryError("8 GiB"), "MemoryError: 8 GiB; free what is short"),
     (OSError(28, "No space left on device"), "No space left on device"),
     (KeyboardInterrupt(), "stopped by the keyboard")],
)
def test_whatever_happens_inside_ends_in_one_line(
    failure: BaseException, says: str, steersman: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(evidence_command.Evidence, "__call__", fail)
    ended = steersman("evidence")
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1
    assert says in ended.err


def test_a_mistake_under_json_prints_no_object(steersman: Callable) -> None:
    ended = steersman("report", "nowhere", "--json")
    assert (ended.code, ended.out) == (1, "")


def test_a_damaged_checkpoint_is_reported_and_the_run_still_inspected(
    steersman: Callable, log: Path, tmp_path: Path
) -> None:
    assert steersman("train", "--recipe", "tiny", "--data", "log.csv", "--out", "run").code == 0
    model = sorted((tmp_path / "run" / "checkpoints").glob("*/model.safetensors"))[-1]
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    whole = steersman("inspect", "run", "--json")
    assert whole.code == 0
    assert "SHA-256" in whole.json["warnings"][0]
    one = steersman("inspect", str(model.parent))
    assert one.code == 1
    assert "SHA-256" in one.err
    assert len(one.err.splitlines()) == 1
    manifest = tmp_path / "run" / "manifest.json"
    plain = msgspec.json.decode(manifest.read_bytes())
    manifest.write_bytes(msgspec.json.encode({**plain, "surprise": 1}))
    assert "surprise" in steersman("inspect", "run").err
