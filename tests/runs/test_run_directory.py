"""The run directory: created whole or not at all, opened only if it is one, written by one at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from steersman.core import CheckpointError, LockedError, RunError, StorageError, UsageError
from steersman.runs import Run, files, manifest, new_run_path


def create(path: Path, **changes: Any) -> Run:
    given: dict[str, Any] = {
        "recipe": "test",
        "config": {"train": {"lr": 0.1}},
        "seeds": {"train": 3},
        "data": {"path": "d"},
    }
    return Run.create(path, **(given | changes))


def test_a_run_comes_back_as_it_was_made(tmp_path: Path) -> None:
    with create(tmp_path / "deep" / "run") as run:
        run.metrics.append(1, loss=0.5)
        made = run.manifest
    opened = Run.open(tmp_path / "deep" / "run")
    assert opened.manifest == made
    assert (opened.manifest.config, opened.manifest.seeds) == ({"train": {"lr": 0.1}}, {"train": 3})
    assert opened.manifest.versions["steersman"]
    assert opened.manifest.versions["python"]
    assert opened.metrics.read() == [{"step": 1, "loss": 0.5}]
    assert opened.checkpoints() == []
    assert opened.checkpoints_dir.is_dir()
    assert opened.report_dir.is_dir()


def test_git_state_is_that_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert manifest.git_state() is None
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    (tmp_path / "a").write_text("1")
    for words in (["init", "-q"], ["add", "a"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *words], check=True, cwd=tmp_path)
    state = manifest.git_state()
    assert state is not None
    assert (len(state.commit), state.dirty) == (40, False)
    (tmp_path / "a").write_text("2")
    changed = manifest.git_state()
    assert changed is not None
    assert changed.dirty


def test_an_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    create(tmp_path / "run").close()
    before = (tmp_path / "run" / "manifest.json").read_bytes()
    with pytest.raises(RunError, match="choose another name, or resume"):
        create(tmp_path / "run")
    assert (tmp_path / "run" / "manifest.json").read_bytes() == before


def test_an_empty_folder_may_become_a_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with create(tmp_path / "run") as run:
        assert run.path.is_dir()


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_refused_creation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def refuse(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, call, refuse)
        with pytest.raises(StorageError, match="no space left on device"):
            create(tmp_path / "run")
    assert os.listdir(tmp_path) == []


def test_a_creation_that_was_killed_is_swept_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / f".tmp-{2**22 + 1}-0123abcd-run"
    (left / "checkpoints").mkdir(parents=True)
    create(tmp_path / "run").close()
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "truncated"),
        (b"\xff\xfe", "manifest of a run"),
        (b'{"format": 2}', "format 2; update steersman"),
        (b'{"format": 1, "recipe": "x"}', "missing required field"),
        (b'{"hello": 1}', "missing required field `format`"),
    ],
)
def test_a_foreign_damaged_or_future_manifest_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(RunError, match=message) as caught:
        Run.open(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such folder"):
        Run.open(tmp_path / "missing")


def test_an_unknown_field_is_refused(tmp_path: Path) -> None:
    create(tmp_path / "run").close()
    path = tmp_path / "run" / "manifest.json"
    content = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode(content | {"module": "os.system"}))
    with pytest.raises(RunError, match="unknown field `module`"):
        Run.open(tmp_path / "run")


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with create(tmp_path / "run") as run:
        with run.writer():
            run.metrics.append(1, loss=1.0)
        run.metrics.append(2, loss=1.0)  # the inner block did not close the outer one
        with pytest.raises(LockedError), Run.open(run.path).writer():
            pass
        assert len(Run.open(run.path).metrics.read()) == 2  # readers need no lock
    again = Run.open(run.path)
    with again.writer():
        again.metrics.append(3, loss=1.0)
    with pytest.raises(RunError, match="open for writing"):
        again.metrics.append(4, loss=1.0)


def test_artefacts_stay_inside(tmp_path: Path) -> None:
    with create(tmp_path / "run") as run:
        run.write_json("evaluation/held-out.json", {"success": 0.97})
        assert run.read_json("evaluation/held-out.json") == {"success": 0.97}
        for name in ("../out.json", "/etc/x", "a//b", "a/../b", ".hidden", ""):
            with pytest.raises(UsageError):
                run.write_json(name, {})
        with pytest.raises(RunError, match="run the command that makes it"):
            run.read_json("evaluation/none.json")


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    with create(tmp_path / "run") as run, pytest.raises(CheckpointError, match="train the run first"):
        run.checkpoint()


def test_new_paths_do_not_collide(tmp_path: Path) -> None:
    paths = []
    for _ in range(3):
        path = new_run_path(tmp_path, "two-rooms")
        path.mkdir()
        paths.append(path)
    assert len(set(paths)) == 3


def test_runs_never_load_torch() -> None:
    code = "import sys, steersman.runs, steersman.runs.artefacts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_run_of_format_1_can_still_be_read() -> None:
    """Written once and never again: every later version must read it. A new format adds a fixture beside it."""
    run = Run.open(Path(__file__).with_name("format_1") / "run")
    assert (run.manifest.format, run.manifest.recipe, run.manifest.seeds) == (1, "fixture", {"train": 7})
    assert [row["loss"] for row in run.metrics.read()] == [0.5, 0.25]
    checkpoint = run.checkpoint()
    checkpoint.verify()
    assert (checkpoint.step, checkpoint.manifest.metrics, checkpoint.manifest.state) == (2, 45, {"precision": "fp32"})
    weights = checkpoint.read("model.safetensors")
    header = int.from_bytes(weights[:8], "little")
    assert msgspec.json.decode(weights[8 : 8 + header])["perception.weight"]["shape"] == [2, 3]
