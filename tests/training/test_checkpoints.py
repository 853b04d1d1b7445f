"""Checkpoints: what is committed is verified, and whatever is not exactly what was written is refused in one line."""

from __future__ import annotations

import os
import random
import resource
import shutil
from pathlib import Path

import msgspec
import pytest
import torch
from faults import refusing
from safetensors.torch import load
from torch import Tensor

from steersman.core import CheckpointError, DivergedError, StorageError
from steersman.runs import checkpoints as layout
from steersman.runs import files
from steersman.runs.files import pretty
from steersman.training import CheckpointStore

RUN = "0123456789abcdef"


def tensors(step: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(step)
    return {"perception.a": torch.randn(20, 3, generator=g), "world_model.n": torch.arange(step, step + 4)}


def save(store: CheckpointStore, step: int) -> Path:
    return store.save(
        step, tensors(step), {"random.cpu": torch.arange(9, dtype=torch.uint8)}, {"note": step}, step * 100
    )


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    (tmp_path / "checkpoints").mkdir()
    return CheckpointStore(tmp_path / "checkpoints", RUN)


def refused(store: CheckpointStore, name: str = "latest", message: str = "expected") -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        store.load(name)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("expected ")


def test_what_is_saved_comes_back(store: CheckpointStore) -> None:
    save(store, 3)
    found = store.load()
    assert (found.step, found.memory, found.metrics) == (3, {"note": 3}, 300)
    assert found.model.keys() == tensors(3).keys()
    assert all(torch.equal(found.model[k], v) for k, v in tensors(3).items())
    assert torch.equal(found.state["random.cpu"], torch.arange(9, dtype=torch.uint8))


def test_tied_transposed_and_scalar_tensors_come_back(store: CheckpointStore) -> None:
    a = torch.randn(4, 6)
    store.save(1, {"a": a, "tied": a, "turned": a.T, "part": a[1:3, ::2], "one": torch.tensor(2.5)}, {}, {})
    found = store.load().model
    assert torch.equal(found["tied"], a)
    assert torch.equal(found["turned"], a.T)
    assert torch.equal(found["part"], a[1:3, ::2])
    assert found["one"].shape == ()


def test_only_the_newest_are_kept_and_each_can_be_loaded_by_name(store: CheckpointStore) -> None:
    for step in (1, 2, 3, 10):
        save(store, step)
    names = [path.name for path in layout.list_checkpoints(store.folder)]
    assert names == ["step-000000003", "step-000000010"]
    assert store.load("3").step == store.load("step-000000003").step == 3
    assert store.load().step == 10
    refused(store, "7", "checkpoint '7' .* got step-000000003, step-000000010; choose one of these")


def test_saving_a_step_again_replaces_it(store: CheckpointStore) -> None:
    save(store, 5)
    store.save(5, tensors(6), {}, {})
    assert torch.equal(store.load().model["perception.a"], tensors(6)["perception.a"])
    assert len(os.listdir(store.folder)) == 1


def test_a_step_saved_again_on_a_full_disk_leaves_the_checkpoint_that_was_there(
    store: CheckpointStore, tmp_path: Path
) -> None:
    """The disk fills up at any call of the second save and stays full: step 2 loads as it was first saved."""
    save(store, 2)
    for number in range(1, 100):
        with refusing(tmp_path, number, "full") as disk:
            try:
                store.save(2, tensors(7), {}, {"note": "again"})
            except StorageError as error:
                assert "no space left on device; free some space" in str(error)  # noqa: PT017
        found = store.load("2")
        if not disk.hit:
            break
        wanted = 2 if found.memory == {"note": 2} else 7
        assert all(torch.equal(found.model[name], x) for name, x in tensors(wanted).items())
        assert disk.hit in ("unlink", "rmdir", "look") or os.listdir(store.folder) == ["step-000000002"]
        if wanted == 7:  # refused after the new one was in its place
            assert "replace" in disk.calls[: number - 1]
            save(store, 2)
    assert found.memory == {"note": "again"}
    assert number > 18


def test_a_checkpoint_that_is_saved_again_while_it_is_open_is_read_as_it_is_then(store: CheckpointStore) -> None:
    save(store, 2)
    opened = layout.CheckpointFile(store.folder / "step-000000002", RUN)
    store.save(2, tensors(7), {}, {"note": "again"})
    assert torch.equal(load(opened.read("model.safetensors"))["perception.a"], tensors(7)["perception.a"])
    assert opened.manifest.state == {"note": "again"}
    (opened.path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="got 4"):
        opened.read("model.safetensors")


def test_the_previous_one_goes_only_after_the_new_one_was_read_back(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.keep = 1
    save(store, 1)
    with monkeypatch.context() as patch:
        patch.setattr("steersman.training.checkpoints.read_capped", lambda path, limit: b"other bytes")
        with pytest.raises(StorageError, match="on disk as it was written"):
            save(store, 2)
    assert store.load().step == 1
    assert os.listdir(store.folder) == ["step-000000001"]


def test_everything_is_on_disk_before_it_is_named(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order that survives a power cut: files and their folder, then the rename, then the parent folder."""
    events: list[str] = []
    names: dict[int, str] = {}
    real_open, real_fsync, real_replace = os.open, os.fsync, os.replace

    def opened(path: str | Path, *args: int) -> int:
        fd = real_open(path, *args)
        names[fd] = "folder" if Path(path).name.startswith(".tmp") else Path(path).name
        return fd

    def replaced(source: Path, target: Path) -> None:
        real_replace(source, target)
        events.append(f"rename {Path(target).name}")

    monkeypatch.setattr(files.os, "open", opened)
    monkeypatch.setattr(files.os, "fsync", lambda fd: (events.append(f"fsync {names[fd]}"), real_fsync(fd)))
    monkeypatch.setattr(files.os, "replace", replaced)
    save(store, 1)
    assert events[:3] == ["fsync model.safetensors", "fsync state.safetensors", "fsync manifest.json"]  # then read back
    assert events[-3:] == ["fsync folder", "rename step-000000001", "fsync checkpoints"]


def test_a_file_size_limit_is_a_storage_error(store: CheckpointStore) -> None:
    save(store, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(StorageError, match="file too large"):
            store.save(2, {"perception.a": torch.zeros(4000)}, {}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(store.folder) == ["step-000000001"]
    assert store.load().step == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_poison_is_never_written(store: CheckpointStore, value: float) -> None:
    save(store, 1)
    for model, state in (({"a": torch.tensor([1.0, value])}, {}), ({}, {"optimiser.first.a": torch.tensor([value])})):
        with pytest.raises(DivergedError, match="finite weights after step 2"):
            store.save(2, model, state, {})
    assert [p.name for p in layout.list_checkpoints(store.folder)] == ["step-000000001"]


def test_every_flipped_bit_is_refused(store: CheckpointStore) -> None:
    folder = save(store, 4)
    chance = random.Random(1)
    for name in sorted(os.listdir(folder)):
        path = folder / name
        content = path.read_bytes()
        for _ in range(150):
            at, bit = chance.randrange(len(content)), chance.randrange(8)
            broken = bytearray(content)
            broken[at] ^= 1 << bit
            path.write_bytes(broken)
            refused(store)
        path.write_bytes(content)
    assert store.load().step == 4


def test_every_truncation_and_any_addition_is_refused(store: CheckpointStore) -> None:
    folder = save(store, 4)
    for name in sorted(os.listdir(folder)):
        path = folder / name
        content = path.read_bytes()
        for size in {0, 1, 7, 8, 9, len(content) // 2, len(content) - 1}:
            path.write_bytes(content[:size])
            refused(store)
        path.write_bytes(content + b"\n")
        refused(store)
        path.unlink()
        refused(store)
        path.write_bytes(content)
    assert store.load().step == 4


def reseal(folder: Path, **changes: object) -> None:
    """Change a manifest as somebody would who can compute hashes."""
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=layout.CheckpointManifest)
    (folder / "manifest.json").write_bytes(msgspec.structs.replace(manifest, **changes).sealed())


def test_a_checkpoint_of_another_run_is_refused(store: CheckpointStore, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    save(CheckpointStore(tmp_path / "other", "f" * 16), 9)
    shutil.copytree(tmp_path / "other" / "step-000000009", store.folder / "step-000000009")
    refused(store, message="of run 0123456789abcdef .* remove the foreign checkpoint")


def test_a_checkpoint_under_another_steps_name_is_refused(store: CheckpointStore) -> None:
    save(store, 1).rename(store.folder / "step-000000999")
    refused(store, message="the checkpoint of step-000000999")


def test_a_future_format_is_refused(store: CheckpointStore) -> None:
    folder = save(store, 1)
    reseal(folder, format=2)
    refused(store, message="format 1 or earlier .* got format 2; update steersman")


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "weights.pt"])
def test_a_manifest_cannot_name_other_files(store: CheckpointStore, name: str) -> None:
    folder = save(store, 1)
    reseal(folder, files={name: layout.FileRecord(3, "0" * 64)})
    refused(store)


def test_sizes_are_checked_before_anything_is_read(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(store, 1)
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(1 << 40)  # sparse: a terabyte that nobody should allocate
    refused(store, message=rf"got {1 << 40}")
    reseal(folder, files={"model.safetensors": layout.FileRecord(1 << 40, "0" * 64)})
    refused(store, message=f"expected {layout.LIMIT} bytes")
    save(store, 2)
    with pytest.raises(CheckpointError, match="expected 10 bytes"):
        store.load(limit=10)


def test_verified_bytes_that_are_no_tensors_are_refused(store: CheckpointStore) -> None:
    folder = save(store, 1)
    for content in (b"", b"\x80\x04pickle", b"\xff" * 64, (1 << 62).to_bytes(8, "little") + b"{}"):
        (folder / "model.safetensors").write_bytes(content)
        state = (folder / "state.safetensors").read_bytes()
        reseal(
            folder,
            files={
                "model.safetensors": layout.FileRecord(len(content), files.sha256(content)),
                "state.safetensors": layout.FileRecord(len(state), files.sha256(state)),
            },
        )
        refused(store, message="tensors in .*model.safetensors")


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"\xff", b'{"format": 1}', b"[" * 100_000])
def test_foreign_manifests_are_refused(store: CheckpointStore, content: bytes) -> None:
    (save(store, 1) / "manifest.json").write_bytes(content)
    refused(store)


def test_other_layouts_of_the_same_manifest_are_refused(store: CheckpointStore) -> None:
    path = save(store, 1) / "manifest.json"
    path.write_bytes(msgspec.json.encode(msgspec.json.decode(path.read_bytes())))
    refused(store, message="does not fit its own SHA-256")
    assert pretty({}) == b"{}\n"


def test_leftovers_and_strangers_in_the_folder_are_not_checkpoints(store: CheckpointStore) -> None:
    save(store, 1)
    for name in (".tmp-123-00000000-step-000000002", "step-2", "step-00000000x", "backup"):
        (store.folder / name).mkdir()
    (store.folder / "step-000000009").write_bytes(b"a file")
    assert store.load().step == 1
