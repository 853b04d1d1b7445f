"""A declared change of a model's structure: what a checkpoint must say so that a model that grew can be built again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

import msgspec

from steersman.core.errors import ConfigError


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One change of a module that learns.

    kind    "added": a low-rank layer over the module's weight, W + up·down, which changes nothing at first
            "merged": such a layer becomes part of the weight that lies under it, and is gone
            "removed": such a layer is gone, and what it did with it
            "frozen": no parameter of the module changes any more
    module  its name among what learns: "world_model.layers.0", "perception", …
    layer   name of the low-rank layer; "" for "frozen"
    rank    of a layer that is added
    step    optimiser steps done when it was made
    """

    kind: Literal["added", "merged", "removed", "frozen"]
    module: str
    layer: str = ""
    rank: int = 0
    step: int = 0

    def __post_init__(self) -> None:
        if self.kind != "frozen" and not self.layer.isidentifier():
            raise ConfigError("a layer's name of letters, digits and underscores", repr(self.layer), "name the layer")
        if self.kind == "added" and self.rank < 1:
            raise ConfigError("a rank of at least 1", f"{self.rank}", "use 4 to 32")


def revisions(boxes: Iterable[str], changes: Iterable[Change]) -> dict[str, int]:
    """Name of each box that learns -> how often it was changed."""
    counted = Counter(change.module.partition(".")[0] for change in changes)
    return {box: counted[box] for box in boxes}
