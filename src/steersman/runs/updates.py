"""The journal of what was learned while acting: each change of the weights, so that it can be made again.

    experience/updates.log               changes in order, as JSON in frames, each on disk when `append` returns
               snapshots/HASH.safetensors  weights as they stood after a change, where they were kept

The changes of one checkpoint are a chain: each takes the weights whose hash is `before` to those whose hash is `after`.
Never imports torch. Whoever appends holds the lock of the experience beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from steersman.core.errors import RunError
from steersman.runs.files import atomic_write, parse_json, read_capped, refusals
from steersman.runs.frames import FrameFile, frame, frames

NAME, SNAPSHOTS = "updates.log", "snapshots"
SNAPSHOTS_KEPT = 64
"""Snapshots that stay."""
_MARK = b"SUP1"
_LIMIT = 16 << 30


class Correction(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One change of the weights.

    kind        "accepted", or "taken back": the last update that stood is undone
    number      updates that stand after it
    checkpoint  optimiser steps of the weights that all this began from
    since, through   moments of the experience that an accepted update was worked out from
    corrector   Config of who worked it out, with its `type`; None: it cannot be worked out again
    before, after    SHA-256 over perception and world model
    threads     of the machine's arithmetic: sums depend on how they are divided
    when        seconds since 1970
    told        what the update was good for, for people
    """

    kind: Literal["accepted", "taken back"]
    number: int
    checkpoint: int | None
    since: int = 0
    through: int = 0
    corrector: dict[str, Any] | None = None
    before: str
    after: str
    threads: int
    when: float
    told: dict[str, float | None] = {}


class Journal:
    """The changes that are noted in the experience in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / NAME
        self._end: int | None = None  # of what is sound, once it was read

    def corrections(self, checkpoint: int | None) -> list[Correction]:
        """Those of one checkpoint, oldest first.

        Raises:
            RunError: a damaged journal, or one of a later version.
        """
        return [change for _, change in self._read() if change.checkpoint == checkpoint]

    def all(self) -> list[Correction]:
        """Those of every checkpoint, oldest first. Raises RunError, as `corrections` does."""
        return [change for _, change in self._read()]

    def append(self, change: Correction) -> None:
        """Note one change; it is on disk when the call returns.

        Raises:
            StorageError: the disk refused; nothing was noted.
        """
        end = max((place for place, _ in self._read()), default=0) if self._end is None else self._end
        with refusals("an update noted", self.folder):
            file = FrameFile(self.path, end)
            try:
                file.append(frame(_MARK, msgspec.json.encode(change)))
                try:
                    file.sync()
                except OSError:
                    file.undo(end)
                    raise
            finally:
                file.close()
            self._end = file.size

    def keep(self, after: str, weights: bytes) -> None:
        """Store the weights (a safetensors file) whose hash is `after`; beyond `SNAPSHOTS_KEPT`, the oldest go.

        Raises:
            StorageError: the disk refused.
        """
        path = self._snapshot(after)
        atomic_write(path, weights)
        with refusals("old snapshots removed", path.parent):
            others = sorted((x for x in path.parent.glob("*.safetensors") if x != path and not x.name.startswith(".")),
                            key=lambda x: x.stat().st_mtime_ns)
            for old in others[: max(0, len(others) + 1 - SNAPSHOTS_KEPT)]:
                old.unlink(missing_ok=True)

    def kept(self, after: str) -> bytes | None:
        """What `keep` stored, for whoever verifies its hash; None: nothing."""
        path = self._snapshot(after)
        try:
            return read_capped(path, _LIMIT) if path.is_file() else None
        except OSError as error:
            raise RunError(f"a readable file {path}", f"{error}", "remove it, or restore it from a copy") from error

    def _snapshot(self, after: str) -> Path:
        return self.folder / SNAPSHOTS / f"{after[:32]}.safetensors"

    def _read(self) -> Iterator[tuple[int, Correction]]:
        if not self.path.exists():
            return
        for end, payload in frames(self.path, _MARK, beyond=True):
            try:
                yield end, parse_json(payload, Correction)
            except msgspec.MsgspecError as error:
                raise RunError(f"updates in {self.path}", f"{error}", "restore the file from a copy") from error


def chain(changes: list[Correction], after: str) -> list[Correction] | None:
    """The accepted changes that, one after the other, lead from the checkpoint to the weights whose hash is `after`;
    None: no change led there.

    >>> from functools import partial
    >>> c = partial(Correction, checkpoint=1, threads=1, when=0.0)
    >>> one = c(kind="accepted", number=1, before="a", after="b")
    >>> two = c(kind="accepted", number=2, before="b", after="c")
    >>> back = c(kind="taken back", number=1, before="c", after="b")
    >>> chain([one, two, back], "b") == [one], chain([one, two, back], "c") == [one, two], chain([one], "a")
    (True, True, [])
    """
    found: list[Correction] | None = [] if changes and changes[0].before == after else None
    standing: list[Correction] = []
    for change in changes:  # a first update may follow others: the checkpoint was begun from anew
        stood = standing[: change.number - (change.kind == "accepted")]
        standing = [*stood, change] if change.kind == "accepted" else stood
        if change.after == after:
            found = standing
    return found
