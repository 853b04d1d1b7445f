"""A guardrail that keeps a distance from things whose relative places are columns, over the whole step.

Knows a read-out by its abstract class only. Shapes: B problems, K candidates, H horizon, N things.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import msgspec
import torch
from torch import Tensor

from steersman.core import Guardrail, Imagined, PlanningError, Readout, register
from steersman.cost.between import STRAIGHT, Between
from steersman.cost.margins import AnyMargin, Margins, StepMargin
from steersman.cost.on_columns import columns_needed


class Apart(Guardrail):
    """g_t = max over things i of  r_i + body - d_i + margin_t,  d_i the least distance during step t.

    places  names of the columns (dx, dy), or (dx, dy, r), of each thing, relative to the agent; r is its radius
    body    the agent's own radius, and what is kept besides; margin as in `OnColumns`
    between how the places move between two imagined moments; None: straight

    d is that of the whole way from one relative place to the next from the origin, so a fast step does not jump over a
    small thing. NaN is a violation.

    >>> Apart(readout, [("dx0", "dy0", "r0")], body=0.2, margin=0.05)                       # doctest: +SKIP

    Raises:
        PlanningError: columns that the read-out does not know, or not two or three of them for a thing.
    """

    name: str = ""

    @register(Guardrail)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="apart"):
        places: tuple[tuple[str, ...], ...]
        body: float = 0.0
        margin: AnyMargin = 0.0
        name: str = "apart"
        between: Between | None = None

        def build(
            self, readout: Readout | None, latent_shape: tuple[int, ...], tensors: Mapping[str, Tensor]
        ) -> Apart:
            return Apart(columns_needed(readout, self.name), self.places, body=self.body, margin=self.margin,
                         name=self.name, between=self.between)

    def __init__(
        self, readout: Readout, places: Sequence[tuple[str, ...]], *, body: float = 0.0,
        margin: float | Sequence[float] | Margins = 0.0, name: str = "apart", between: Between | None = None,
    ) -> None:
        missing = sorted({column for place in places for column in place} - set(readout.columns))
        if missing or not places or any(len(place) not in (2, 3) for place in places):
            raise PlanningError(
                f"(dx, dy) or (dx, dy, r) of each thing among {', '.join(readout.columns)}",
                ", ".join(missing) or f"{list(places)}", "correct the names, or fit a read-out for these columns",
            )
        self.readout, self.body, self._margin = readout, body, StepMargin(margin)
        self.name, self._places = name, tuple(map(tuple, places))
        index = [[readout.columns.index(column) for column in place] for place in places]
        self._place = torch.tensor([i[:2] for i in index])
        self._radius = torch.tensor([i[2] if len(i) == 3 else 0 for i in index])
        self._round = torch.tensor([len(i) == 3 for i in index])
        self.between, self._way = between, between or STRAIGHT
        flat = [column for place in places for column in place[:2]]
        self._rate = self._way.index(flat, readout.columns).unflatten(0, (-1, 2))

    @property
    def config(self) -> Config:
        """What builds it again, with a read-out."""
        return self.Config(places=self._places, body=float(self.body), margin=self._margin.given, name=self.name,
                           between=self.between)

    def bare(self) -> Apart:
        return StepMargin.off(self)

    def margin(self, imagined: Imagined, actions: Tensor) -> Tensor:
        values = self.readout.read(imagined.states, imagined.context)
        place, size = self._placed(values)
        ends = self._way.points(place[:, :, :-1], place[:, :, 1:], self._way.change(values, self._rate))
        distance = torch.stack([_least(a, b) for a, b in pairwise(ends)]).amin(0)
        value = (size[:, :, 1:] - distance).amax(-1)
        return value + self._margin.steps(value)

    def standing(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        place, size = self._placed(self.readout.read(states, context))
        return (size - place.norm(dim=-1)).amax(-1) + self._margin.first

    def _placed(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Columns -> relative places (…, N, 2) and the distance to keep (…, N)."""
        place = values[..., self._place.to(values.device)]
        radius = values[..., self._radius.to(values.device)] * self._round.to(values)
        return place, radius + self.body


def _least(a: Tensor, b: Tensor) -> Tensor:
    """Least distance of segments a-b (…, 2) from the origin (…)."""
    along = b - a
    share = -(a * along).sum(-1) / along.square().sum(-1).clamp_min(1e-12)
    return (a + share.clamp(0, 1)[..., None] * along).norm(dim=-1)
