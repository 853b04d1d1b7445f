"""Where the log has been, pair by pair of columns: what level 1 imagines elsewhere is not believed.

Shapes: F logged places, P entries of a place, Q = P (P - 1) / 2 pairs (P entries alone where P is 1), G cells a side.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from steersman.core.way_graph import Known

_FINEST, _COARSEST = 256, 8  # cells a side
_CLOSED = 2  # gaps of up to four cells are closed
_MISSED = 0.03  # share of held-out places that may count as unknown
_HELD_OUT = 0.1


def known_from(places: Tensor) -> Known:
    """Logged places (F, P), in the order of time -> where they were.

        known(x)  if for every pair (p, q) the cell of (x_p, x_q) belongs to what the log covers of that pair

    Cells of a pair are covered that were visited, those between them across gaps of up to four cells (a morphological
    closing: it fills holes and moves no edge), and those one cell around, for the model's own error. The widest range
    has 256 cells, or half as many as often as it takes until 97% of the last tenth of the log are known from the rest:
    fine where the log is dense, coarse where it is thin.

    A wall is where no log ever was, whatever the speed; a perceptron is smooth and imagines its way through. Which
    columns tell where walls stand need not be known: every pair is looked at.
    """
    p = places.shape[1]
    pairs = torch.combinations(torch.arange(p)) if p > 1 else torch.zeros(1, 2, dtype=torch.int64)
    low, high = places.amin(0), places.amax(0)
    span = (high - low).max().clamp_min(1e-6)  # places are in units in which all entries count alike: square cells
    earlier = max(1, int(len(places) * (1 - _HELD_OUT)))
    sides, seen = [], []
    for pair in pairs:  # over pairs of columns
        at = ((places - low) / span)[:, pair]
        side = _FINEST
        while side > _COARSEST and float((~_look(_covered(at[:earlier], side), at[earlier:])).float().mean()) > _MISSED:
            side //= 2
        covered = torch.zeros(_FINEST + 4, _FINEST + 4, dtype=torch.bool)
        covered[: side + 4, : side + 4] = _covered(at, side)
        sides.append(side)
        seen.append(covered)
    return Known(low, span, pairs, torch.tensor(sides), torch.stack(seen))


def is_known(known: Known, places: Tensor) -> Tensor:
    """(…, P) -> (…) bool."""
    at = ((places - known.low) / known.span)[..., known.pairs]  # (…, Q, 2)
    index = _cell(at, known.sides[:, None])
    wide = known.seen.shape[1]
    number = torch.arange(len(known.pairs), device=index.device)
    return known.seen.view(-1)[(number * wide + index[..., 0]) * wide + index[..., 1]].all(-1)


def is_known_on_the_way(known: Known, places: Tensor) -> Tensor:
    """Futures (…, H+1, P) -> (…, H) bool: known at each step, half-way there, and at all steps before."""
    half = (places[..., 1:, :] + places[..., :-1, :]) / 2
    steps = half.shape[-2]
    each = is_known(known, torch.cat([places[..., 1:, :], half], -2))
    return (each[..., :steps] & each[..., steps:]).cumprod(-1).bool()


def _covered(at: Tensor, side: int) -> Tensor:
    """Places (F, 2) in shares of the range -> (side + 4, side + 4) bool, with a margin of two cells, the outer of which
    stands for all that lies farther off and is never covered."""
    room = _CLOSED + 1
    grid = torch.zeros(1, 1, side + 4 + 2 * room, side + 4 + 2 * room)
    index = _cell(at, torch.tensor(side)) + room
    grid[0, 0, index[:, 0], index[:, 1]] = 1
    wide = 2 * _CLOSED + 1
    closed = -max_pool2d(-max_pool2d(grid, wide, 1, _CLOSED), wide, 1, _CLOSED)
    covered = max_pool2d(closed, 3, 1, 1)[0, 0, room:-room, room:-room] > 0
    return torch.nn.functional.pad(covered[1:-1, 1:-1], (1, 1, 1, 1))


def _look(covered: Tensor, at: Tensor) -> Tensor:
    index = _cell(at, torch.tensor(covered.shape[0] - 4))
    return covered[index[:, 0], index[:, 1]]


def _cell(at: Tensor, side: Tensor) -> Tensor:
    """Number of the cell, from 2; below and from side + 2 on is the margin. The greatest value is in the last cell."""
    place = (at * side).nan_to_num(nan=-2.0, posinf=1e6, neginf=-2.0)
    inside = torch.minimum(place.floor().clamp_min(-2), side.to(place) + 1).long() + 2
    return torch.where((at >= 1) & (at <= 1 + 1e-5), side + 1, inside)
