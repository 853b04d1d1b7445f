"""Small convex quadratic programs, many side by side: the step of a planner whose limits have been made straight.

Knows matrices only. Shapes: B problems, n unknowns, m rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

_ROUNDS = 25
_GAP = 1e-7  # of complementarity and of rows, in units in which matrices are of size 1
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

    Infeasible-start primal-dual interior point method with Mehrotra's corrector (Nocedal & Wright 2006, algorithm
    16.4), in float64. Each problem is solved by itself: one that is over waits for the others.
    """
    given = slope
    hessian, slope, rows, most, low, high = (x.double() for x in (hessian, slope, rows, most, low, high))
    length = rows.norm(dim=2).nan_to_num(nan=0.0, posinf=0.0)
    used = (length > 1e-12 * length.amax(1, keepdim=True) if rows.shape[1] else length.bool()) & most.isfinite()
    size = torch.where(used, length, 1.0)
    rows = torch.where(used[..., None], rows, 0.0) / size[..., None]
    most = torch.where(used, most, 1.0) / size
    unit = (hessian.flatten(1).abs().amax(1) + slope.abs().amax(1)).clamp(min=1e-300)[:, None]
    state = _Interior(hessian / unit[..., None], slope / unit, rows, most, low, high)
    for _ in range(_ROUNDS):
        if bool(state.step().all()):
            break
    return state.d.to(given), (state.price[:, : most.shape[1]] * unit / size * used).to(given)


class _Interior:
    """Where the method stands: d inside its bounds, and 2 (m + n) pairs of a price X and a distance Y, all above 0.

        row kept     λ        w = b - A d + s         bound below    z        d - low
        row broken   κ - λ    s                       bound above    z'       high - d
    """

    def __init__(self, hessian: Tensor, slope: Tensor, rows: Tensor, most: Tensor, low: Tensor, high: Tensor) -> None:
        self.hessian, self.slope, self.rows, self.most, self.columns = hessian, slope, rows, most, rows.mT.contiguous()
        self.wide, self.even = even(hessian), torch.nn.functional.pad(rows, (0, slope.shape[1] % 2))
        self.sizes = (most.shape[1], most.shape[1], low.shape[1], low.shape[1])
        room = (high - low) / 20
        self.d = torch.zeros_like(slope).clamp(low + room, high - room)
        left, one = most - _product(rows, self.d), torch.ones_like(most)
        bounds = torch.ones_like(slope)
        self.price = torch.cat([one, _DEAR - one, bounds, bounds], 1)
        self.distance = torch.cat([left.clamp(min=0.1), (-left).clamp(min=0.1), self.d - low, high - self.d], 1)
        self.over = torch.zeros_like(slope[:, :1], dtype=torch.bool)

    def step(self) -> Tensor:
        """One step; which problems are over, (B, 1)."""
        m = self.sizes[0]
        gap = (self.price * self.distance).mean(1, keepdim=True)
        kept, _, below, above = self.price.split(self.sizes, 1)
        slack, excess = self.distance[:, :m], self.distance[:, m : 2 * m]
        missed = _product(self.rows, self.d) - excess + slack - self.most
        uphill = _product(self.hessian, self.d) + self.slope + _product(self.columns, kept)
        wrong = torch.cat([missed, uphill - below + above], 1).abs().amax(1, keepdim=True)
        self.over = self.over | ((gap <= _GAP) & (wrong <= _GAP))
        ratio = self.price / self.distance
        give = 1 / ratio[:, :m] + 1 / ratio[:, m : 2 * m]
        matrix = self.wide + self.even.mT.contiguous() @ (self.even / give[..., None])
        bounds = ratio[:, 2 * m : -below.shape[1]] + ratio[:, -below.shape[1] :]
        matrix = matrix + torch.nn.functional.pad(bounds, (0, bounds.shape[1] % 2), value=1.0).diag_embed()
        factor, _ = torch.linalg.cholesky_ex(matrix)
        last = (missed - slack + excess, uphill, give, factor)
        _, price, distance = self._move(torch.zeros_like(gap), *last)
        share = self._share(price, distance)
        left = ((self.price + share * price) * (self.distance + share * distance)).mean(1, keepdim=True)
        aim = gap * (left / gap).clamp(0, 1) ** 3 - price * distance
        move, price, distance = self._move(aim, *last)
        self.over = self.over | ~(price.isfinite() & distance.isfinite()).all(1, keepdim=True)
        share = _INSIDE * self._share(price, distance)
        for name, by in (("d", move), ("price", price), ("distance", distance)):
            setattr(self, name, getattr(self, name) + torch.where(self.over, 0.0, share * by))
        return self.over

    def _move(self, aim: Tensor, missed: Tensor, uphill: Tensor, give: Tensor, factor: Tensor) -> tuple[Tensor, ...]:
        """Changes of d, prices and distances that bring their products to `aim`, as far as straight lines tell."""
        m, n = self.sizes[0], self.sizes[2]
        to_price, to_distance = aim / self.price, aim / self.distance
        pull = (missed + to_price[:, :m] - to_price[:, m : 2 * m]) / give
        right = to_distance[:, 2 * m : -n] - to_distance[:, -n:] - uphill - _product(self.columns, pull)
        move = torch.cholesky_solve(torch.nn.functional.pad(right, (0, n % 2))[..., None], factor)[:, :n, 0]
        dearer = _product(self.rows, move) / give + pull
        distance = torch.cat([move, -move], 1)
        bound = to_distance[:, 2 * m :] - self.price[:, 2 * m :] * (1 + distance / self.distance[:, 2 * m :])
        price = torch.cat([dearer, -dearer, bound], 1)
        row = to_price[:, : 2 * m] - self.distance[:, : 2 * m] * (1 + price[:, : 2 * m] / self.price[:, : 2 * m])
        return move, price, torch.cat([row, distance], 1)

    def _share(self, price: Tensor, distance: Tensor) -> Tensor:
        """How much of these changes leaves everything above 0, at most 1: (B, 1)."""
        share = torch.cat([-self.price / price.clamp(max=-1e-300), -self.distance / distance.clamp(max=-1e-300)], 1)
        return share.amin(1, keepdim=True).clamp(max=1)


def even(matrix: Tensor) -> Tensor:
    """(B, n, n), with a row and a column of zeros more where n is odd: matrices of an odd size begin, one after the
    other, at addresses that vector instructions treat differently, so that a problem's last bits would depend on its
    place in the batch."""
    odd = matrix.shape[-1] % 2
    return torch.nn.functional.pad(matrix, (0, odd, 0, odd))


def _product(matrix: Tensor, vector: Tensor) -> Tensor:
    """Summed by rows: a matrix product of one problem may round differently from one of many."""
    return (matrix * vector[:, None]).sum(2)
