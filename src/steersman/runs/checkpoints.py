"""The checkpoints of a run as files: which there are, what each holds, and reading them only after their hash.

Knows nothing of tensors: whoever needs them decodes the verified bytes of `model.safetensors` (what acts) or
`state.safetensors` (what training needs beside it). Writing is `training.CheckpointStore`'s.

    checkpoints/step-000001200/manifest.json       step, sizes and SHA-256 of the files, and of itself
                               model.safetensors   perception.*, world_model.*, and what else acts (critic.*, …)
                               state.safetensors   optimiser, random numbers, data position, …
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from steersman.core.errors import CheckpointError, ConfigError, RunError
from steersman.core.growing import Change
from steersman.runs.files import parse_json, pretty, read_capped, sha256
from steersman.runs.folders import all_whole, whole

FORMAT = 1
MANIFEST = "manifest.json"
MODEL = "model.safetensors"
STATE = "state.safetensors"
LIMIT = 16 << 30
"""Largest file of a checkpoint that is read, in bytes."""

_FOLDER = re.compile(r"step-(\d{9})")
_RESTORE = "load an earlier checkpoint of the run, or restore this one from a copy"


class FileRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file as it was written."""

    bytes: int
    sha256: str


class CheckpointManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a checkpoint holds.

    run      id of the run that it belongs to
    step     optimiser steps done
    files    name -> size and hash
    metrics  bytes of metrics.jsonl that belong to these steps
    state    what training decided or counted and is no tensor: precision, stage, seconds so far
    sha256   of this manifest with this field empty
    """

    format: int = FORMAT
    run: str
    step: int
    files: dict[str, FileRecord]
    metrics: int
    state: dict[str, Any]
    sha256: str = ""

    def sealed(self) -> bytes:
        """The file's content, hash included."""
        bare = msgspec.structs.replace(self, sha256="")
        return pretty(msgspec.structs.replace(bare, sha256=sha256(pretty(bare))))


class _Head(msgspec.Struct):
    format: int


def folder_name(step: int) -> str:
    return f"step-{step:09d}"


def list_checkpoints(checkpoints: Path) -> list[Path]:
    """Folders of committed checkpoints, oldest first. None is opened.

    Raises:
        StorageError: one whose writer was stopped cannot be put back.
    """
    if not checkpoints.is_dir():
        return []
    all_whole(checkpoints)
    return sorted(x for x in checkpoints.iterdir() if _FOLDER.fullmatch(x.name) and x.is_dir())


def find_checkpoint(checkpoints: Path, name: str = "latest") -> Path:
    """The folder of one checkpoint: "latest", or a name such as step-000001200, or the step's number.

    Raises:
        CheckpointError: there is none.
    """
    there = list_checkpoints(checkpoints)
    wanted = folder_name(int(name)) if name.isdecimal() else name
    for path in reversed(there):
        if name == "latest" or path.name == wanted:
            return path
    names = ", ".join(x.name for x in there) or "no checkpoint"
    fix = "choose one of these" if there else "train the run first"
    raise CheckpointError(f"checkpoint {name!r} in {checkpoints}", names, fix)


class CheckpointFile:
    """One committed checkpoint, opened for reading: its manifest is verified, its files are when they are read."""

    def __init__(self, path: Path, run: str | None = None) -> None:
        """path: the checkpoint's folder; run: id of the run that it must belong to.

        Raises:
            CheckpointError: the manifest is missing, damaged, of another run, or of a later format.
        """
        self.path = path
        self.manifest = _read_manifest(path)
        if run is not None and self.manifest.run != run:
            raise CheckpointError(
                f"a checkpoint of run {run} at {path}",
                f"one of run {self.manifest.run}",
                "remove the foreign checkpoint",
            )

    @property
    def step(self) -> int:
        return self.manifest.step

    @property
    def changes(self) -> tuple[Change, ...]:
        """What was done to the model's structure since its configuration was written, in order.

        Raises:
            CheckpointError: declarations that this version does not know.
        """
        try:
            return msgspec.convert(self.manifest.state.get("changes", []), tuple[Change, ...])
        except (msgspec.ValidationError, ConfigError) as error:
            raise CheckpointError(f"declared changes in {self.path}", f"{error}", "update steersman") from error

    @property
    def modules(self) -> dict[str, int]:
        """Each box that learns with its revision: how often its structure was changed. {}: not said."""
        found: dict[str, int] = self.manifest.state.get("modules", {})
        return found

    def read(self, name: str, limit: int = LIMIT) -> bytes:
        """The verified content of one file of the checkpoint; of the new one, if this step was saved again meanwhile.

        Raises:
            CheckpointError: missing, of the wrong size (found out before anything is allocated), or altered.
        """
        while True:
            try:
                return self._verified(name, limit)
            except CheckpointError:
                there = _read_manifest(whole(self.path))
                if there == self.manifest:
                    raise
                self.manifest = there

    def _verified(self, name: str, limit: int) -> bytes:
        record = self.manifest.files[name]
        path = self.path / name
        try:
            size = path.stat().st_size
            if size != record.bytes or size > limit:
                raise CheckpointError(f"{min(record.bytes, limit)} bytes in {path}", f"{size}", _RESTORE)
            content = read_capped(path, record.bytes)
        except (OSError, RunError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"a readable file {path}", f"{error}", _RESTORE) from error
        found = sha256(content)
        if found != record.sha256:
            raise CheckpointError(f"SHA-256 {record.sha256[:12]}… of {path}", f"{found[:12]}…", _RESTORE)
        return content

    def verify(self) -> None:
        """Read every file once.

        Raises:
            CheckpointError: see `read`.
        """
        for name in self.manifest.files:
            self.read(name)


def _read_manifest(path: Path) -> CheckpointManifest:
    file = path / MANIFEST
    try:
        content = read_capped(file)
        version = parse_json(content, _Head).format
        if version > FORMAT:
            raise CheckpointError(
                f"a checkpoint of format {FORMAT} or earlier at {path}", f"format {version}", "update steersman"
            )
        manifest = parse_json(content, CheckpointManifest)
        whole = manifest.sealed() == content
    except CheckpointError:
        raise
    except (OSError, RunError, msgspec.MsgspecError, RecursionError) as error:
        raise CheckpointError(f"a checkpoint's manifest in {file}", f"{error}", _RESTORE) from error
    if not whole:
        raise CheckpointError(f"an unaltered {file}", "content that does not fit its own SHA-256", _RESTORE)
    if not set(manifest.files) <= {MODEL, STATE} or folder_name(manifest.step) != path.name:
        raise CheckpointError(f"the checkpoint of {path.name} in {file}", f"step {manifest.step}", _RESTORE)
    return manifest
