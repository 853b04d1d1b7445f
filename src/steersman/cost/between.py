"""How columns move between two imagined moments, where their rates of change are columns too.

Knows columns by name and place, nothing of limits or models. Shapes: H steps, C columns, P pieces a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec
import torch
from torch import Tensor

from steersman.core import PlanningError


class Between(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Motion at a constant rate of change of the rate, from one imagined moment to the next:

        y(s) = y_t + s (y_{t+1} - y_t) - s (1 - s) step (r_{t+1} - r_t) / 2,   s in [0, 1]

    so that it meets both moments and bends as its rates say. What turns around during a step passes beyond both of its
    ends, by acceleration · step² / 8: 5 mm at 4 m/s² and 0.1 s, more than a good model errs by in one step. Looked
    at in `pieces` straight pieces, which leaves 1 / pieces² of that.

    rates   column -> column of its rate of change; a column without one moves straight
    step    time from one moment to the next, in the unit of the rates

    >>> Between({"x": "vx", "y": "vy"}, step=0.1)                                           # doctest: +SKIP

    Raises:
        PlanningError: a step that is not above 0, or no piece.
    """

    rates: Mapping[str, str]
    step: float
    pieces: int = 4

    def __post_init__(self) -> None:
        if not self.step > 0 or self.pieces < 1:
            raise PlanningError("a step above 0 and at least 1 piece", f"{self}", "say how long a step takes")

    def index(self, columns: Sequence[str], known: Sequence[str]) -> Tensor:
        """Where the rates of `columns` are among the `known` ones (C,), -1 for a column without one.

        Raises:
            PlanningError: a rate that is not known.
        """
        missing = sorted({self.rates[c] for c in columns if c in self.rates} - set(known))
        if missing:
            raise PlanningError(f"rates of change among {', '.join(known)}", ", ".join(missing), "correct the names")
        return torch.tensor([known.index(self.rates[c]) if c in self.rates else -1 for c in columns])

    def change(self, values: Tensor, index: Tensor) -> Tensor:
        """By how much rates change in each step: known columns (B, K, H+1, …), `index` (…) -> (B, K, H, …)."""
        index = index.to(values.device)
        return torch.where(index >= 0, values[..., index.clamp_min(0)], 0.0).diff(dim=2)

    def points(self, first: Tensor, last: Tensor, change: Tensor) -> Iterator[Tensor]:
        """The ends of the pieces, one after the other, (…): from `first` to `last`; `change` is that of the rates."""
        bend = self.step / 2 * change
        for i in range(self.pieces + 1):
            s = i / self.pieces
            yield torch.lerp(first, last, s) - s * (1 - s) * bend


STRAIGHT = Between({}, step=1.0, pieces=1)
