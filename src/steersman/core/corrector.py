"""Who learns while the agent acts: an update of weights that is proposed, accepted and can be taken back.

`agent` knows only this class; what implements it lives in `training`, and a guard may wrap it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Update:
    """A change of weights that was worked out and not yet made.

    number   which update of this checkpoint it would be: 1, 2, …
    weights  name -> the new value, of everything that changes: perception.*, world_model.*
    through  it was worked out from moments of the experience before this one
    since    and from none before that one: what of the log it takes to work it out again
    told     what it was good for, for people: losses before and after
    """

    number: int
    weights: Mapping[str, Tensor]
    through: int
    since: int = 0
    told: Mapping[str, float] = field(default_factory=dict)


class Corrector(ABC):
    """Learns from what happens while acting.

    >>> update = corrector.propose(run / "experience", through=1000)          # doctest: +SKIP
    >>> if update is not None:                                                # doctest: +SKIP
    ...     corrector.accept(update)          # and corrector.roll_back(), should it turn out to do harm

    A guard is a corrector that holds another: it proposes what that one proposes, or nothing and says why in `reason`;
    its `config` is that of the other one, for what it lets through is made again without it.
    """

    @property
    @abstractmethod
    def config(self) -> Any:
        """The registered Config that makes a corrector which proposes the same; None: there is none, and decisions of
        weights that it corrected can be replayed only as far as snapshots of the weights were kept."""

    @property
    @abstractmethod
    def updates(self) -> int:
        """Updates that the weights hold: accepted since the checkpoint, and not taken back."""

    @property
    def reason(self) -> str:
        """Why the last `propose` returned None, in words; "": nothing to say."""
        return ""

    @abstractmethod
    def stand_at(self, updates: int) -> None:
        """From now on the weights hold so many updates, whoever made them; there is nothing to take back."""

    @abstractmethod
    def propose(self, experience: Path, through: int) -> Update | None:
        """An update from moments of an experience log before number `through`; None: nothing to correct. The weights
        stay as they are. The same weights, log, `through` and `updates` give the same update, bit for bit.

        Raises:
            RunError: no log there, or a damaged one. MismatchError: one of another world.
        """

    @abstractmethod
    def accept(self, update: Update) -> None:
        """Make the change.

        Raises:
            UsageError: an update that does not follow the last one.
        """

    @abstractmethod
    def roll_back(self) -> None:
        """Undo the last accepted update, bit for bit.

        Raises:
            UsageError: there is none, or it is too long ago.
        """
