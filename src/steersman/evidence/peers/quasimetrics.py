"""Quasimetrics: distances that obey the triangle inequality and need not be the same there as back.

Know nothing of what their points stand for. Shapes: … leading dimensions, D numbers of a point, K components.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from steersman.core import ConfigError

Kind = Literal["iqe", "mrn"]


def interval_union(x: Tensor, y: Tensor) -> Tensor:
    """Length of ∪_j [x_j, max(x_j, y_j)]: (…, K, L) twice -> (…, K).

    Ends are sorted; where more intervals have begun than ended, the line is covered.
    """
    ends = torch.cat([x, torch.maximum(x, y)], -1)
    begins = torch.cat([torch.ones_like(x), -torch.ones_like(x)], -1)
    ends, order = ends.sort(dim=-1, stable=True)
    open_ = begins.gather(-1, order).cumsum(-1)[..., :-1] > 0.5
    return (ends.diff(dim=-1) * open_).sum(-1)


class Quasimetric(nn.Module):
    """d(x, y) ≥ 0 with d(x, x) = 0 and d(x, z) ≤ d(x, y) + d(y, z).

        IQE   d = α max_k u_k + (1 - α) mean_k u_k, u_k the interval union of component k (Wang & Isola 2022)
        MRN   d = mean_k (max_j relu(x_j - y_j) + |x' - y'|), one half of a component each (Liu et al. 2023)

    α is learned, starting at 1/2. Points have `size` numbers, of which `component` make one component.

    Raises:
        ConfigError: sizes that do not divide.
    """

    def __init__(self, kind: Kind, size: int, component: int) -> None:
        super().__init__()
        if size < 1 or component < 1 or size % component or (kind == "mrn" and component % 2):
            raise ConfigError("a size that its components divide (halves of them, for mrn)", f"{size} by {component}",
                              "take 128 by 8")
        self.kind, self.component = kind, component
        self.mix = nn.Parameter(torch.zeros(())) if kind == "iqe" else None

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(…, D) twice -> (…)."""
        x, y = (points.unflatten(-1, (-1, self.component)) for points in torch.broadcast_tensors(x, y))
        if self.mix is not None:
            lengths, alpha = interval_union(x, y), self.mix.sigmoid()
            return alpha * lengths.amax(-1) + (1 - alpha) * lengths.mean(-1)
        (one, other), (one_y, other_y) = x.chunk(2, -1), y.chunk(2, -1)
        symmetric = ((other - other_y).square().sum(-1) + 1e-8).sqrt()
        return ((one - one_y).relu().amax(-1) + symmetric).mean(-1)
