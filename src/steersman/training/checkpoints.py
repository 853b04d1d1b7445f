"""Writing checkpoints so that a crash at any moment leaves the last good one, and reading them back only verified.

Knows tensors and files, not what the tensors mean. The layout is `runs.checkpoints`'s.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as decode
from safetensors.torch import save as encode
from torch import Tensor

from steersman.core.errors import CheckpointError, DivergedError, StorageError
from steersman.runs.checkpoints import (
    LIMIT,
    MANIFEST,
    MODEL,
    STATE,
    CheckpointFile,
    CheckpointManifest,
    FileRecord,
    find_checkpoint,
    folder_name,
    list_checkpoints,
)
from steersman.runs.files import read_capped, refusals, sha256, write_new
from steersman.runs.folders import steady, take_away, writing


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: verified tensors on the CPU, and what else training remembers.

    step     optimiser steps done
    model    perception.*, world_model.*
    state    everything else that is a tensor
    memory   what is no tensor
    metrics  bytes of metrics.jsonl that belong to these steps
    """

    step: int
    model: dict[str, Tensor]
    state: dict[str, Tensor]
    memory: dict[str, Any]
    metrics: int


class CheckpointStore:
    """The checkpoints of one run.

    `save`: write both files and the manifest into a hidden folder, fsync each, read all of it back and compare, give
    the folder its name (`runs.folders`); only then are older ones removed, down to `keep`.
    """

    def __init__(self, folder: Path | str, run: str, keep: int = 2) -> None:
        """folder: the run's checkpoints/; run: the run's id."""
        self.folder, self.run, self.keep = Path(folder), run, keep

    def save(
        self,
        step: int,
        model: Mapping[str, Tensor],
        state: Mapping[str, Tensor],
        memory: Mapping[str, Any],
        metrics: int = 0,
    ) -> Path:
        """Commit a checkpoint; when this returns, it survives a crash.

        Raises:
            DivergedError: a weight is not finite; nothing is written.
            StorageError: the disk refused; earlier checkpoints stand, also one of this step, and nothing half-written
                is left.
        """
        _require_finite(step, model, state)
        files = {MODEL: encode(_plain(model)), STATE: encode(_plain(state))}
        manifest = CheckpointManifest(
            run=self.run,
            step=step,
            files={name: FileRecord(len(data), sha256(data)) for name, data in files.items()},
            metrics=metrics,
            state=dict(memory),
        )
        files[MANIFEST] = manifest.sealed()
        path = self.folder / folder_name(step)
        with writing(path, "a checkpoint") as temp:
            for name, data in files.items():
                write_new(temp / name, data)
            for name, data in files.items():
                _read_back(temp / name, data)
        for old in list_checkpoints(self.folder)[: -self.keep]:
            with suppress(OSError):
                take_away(old)
        return path

    def load(self, name: str = "latest", limit: int = LIMIT) -> Checkpoint:
        """Read one checkpoint, hashes first.

        Raises:
            CheckpointError: none of that name, damaged, foreign, of a later format, larger than `limit` bytes a file.
        """
        path = find_checkpoint(self.folder, name)

        def read() -> Checkpoint:
            file = CheckpointFile(path, self.run)
            model, state = (self._tensors(file, part, limit) for part in (MODEL, STATE))
            return Checkpoint(file.step, model, state, file.manifest.state, file.manifest.metrics)

        return steady(path, read)

    def _tensors(self, file: CheckpointFile, name: str, limit: int) -> dict[str, Tensor]:
        if name not in file.manifest.files:
            raise CheckpointError(f"{name} in {file.path}", "none", "restore the checkpoint from a copy")
        try:
            return decode(file.read(name, limit))
        except SafetensorError as error:
            raise CheckpointError(f"tensors in {file.path / name}", f"{error}", "it was not written here") from error

    def discard_after(self, step: int) -> None:
        """Drop checkpoints later than `step`: the run goes on from there."""
        for path in list_checkpoints(self.folder):
            if path.name > folder_name(step):
                with refusals("a checkpoint removed", self.folder):
                    take_away(path)


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, contiguous, and none sharing memory with another (tied weights are written twice)."""
    plain: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, x in tensors.items():
        x = x.detach().cpu().contiguous()
        key = x.untyped_storage().data_ptr()
        plain[name] = x.clone() if key in seen else x
        seen.add(key)
    return plain


def _require_finite(step: int, *groups: Mapping[str, Tensor]) -> None:
    for group in groups:
        for name, x in group.items():
            if x.is_floating_point() and not bool(torch.isfinite(x).all()) and not name.startswith("sampler."):
                raise DivergedError(
                    f"finite weights after step {step}",
                    f"NaN or infinity in {name}",
                    "check the log for NaN or extreme values, or lower `lr`; the last checkpoint stands",
                )


def _read_back(path: Path, data: bytes) -> None:
    """Compare what is on disk with what was written, past the page cache where the system allows it."""
    if hasattr(os, "posix_fadvise"):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
    if read_capped(path, len(data)) != data:
        raise StorageError(f"{path.name} on disk as it was written", "something else", "check the disk")
