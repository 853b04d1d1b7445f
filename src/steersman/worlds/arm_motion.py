"""The motion of an arm of three links in a horizontal plane: kinematics, inertia, stops; vectorised over arms.

Knows nothing of pictures, goals or learning. Lengths in m, angles in rad, times in s, torques in N m.

Shapes: B arms; joints (B, 3) are relative angles, the first one from the x axis; x to the right, y up.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.core import ActionError
from steersman.core.records import TensorRecord

LENGTHS = (0.4, 0.35, 0.25)
MASSES = (1.0, 0.6, 0.3)
"""kg, spread evenly along each link."""
ROTORS = (0.08, 0.04, 0.02)
"""kg m² that each motor adds to its own joint."""
TORQUES = (2.0, 0.8, 0.25)
"""The largest torque of each motor."""
FRICTION = (1.2, 0.4, 0.1)
"""N m s: torque that each joint's friction takes per rad/s, so that no joint turns faster than 1.7, 2 and 2.5 rad/s by
its own motor."""
STOPS = (2.9, 2.6, 2.6)
"""Each joint turns from -stop to stop."""
REACH = sum(LENGTHS)
_SWEEPS = 4  # over the three stops, where several are met at once


@dataclass(frozen=True)
class ArmState(TensorRecord):
    """joints, speeds  (B, 3) rad and rad/s."""

    joints: Tensor
    speeds: Tensor

    def __len__(self) -> int:
        return len(self.joints)


def places(joints: Tensor) -> Tensor:
    """Where the links begin and end, (…, 3) -> (…, 4, 2): the base at (0, 0), two elbows, the finger."""
    angle = joints.cumsum(-1)
    along = torch.stack([angle.cos(), angle.sin()], -1) * torch.tensor(LENGTHS)[:, None]
    return torch.cat([torch.zeros_like(along[..., :1, :]), along.cumsum(-2)], -2)


def finger(joints: Tensor) -> Tensor:
    """(…, 3) -> (…, 2) m."""
    return places(joints)[..., 3, :]


def inertia(joints: Tensor) -> Tensor:
    """M (B, 3, 3) of joint speeds: the kinetic energy is ½ q'ᵀ M q'.

    With absolute angles θ = L q (L: lower triangle of ones) uniform rods have the energy
    ½ Σ_ij W_ij cos(θ_i - θ_j) θ_i' θ_j', so M = Lᵀ (W ∘ cos(θ_i - θ_j)) L + diag(rotors).
    """
    angle = joints.cumsum(-1)
    coupled = _weights() * (angle[:, :, None] - angle[:, None]).cos()
    return _from_absolute(_from_absolute(coupled).mT).mT + torch.diag(torch.tensor(ROTORS))


def energy(state: ArmState) -> Tensor:
    """Kinetic energy (B,), J. The arm lies flat: there is no other."""
    return 0.5 * (state.speeds[:, None] * inertia(state.joints) * state.speeds[:, :, None]).sum((1, 2))


def step(state: ArmState, action: Tensor, seconds: float, substeps: int, friction: float = 1.0) -> ArmState:
    """action (B, 3), shares of the largest torques, held for `seconds`.

        M(q) q'' + Lᵀ [Σ_j W_ij sin(θ_i - θ_j) θ_j'²]_i + D q' = T a

    by semi-implicit Euler steps, friction implicit. A stop takes just the speed that would go past it, by an impulse at
    its own joint: v' = v - M⁻¹ e_i (v_i - u_i) / (M⁻¹)_ii, plastic, so that it never adds energy. friction: a factor,
    for tests of what the motion keeps.

    Raises:
        ActionError: wrong shape, NaN, or out of bounds.
    """
    if action.shape != state.joints.shape or not bool((action.abs() <= 1 + 1e-5).all()):
        got = f"{tuple(action.shape)}, up to {float(action.abs().max()) if action.numel() else 0:g}"
        raise ActionError(f"actions {tuple(state.joints.shape)} within [-1, 1]", got, "clip or reshape the action")
    h, joints, speeds, weights = seconds / substeps, state.joints, state.speeds, _weights()
    torque, drag = torch.tensor(TORQUES) * action, friction * torch.tensor(FRICTION)
    stop = torch.tensor(STOPS)
    for _ in range(substeps):  # time is sequential
        angle, turning = joints.cumsum(1), speeds.cumsum(1)
        swing = (weights * (angle[:, :, None] - angle[:, None]).sin() * turning[:, None].square()).sum(2)
        push = torque - drag * speeds - _from_absolute(swing)
        speeds = speeds + h * _times(_inverse(inertia(joints) + torch.diag(h * drag)), push)
        speeds = _stopped(joints, speeds, _inverse(inertia(joints)), stop, h)
        joints = torch.minimum(torch.maximum(joints + h * speeds, -stop), stop)
    return ArmState(joints, speeds)


def _stopped(joints: Tensor, speeds: Tensor, mobility: Tensor, stop: Tensor, h: float) -> Tensor:
    """Speeds (B, 3) that within h lead no joint past its stop; mobility is M⁻¹."""
    most, least = (stop - joints) / h, (-stop - joints) / h
    for _ in range(_SWEEPS):
        for i in range(3):
            past = speeds[:, i] - torch.minimum(torch.maximum(speeds[:, i], least[:, i]), most[:, i])
            speeds = speeds - mobility[:, :, i] * (past / mobility[:, i, i])[:, None]
    return speeds


def poses(count: int, generator: torch.Generator) -> Tensor:
    """Joints (count, 3), uniform between their stops."""
    return torch.tensor(STOPS) * (2 * torch.rand(count, 3, generator=generator) - 1)


def _weights() -> Tensor:
    """W (3, 3): W_ij = l_i l_j (mass beyond the farther of the two, and half its own; a third where i = j)."""
    rows = []
    for i in range(3):
        beyond = [sum(MASSES[max(i, j) + 1 :]) + MASSES[max(i, j)] * (1 / 3 if i == j else 1 / 2) for j in range(3)]
        rows.append([LENGTHS[i] * LENGTHS[j] * mass for j, mass in enumerate(beyond)])
    return torch.tensor(rows)


def _from_absolute(x: Tensor) -> Tensor:
    """Lᵀ x over the last axis: torques on absolute angles as torques on joints."""
    return x.flip(-1).cumsum(-1).flip(-1)


def _times(matrix: Tensor, x: Tensor) -> Tensor:
    """(B, 3, 3), (B, 3) -> (B, 3), by sums, so that an arm moves alone as among others."""
    return (matrix * x[:, None]).sum(2)


def _inverse(m: Tensor) -> Tensor:
    """Of symmetric (B, 3, 3), by cofactors."""
    a, b, c, d, e, f = m[:, 0, 0], m[:, 0, 1], m[:, 0, 2], m[:, 1, 1], m[:, 1, 2], m[:, 2, 2]
    first, second, third = d * f - e * e, c * e - b * f, b * e - c * d
    rest = a * f - c * c, b * c - a * e, a * d - b * b
    cofactors = torch.stack([first, second, third, second, rest[0], rest[1], third, rest[1], rest[2]], 1)
    return (cofactors / (a * first + b * second + c * third)[:, None]).view(-1, 3, 3)
