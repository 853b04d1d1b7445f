"""Actions: what somebody did at each step of a window."""

from __future__ import annotations

from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.learning import Acted
from steersman.training.making.maker import Given, Maker, Making, makes


@makes(Acted)
class MakeActed(Maker[Acted, Tensor]):
    """They stand in the window."""

    def require(self, need: Acted, given: Given) -> None:
        if given.signature.action.kind == "none" or not given.config.window:
            got = "one in which nobody acts" if given.config.window else "windows of a single moment"
            raise ConfigError("a log with actions, as an objective needs them", got,
                              "drop the objective (inverse dynamics, say), or record actions")

    def make(self, need: Acted, making: Making) -> Tensor:
        return making.window.actions
