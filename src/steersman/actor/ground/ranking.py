"""Feasibility first: the one order in which every planner here ranks candidates. Shapes: B problems, K candidates."""

from __future__ import annotations

import torch
from torch import Tensor


def feasibility_first(energy: Tensor, violation: Tensor, feasible: Tensor) -> Tensor:
    """Indices (B, K), best first: feasible candidates by energy, then the others by violation (Deb 2000).

    energy and violation (B, K) without NaN, feasible (B, K) bool. No weight trades one against the other. Ties keep
    their order, so a problem's ranking does not depend on its neighbours.
    """
    by_value = torch.where(feasible, energy, violation).argsort(dim=1, stable=True)
    groups = (~feasible.gather(1, by_value)).to(torch.uint8)
    return by_value.gather(1, groups.argsort(dim=1, stable=True))
