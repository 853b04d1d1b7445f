"""Learning while acting, as far as the agent is concerned: when an update is asked for, and how it is noted.

Who works updates out is a `Corrector`; the experience is a log, the journal a file beside it (`runs.updates`).
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from safetensors.torch import save
from torch import nn

from steersman.agent.alarm import Alarm, Watch
from steersman.agent.building.fingerprint import model_fingerprint
from steersman.core import Corrector, StorageError, Surprise, Update, UsageError
from steersman.runs.updates import Correction, Journal

UNDOABLE = 16
"""Updates that an agent can take back, where its corrector keeps as many: more would fill the memory in days."""


@dataclass(frozen=True)
class Standing:
    """Which weights act. updates  accepted since the checkpoint and not taken back; learned  SHA-256 over perception
    and world model; "": those of the checkpoint."""

    updates: int = 0
    learned: str = ""


class Learning:
    """Asks a corrector for updates and notes each in the journal of the experience in `folder`.

    every      ask by itself whenever so many moments were added since it last did; 0: only when it is told to
    alarm      ask by itself only while surprise stands above this threshold, and as soon as it does where `every` is 0.
               After an update surprise is watched anew: what was surprising to other weights says nothing of these
    snapshots  keep the weights after every so many updates, so that decisions made later can be replayed although the
               experience before has gone; 0: never
    """

    def __init__(
        self, corrector: Corrector, boxes: tuple[nn.Module, nn.Module], folder: Path, checkpoint: int | None,
        seen: int, *, every: int = 0, snapshots: int = 0, alarm: Alarm | None = None,
    ) -> None:
        """boxes: perception and world model; seen: moments that are there already. Raises UsageError: numbers below
        0."""
        if every < 0 or snapshots < 0:
            raise UsageError("`every` and `snapshots` of at least 0", f"{every} and {snapshots}", "use 0 for never")
        self.corrector, self.every, self.snapshots = corrector, every, snapshots
        self._boxes, self._folder, self._checkpoint = boxes, folder, checkpoint
        self._journal, self._asked = Journal(folder), seen
        self.watch = None if alarm is None else Watch(alarm)
        # accepted here, and the hashes before and after: those that can be taken back, each with what it changed
        self._made: deque[tuple[Update, str, str]] = deque(maxlen=UNDOABLE)

    def saw(self, surprise: Surprise | None) -> None:
        """How far the moment of a decision lay from what was foreseen."""
        if self.watch is not None:
            self.watch.saw(surprise)

    def due(self, count: int) -> bool:
        """Whether it is time to ask, at so many moments."""
        if self.watch is not None and not self.watch.raised:
            return False
        least = max(1, self.every) if self.watch is not None else self.every
        return 0 < least <= count - self._asked

    def learn(self, through: int) -> Update | None:
        """Ask for an update from the first `through` moments, which are on disk, and make it.

        Raises:
            StorageError: it could not be noted; the weights are as before. Whatever `Corrector.propose` raises.
        """
        self._asked = through
        update = self.corrector.propose(self._folder, through)
        if update is None:
            return None
        before = self._fingerprint()
        self.corrector.accept(update)
        try:
            after = self._fingerprint()
            if self.snapshots and update.number % self.snapshots == 0:
                self._journal.keep(after, self._weights())
            self._note("accepted", update, before, after)
        except StorageError:
            self.corrector.roll_back()
            raise
        self._made.append((update, before, after))
        if self.watch is not None:
            self.watch.forget()
        return update

    def roll_back(self) -> None:
        """Take the last update back, and note that.

        Raises:
            UsageError: there is none to take back. StorageError: it could not be noted; the update stands.
        """
        if not self._made:
            raise UsageError("an update of this agent to take back", "none", "let it learn first")
        self.corrector.roll_back()
        update, before, after = self._made[-1]
        try:
            self._note("taken back", update, after, before)
        except StorageError:
            self.corrector.accept(update)
            raise
        self._made.pop()

    def standing(self) -> Standing:
        """Which weights act now."""
        updates = self.corrector.updates
        return Standing(updates, self._fingerprint() if updates else "")

    def _note(self, kind: str, update: Update, before: str, after: str) -> None:
        config = self.corrector.config
        accepted = kind == "accepted"
        told = dict(update.told)
        if self.watch is not None and accepted:
            told |= {"surprise": self.watch.standing, "threshold": self.watch.alarm.threshold}
        self._journal.append(Correction(
            kind="accepted" if accepted else "taken back", number=self.corrector.updates, checkpoint=self._checkpoint,
            since=update.since if accepted else 0, through=update.through if accepted else 0,
            corrector=msgspec.to_builtins(config) if accepted and config is not None else None,
            before=before, after=after, threads=torch.get_num_threads(), when=time.time(),
            told={name: value if math.isfinite(value) else None for name, value in told.items()},
        ))

    def _fingerprint(self) -> str:
        return model_fingerprint(self._boxes)

    def _weights(self) -> bytes:
        return weights_file(self._boxes)


def weights_file(boxes: tuple[nn.Module, nn.Module]) -> bytes:
    """Perception and world model as a safetensors file."""
    named = zip(("perception", "world_model"), boxes, strict=True)
    return save({f"{box}.{name}": value.detach().cpu().contiguous().clone()
                 for box, module in named for name, value in module.state_dict().items()})
