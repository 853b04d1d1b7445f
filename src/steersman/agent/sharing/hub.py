"""The only file that talks to a model hub, and only when asked to: fetch a folder, send a folder.

`huggingface_hub` is imported when a function here is called (extra `hub`); everything else works without it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steersman.core import RunError, UsageError

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form OWNER/NAME."""
    return _ID.fullmatch(name) is not None


def download(name: str, files: Sequence[str], revision: str | None = None, token: str | None = None) -> Path:
    """The folder of a model on the hub, with `files` and no others, in the hub library's cache.

    Raises:
        UsageError: not of the form OWNER/NAME, or huggingface_hub is not installed.
        RunError: the hub refused or cannot be reached.
    """
    hub = _hub()
    _require_id(name)
    try:
        return Path(hub.snapshot_download(name, revision=revision, token=token, allow_patterns=list(files)))
    except Exception as error:  # the hub's library raises of its own, of the network's and of the cache's kinds
        raise _refused(f"the model {name} on the hub", error, "check the id, the revision and your access") from error


def upload(folder: Path, name: str, *, private: bool, token: str | None, message: str, revision: str | None) -> str:
    """Send a folder's files as one commit, making the repository if there is none; the commit's address.

    Raises:
        UsageError, RunError: as `download`.
    """
    hub = _hub()
    _require_id(name)
    try:
        api = hub.HfApi(token=token)
        api.create_repo(name, private=private, exist_ok=True)
        done = api.upload_folder(repo_id=name, folder_path=str(folder), commit_message=message, revision=revision)
    except Exception as error:  # as above
        raise _refused(f"the hub to take {name}", error, "log in with `hf auth login`, or give a token") from error
    return str(done)


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UsageError("the hub's library", f"{error}", "install steersman[hub]") from error
    return huggingface_hub


def _require_id(name: str) -> None:
    if not is_hub_id(name):
        raise UsageError("a folder, or a hub id of the form OWNER/NAME", repr(name), "check the path or the id")


def _refused(expected: str, error: Exception, fix: str) -> RunError:
    lines = str(error).strip().splitlines() or [""]
    return RunError(expected, f"{type(error).__name__}: {lines[0]}"[:300], fix)
