"""Moving averages of modules: the weights that act, and teachers. Knows no objective.

Kept as modules of their own, so that a teacher can be run; buffers are copied.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from steersman.core.growing import Change
from steersman.nn import apply_changes


class MovingAverage:
    """θ̄ ← d·θ̄ + (1 - d)·θ for parameters that learn; everything else is copied."""

    def __init__(self, modules: nn.ModuleDict) -> None:
        self.modules = copy.deepcopy(modules).requires_grad_(False)
        self._average(modules)

    def _average(self, modules: nn.ModuleDict) -> None:
        self._learned = {name for name, p in modules.named_parameters() if p.requires_grad}

    def grow(self, changes: Sequence[Change], modules: nn.ModuleDict) -> None:
        """Change the structure as that of `modules` was changed."""
        apply_changes(self.modules, changes)
        self.modules.requires_grad_(False)
        self._average(modules)

    @torch.no_grad()
    def follow(self, modules: nn.ModuleDict, decay: float) -> None:
        mine = self.modules.state_dict(keep_vars=True)
        for name, live in modules.state_dict().items():
            if name in self._learned:
                mine[name].lerp_(live, 1 - decay)
            else:
                mine[name].copy_(live)

    def state(self) -> dict[str, Tensor]:
        """Every tensor by name; views, not copies."""
        found: dict[str, Tensor] = self.modules.state_dict()
        return found

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave: the same names and shapes."""
        for name, kept in self.modules.state_dict(keep_vars=True).items():
            kept.copy_(state[name])
