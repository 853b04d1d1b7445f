"""A LeRobot dataset that was interrupted or damaged: a copy of which episodes are read as far as they are sound.

Where a killed writer left its journal, `meta/episodes` is made of it; the tables are read piece by piece.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec

from steersman.data.formats.lerobot_writer import list_episodes
from steersman.data.source import Saved
from steersman.data.storage import JOURNAL
from steersman.runs.files import refusals

_MARK = ".saved"


def salvage(path: str, folder: Path) -> Saved:
    """See `Format.salvage`."""
    root = Path(path)
    copy = folder / f"{root.name}{_MARK}"
    with refusals("a log to repair", root):
        shutil.copytree(root, copy)
        if (copy / "meta" / JOURNAL).is_file():
            list_episodes(copy, _entries((copy / "meta" / JOURNAL).read_bytes()))
    return Saved(copy, "lost: the first episode that is not whole, and what follows it")


def _entries(journal: bytes) -> list[dict[str, Any]]:
    """The lines of a journal before the first that is not whole, or unlike the first."""
    entries: list[dict[str, Any]] = []
    for line in journal.split(b"\n"):
        try:
            entry = msgspec.json.decode(line, type=dict[str, int | float | list[str]])
        except msgspec.MsgspecError:
            break
        if entries and {k: type(v) for k, v in entry.items()} != {k: type(v) for k, v in entries[0].items()}:
            break
        entries.append(entry)
    return entries


def is_saved(path: str) -> bool:
    """Was this dataset made by `salvage`?"""
    return path.endswith(_MARK)
