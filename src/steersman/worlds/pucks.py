"""A table of pucks of which few move: one is pushed, and what it hits slides until friction stops it.

Knows no model. Shapes: B episodes, N pucks, T steps; a puck is (x, y, vx, vy, mine).
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from steersman.core import ActionError, ActionSpec, ConfigError

CELL = 2.0
"""Side of the square of table that there is for each puck, whatever their number."""


class Pucks(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """N pucks of one mass on a square table with walls; the first is the agent's, and an action pushes it.

        v ← (1 - friction) (v + push · a · mine), 0 below `still`;  x ← x + v
        two that touch and near each other exchange their speeds along the line between them, and are moved apart
        walls give back the speed

    The table grows with the number of pucks, so that one meets another as often; how many move does not depend on how
    many there are. Lengths are in units of which a puck's square of table has 2, speeds in lengths a step.

    count     N; radius  of a puck
    push      speed that a full action adds; friction  share of the speed that a step takes; still  speed that is none

    Raises:
        ConfigError: no puck, or pucks that do not fit into their squares.
    """

    count: int = 16
    radius: float = 0.35
    push: float = 0.07
    friction: float = 0.15
    still: float = 0.02

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 < 2 * self.radius < CELL:
            raise ConfigError(f"a puck or more, narrower than {CELL:g}", f"{self.count} of radius {self.radius:g}",
                              "correct count or radius")

    @property
    def action(self) -> ActionSpec:
        """The push along x and y."""
        return ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0), names=("push_x", "push_y"))

    @property
    def half(self) -> float:
        """From the middle of the table to a wall."""
        return CELL / 2 * self._side

    @property
    def _side(self) -> int:
        return int((self.count - 1) ** 0.5) + 1

    def start(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, N, 5): pucks at rest, none touching another: each somewhere in a square of its own."""
        side, room = self._side, CELL / 2 - self.radius
        squares = torch.rand(count, side**2, generator=generator).argsort(1)[:, : self.count]
        corner = torch.stack([squares % side, squares // side], -1) * CELL - self.half
        place = corner + CELL / 2 + room * (2 * torch.rand(count, self.count, 2, generator=generator) - 1)
        mine = torch.zeros(count, self.count, 1)
        mine[:, 0] = 1
        return torch.cat([place, torch.zeros_like(place), mine], -1)

    def step(self, states: Tensor, actions: Tensor) -> Tensor:
        """states (B, N, 5), actions (B, 2) -> (B, N, 5).

        Raises:
            ActionError: an action out of bounds.
        """
        if not bool((actions.abs() <= 1 + 1e-5).all()):
            raise ActionError("actions within [-1, 1]", f"{float(actions.abs().max()):g}", "clip the action")
        place, speed, mine = states.split([2, 2, 1], -1)
        speed = (1 - self.friction) * (speed + self.push * mine * actions[:, None])
        speed = torch.where(speed.norm(dim=-1, keepdim=True) < self.still, torch.zeros_like(speed), speed)
        place = place + speed
        wall = self.half - self.radius
        beyond = place.abs() > wall
        place = torch.where(beyond, place.sign() * 2 * wall - place, place)
        speed = torch.where(beyond, -speed, speed)
        place, speed = struck(place, speed, self.radius)
        return torch.cat([place, speed, mine], -1)

    def rollout(self, states: Tensor, actions: Tensor) -> Tensor:
        """states (B, N, 5), actions (B, T, 2) -> (B, T+1, N, 5)."""
        found = [states]
        for action in actions.unbind(1):  # time is sequential
            found.append(self.step(found[-1], action))
        return torch.stack(found, 1)

    def wander(self, episodes: int, steps: int, generator: torch.Generator, hold: int = 6) -> tuple[Tensor, Tensor]:
        """States (episodes, steps + 1, N, 5) and actions (episodes, steps, 2) of random pushes, each held for `hold`
        steps."""
        drawn = 2 * torch.rand(episodes, -(-steps // hold), 2, generator=generator) - 1
        actions = drawn.repeat_interleave(hold, 1)[:, :steps]
        return self.rollout(self.start(episodes, generator), actions), actions


def struck(place: Tensor, speed: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Discs of one mass and radius after every pair of them that touches: place and speed, (B, N, 2) each."""
    apart = place[:, :, None] - place[:, None]
    distance = apart.norm(dim=-1).clamp(min=1e-6)
    overlap = (2 * radius - distance).clamp(min=0)
    overlap = overlap * (1 - torch.eye(place.shape[1], device=place.device))
    along = apart / distance[..., None]
    nearing = ((speed[:, :, None] - speed[:, None]) * along).sum(-1).clamp(max=0) * (overlap > 0)
    moved = place + (overlap[..., None] * along / 2).sum(2)
    return moved, speed - (nearing[..., None] * along).sum(2)
