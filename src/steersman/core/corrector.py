"""Who learns while the agent acts: an update of weights that is proposed, accepted and can be taken back.

`agent` knows only this class; what implements it lives in `training`, and a guard may wrap it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor


@dataclass(frozen=True)
class Update:
    """A change of weights that was worked out and not yet made.

    number   which update of this checkpoint it would be: 1, 2, …
    weights  name -> the new value, of everything that changes: perception.*, world_model.*
    through  how many transitions of the experience it was worked out from: all of them before this one
    told     what it was good for, for people: losses before and after
    """

    number: int
    weights: Mapping[str, Tensor]
    through: int
    told: Mapping[str, float]


class Corrector(ABC):
    """Learns from what happens while acting."""

    @property
    @abstractmethod
    def updates(self) -> int:
        """Updates accepted since the checkpoint that the agent was loaded from."""

    @abstractmethod
    def propose(self, experience: Path, through: int) -> Update | None:
        """An update from the first `through` transitions of an experience log; None: nothing to correct. The weights
        stay as they are. The same log, `through` and `updates` give the same update, bit for bit."""

    @abstractmethod
    def accept(self, update: Update) -> None:
        """Make the change."""

    @abstractmethod
    def roll_back(self) -> None:
        """Undo the last accepted update, bit for bit."""
