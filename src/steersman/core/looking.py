"""Ways of looking at the same moment: views (another picture of it) and masks (a part of it).

Both turn uniform noise that they are given into their choice: the same noise makes the same choice, on any number of
processes. Shapes: B rows (clips of T moments), n tokens of one moment, U uniform numbers a row, P parameters,
V visible tokens, M targets of K tokens each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from steersman.core.records import TensorRecord
from steersman.core.signature import Signature
from steersman.core.types import Observation


@dataclass(frozen=True)
class Looked(TensorRecord):
    """What a view shows.

    observation  the same names, each (B, T', *shape) as `View.shown` says; T' is T, or less where time is cropped
    parameters   (B, P) float32: what was chosen (a crop's place and size, an angle, a factor), in the view's own units
    """

    observation: Observation
    parameters: Tensor


class View(ABC):
    """A way of seeing a moment that leaves what it is about as it is. All T moments of a row are seen alike.

    A view is built for a signature, and refuses there what it cannot be had of. It holds no tensors.

    uniform     U: how many uniform numbers choose one row's view
    parameters  names of the P parameters
    shown       what observations look like afterwards: the signature it was built for, unless it cuts a part out
    """

    uniform: int
    parameters: tuple[str, ...]
    shown: Signature

    @abstractmethod
    def look(self, observation: Observation, u: Tensor) -> Looked:
        """Named observations, each (B, T, …), u (B, U) on (0, 1) -> the view. No loop over rows; a row of the result is
        a function of that row alone, bit for bit."""


@dataclass(frozen=True)
class Masked(TensorRecord):
    """Which tokens are seen and which are to be foreseen, of each of B moments.

    context  (B, V) int64: indices of the visible tokens, each once, in no particular order
    targets  (B, M, K) int64: indices of the tokens of each target; two targets may share some
    """

    context: Tensor
    targets: Tensor


class Masks(ABC):
    """A way of choosing context and targets among the tokens of a grid."""

    @abstractmethod
    def uniform(self, grid: tuple[int, ...]) -> tuple[int, int]:
        """How many uniform numbers choose what all rows share (block sizes, so that a batch is rectangular), and how
        many choose one row's masks.

        Raises:
            ConfigError: masks that are larger than the grid.
        """

    @abstractmethod
    def draw(self, grid: tuple[int, ...], shared: Tensor, u: Tensor) -> Masked:
        """grid (rows, columns) or (moments, rows, columns), shared (U',), u (B, U) -> masks. No loop over rows."""
