"""A change of how a world looks, and of nothing else: the abstract class. Knows no world.

Shapes: N pictures, (H, W) pixels, C channels.
"""

from __future__ import annotations

from abc import abstractmethod

import msgspec
import torch
from torch import Tensor

from steersman.core import ConfigError
from steersman.worlds.trials import StructABC


class Shift(msgspec.Struct, metaclass=StructABC, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A frozen configuration of a change of pictures; derive one for a change of your own.

    What it does to a picture is a function of the picture, the episode's seed and the moment alone: the same whatever
    else is in the batch, and however often it is asked for.
    """

    @abstractmethod
    def apply(self, pictures: Tensor, seeds: Tensor, moments: Tensor) -> Tensor:
        """pictures (N, H, W, C) uint8, of episodes with seeds (N,) int64 at moments (N,) int64, steps from the
        episode's beginning -> the changed ones, of the same shape and type.

        Raises:
            ConfigError: pictures that it cannot change.
        """


def to_bytes(x: Tensor) -> Tensor:
    """Grey levels as numbers -> uint8: rounded, cut off at 0 and 255. Works in place."""
    return x.add_(0.5).clamp_(0, 255).to(torch.uint8)


def require(holds: bool, expected: str, got: Shift) -> None:
    """
    Raises:
        ConfigError: it does not hold.
    """
    if not holds:
        raise ConfigError(expected, f"{got}", "correct the shift's strength")
