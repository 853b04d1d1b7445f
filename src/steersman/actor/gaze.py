"""Where to look next: the window of a larger picture from which most is expected to be learned.

Knows what is believed of places, not who believes it. Shapes: B problems, N slots, W windows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from steersman.core import ConfigError
from steersman.core.records import TensorRecord

_ELSEWHERE = 0.02  # of a thing that is not where it is believed to be


@dataclass(frozen=True)
class Whereabouts(TensorRecord):
    """Where things may be by what was looked at and not found there.

    mass  (B, N, cells, cells): a probability of each cell of the scene, rows from above
    """

    mass: Tensor


class Gaze(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The window w of greatest expected information about N places, each believed N(μ_i, σ_i²) along both axes:

        I(w) = Σ_i  p_i(w) · worth(σ_i²),     p_i(cell) ∝ (N(cell; μ_i, σ_i²) + ε) · mass_i(cell)
        worth(σ²) = log(1 + σ² / r)           "nats": what a measurement with variance r tells of two Gaussian numbers
                  = σ² · σ² / (σ² + r)        "variance": how much less their squared error will be, the default

    Nats count a place known to a tenth of a pixel for as much again as one known to one, so that what is well known is
    looked at rather than what was lost; squared error does not. What a Gaussian
    cannot hold, that a thing is not where one has looked, is held by `mass` on a grid of cells: it is 0 where a window
    has shown nothing, and spreads again from step to step. Every window of a lattice is weighed, so that the choice is
    exact for one look; nothing is sampled. Source: expected information of Lindley 1956 and, for eyes, Najemnik &
    Geisler 2005; a grid of what was not found, as in search theory (Koopman 1946).

    scene, window  pixels of a side of each; stride: of the lattice of corners
    radius         of a thing, pixels: it is found where more than half of it is in sight
    cells          of the grid along an axis
    worth          "variance" or "nats"
    spread         share of a cell's mass that goes to its neighbours in a step: about speed / size of a cell
    """

    scene: int
    window: int
    stride: int = 4
    radius: float = 4.0
    cells: int = 16
    worth: Literal["variance", "nats"] = "variance"
    spread: float = 0.4

    def __post_init__(self) -> None:
        if not 0 < self.window <= self.scene or self.stride < 1 or self.radius < 0 or self.cells < 2 or not (
                0 <= self.spread <= 1):
            raise ConfigError("a window within the scene, a stride of at least 1, a radius of at least 0, two cells or "
                              "more and a spread in [0, 1]", f"{self}", "correct the gaze")

    @property
    def corners(self) -> Tensor:
        """(W, 2) int64: rows and columns of the windows' upper left corners."""
        most = self.scene - self.window
        along = torch.tensor(sorted({*range(0, most + 1, self.stride), most}))
        return torch.cartesian_prod(along, along)

    def begin(self, problems: int, slots: int) -> Whereabouts:
        """Nothing was looked at: anywhere."""
        return Whereabouts(torch.full((problems, slots, self.cells, self.cells), 1 / self.cells**2))

    def chance(self, where: Whereabouts, place: Tensor, variance: Tensor) -> Tensor:
        """(B, N, cells, cells), each slot's p: places (B, N, 2), x right and y up in [-1, 1], variances (B, N)."""
        middle = (2 * torch.arange(self.cells).to(place) + 1) / self.cells - 1
        wide = (variance + (1 / self.cells) ** 2)[..., None]
        column = (-0.5 * (middle - place[..., :1]).square() / wide).exp()
        row = (-0.5 * (-middle - place[..., 1:]).square() / wide).exp()
        believed = row[..., :, None] * column[..., None, :]
        believed = believed / believed.sum((-1, -2), keepdim=True).clamp(min=1e-9) + _ELSEWHERE / self.cells**2
        p = believed * where.mass
        return p / p.sum((-1, -2), keepdim=True).clamp(min=1e-12)

    def expected(self, where: Whereabouts, place: Tensor, variance: Tensor) -> Tensor:
        """Mean place (B, N, 2) of each slot, by what is believed and what was not found; arguments as in `chance`."""
        p = self.chance(where, place, variance)
        middle = (2 * torch.arange(self.cells).to(place) + 1) / self.cells - 1
        return torch.stack([p.sum(-2) @ middle, -(p.sum(-1) @ middle)], -1)

    def information(self, where: Whereabouts, place: Tensor, variance: Tensor, r: float) -> Tensor:
        """What is expected of each window, (B, W); r: variance of a measurement, the rest as in `chance`."""
        p = self.chance(where, place, variance)
        worth = torch.log1p(variance / r) if self.worth == "nats" else variance.square() / (variance + r)
        expected = torch.einsum("bnij,bn->bij", p, worth)
        inside = self._inside(self.corners)
        return torch.einsum("bij,wi,wj->bw", expected, *inside.unbind(1))

    def look(self, where: Whereabouts, place: Tensor, variance: Tensor, r: float) -> Tensor:
        """The corner (B, 2) of the best window of each problem; arguments as in `information`."""
        return self.corners[self.information(where, place, variance, r).argmax(1)]

    def looked(self, where: Whereabouts, corner: Tensor, place: Tensor, seen: Tensor) -> Whereabouts:
        """One step on: what was looked at through windows at corners (B, 2), slots found there, seen (B, N) bool, at
        places (B, N, 2), and the others not."""
        rows, columns = self._inside(corner).unbind(1)
        missed = where.mass * (1 - rows[:, None, :, None] * columns[:, None, None, :])
        near = self.chance(Whereabouts(torch.ones_like(missed)), place, torch.zeros_like(place[..., 0]))
        mass = torch.where(seen[..., None, None], near, missed)
        padded = F.pad(mass, (1, 1, 1, 1), mode="replicate")
        mass = (1 - self.spread) * mass + self.spread * F.avg_pool2d(padded, 3, 1)
        return Whereabouts(mass / mass.sum((-1, -2), keepdim=True).clamp(min=1e-12))

    def gone(self, corner: Tensor, place: Tensor, variance: Tensor, seen: Tensor, sure: float = 0.9) -> Tensor:
        """(B, N) bool: slots that had to be in the window if what is believed were right, and were not found."""
        half = self.scene / 2
        spot = torch.stack([half * (1 - place[..., 1]), half * (1 + place[..., 0])], -1)  # row and column, pixels
        wide = (half * variance.sqrt()).clamp(min=1e-3)[..., None]
        low = corner[:, None].to(place) + self.radius
        high = low + self.window - 2 * self.radius
        share = torch.special.ndtr((high - spot) / wide) - torch.special.ndtr((low - spot) / wide)
        return (share.prod(-1) > sure) & ~seen

    def _inside(self, corner: Tensor) -> Tensor:
        """Whether each row and each column of cells is looked at by windows at corners (W, 2): (W, 2, cells)."""
        middle = (torch.arange(self.cells) + 0.5) * self.scene / self.cells
        low = corner[..., None] + self.radius / 2
        return ((middle >= low) & (middle <= corner[..., None] + self.window - self.radius / 2)).float()

    def raster(self, steps: int) -> Tensor:
        """Corners (steps, 2) that cover the scene row by row, over and over, with no regard to what is believed."""
        sides = math.ceil(self.scene / self.window)
        along = [round(i * (self.scene - self.window) / max(sides - 1, 1) / 2) * 2 for i in range(sides)]
        once = torch.cartesian_prod(torch.tensor(along), torch.tensor(along)).view(-1, 2)
        return once.repeat(-(-steps // len(once)), 1)[:steps]
