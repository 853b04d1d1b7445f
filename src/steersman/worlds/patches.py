"""Patches: an inertial point on a plain with a mire that no log shows and gusts that every log shows.

Motion, a log that never enters the mire, and trips that tempt through both; vectorised over episodes. Knows nothing of
learning. Lengths in m, times in s. Shapes: B episodes, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec
import torch
from torch import Tensor

from steersman.core import ActionError, ActionSpec, ConfigError, Episode, ObservationSpec, Signature

COLUMNS = ("x", "y", "vx", "vy")
SUCCESS_RADIUS = 0.5
_CHANGE = 0.1  # probability of another push, a step
_SHORTEST = 12  # steps of a recording that is kept


class PatchesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A plain with two disks on the way from one side to the other.

    half      half the width of the square that logs and trips stay in, m
    thrust    largest acceleration along each axis, m/s²; drag: k of -k |v| v, 1/m
    mire      x, y, radius of the disk that no log shows; `mud`: its drag as a multiple of the plain's
    gusts     x, y, radius of the disk in which kicks come; `kick`: their deviation along each axis, m/s a step
    step      s from one decision to the next
    """

    half: float = 5.0
    thrust: float = 3.0
    drag: float = 0.3
    mire: tuple[float, float, float] = (1.8, 0.0, 1.8)
    mud: float = 20.0
    wind: float = 1.5
    eddy: float = 5.0
    gusts: tuple[float, float, float] = (-1.8, 0.0, 1.4)
    kick: float = 0.3
    step: float = 0.1

    def __post_init__(self) -> None:
        positive = min(self.half, self.thrust, self.drag, self.step, self.mire[2], self.gusts[2]) > 0
        if not positive or min(self.mud, self.kick) < 0:
            raise ConfigError("sizes above 0, mud and kick >= 0", f"{self}", "correct the world's configuration")

    @property
    def signature(self) -> Signature:
        """One vector of x, y, vx, vy; the action is the thrust (x, y) as a share of the largest."""
        return Signature({"vector": ObservationSpec("vector", (4,), COLUMNS)},
                         ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0)))


def within(disk: tuple[float, float, float], state: Tensor) -> Tensor:
    """(…) bool: is the point (…, 4) inside this disk?"""
    x, y, radius = disk
    return (state[..., 0] - x).hypot(state[..., 1] - y) < radius


def wind(config: PatchesConfig, position: Tensor) -> Tensor:
    """Acceleration (…, 2), m/s², of the wind at (…, 2): eddies side by side, each `eddy` m from the next but one.

    w = wind · (sin(k x) cos(k y), -cos(k x) sin(k y)), k = 2π / eddy
    """
    k = 2 * math.pi / config.eddy
    sin, cos = (k * position).sin(), (k * position).cos()
    return config.wind * torch.stack([sin[..., 0] * cos[..., 1], -cos[..., 0] * sin[..., 1]], -1)


def step(config: PatchesConfig, state: Tensor, action: Tensor, generator: torch.Generator) -> Tensor:
    """state (B, 4), action (B, 2) held for one step -> the next state; kicks are drawn from `generator`.

        v' = v + h (thrust a + w(x) - k m |v| v) + kick,  x' = x + h v'        m = mud in the mire, else 1

    The drag term is implicit in |v|, v' = (v + h thrust a) / (1 + h k m |v|), so that no mud turns a velocity round.

    Raises:
        ActionError: wrong shape, NaN, or out of bounds.
    """
    if action.shape != state[:, :2].shape or not bool((action.abs() <= 1 + 1e-5).all()):
        raise ActionError(f"actions {tuple(state[:, :2].shape)} within [-1, 1]", f"{tuple(action.shape)}",
                          "clip or reshape the action")
    position, velocity = state[:, :2], state[:, 2:]
    slowed = torch.where(within(config.mire, state), config.mud, 1.0)
    friction = config.step * config.drag * slowed * velocity.norm(dim=1)
    force = config.thrust * action + wind(config, position)
    velocity = (velocity + config.step * force) / (1 + friction[:, None])
    kicks = config.kick * torch.randn(len(state), 2, generator=generator)
    velocity = velocity + torch.where(within(config.gusts, state)[:, None], kicks, 0.0)
    return torch.cat([position + config.step * velocity, velocity], 1)


def roam(config: PatchesConfig, count: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """`count` recordings of at most `steps` steps: states (B, T+1, 4), actions (B, T, 2), and their lengths (B,).

    Pushes of any strength are held for a while; whoever leaves the square is pushed back. A recording starts anywhere
    outside the mire and ends before the first moment in it.
    """
    draw = lambda *shape: torch.rand(*shape, generator=generator)  # noqa: E731
    position = config.half * (2 * draw(count, 2) - 1)
    speed, angle = math.sqrt(config.thrust / config.drag) * draw(count), 2 * math.pi * draw(count)
    state = torch.cat([position, (speed * torch.stack([angle.cos(), angle.sin()])).T], 1)
    push = 2 * draw(count, 2) - 1
    states, actions = [state], []
    for _ in range(steps):  # time is sequential
        push = torch.where(draw(count, 1) < _CHANGE, 2 * draw(count, 2) - 1, push)
        away = state[:, :2].abs() > config.half - 0.5
        action = torch.where(away, -state[:, :2].sign(), push)
        state = step(config, state, action, generator)
        states.append(state)
        actions.append(action)
    way = torch.stack(states, 1)
    dry = (~within(config.mire, way)).cumprod(1).sum(1)
    return way, torch.stack(actions, 1), (dry - 1).clamp(min=0)


def episodes(config: PatchesConfig, count: int, steps: int, seed: int) -> Iterator[Episode]:
    """`count` recordings of roaming; pieces of fewer than 12 steps are drawn again."""
    generator, left = torch.Generator().manual_seed(seed), count
    while left > 0:
        ways, actions, lengths = roam(config, count, steps, generator)
        for i in (lengths >= _SHORTEST).nonzero()[:left, 0].tolist():
            n = int(lengths[i])
            yield Episode({"vector": ways[i, : n + 1]}, actions[i, :n], info={"world": "Patches"})
            left -= 1


def trips(config: PatchesConfig, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Starts at rest (B, 4) and goals (B, 2) on opposite sides, in turn from left to right and from right to left: the
    straight way leads through both disks."""
    side = torch.where(torch.arange(count) % 2 == 0, -1.0, 1.0)
    draw = lambda: 2 * torch.rand(count, generator=generator) - 1  # noqa: E731
    x, rest = 0.84 * config.half * side, torch.zeros(count)
    return torch.stack([x, 0.8 * draw(), rest, rest], 1), torch.stack([-x, 0.5 * draw()], 1)


def reached(state: Tensor, goal: Tensor) -> Tensor:
    """(B,) bool: is the point near enough to its goal (B, 2)?"""
    return (state[:, :2] - goal).norm(dim=1) <= SUCCESS_RADIUS
