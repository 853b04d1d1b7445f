"""`manifest.json`: what a run was made from. Written once, when the run is created; read by everything else.

Knows no other file of the run, and nothing of what the configuration means.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from steersman.core.errors import RunError
from steersman.runs.files import parse_json, read_capped

FORMAT = 1
NAME = "manifest.json"

_PACKAGES = ("steersman", "torch", "numpy", "safetensors", "msgspec", "gymnasium", "pyarrow")


class GitState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which source was in the working folder: the commit, and whether files differed from it."""

    commit: str
    dirty: bool


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a run was made from.

    format    version of the run directory's layout; a later one than this program knows is refused
    id        random; a checkpoint names the run that it belongs to
    recipe    name of the recipe
    config    the full configuration as plain values; `config["train"]` is what `training.resume` reads
    seeds     name -> seed
    data      what was learned from: path, fingerprint, signature, episodes, steps
    versions  package -> version, and Python's
    machine   system and processor, as names only
    command   how the program was called
    """

    format: int = FORMAT
    id: str
    recipe: str
    created: str
    config: dict[str, Any]
    seeds: dict[str, int]
    data: dict[str, Any]
    versions: dict[str, str]
    git: GitState | None
    machine: dict[str, str]
    command: list[str]


class _Head(msgspec.Struct):
    format: int


def read_manifest(run: Path) -> Manifest:
    """The manifest of the run directory `run`.

    Raises:
        RunError: no run directory, a foreign or damaged manifest, or one of a later format.
    """
    path = run / NAME
    try:
        content = read_capped(path)
    except OSError as error:
        got = "no such folder" if not run.exists() else (error.strerror or str(error)).lower()
        raise RunError(
            f"a run directory with {NAME} at {run}", got, "check the path; `steersman train` makes one"
        ) from error
    try:
        version = parse_json(content, _Head).format
        if version > FORMAT:
            raise RunError(
                f"a run of format {FORMAT} or earlier at {run}", f"format {version}", "update steersman to open it"
            )
        return parse_json(content, Manifest)
    except msgspec.MsgspecError as error:
        raise RunError(
            f"a manifest of a run in {path}", f"{error}", "restore the file; it was not written here"
        ) from error


def versions(packages: Iterable[str] = _PACKAGES) -> dict[str, str]:
    """Installed versions of `packages`, without importing any, and Python's own."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_state(folder: Path | None = None) -> GitState | None:
    """Commit of the working folder, or None outside a repository or without git."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
        return done.stdout.strip()

    try:
        return GitState(git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no")))
    except (OSError, subprocess.SubprocessError):
        return None


def machine() -> dict[str, str]:
    return {"system": platform.system(), "processor": platform.machine(), "cores": str(os.cpu_count() or 0)}


def command() -> list[str]:
    return [Path(sys.argv[0]).name, *sys.argv[1:]] if sys.argv else []
