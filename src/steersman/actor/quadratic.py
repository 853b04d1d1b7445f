"""Small convex quadratic programs, many side by side: the step of a planner whose limits have been made straight.

Knows matrices only. Shapes: B problems, n unknowns, m rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

_ROUNDS = 25
_GAP = 1e-9  # of complementarity and of rows, in units in which matrices are of size 1
_DEAR = 1e3  # price of breaking a row, in those units
_INSIDE = 0.995  # of the way to where the first number would reach 0


def solve_quadratic(
    hessian: Tensor, slope: Tensor, rows: Tensor, most: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    """The step d (B, n) and the prices of its rows (B, m) of

        min over d:  ½ dᵀ H d + cᵀ d + κ Σ max(0, A d - b) / |A|     low <= d <= high

    hessian H (B, n, n) positive semi-definite, slope c (B, n), rows A (B, m, n), most b (B, m), low < high (B, n).
    κ is a thousand times the size of H and c: rows are kept where that can be, and broken by little where it cannot
    (an exact penalty, Fletcher 1987). Rows that are 0, or not finite, are left out, at a price of 0.

    Infeasible-start primal-dual interior point method (Nocedal & Wright 2006, algorithm 16.4, without its corrector),
    in float64. Each problem is solved by itself: one that is over waits for the others.
    """
    given = slope
    hessian, slope, rows, most, low, high = (x.double() for x in (hessian, slope, rows, most, low, high))
    length = rows.norm(dim=2)
    used = (length > 1e-12 * length.amax(1, keepdim=True)) & length.isfinite() & most.isfinite() if rows.shape[1] else (
        length.bool())
    size = torch.where(used, length, 1.0)
    rows = torch.where(used[..., None], rows, 0.0) / size[..., None]
    most = torch.where(used, most, 1.0) / size
    unit = (hessian.flatten(1).abs().amax(1) + slope.abs().amax(1)).clamp(min=1e-300)[:, None]
    state = _Interior(hessian / unit[..., None], slope / unit, rows, most, low, high)
    for _ in range(_ROUNDS):
        if bool(state.step().all()):
            break
    return state.d.to(given), (state.price * unit / size * used).to(given)


class _Interior:
    """Where the method stands: d inside its bounds, row slack w and excess s, prices of rows λ < κ and of bounds."""

    def __init__(self, hessian: Tensor, slope: Tensor, rows: Tensor, most: Tensor, low: Tensor, high: Tensor) -> None:
        self.hessian, self.slope, self.rows, self.most, self.low, self.high = hessian, slope, rows, most, low, high
        room = (high - low) / 20
        self.d = torch.zeros_like(slope).clamp(low + room, high - room)
        left = most - self._along(self.d)
        self.slack, self.excess = left.clamp(min=0.1), (-left).clamp(min=0.1)
        self.price = torch.full_like(most, 1.0)
        self.below, self.above = torch.ones_like(slope), torch.ones_like(slope)
        self.over = torch.zeros_like(slope[:, :1], dtype=torch.bool)

    def step(self) -> Tensor:
        """One Newton step towards a tenth of the gap; which problems are over, (B, 1)."""
        to_low, to_high, spare = self.d - self.low, self.high - self.d, _DEAR - self.price
        pairs = ((self.price, self.slack), (spare, self.excess), (self.below, to_low), (self.above, to_high))
        count = 2 * (self.most.shape[1] + self.slope.shape[1])
        gap = torch.cat([a * b for a, b in pairs], 1).sum(1, keepdim=True) / count
        missed = self._along(self.d) - self.excess + self.slack - self.most
        uphill = (self.hessian @ self.d[..., None])[..., 0] + self.slope + self._back(self.price)
        wrong = torch.cat([missed.abs(), (uphill - self.below + self.above).abs()], 1).amax(1, keepdim=True)
        self.over = self.over | ((gap <= _GAP) & (wrong <= _GAP))
        aim = 0.1 * gap
        give = self.excess / spare + self.slack / self.price
        pull = missed + self.excess - self.slack + aim / self.price - aim / spare
        matrix = self.hessian + self.rows.mT @ (self.rows / give[..., None])
        matrix = matrix + torch.diag_embed(self.below / to_low + self.above / to_high)
        right = aim / to_low - aim / to_high - uphill - self._back(pull / give)
        factor, _ = torch.linalg.cholesky_ex(matrix)
        move = torch.cholesky_solve(right[..., None], factor)[..., 0]
        dearer = (self._along(move) + pull) / give
        moves = (
            (self.price, dearer), (spare, -dearer),
            (self.slack, aim / self.price - self.slack * (1 + dearer / self.price)),
            (self.excess, aim / spare - self.excess * (1 - dearer / spare)),
            (self.below, aim / to_low - self.below * (1 + move / to_low)),
            (self.above, aim / to_high - self.above * (1 - move / to_high)),
            (to_low, move), (to_high, -move),
        )
        share = torch.cat([torch.where(change < 0, -value / change, torch.inf) for value, change in moves], 1)
        share = (_INSIDE * share.amin(1, keepdim=True)).clamp(max=1)
        lost = ~torch.cat([change for _, change in moves], 1).isfinite().all(1, keepdim=True)
        self.over = self.over | lost
        go = lambda value, change: torch.where(self.over, value, value + share * change)  # noqa: E731
        self.d, self.price = go(self.d, move), go(self.price, dearer)
        self.slack, self.excess = go(*moves[2]), go(*moves[3])
        self.below, self.above = go(*moves[4]), go(*moves[5])
        return self.over

    def _along(self, d: Tensor) -> Tensor:
        return (self.rows @ d[..., None])[..., 0]

    def _back(self, prices: Tensor) -> Tensor:
        return (self.rows.mT @ prices[..., None])[..., 0]
