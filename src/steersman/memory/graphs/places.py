"""Where states are, in units in which a fast step of the log changes 1: columns where they can be read, else latents.

Shapes: n states, D latent size, P entries of a place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from steersman.core import Readout


def read_places(states: Tensor, readout: Readout | None, unit: Tensor | None = None, context: Tensor | None = None,
                ) -> Tensor:
    """(B, …, D) -> (B, …, P): the read-out's columns, or the states themselves, divided by `unit` (P,) if given."""
    values = states if readout is None else readout.read(states, context)
    return values if unit is None else values / unit


def units_of(pieces: Sequence[Tensor]) -> Tensor:
    """What a fast step changes: pieces of a log, each (T+1, P), in their own units -> (P,).

        u_p = r_p m,   r_p the root mean square of column p's change in a step,
                       m the median of |Δ / r| over the fast steps, those beyond half of its 98th percentile

    So all columns count alike by how fast they change: a speed that changes by a tenth of what the place does in a step
    weighs ten times as much. A column that never changes has an infinite unit: it tells no place from another.
    """
    change = torch.cat([piece.diff(dim=0) for piece in pieces])
    root = change.square().mean(0).sqrt()
    still = root <= 1e-9 * root.max().clamp_min(1e-12)
    root = torch.where(still, torch.inf, root)
    pace = (change / root).norm(dim=1)
    fast = pace[pace > 0.5 * pace.sort().values[int(0.98 * (len(pace) - 1))]]
    return root * (fast.median() if len(fast) else pace.new_ones(()))
