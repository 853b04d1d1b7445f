"""Views: the same windows seen in several ways, drawn once for everybody who asks for them, then encoded.

Shapes: B windows, U uniform numbers a view.
"""

from __future__ import annotations

from typing import Any

import torch

from steersman.core.errors import ConfigError
from steersman.core.learning import Looks, Need, Viewed, Views
from steersman.core.looking import Looked, View
from steersman.training.making.maker import Given, Maker, Making, makes


@makes(Looks)
class MakeLooks(Maker[Looks, tuple[Looked, ...]]):
    """Draws each view of each window from uniform noise of its own."""

    def require(self, need: Looks, given: Given) -> None:
        if not need.views:
            raise ConfigError("at least one view", "none", "name views in the objective's configuration")
        for config in need.views:
            config.build(given.signature)

    def make(self, need: Looks, making: Making) -> tuple[Looked, ...]:
        return tuple(_look(config.build(making.signature), making) for config in need.views)


def _look(view: View, making: Making) -> Looked:
    u = making.drawn(lambda windows: torch.rand(windows, view.uniform, device=making.device))
    return view.look(making.window.observations, u)


@makes(Views)
class MakeViews(Maker[Views, Viewed]):
    """One call of perception for each view."""

    def within(self, need: Views) -> tuple[Need[Any], ...]:
        return (Looks(need.views),)

    def make(self, need: Views, making: Making) -> Viewed:
        looks = making.shared(Looks(need.views))
        latents = tuple(making.perception.encode(looked.observation) for looked in looks)
        return Viewed(latents, tuple(looked.parameters for looked in looks))
