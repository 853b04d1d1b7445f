"""Rows dealt to the members of an ensemble while it trains. Knows no predictor. Shapes: N rows, E members."""

from __future__ import annotations

import torch
from torch import Tensor


class Deal:
    """Rows dealt to members in turn, each group of E rows from another one, so that no member owns a start."""

    def __init__(self, rows: int, members: int, device: torch.device) -> None:
        row = torch.arange(-(-rows // members) * members, device=device)
        self.rows, self.members = rows, members
        self.member = (row + row // members) % members
        self.slot = row // members

    def scatter(self, x: Tensor) -> Tensor:
        """(N, …), shared, or (E, N, …), one a member -> (E, N / E, …): each member's own rows, padded."""
        order = torch.empty(self.members, len(self.slot) // self.members, dtype=torch.long, device=x.device)
        row = torch.arange(len(self.slot), device=x.device)
        order[self.member, self.slot] = row.clamp(max=self.rows - 1)
        if x.dim() == 2:
            return x[order]
        return x[torch.arange(self.members, device=x.device)[:, None], order]

    def owned(self) -> Tensor:
        """(E, N / E): which rows each member owns, padded."""
        return self.scatter(torch.arange(self.rows, device=self.slot.device)[:, None])[..., 0]

    def gather(self, x: Tensor) -> Tensor:
        """(E, N / E, …) -> (N, …)."""
        return x[self.member[: self.rows], self.slot[: self.rows]]
