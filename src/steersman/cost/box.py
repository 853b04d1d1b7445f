"""A guardrail on named columns: each stays within its limits at every imagined step.

Knows a read-out by its abstract class only. Shapes: B problems, K candidates, H horizon, C columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import torch
from torch import Tensor

from steersman.core import Guardrail, Imagined, PlanningError, Readout, register
from steersman.cost.between import STRAIGHT, Between
from steersman.cost.margins import AnyMargin, Margins, StepMargin
from steersman.cost.on_columns import columns_needed


class Box(Guardrail):
    """g_t = max over limited columns of max(low_c - y_t, y_t - high_c) / scale_c + margin_c / scale_c.

    y is read from the state after each step, so the present is not judged: it cannot be changed. With `between`, also
    on the way there: y_t is then the worst of the ends of its pieces. `margin` (in the
    column's unit) keeps a distance from the limit: one number, or one for each step, for instance a conformal bound on
    the prediction error (`calibrate_margins`). A value that is not a number is a violation.

    Raises:
        PlanningError: a column that the read-out does not know, or limits that no value meets.
    """

    name: str = ""

    @register(Guardrail)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="box"):
        """As the constructor takes it; None for a limit that is infinite."""

        limits: dict[str, tuple[float | None, float | None]]
        name: str = ""
        scale: dict[str, float] = {}
        margin: dict[str, AnyMargin] = {}
        between: Between | None = None

        def build(
            self, readout: Readout | None, latent_shape: tuple[int, ...], tensors: Mapping[str, Tensor]
        ) -> Box:
            limits = {
                column: (-math.inf if low is None else low, math.inf if high is None else high)
                for column, (low, high) in self.limits.items()
            }
            return Box(columns_needed(readout, self.name), limits, name=self.name, scale=self.scale,
                       margin=self.margin, between=self.between)

    def __init__(
        self,
        readout: Readout,
        limits: Mapping[str, tuple[float, float]],
        *,
        name: str = "",
        scale: Mapping[str, float] | None = None,
        margin: Mapping[str, float | Sequence[float] | Margins] | None = None,
        between: Between | None = None,
    ) -> None:
        """limits: column -> (low, high), either may be infinite; scale: size of an excess that counts as 1."""
        missing = sorted(set(limits) - set(readout.columns))
        if missing or not limits:
            raise PlanningError(
                f"limits on columns among {', '.join(readout.columns)}", ", ".join(missing) or "none",
                "correct the names, or fit a read-out for these columns",
            )
        scale = dict(scale or {})
        self._margin = {c: StepMargin((margin or {}).get(c, 0.0)) for c in limits}
        for column, (low, high) in limits.items():
            slack = high - low - 2 * self._margin[column].first
            if math.isnan(slack) or slack < 0 or not scale.get(column, 1.0) > 0:
                raise PlanningError(
                    f"low <= high for {column}, with the margin taken off both, and a scale > 0",
                    f"[{low}, {high}], margin {self._margin[column].first}, scale {scale.get(column, 1.0)}",
                    "widen the limits or shrink the margin",
                )
        self.readout = readout
        self._limits, self._scales = dict(limits), {column: float(size) for column, size in scale.items()}
        self.name = name or ", ".join(f"{column} in [{low:g}, {high:g}]" for column, (low, high) in limits.items())
        self._index = [readout.columns.index(column) for column in limits]
        self.between, self._way = between, between or STRAIGHT
        self._rate = self._way.index(list(limits), readout.columns)
        self._low, self._high = (torch.tensor([float(x[i]) for x in limits.values()]) for i in (0, 1))
        self._scale = torch.tensor([scale.get(column, 1.0) for column in limits])

    @property
    def config(self) -> Config:
        """What builds it again, with a read-out."""
        limits = {
            column: (None if low == -math.inf else float(low), None if high == math.inf else float(high))
            for column, (low, high) in self._limits.items()
        }
        margin = {column: kept.given for column, kept in self._margin.items() if kept.given != 0}
        return self.Config(limits=limits, name=self.name, scale=self._scales, margin=margin, between=self.between)

    @property
    def limits(self) -> Mapping[str, tuple[float, float]]:
        """Column -> (low, high)."""
        return self._limits

    def bare(self) -> Box:
        return StepMargin.off(self)

    def margin(self, imagined: Imagined, actions: Tensor) -> Tensor:
        read = self.readout.read(imagined.states, imagined.context)
        values = read[..., self._index]
        margins = [margin.steps(values[:, :, 1:]) for margin in self._margin.values()]
        ends = self._way.points(values[:, :, :-1], values[:, :, 1:], self._way.change(read, self._rate))
        return torch.stack([self._excess(point, margins) for point in list(ends)[1:]]).amax(0)

    def standing(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        values = self.readout.read(states, context)[..., self._index]
        return self._excess(values, [margin.first for margin in self._margin.values()])

    def _excess(self, values: Tensor, margins: Sequence[Tensor | float]) -> Tensor:
        low, high, scale = (x.to(values) for x in (self._low, self._high, self._scale))
        keep = torch.stack([torch.as_tensor(m).to(values).expand(values.shape[-2:-1]) for m in margins], -1)
        return ((torch.maximum(low - values, values - high) + keep) / scale).amax(-1)
