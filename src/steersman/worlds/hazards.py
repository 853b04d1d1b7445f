"""Hazards: an inertial point among still and moving obstacles. Motion, clearance and layouts, vectorised over episodes.

Knows nothing of Gymnasium, pictures, goals' energies or learning. Lengths in m, times in s; y points up.

Shapes: B episodes, N obstacles (still ones first), L = N + 1 limits (each obstacle, then the arena's edge).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import msgspec
import torch
from torch import Tensor

from steersman.core import ActionError, ActionSpec, ConfigError, ObservationSpec, Signature
from steersman.core.records import TensorRecord, join, rows

SUBSTEPS = 4
SUCCESS_RADIUS = 0.5
STEP_LIMIT = 120
_CLEAR = 0.3  # m: between starts or goals and every obstacle
_APART = 4.0  # m between start and goal, at least
_LAYOUTS = 0  # seed of the layouts of a world that has few of them


class HazardsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the world is like; obstacles, start and goal are drawn anew for each episode.

    half, body     half the width of the square arena, and the radius of the point's body, m
    thrust         largest acceleration along each axis, m/s²
    drag           k of the quadratic drag -k |v| v, 1/m: top speed is √(thrust / drag) along an axis
    still, moving  numbers of obstacles
    radius         least and largest radius of an obstacle, m
    period         s: moving obstacles swing about the arena's middle with this period
    step           s from one decision to the next
    layouts        how many different layouts of obstacles there are, the same ones for every seed; 0: a new one for
                   each episode
    """

    half: float = 5.0
    body: float = 0.2
    thrust: float = 3.0
    drag: float = 0.3
    still: int = 3
    moving: int = 2
    radius: tuple[float, float] = (0.4, 0.8)
    period: float = 16.0
    step: float = 0.1
    layouts: int = 0

    def __post_init__(self) -> None:
        positive = min(self.half, self.body, self.thrust, self.drag, self.radius[0], self.period, self.step) > 0
        if not positive or min(self.still, self.moving, self.layouts) < 0 or self.still + self.moving < 1:
            raise ConfigError("sizes above 0 and at least one obstacle", f"{self}", "correct the world's configuration")
        if self.radius[0] > self.radius[1] or self.half < 2 * (self.radius[1] + self.body) + 1:
            raise ConfigError("a least and a largest radius that leave room in the arena",
                              f"{self.radius} in {2 * self.half:g} m", "widen the arena or shrink the obstacles")

    @property
    def obstacles(self) -> int:
        """N."""
        return self.still + self.moving

    @property
    def top_speed(self) -> float:
        """m/s, along an axis."""
        return math.sqrt(self.thrust / self.drag)

    @property
    def columns(self) -> tuple[str, ...]:
        """x, y, vx, vy, then dx, dy, ux, uy, r of each obstacle: its place and velocity relative to the point's, and
        its radius."""
        each = [f"{name}{i}" for i in range(self.obstacles) for name in ("dx", "dy", "ux", "uy", "r")]
        return ("x", "y", "vx", "vy", *each)

    @property
    def limits(self) -> tuple[str, ...]:
        """Names of the L limits."""
        return (*(f"obstacle {i}" for i in range(self.obstacles)), "edge")

    @property
    def signature(self) -> Signature:
        """One vector of `columns`; the action is the thrust (x, y) as a share of the largest."""
        vector = ObservationSpec("vector", (len(self.columns),), self.columns)
        return Signature({"vector": vector}, ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0)))


@dataclass(frozen=True)
class HazardState(TensorRecord):
    """B moments.

    position, velocity  (B, 2) of the point, m and m/s
    place, drift        (B, N, 2) of the obstacles: where they are and how they move
    radius              (B, N) of the obstacles
    """

    position: Tensor
    velocity: Tensor
    place: Tensor
    drift: Tensor
    radius: Tensor

    def __len__(self) -> int:
        return len(self.position)

    def __getitem__(self, rows: Tensor | slice) -> HazardState:
        return self.map(lambda x: x[rows])


def fullest(way: Tensor) -> Tensor:
    """The strongest action in a direction (…, 2): on the edge of the square of actions; 0 for no direction."""
    return way / way.abs().amax(-1, keepdim=True).clamp_min(1e-9)


def obstacles_after(config: HazardsConfig, state: HazardState, seconds: float) -> tuple[Tensor, Tensor]:
    """Place and drift (B, N, 2) of the obstacles later, exactly: p'' = -ω² p for those that move."""
    omega = 2 * math.pi / config.period
    cos, sin = math.cos(omega * seconds), math.sin(omega * seconds)
    moving = (torch.arange(config.obstacles) >= config.still)[:, None]
    place = torch.where(moving, cos * state.place + sin / omega * state.drift, state.place)
    return place, torch.where(moving, cos * state.drift - omega * sin * state.place, state.drift)


def move(config: HazardsConfig, position: Tensor, velocity: Tensor, force: Tensor) -> tuple[Tensor, Tensor]:
    """One substep of the point alone, (…, 2) each: v' = v + h (force - k |v| v), x' = x + h v' (semi-implicit Euler).
    """
    h = config.step / SUBSTEPS
    velocity = velocity + h * (force - config.drag * velocity.norm(dim=-1, keepdim=True) * velocity)
    return position + h * velocity, velocity


def edge(config: HazardsConfig, position: Tensor) -> Tensor:
    """Clearance (…) of the body at (…, 2) to the arena's edge, m; below 0 outside."""
    return config.half - config.body - position.abs().amax(-1)


def step(config: HazardsConfig, state: HazardState, action: Tensor) -> tuple[HazardState, Tensor]:
    """action (B, 2) held for one step -> the next state, and the least clearance on the way (B, L) in m.

    Nothing hinders: passing through an obstacle, or over the edge, is a clearance below 0, and the episode goes on.

    Raises:
        ActionError: wrong shape, NaN, or out of bounds.
    """
    if action.shape != state.position.shape or not bool((action.abs() <= 1 + 1e-5).all()):
        got = f"{tuple(action.shape)}, up to {float(action.abs().max()) if action.numel() else 0:g}"
        raise ActionError(f"actions {tuple(state.position.shape)} within [-1, 1]", got, "clip or reshape the action")
    force = config.thrust * action
    position, velocity, place = state.position, state.velocity, state.place
    least = torch.full((len(state), config.obstacles + 1), math.inf)
    for i in range(SUBSTEPS):
        following, velocity = move(config, position, velocity, force)
        ahead, drift = obstacles_after(config, state, (i + 1) * config.step / SUBSTEPS)
        near = swept(place - position[:, None], ahead - following[:, None]) - state.radius - config.body
        least = torch.minimum(least, torch.cat([near, edge(config, following)[:, None]], 1))
        position, place = following, ahead
    return HazardState(position, velocity, place, drift, state.radius), least


def swept(a: Tensor, b: Tensor) -> Tensor:
    """Least distance of segments a-b (…, 2) from the origin (…)."""
    along = b - a
    share = -(a * along).sum(-1) / along.square().sum(-1).clamp_min(1e-12)
    return (a + share.clamp(0, 1)[..., None] * along).norm(dim=-1)


def clearance(config: HazardsConfig, state: HazardState) -> Tensor:
    """Distance of the body to every limit now (B, L), m; below 0 inside an obstacle."""
    near = (state.place - state.position[:, None]).norm(dim=-1) - state.radius - config.body
    return torch.cat([near, edge(config, state.position)[:, None]], 1)


def reached(state: HazardState, goal: Tensor) -> Tensor:
    """(B,) bool: is the point near enough to its goal (B, 2)?"""
    return (state.position - goal).norm(dim=1) <= SUCCESS_RADIUS


# What is observed ------------------------------------------------------------------------------------------------


def observe(state: HazardState) -> Tensor:
    """The columns (B, C) of `HazardsConfig.columns`, float32."""
    near, drift = state.place - state.position[:, None], state.drift - state.velocity[:, None]
    each = torch.cat([near, drift, state.radius[..., None]], -1).flatten(1)
    return torch.cat([state.position, state.velocity, each], 1)


def state_of(config: HazardsConfig, columns: Tensor) -> HazardState:
    """The other way round: columns (B, C) -> the state that shows them."""
    each = columns[:, 4:].unflatten(1, (config.obstacles, 5))
    position, velocity = columns[:, :2], columns[:, 2:4]
    return HazardState(position, velocity, each[..., :2] + position[:, None], each[..., 2:4] + velocity[:, None],
                       each[..., 4])


def bad(config: HazardsConfig, columns: Tensor) -> Tensor:
    """Labels of logged moments, (…, C) -> (…) bool: inside an obstacle, or over the edge."""
    each = columns[..., 4:].unflatten(-1, (config.obstacles, 5))
    inside = each[..., :2].norm(dim=-1) < each[..., 4] + config.body
    return inside.any(-1) | (edge(config, columns[..., :2]) < 0)


# Layouts ---------------------------------------------------------------------------------------------------------


def sample_states(config: HazardsConfig, count: int, generator: torch.Generator) -> HazardState:
    """`count` random layouts with the point anywhere, at any speed up to the top, in an obstacle perhaps.

    Moving obstacles swing on ellipses that reach up to 0.9 of the way to the edge.
    """
    n, still, omega = config.obstacles, config.still, 2 * math.pi / config.period
    radius = config.radius[0] + (config.radius[1] - config.radius[0]) * torch.rand(count, n, generator=generator)
    room = config.half - config.radius[0]
    place = room * (2 * torch.rand(count, n, 2, generator=generator) - 1)
    reach = 0.9 * room * torch.rand(count, n, 1, generator=generator).sqrt()
    phase, share = 2 * math.pi * torch.rand(2, count, n, 1, generator=generator)
    first, second = _direction(count, n, generator), _direction(count, n, generator)
    swing = reach * share.cos().abs() * phase.cos() * first + reach * share.sin().abs() * phase.sin() * second
    drift = omega * reach * (share.sin().abs() * phase.cos() * second - share.cos().abs() * phase.sin() * first)
    moving = (torch.arange(n) >= still)[:, None]
    place, drift = torch.where(moving, swing, place), torch.where(moving, drift, 0.0)
    position = (config.half - config.body) * (2 * torch.rand(count, 2, generator=generator) - 1)
    speed = config.top_speed * torch.rand(count, 1, generator=generator)
    velocity = speed * _direction(count, 1, generator)[:, 0]
    if config.layouts:
        few = _layouts(config)
        which = torch.randint(config.layouts, (count,), generator=generator)
        place, drift, radius = few.place[which], few.drift[which], few.radius[which]
    return HazardState(position, velocity, place, drift, radius)


def _layouts(config: HazardsConfig) -> HazardState:
    """The `layouts` of a world that has few of them."""
    free = msgspec.structs.replace(config, layouts=0)
    return sample_states(free, config.layouts, torch.Generator().manual_seed(_LAYOUTS))


def sample_tasks(config: HazardsConfig, count: int, generator: torch.Generator) -> tuple[HazardState, Tensor]:
    """Starts at rest and goals (count, 2), 4 m apart at least: both 0.3 m clear of every obstacle now, goals of still
    ones for ever, and for the first 2 s no obstacle comes within 0.3 m of a point that stays where it starts.

    Raises:
        ConfigError: layouts so full that none is found.
    """
    found: list[tuple[HazardState, Tensor]] = []
    for _ in range(200):
        state = sample_states(config, 2 * count, generator)
        state = replace(state, velocity=torch.zeros_like(state.velocity))
        inner = config.half - config.body - _CLEAR
        goal = inner * (2 * torch.rand(2 * count, 2, generator=generator) - 1)
        good = (goal - state.position).norm(dim=1) >= _APART
        good &= (clearance(config, replace(state, position=goal))[:, : config.still] > _CLEAR).all(1)
        for seconds in torch.linspace(0, 2, 9).tolist():
            place, _ = obstacles_after(config, state, seconds)
            good &= (clearance(config, replace(state, place=place)) > _CLEAR).all(1)
        found.append(rows((state, goal), good))
        if sum(len(goal) for _, goal in found) >= count:
            return rows(join(found), slice(count))
    raise ConfigError("an arena with room for a start and a goal", f"{config}", "use fewer or smaller obstacles")


def sample_adversarial(config: HazardsConfig, count: int, generator: torch.Generator) -> HazardState:
    """`count` states that are hard to survive, a third of each kind in turn; all are clear of everything now.

    fast      between 60% and 100% of the top speed, towards an obstacle or the edge 0.1 to 2 m ahead
    close     0 to 0.3 m from an obstacle or the edge, any speed, any way
    cornered  fast into a corner of the arena, or towards one obstacle with another one behind

    Whether a way out exists is not asked: see `escapes.feasible`.
    """
    parts: list[HazardState] = []
    for kind in range(3):
        wanted, found = (count + 2 - kind) // 3, list[HazardState]()
        while sum(map(len, found)) < wanted:
            state = _trapped(config, 2 * wanted, kind, generator)
            found.append(state[(clearance(config, state) >= 0).all(1)])
        parts.append(join(found)[:wanted])
    order = torch.cat([torch.arange(len(part)) * 3 + kind for kind, part in enumerate(parts)]).argsort()
    return join(parts)[order]


def _trapped(config: HazardsConfig, count: int, kind: int, generator: torch.Generator) -> HazardState:
    """States of one kind of `sample_adversarial`: 0 fast, 1 close, 2 cornered."""
    draw = lambda *shape: torch.rand(*shape, generator=generator)  # noqa: E731
    state, each = sample_states(config, count, generator), torch.arange(count)
    which = torch.randint(config.obstacles, (count,), generator=generator)
    towards = _direction(count, 1, generator)[:, 0]
    gap = 0.3 * draw(count) if kind == 1 else 0.1 + 1.9 * draw(count)
    apart = state.radius[each, which] + config.body + gap
    position = state.place[each, which] - apart[:, None] * towards
    inner = config.half - config.body
    nearest = towards.abs() == towards.abs().amax(1, keepdim=True)
    beside = torch.where(nearest, towards.sign() * (inner - gap[:, None]), state.position)
    position = torch.where(draw(count, 1) < 0.3, beside, position)
    heading = torch.atan2(towards[:, 1], towards[:, 0]) + 0.6 * (2 * draw(count) - 1)
    speed = config.top_speed * (draw(count) if kind == 1 else 0.6 + 0.4 * draw(count))
    if kind == 1:
        heading = 2 * math.pi * draw(count)
    place = state.place
    if kind == 2:
        signs = torch.where(draw(count, 2) < 0.5, -1.0, 1.0)
        corner = draw(count) < 0.5
        position = torch.where(corner[:, None], signs * (inner - 0.2 - 1.3 * draw(count, 2)), position)
        inwards = torch.atan2(signs[:, 1], signs[:, 0]) + 0.6 * (2 * draw(count) - 1)
        heading = torch.where(corner, inwards, heading)
    ahead = torch.stack([heading.cos(), heading.sin()], 1)
    if kind == 2:
        other = (which + 1) % config.obstacles
        place = place.clone()
        place[each, other] = position - (1.0 + draw(count))[:, None] * ahead
    return HazardState(position, speed[:, None] * ahead, place, state.drift, state.radius)


def _direction(count: int, n: int, generator: torch.Generator) -> Tensor:
    """(count, n, 2) random unit vectors."""
    angle = 2 * math.pi * torch.rand(count, n, generator=generator)
    return torch.stack([angle.cos(), angle.sin()], -1)
