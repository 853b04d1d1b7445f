"""A guardrail that is any callable on decoded columns.

Knows a read-out by its abstract class only. Shapes: B problems, K candidates, H horizon.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from steersman.core import Guardrail, Imagined, PlanningError, Readout
from steersman.cost.margins import Margins, StepMargin


def columns_needed(readout: Readout | None, name: str) -> Readout:
    """The read-out, for a guardrail `name` on columns.

    Raises:
        PlanningError: there is none.
    """
    if readout is None:
        raise PlanningError(f"a read-out for guardrail {name!r}", "an agent without one",
                            "train on vector observations, or fit a read-out")
    return readout


class OnColumns(Guardrail):
    """g_t = g(columns after step t) + margin_t, for any `g` that maps column -> (…) to one number each, (…).

    g       <= 0 is safe; works entry by entry, so that it can be asked about one moment as about whole futures. Where
            a planner descends it (augmented Lagrangian) it should be differentiable
    margin  kept from the limit, in the unit of g: a number, one for each step, or `calibrate_margins(…)`

    >>> OnColumns(readout, lambda y: y["x"].hypot(y["y"]) - 3.0, name="within 3 m")     # doctest: +SKIP

    A value that is not a number is a violation. It holds code, and so cannot be kept with an agent: derive a guardrail
    of your own where that is wanted.

    Raises:
        PlanningError: `g` returned another shape, or asked for a column that the read-out does not know.
    """

    name: str = ""

    def __init__(
        self,
        readout: Readout,
        g: Callable[[Mapping[str, Tensor]], Tensor],
        *,
        margin: float | Sequence[float] | Margins = 0.0,
        name: str = "",
    ) -> None:
        self.readout, self.g, self._margin = readout, g, StepMargin(margin)
        self.name = name or getattr(g, "__name__", "").strip("<>") or type(g).__name__

    def bare(self) -> OnColumns:
        return StepMargin.off(self)

    def margin(self, imagined: Imagined, actions: Tensor) -> Tensor:
        value = self._value(imagined.states[:, :, 1:], imagined.context)
        return value + self._margin.steps(value)

    def standing(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        return self._value(states, context) + self._margin.first

    def _value(self, states: Tensor, context: Tensor | None) -> Tensor:
        values = self.readout.read(states, context)
        columns = dict(zip(self.readout.columns, values.unbind(-1), strict=True))
        try:
            value = self.g(columns)
        except KeyError as error:
            known, fix = ", ".join(columns), "correct the name, or fit a read-out for it"
            raise PlanningError(f"a column of {known}", f"{error}", fix) from error
        if not isinstance(value, Tensor) or value.shape != values.shape[:-1]:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise PlanningError(f"{self.name!r} to return {tuple(values.shape[:-1])}, as each column has", f"{got}",
                                "return one number per imagined step")
        return value
