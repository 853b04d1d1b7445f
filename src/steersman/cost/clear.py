"""A guardrail on a column that says how far everything forbidden is, and on the way between two moments as well.

Knows a read-out by its abstract class only. Shapes: B problems, K candidates, H horizon, C columns, P place columns.
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

_SHARE = 0.05  # of the margin: by how much a way out may dip, and must end farther off than it began


class Clear(Guardrail):
    """g_t = margin_t - the least clearance on the straight way from y_t to y_{t+1}, in the clearance's own unit.

    Only the clearance at both ends, c and c', and the length d of the way are read, not where anything is:

        least = √(D² - a² + (a - clamp(a, 0, d))²) - R,   D = c + R,  D' = c' + R,  a = (D² - D'² + d²) / 2d

    the height of a triangle over its base d; (D + D' - d) / 2 - R where there is no such triangle. It is exact if what
    is near is one disc of radius R that stands still, and never more than the truth if it is made of such discs or
    larger ones; a body's own radius counts. With R = 0 that is anything that stands still.

    clearance  column: distance to the nearest forbidden thing, below 0 inside; may be cut off where it is far
    place      columns of where one is, in the same unit
    round      R, the least radius of what is to be kept clear of
    margin     kept from it: a number, one for each step, or `calibrate_margins(…)`

    Within the margin already, outward moves stay allowed, or a read-out's error could pin the agent there: with c the
    clearance where a step begins, it is safe if it nowhere comes nearer than c and ends farther off (both to 5% of the
    margin), a discrete-time control-barrier condition (Agrawal & Sreenath 2017). A step that enters what is forbidden
    is never safe, nor is a value that is not a number.

    >>> Clear(readout, "clearance", ("x", "y"), round=0.9, margin=0.1)                      # doctest: +SKIP

    Raises:
        PlanningError: unknown columns, no place, a radius below 0 or a margin that is not finite.
    """

    name: str = ""

    @register(Guardrail)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="clear"):
        """As the constructor takes it."""

        clearance: str
        place: tuple[str, ...]
        round: float = 0.0
        margin: AnyMargin = 0.0
        name: str = ""

        def build(
            self, readout: Readout | None, latent_shape: tuple[int, ...], tensors: Mapping[str, Tensor]
        ) -> Clear:
            return Clear(columns_needed(readout, self.name), self.clearance, self.place, round=self.round,
                         margin=self.margin, name=self.name)

    def __init__(
        self, readout: Readout, clearance: str, place: Sequence[str], *, round: float = 0.0,
        margin: float | Sequence[float] | Margins = 0.0, name: str = "",
    ) -> None:
        missing = sorted({clearance, *place} - set(readout.columns))
        if missing or not place:
            raise PlanningError(f"a clearance and a place among the columns {', '.join(readout.columns)}",
                                ", ".join(missing) or "no place", "correct the names, or fit a read-out for them")
        if not 0 <= round < math.inf:
            raise PlanningError("a radius of at least 0", f"{round}", "0 is the careful one")
        self.readout, self._margin, self._round = readout, StepMargin(margin), float(round)
        self._clearance, self._place = clearance, tuple(place)
        self.name = name or f"{clearance} >= 0"
        self._index = [readout.columns.index(column) for column in (clearance, *place)]

    @property
    def config(self) -> Config:
        """What builds it again, with a read-out."""
        return self.Config(clearance=self._clearance, place=self._place, round=self._round, margin=self._margin.given,
                           name=self.name)

    def bare(self) -> Clear:
        return StepMargin.off(self)

    def margin(self, imagined: Imagined, actions: Tensor) -> Tensor:
        read = self.readout.read(imagined.states, imagined.context)[..., self._index]
        clearance, place = read[..., 0], read[..., 1:]
        start, end = clearance[:, :, :-1], clearance[:, :, 1:]
        least = on_the_way(start, end, place.diff(dim=2).norm(dim=-1), self._round)
        keep = self._margin.steps(least)
        way_out = torch.maximum(start - least, start - end + 2 * _SHARE * keep) - _SHARE * keep
        way_out = torch.where(start >= 0, torch.maximum(way_out, -least), way_out)
        return torch.where(start < keep, way_out, keep - least)

    def standing(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        return self._margin.first - self.readout.read(states, context)[..., self._index[0]]


def on_the_way(start: Tensor, end: Tensor, length: Tensor, round: float) -> Tensor:
    """The least clearance on straight ways, of `length`, from one with clearance `start` to one with `end`, (…) each:
    of one disc of radius `round`, see `Clear`.

    >>> on_the_way(torch.tensor([0.0]), torch.tensor([0.0]), torch.tensor([1.2]), 1.0)       # 1 - √(1 - 0.6²) inside
    tensor([-0.2000])
    """
    first, second = (start + round).clamp_min(0), (end + round).clamp_min(0)
    foot = (first.square() - second.square() + length.square()) / (2 * length.clamp_min(1e-6))
    beyond = foot - torch.minimum(foot.clamp_min(0), length)
    height = (first.square() - foot.square() + beyond.square()).clamp_min(0).sqrt()
    apart = first + second - length
    least = torch.where(apart < 0, apart / 2, height) - round
    return torch.minimum(least, torch.minimum(start, end))
