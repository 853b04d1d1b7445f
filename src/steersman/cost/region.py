"""A guardrail on a forbidden region, given as a mask over the picture and read through a position read-out.

Knows a read-out by its abstract class only, and never a true position.

Shapes: B problems, K candidates, H horizon, S samples of a segment, (P, Q) height and width of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from steersman.core import Guardrail, Imagined, PlanningError, Readout, register
from steersman.cost.margins import AnyMargin, Margins, StepMargin
from steersman.cost.on_columns import columns_needed

LARGEST = 512
"""Pixels of a stored mask's longer side: its distances are worked out whenever it is read."""
PIXEL = 0.71  # px; a disk of this radius covers a pixel's square
_SAMPLES = 6  # of a segment: 0.5 px apart on a step of 2.5 px
_TOLERANCE = 0.05  # px by which a way out may dip
_GAIN = 0.05  # px by which a way out must end farther than it began
_ROWS = 1 << 22  # distances in memory at a time


class Region(Guardrail):
    """g = margin - clearance in px, clearance the least signed distance from the swept, decoded way y_t -> y_t+1 to
    the masked pixels, each a disk of radius 0.71 px around its centre; below 0 inside.

    Within the margin already, outward moves stay allowed, or a read-out's error could pin the agent there: with c the
    clearance where the step begins, a step is safe if it nowhere comes nearer than c (to 0.05 px) and ends farther
    off, a discrete-time control-barrier condition (Agrawal & Sreenath 2017). g is then the larger shortfall. A step
    that enters the region from outside is never safe, nor is a position that is not a number.

    mask      (P, Q) bool for all problems, or (B, P, Q), one per problem: True is forbidden; all False forbids nothing
    readout   knows `columns`, (x, y) in px: column and row of the picture, pixel centres at whole numbers
    margin    px, for instance a conformal bound on the read-out's error (`conformal_quantile`); or one for each step

    The distance is exact at pixel centres and bilinear in between: at most 0.15 px too far beside a lone pixel and
    0.02 px at 3 px from it. Beyond the picture's edge it is that of the nearest place within.

    >>> Region(readout, mask, margin=2.0)                                   # doctest: +SKIP

    Errors: PlanningError for a mask of another shape or type, unknown columns, a margin below 0 or not finite, and
    when asked about another number of problems than there are masks.
    """

    name: str = ""

    @register(Guardrail)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="region"):
        """The mask is a tensor beside it."""

        margin: AnyMargin = 0.0
        columns: tuple[str, str] = ("x", "y")
        name: str = "forbidden region"

        def build(
            self, readout: Readout | None, latent_shape: tuple[int, ...], tensors: Mapping[str, Tensor]
        ) -> Region:
            mask = tensors.get("mask")
            if mask is None or max(mask.shape, default=0) > LARGEST:
                got = "none" if mask is None else f"{tuple(mask.shape)}"
                raise PlanningError(f"a mask of at most {LARGEST} pixels a side", got, "paint a smaller one")
            return Region(columns_needed(readout, self.name), mask, margin=self.margin, columns=self.columns,
                          name=self.name)

    def __init__(
        self, readout: Readout, mask: Tensor, *, margin: float | Sequence[float] | Margins = 0.0,
        columns: tuple[str, str] = ("x", "y"), name: str = "forbidden region",
    ) -> None:
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.ndim not in (2, 3) or 0 in mask.shape:
            got = f"{tuple(mask.shape)} {mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
            raise PlanningError(
                "a mask (height, width) or (problems, height, width) of type bool", got,
                "paint one truth value per pixel, for instance picture > 0",
            )
        missing = [column for column in columns if column not in readout.columns]
        if len(columns) != 2 or missing:
            raise PlanningError(
                f"two columns among {', '.join(readout.columns)}", ", ".join(columns),
                "name the read-out's columns that are x and y in pixels",
            )
        self.readout, self._margin = readout, StepMargin(margin)
        self.name = name
        self._index, self._columns, self._mask = [readout.columns.index(x) for x in columns], tuple(columns), mask
        self._distance = signed_distance(mask if mask.ndim == 3 else mask[None])

    @property
    def clear(self) -> float:
        """px kept from the region at the next step."""
        return self._margin.first

    def rows(self, index: Tensor) -> Region:
        """The guardrail of some of the problems: index is a mask (B,), indices, or a slice."""
        if len(self._distance) == 1:
            return self
        other = object.__new__(Region)
        other.__dict__.update(self.__dict__)
        other._distance, other._mask = self._distance[index], self._mask[index]
        return other

    @property
    def config(self) -> Config:
        """What builds it again, with a read-out and the mask."""
        x, y = self._columns
        return self.Config(margin=self._margin.given, columns=(x, y), name=self.name)

    def tensors(self) -> Mapping[str, Tensor]:
        return {"mask": self._mask}

    def bare(self) -> Region:
        return StepMargin.off(self)

    def margin(self, imagined: Imagined, actions: Tensor) -> Tensor:
        y = self.readout.read(imagined.states, imagined.context)[..., self._index]
        clearance = self.clearance(y[:, :, :-1], y[:, :, 1:])
        start, least, end = clearance[..., 0], clearance.amin(-1), clearance[..., -1]
        way_out = torch.maximum(start - _TOLERANCE - least, start + _GAIN - end)
        way_out = torch.where(start >= 0, torch.maximum(way_out, -least), way_out)
        clear = self._margin.steps(least)
        return torch.where(start < clear, way_out, clear - least)

    def standing(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        y = self.readout.read(states, context)[..., self._index]
        there = y.reshape(len(y), 1, -1, 2)  # as standing still
        return self.clear - self.clearance(there, there)[..., 0].view(y.shape[:-1])

    def barrier(self, imagined: Imagined, actions: Tensor, alpha: float) -> Tensor:
        level = self.standing(imagined.states, imagined.context)
        return torch.maximum(level[:, :, 1:] - (1 - alpha) * level[:, :, :-1], self.margin(imagined, actions))

    def clearance(self, a: Tensor, b: Tensor) -> Tensor:
        """Signed distance in px at S places from a to b (B, K, H, 2) -> (B, K, H, S); the first is a's, the last b's.

        Where a segment is so long that places lie more than 0.5 px apart, what may happen between them is taken off.
        """
        problems, shape = len(self._distance), a.shape[:3]
        if problems not in (1, len(a)):
            raise PlanningError(
                f"{problems} problems, one for each mask", f"{len(a)}", "use keep(rows) for the problems that go on"
            )
        grid = self._distance.to(a)
        fraction = torch.linspace(0, 1, _SAMPLES, device=a.device, dtype=a.dtype)
        places = a[..., None, :] + fraction[:, None] * (b - a)[..., None, :]
        lost = places.isnan().any(-1)  # the picture would be read at its edge there
        size = torch.tensor([grid.shape[2] - 1, grid.shape[1] - 1], device=a.device).clamp_min(1)
        places = (2 * places / size - 1).flatten(1, 2)
        if problems == 1:
            places = places.flatten(0, 1)[None]
        found = grid_sample(grid[:, None], places, mode="bilinear", padding_mode="border", align_corners=True)
        found = found.reshape(*shape, _SAMPLES).masked_fill(lost, math.nan)
        apart = (b - a).norm(dim=-1) / (_SAMPLES - 1)
        between = (apart - 0.5).clamp_min(0)[..., None] / 2
        return torch.cat([found[..., :1], found[..., 1:-1] - between, found[..., -1:]], -1)


def signed_distance(mask: Tensor) -> Tensor:
    """Masks (B, P, Q) -> distance in px of every pixel's centre to the nearest masked pixel's disk, (B, P, Q).

    Exact Euclidean, in two passes of minima over one axis each: d²(p, q) = min_q' [(q - q')² + min_p' (p - p')²]. In
    the region it is below 0: less the distance to the nearest free pixel. Far where nothing is masked.
    """
    far = float(sum(mask.shape[1:]))
    outside, inside = _distance(mask), _distance(~mask)
    return torch.where(mask, 1 - inside, outside).clamp(-far, far) - PIXEL


def _distance(mask: Tensor) -> Tensor:
    """To the nearest True, (B, P, Q); infinite where there is none."""
    rows, columns = ((torch.arange(n)[:, None] - torch.arange(n)).square().float() for n in mask.shape[1:])
    chunk = max(1, _ROWS // (mask.shape[1] * mask.shape[2] * max(mask.shape[1:])))
    pieces = []
    for piece in mask.split(chunk):  # a loop over memory
        square = torch.where(piece, 0.0, math.inf)
        square = (square[:, None] + rows[None, :, :, None]).amin(2)
        pieces.append((square[:, :, None] + columns).amin(3).sqrt())
    return torch.cat(pieces)
