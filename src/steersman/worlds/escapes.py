"""Whether a state of Hazards can be survived: a way out that is found by trying, or a proof that there is none.

Reads the true dynamics; for evaluation, never for an agent. Shapes: B states, M manoeuvres, T steps, N obstacles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.core.records import TensorRecord
from steersman.worlds.hazards import (
    SUBSTEPS,
    HazardsConfig,
    HazardState,
    clearance,
    edge,
    fullest,
    move,
    obstacles_after,
    swept,
)

REST = 0.05  # m/s: at rest
_AT_ONCE = 1 << 16  # manoeuvres rolled out together


@dataclass(frozen=True)
class Escape(TensorRecord):
    """What is known of B states.

    exists      (B,) bool: a manoeuvre was found that keeps the clearance and comes to rest (sound: never claimed
                without one)
    impossible  (B,) bool: proved that none exists. Neither: not known
    slack       (B,) m: the largest, over the manoeuvres tried until one kept clear, of the least clearance on its way;
                -inf where impossible
    """

    exists: Tensor
    impossible: Tensor
    slack: Tensor


def feasible(
    config: HazardsConfig, state: HazardState, *, steps: int = 30, directions: int = 24,
    lengths: tuple[int, ...] = (0, 1, 2, 3, 5, 7, 10, 14), keep: float = 0.0,
) -> Escape:
    """Is there a way to stay more than `keep` m clear of everything for `steps` steps, and to be at rest then?

    Tried: full thrust in each of `directions` directions for each of `lengths` steps, then braking at full thrust
    against the velocity; moving obstacles are followed exactly, and the way is swept, not sampled.

    Proof of impossibility: drag is monotone, so two motions from one state whose forces differ by at most F are at
    most F t² / 2 apart after t. Coasting (no force) therefore stays within √2 · thrust · t² / 2 of every motion; where
    a ball of that radius around it lies wholly inside an obstacle, or over the edge, at some t, nothing helps.
    """
    impossible = _impossible(config, state, steps)
    exists = torch.zeros(len(state), dtype=torch.bool)
    slack = torch.full((len(state),), -math.inf)
    fan = 2 * math.pi * torch.arange(directions) / directions
    ways = fullest(torch.stack([fan.cos(), fan.sin()], 1))
    for length in lengths:  # a loop over kinds of manoeuvre; who has one is not asked again
        rows = (~exists & ~impossible).nonzero()[:, 0]
        push = ways if length else ways[:1]
        for piece in rows.split(max(1, _AT_ONCE // len(push))):
            least, speed = _roll(config, state[piece], push, length, steps)
            least = torch.where(speed <= REST, least, -math.inf).amax(1)
            slack[piece] = torch.maximum(slack[piece], least)
        exists = slack > keep
    return Escape(exists, impossible, slack)


def braking(config: HazardsConfig, velocity: Tensor) -> Tensor:
    """The action (…, 2) that brakes hardest: full thrust against the velocity, less if that would turn it around."""
    most = velocity.abs().amax(-1, keepdim=True)
    return -velocity / torch.maximum(most, torch.tensor(config.thrust * config.step))


def _roll(config: HazardsConfig, state: HazardState, push: Tensor, length: int, steps: int) -> tuple[Tensor, Tensor]:
    """Least clearance on the way and speed at its end, (B, M) each."""
    m = len(push)
    position = state.position[:, None].expand(-1, m, -1)
    velocity = state.velocity[:, None].expand(-1, m, -1)
    size = (state.radius + config.body)[:, None]
    place, least = state.place, clearance(config, state).amin(1, keepdim=True).expand(-1, m)
    for t in range(steps):
        force = config.thrust * (push.expand_as(velocity) if t < length else braking(config, velocity))
        for i in range(SUBSTEPS):
            following, velocity = move(config, position, velocity, force)
            ahead, _ = obstacles_after(config, state, (t + (i + 1) / SUBSTEPS) * config.step)
            near = swept(place[:, None] - position[:, :, None], ahead[:, None] - following[:, :, None]) - size
            least = torch.minimum(torch.minimum(least, near.amin(-1)), edge(config, following))
            position, place = following, ahead
    return least, velocity.norm(dim=-1)


def _impossible(config: HazardsConfig, state: HazardState, steps: int) -> Tensor:
    """(B,) bool: every motion collides."""
    lost = (clearance(config, state) < 0).any(1)
    position, velocity = state.position, state.velocity
    none, h = torch.zeros_like(velocity), config.step / SUBSTEPS
    for i in range(1, steps * SUBSTEPS + 1):
        position, velocity = move(config, position, velocity, none)
        spread = math.sqrt(0.5) * config.thrust * (i * h) ** 2 * (1 + 1 / i)  # of discrete sums: a little more
        place, _ = obstacles_after(config, state, i * h)
        inside = state.radius + config.body - (place - position[:, None]).norm(dim=-1)
        lost |= (inside > spread).any(1) | (-edge(config, position) > spread)
    return lost
