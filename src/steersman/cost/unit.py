"""The energy of one step that counts as 1 once a cost is intrinsic, as a setting. Knows no particular cost."""

from __future__ import annotations

import math
from typing import TypeVar

import msgspec

from steersman.core import ConfigError, Cost

C = TypeVar("C", bound=Cost)


class InUnits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What the Config of a cost without weights says.

    unit  the energy of one step that counts as 1, if the cost is made intrinsic (`core.Cost.unit`); above 0

    Raises:
        ConfigError: a unit that is no number above 0.
    """

    unit: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.unit < math.inf:
            raise ConfigError("a unit above 0", f"{self.unit}", "give the energy of one step that should count as 1")

    def of(self, cost: C) -> C:
        """`cost` with this unit. The usual one is not set: a seal hashes what an instance holds, and so stays valid."""
        if self.unit != 1.0:
            cost.unit = self.unit
        return cost
