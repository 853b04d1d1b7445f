"""What a camera is pointed at: an environment that can be stepped, looked at and, where its truth is known, read.

Knows no camera settings, no task and no agent.

Shapes: A action size, C columns of the truth, H rows and W columns of a picture.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from steersman.core import ActionSpec, UsageError

Array = np.ndarray[Any, Any]
Fit = Literal["pad", "crop"]
"""How pictures are made square, see `camera.square`."""


@dataclass(frozen=True)
class Consequence:
    """What one action led to. The reward is for tables: nothing learns from it."""

    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False

    @property
    def over(self) -> bool:
        """Is this the episode's last moment?"""
        return self.terminated or self.truncated


@contextmanager
def placing(id: str, values: Mapping[str, float]) -> Iterator[None]:
    """Where a scene is put by values of columns: one that is missing is a user's mistake.

    Raises:
        UsageError: one is looked up and missing.
    """
    try:
        yield
    except KeyError as error:
        raise UsageError(f"a value of {error} to put {id} somewhere", ", ".join(values) or "none", "add it") from error


class Scene(ABC):
    """One environment in front of a camera.

    id       of the environment, for messages
    columns  names of the truth's entries; (): nobody knows the truth
    action   what can be done in it
    fit      how its pictures are best made square
    goes_on  a log goes on past what ends an episode (a goal that can be stood on and left again)
    """

    id: str
    columns: tuple[str, ...]
    action: ActionSpec
    fit: Fit = "pad"
    goes_on: ClassVar[bool] = False

    @abstractmethod
    def reset(self, seed: int) -> None:
        """Begin an episode that is a function of the seed alone."""

    @abstractmethod
    def step(self, action: Tensor) -> Consequence:
        """Take an action (A,) within the bounds. Draws no picture."""

    @abstractmethod
    def picture(self, size: int) -> Any:
        """What is to be seen now: (H, W, 3) uint8. size: what the camera will make of it, where that can help."""

    @abstractmethod
    def truth(self) -> Array:
        """(C,) float32: the true values of `columns` now. For labels and for judging, never for an agent."""

    def place(self, values: Mapping[str, float]) -> None:
        """Put the world into the state where these columns have these values, to take a picture of a goal.

        Raises:
            UsageError: nobody knows how (the default), or not with these columns.
        """
        raise UsageError(f"a way to put {self.id} where {', '.join(values)} have given values", "none",
                         "give the goal as columns, or as a picture of a log")

    def scatter(self, generator: torch.Generator) -> None:  # noqa: B027 (most scenes have nothing to do here)
        """Change the start of a log's episode, so that the log shows more of the world (default: leave it)."""

    def scripted(self, generator: torch.Generator) -> Tensor:
        """(A,): what a script that sees the truth does now.

        Raises:
            UsageError: nobody wrote one (the default).
        """
        raise UsageError(f"a world with a scripted behaviour, to log in {self.id}", "none",
                         "log with random actions, or give a behaviour of your own")

    def close(self) -> None:  # noqa: B027
        """Free what the environment holds."""
