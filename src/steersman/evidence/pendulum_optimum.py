"""The best return that Pendulum-v1 allows, by dynamic programming on its true equations: what no learner can beat.

Knows Gymnasium's equations (g 10, m 1, l 1, dt .05) and nothing of steersman.

Shapes: A angles, V speeds, U torques.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

ANGLES, SPEEDS, TORQUES, STEPS = 241, 241, 17, 200
MOST_SPEED, MOST_TORQUE, DT = 8.0, 2.0, 0.05


def optimal_return(angle: Tensor, speed: Tensor, mass: float = 1.0) -> Tensor:
    """Return of the best 200 torques from each start, up to the grid's error (about 1 in 140).

    V_{k+1}(s) = max_u [ r(s, u) + V_k(f(s, u)) ], V_k read between grid points bilinearly, with
    r = -(θ² + .1 θ̇² + .001 u²) and f: θ̇' = clip(θ̇ + (15 sin θ + 3u / m) dt, ±8), θ' = θ + θ̇' dt.

    angle, speed  (N,) radians from upright, radians a second; mass  m, kg
    """
    angles = torch.linspace(-math.pi, math.pi, ANGLES)[:-1]
    speeds = torch.linspace(-MOST_SPEED, MOST_SPEED, SPEEDS)
    torques = torch.linspace(-MOST_TORQUE, MOST_TORQUE, TORQUES)
    theta, omega, torque = angles[:, None, None], speeds[None, :, None], torques
    after = (omega + (15 * theta.sin() + 3 / mass * torque) * DT).clamp(-MOST_SPEED, MOST_SPEED)  # (A, V, U)
    reward = -(theta.square() + 0.1 * omega.square() + 0.001 * torque.square())
    read = _Reader(theta + after * DT, after)
    value = torch.zeros(ANGLES - 1, SPEEDS)
    for _ in range(STEPS):
        value = (reward + read(value)).amax(-1)
    return _Reader(angle, speed)(value)


class _Reader:
    """Reads a table (A, V) between its points: around the circle in angle, clipped in speed."""

    def __init__(self, angle: Tensor, speed: Tensor) -> None:
        turn = torch.remainder(angle + math.pi, 2 * math.pi) / (2 * math.pi) * (ANGLES - 1)
        row = turn.floor().long() % (ANGLES - 1)
        place = (speed + MOST_SPEED) / (2 * MOST_SPEED) * (SPEEDS - 1)
        column = place.floor().long().clamp(0, SPEEDS - 2)
        self.share_row, self.share_column = turn - turn.floor(), place - column
        below, above = row * SPEEDS + column, (row + 1) % (ANGLES - 1) * SPEEDS + column
        self.corners = (below, below + 1, above, above + 1)

    def __call__(self, table: Tensor) -> Tensor:
        a, b, c, d = (table.flatten()[corner] for corner in self.corners)
        lower, upper = torch.lerp(a, b, self.share_column), torch.lerp(c, d, self.share_column)
        return torch.lerp(lower, upper, self.share_row)
