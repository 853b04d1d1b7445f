"""Updates made to the weights of modules, counted, and taken back bit for bit: what correctors share.

Knows modules by name, not who worked an update out.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from steersman.core.corrector import Update
from steersman.core.errors import UsageError


class Undoing:
    """The updates that the weights of `modules` hold, of which the last `undo` can be taken back."""

    def __init__(self, modules: Mapping[str, nn.Module], undo: int) -> None:
        self._modules, self._undo, self.updates = dict(modules), undo, 0
        self._before: list[dict[str, Tensor]] = []  # what the last updates changed, as it was

    def stand_at(self, updates: int) -> None:
        """From now on the weights hold so many updates; there is nothing to take back."""
        self.updates = updates
        self._before.clear()

    def accept(self, update: Update) -> None:
        """Make the change. Raises UsageError: an update that does not follow the last one."""
        if update.number != self.updates + 1:
            raise UsageError(f"update {self.updates + 1}", f"{update.number}", "propose again: the weights changed")
        mine = self._named()
        self._before = [*self._before, {name: mine[name].clone() for name in update.weights}][-self._undo :]
        self._write(update.weights)
        self.updates += 1

    def roll_back(self) -> None:
        """Undo the last accepted update. Raises UsageError: there is none, or none that is kept."""
        if not self._before:
            raise UsageError(f"one of the last {self._undo} updates to take back", "none that is kept",
                             "raise `undo`, or load the agent again")
        self._write(self._before.pop())
        self.updates -= 1

    def _named(self) -> dict[str, Tensor]:
        return {f"{box}.{name}": x for box, module in self._modules.items() for name, x in module.state_dict().items()}

    def _write(self, weights: Mapping[str, Tensor]) -> None:
        mine = self._named()
        with torch.inference_mode(False), torch.no_grad():
            for name, value in weights.items():
                mine[name].copy_(value)


def seed_of(seed: int, number: int, use: int) -> int:
    """One for each update and each use of it (0 to 3)."""
    return (seed * 1_000_003 + number) * 4 + use & 0x7FFFFFFFFFFFFFFF
