"""Single cells are hidden, here and there. Knows nothing of pictures. Shapes: B rows, n cells, K of them hidden."""

from __future__ import annotations

import math

import msgspec
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.looking import Masked, Masks
from steersman.core.parts import register


class Random(Masks):
    """K = round(share · n) cells drawn without replacement are one target, the others context (He et al. 2022). For
    grids of any number of axes; every cell is equally often target.

    Raises:
        ConfigError: a share that hides nothing or everything.
    """

    @register(Masks)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="random"):
        """share: of the cells, hidden; MAE's."""

        share: float = 0.75

        def __post_init__(self) -> None:
            if not 0 < self.share < 1:
                raise ConfigError("a share within (0, 1)", f"{self.share}", "hide some cells, not all")

        def build(self) -> Random:
            return Random(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def uniform(self, grid: tuple[int, ...]) -> tuple[int, int]:
        n = math.prod(grid)
        if not 0 < self._hidden(n) < n:
            raise ConfigError(f"a share of {n} cells that hides some, not all", f"{self.config.share}",
                              "change the share, or use smaller patches")
        return 0, n

    def draw(self, grid: tuple[int, ...], shared: Tensor, u: Tensor) -> Masked:
        order, hidden = u.argsort(stable=True, dim=1), self._hidden(math.prod(grid))
        return Masked(order[:, hidden:], order[:, None, :hidden])

    def _hidden(self, n: int) -> int:
        return round(self.config.share * n)
