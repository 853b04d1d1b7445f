"""What descends an energy over parameters: the abstract class. No algorithm; knows no objective and no schedule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor


class Optimiser(ABC):
    """Changes parameters along their gradients; what it remembers of earlier steps is named tensors, so that a
    checkpoint keeps it by name.

    It is built from named parameters and takes those that want a gradient. A parameter without a gradient rests, and
    what is remembered of it with it.
    """

    @abstractmethod
    def step(self, lr: float) -> None:
        """Descend once along the gradients that are there; lr is the step size of this step."""

    @abstractmethod
    def forget_gradients(self) -> None:
        """Let go of every gradient, so that the next backward pass begins anew."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """KIND.NAME of a parameter -> what is remembered of it; views, not copies."""

    @abstractmethod
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave.

        Raises:
            CheckpointError: other names or shapes.
        """
