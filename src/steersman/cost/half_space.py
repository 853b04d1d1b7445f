"""A guardrail on a linear combination of named columns.

Knows a read-out by its abstract class only. Shapes: B problems, K candidates, H horizon, C columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import torch
from torch import Tensor

from steersman.core import Guardrail, Imagined, PlanningError, Readout, register
from steersman.cost.margins import AnyMargin, Margins, StepMargin
from steersman.cost.on_columns import columns_needed


class HalfSpace(Guardrail):
    """g_t = (Σ_c w_c y_t,c - limit + margin_t) / scale: one linear inequality Σ w y <= limit on columns after a step.

    weights  column -> w, not all 0
    limit    in the unit of the sum, as `margin`: a number, one for each step, or `calibrate_margins(…)`
    scale    size of an excess that counts as 1

    >>> HalfSpace(readout, {"temperature": 1.0, "feed": 0.2}, 412.0)                    # doctest: +SKIP

    A value that is not a number is a violation.

    Raises:
        PlanningError: no weights, weights of unknown columns, or numbers that are not finite.
    """

    name: str = ""

    @register(Guardrail)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="half-space"):
        weights: dict[str, float]
        limit: float
        margin: AnyMargin = 0.0
        scale: float = 1.0
        name: str = ""

        def build(
            self, readout: Readout | None, latent_shape: tuple[int, ...], tensors: Mapping[str, Tensor]
        ) -> HalfSpace:
            return HalfSpace(columns_needed(readout, self.name), self.weights, self.limit, margin=self.margin,
                             scale=self.scale, name=self.name)

    def __init__(
        self,
        readout: Readout,
        weights: Mapping[str, float],
        limit: float,
        *,
        margin: float | Sequence[float] | Margins = 0.0,
        scale: float = 1.0,
        name: str = "",
    ) -> None:
        missing = sorted(set(weights) - set(readout.columns))
        if missing or not any(weights.values()):
            raise PlanningError(f"weights of columns among {', '.join(readout.columns)}, not all 0",
                                ", ".join(missing) or f"{dict(weights)}", "correct the names")
        if not (all(map(math.isfinite, [*weights.values(), limit, scale])) and scale > 0):
            raise PlanningError("finite weights and limit, and a scale > 0", f"{dict(weights)}, {limit}, {scale}",
                                "correct them")
        self.readout, self._margin, self._limit, self._scale = readout, StepMargin(margin), limit, scale
        self.name = name or f"{_sum(weights)} <= {limit:g}"
        self._index = [readout.columns.index(column) for column in weights]
        self._weights = torch.tensor(list(weights.values()))
        self.named = {column: float(weight) for column, weight in weights.items()}

    @property
    def config(self) -> Config:
        """What builds it again, with a read-out."""
        return self.Config(weights=self.named, limit=float(self._limit), margin=self._margin.given,
                           scale=float(self._scale), name=self.name)

    def bare(self) -> HalfSpace:
        return StepMargin.off(self)

    def margin(self, imagined: Imagined, actions: Tensor) -> Tensor:
        value = self._value(imagined.states[:, :, 1:], imagined.context)
        return (value + self._margin.steps(value)) / self._scale

    def standing(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        return (self._value(states, context) + self._margin.first) / self._scale

    def _value(self, states: Tensor, context: Tensor | None) -> Tensor:
        values = self.readout.read(states, context)[..., self._index]
        return (values * self._weights.to(values)).sum(-1) - self._limit


def _sum(weights: Mapping[str, float]) -> str:
    """
    >>> _sum({"x": 2.0, "y": -1.0})
    '2 x - y'
    """
    words = ""
    for column, weight in weights.items():
        if weight:
            size = "" if abs(weight) == 1 else f"{abs(weight):g} "
            sign = ("-" if weight < 0 else "") if not words else (" - " if weight < 0 else " + ")
            words += f"{sign}{size}{column}"
    return words
