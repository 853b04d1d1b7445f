"""The run directory: one folder that holds all that is needed to understand, resume, ship or delete a run.

    manifest.json   what it was made from            metrics.jsonl   append-only numbers
    checkpoints/    see `runs.checkpoints`           report/         pages for people
    writer.lock     who is writing, if anyone        <kind>/*.json   artefacts (`runs.artefacts`)

Never imports torch; whatever is shown from here was computed before.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from steersman.core.errors import RunError, UsageError
from steersman.runs import manifest as manifests
from steersman.runs.checkpoints import CheckpointFile, find_checkpoint, list_checkpoints
from steersman.runs.files import atomic_write, parse_json, pretty, read_capped, remove, sweep, write_new
from steersman.runs.folders import is_free, new_folder
from steersman.runs.lock import WriterLock
from steersman.runs.manifest import Manifest, read_manifest
from steersman.runs.metrics import Metrics

_ARTEFACT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*")


class Run:
    """A run directory, open for reading; `create` and `writer` open it for writing too.

    >>> with Run.create(path, recipe="two-rooms", config={}, seeds={"seed": 0}, data={}) as run:   # doctest: +SKIP
    ...     run.metrics.append(1, loss=0.5)
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest
        self.metrics = Metrics(path / "metrics.jsonl")
        self._lock = WriterLock(path / "writer.lock")

    @classmethod
    def create(
        cls,
        path: Path | str,
        *,
        recipe: str,
        config: Mapping[str, Any],
        seeds: Mapping[str, int],
        data: Mapping[str, Any],
        versions: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> Run:
        """Make the run directory `path`, whole or not at all, and hold its writer's lock (`close` gives it back).

        `config`, `data`: anything that msgspec turns into plain values. `log`: a folder on the same disk that becomes
        the run's `log/`; it is gone if the run cannot be made.

        Raises:
            RunError: there is something at `path` already.
            StorageError: the disk refused; nothing is left behind.
        """
        path = Path(path)
        manifest = Manifest(
            id=secrets.token_hex(8),
            recipe=recipe,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            config=msgspec.to_builtins(config),
            seeds=dict(seeds),
            data=msgspec.to_builtins(data),
            versions=dict(versions or manifests.versions()),
            git=manifests.git_state(),
            machine=manifests.machine(),
            command=manifests.command(),
        )
        if not is_free(path):
            raise RunError(
                f"a new folder for the run at {path}", "one that is in use", "choose another name, or resume"
            )
        sweep(path.parent)
        with new_folder(path, "a run directory") as temp:
            for folder in (temp / "checkpoints", temp / "report"):
                folder.mkdir()
            write_new(temp / manifests.NAME, pretty(manifest))
            if log is not None:
                os.replace(log, temp / "log")
        run = cls(path, manifest)
        try:
            run._begin()
        except BaseException:
            remove(path)
            raise
        return run

    @classmethod
    def open(cls, path: Path | str) -> Run:
        """Open an existing run for reading.

        Raises:
            RunError: no run directory, a damaged one, or one of a later format.
        """
        return cls(Path(path), read_manifest(Path(path)))

    @contextmanager
    def writer(self) -> Iterator[Run]:
        """Hold the writer's lock for a while; inside a run that is open for writing already, this changes nothing.

        Raises:
            LockedError: another process is writing; the message names it.
            StorageError: the folder cannot be written to.
        """
        if self._lock.held:
            yield self
            return
        self._begin()
        try:
            yield self
        finally:
            self.close()

    def _begin(self) -> None:
        self._lock.acquire()
        try:
            for folder in (self.path, *(x for x in self.path.iterdir() if x.is_dir())):
                sweep(folder)
            self.metrics.begin()
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Stop writing; harmless if nothing is being written."""
        self.metrics.end()
        self._lock.release()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def checkpoints_dir(self) -> Path:
        return self.path / "checkpoints"

    @property
    def report_dir(self) -> Path:
        return self.path / "report"

    def checkpoints(self) -> list[Path]:
        """Folders of the committed checkpoints, oldest first."""
        return list_checkpoints(self.checkpoints_dir)

    def checkpoint(self, name: str = "latest") -> CheckpointFile:
        """One checkpoint of this run, its manifest verified.

        Raises:
            CheckpointError: there is none of that name, or it is damaged or foreign.
        """
        return CheckpointFile(find_checkpoint(self.checkpoints_dir, name), self.manifest.id)

    def extra(self, name: str) -> Path:
        """Path of the artefact `name` ("evaluation/heldout.json"); never outside the run directory."""
        if not _ARTEFACT.fullmatch(name):
            raise UsageError("a relative name of letters, digits, . - _ and /", repr(name), "rename the artefact")
        return self.path / name

    def write_json(self, name: str, value: Any) -> Path:
        """Write an artefact, atomically; needs no lock.

        Raises:
            StorageError: the disk refused; an earlier artefact of that name stands.
        """
        path = self.extra(name)
        atomic_write(path, pretty(value))
        return path

    def read_json(self, name: str) -> Any:
        """Read an artefact.

        Raises:
            RunError: missing or damaged.
        """
        path = self.extra(name)
        try:
            return parse_json(read_capped(path))
        except (OSError, msgspec.MsgspecError) as error:
            raise RunError(
                f"the artefact {name} in {self.path}", f"{error}", "run the command that makes it"
            ) from error


def new_run_path(root: Path | str = "runs", name: str = "run") -> Path:
    """A path under `root` that no run has yet, e.g. runs/two-rooms-20261121-203500. Nothing is created."""
    stem = Path(root) / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, count = stem, 1
    while path.exists():
        count += 1
        path = stem.with_name(f"{stem.name}-{count}")
    return path
