"""A noisy camera. Knows nothing of what is shown."""

from __future__ import annotations

from torch import Tensor

from steersman.core import Streams
from steersman.worlds.shifts.shift import Shift, require, to_bytes


class Noise(Shift, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="noise"):
    """x' = x + 255 σ ε, ε standard normal, new for every number of every moment; cut off at 0 and 255.

    deviation  σ, from 0 to 1, a share of the range; 0.1 by default, 25 grey levels

    Raises:
        ConfigError: a deviation out of range.
    """

    deviation: float = 0.1

    def __post_init__(self) -> None:
        require(0 <= self.deviation <= 1, "a deviation from 0 to 1", self)

    def apply(self, pictures: Tensor, seeds: Tensor, moments: Tensor) -> Tensor:
        noise = Streams(seeds, moments).normal(*pictures.shape[1:])
        return to_bytes(noise.mul_(255 * self.deviation).add_(pictures))
