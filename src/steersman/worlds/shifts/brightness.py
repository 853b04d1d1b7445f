"""Another light: every grey level times a factor. Knows nothing of what is shown."""

from __future__ import annotations

from torch import Tensor

from steersman.worlds.shifts.shift import Shift, require, to_bytes


class Brightness(Shift, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="brightness"):
    """x' = factor · x, cut off at 255.

    factor  from 0 to 4; 0.6 by default, 40% less light

    Raises:
        ConfigError: a factor out of range.
    """

    factor: float = 0.6

    def __post_init__(self) -> None:
        require(0 <= self.factor <= 4, "a factor from 0 to 4", self)

    def apply(self, pictures: Tensor, seeds: Tensor, moments: Tensor) -> Tensor:
        return to_bytes(pictures.float().mul_(self.factor))
