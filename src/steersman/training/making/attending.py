"""Which learned task each window is encoded for, drawn once for student and teachers.

Shapes: B windows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.learning import Attending
from steersman.training.making.maker import Given, Maker, Making, makes


@makes(Attending)
class MakeAttending(Maker[Attending, Tensor]):
    """One of the tasks, or none, for each window, evenly."""

    def require(self, need: Attending, given: Given) -> None:
        known = given.perception.tasks
        if not known or set(need.tasks or known) != set(known):
            raise ConfigError(f"a perception that learns the tasks {', '.join(need.tasks) or '(some)'}",
                              f"one of {', '.join(known) or 'none'}",
                              "name them in its configuration, `ViTEncoder.Config(tasks=…)`, or drop the objective")

    def make(self, need: Attending, making: Making) -> Tensor:
        known = making.perception.tasks
        if not need.tasks:
            return making.drawn(
                lambda windows: torch.randint(1 + len(known), (windows,), device=making.device))
        drawn = making.of(Attending())
        order = torch.tensor([0, *(1 + need.tasks.index(name) for name in known)], device=making.device)
        return order[drawn]
