"""Guardrails over what was measured instead of what a model decoded: whether a limit broke is read from there.

Shapes: C columns.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from steersman.core import Guardrail, Readout, UsageError

_JUDGE = "let the world judge (--judge world), or give judges of your own: Rehearsal(…, judges=…)"
BAD, COST, CLEARANCE = "bad", "cost", "clearance"
"""What a world may say of itself in Gymnasium's `info`: is it bad here, what did the step cost (above 0 is bad, as in
Safety-Gymnasium), how far is it from bad (below 0 is bad; optional: a search then sees where it gets nearer)."""


def told(info: Mapping[str, Any]) -> float | None:
    """A margin from what the world says of itself, above 0 where it is bad; None: it says nothing of the kind."""
    if BAD not in info and COST not in info:
        return None
    bad = bool(info.get(BAD, False)) or float(info.get(COST, 0)) > 0
    clearance = float(info.get(CLEARANCE, math.nan))
    if math.isnan(clearance) or bad != (clearance < 0):
        return 1.0 if bad else -1.0
    return -clearance


class AsShown(Readout):
    """States (…, C) that are the columns themselves."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self._names = names

    @property
    def columns(self) -> tuple[str, ...]:
        return self._names

    def read(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        return states


def over_columns(guardrail: Guardrail, names: tuple[str, ...]) -> Guardrail:
    """The same guardrail, its margin with it, reading columns `names` as they were measured.

    Raises:
        UsageError: it reads something else.
    """
    own, config = guardrail.readout, guardrail.config
    if not isinstance(own, Readout) or not set(own.columns) <= set(names):
        raise UsageError(f"a guardrail on columns of {', '.join(names) or 'none'}", guardrail.name, _JUDGE)
    if config is not None:
        built: Guardrail = config.build(AsShown(names), (len(names),), guardrail.tensors())
        return built
    if tuple(own.columns) != names:
        raise UsageError(f"a guardrail that reads the columns {', '.join(names)}", f"{guardrail.name}, which reads "
                         f"{', '.join(own.columns)}", _JUDGE)
    judge = copy.copy(guardrail)
    object.__setattr__(judge, "readout", AsShown(names))
    return judge
