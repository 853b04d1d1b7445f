"""The walled room of lightly's tutorial on world models, as a world of ours, so that all packages run in it.

A room of 64 × 64 pixels, a wall with a door, an agent that is a square of 8 pixels; the facts are the tutorial's, the
code is ours. Lengths in pixels, places are those of the agent's top left corner. Shapes: B episodes, T steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from steersman.core import ActionSpec, ConfigError, Episode, Observation, ObservationGoal, ObservationSpec, Signature
from steersman.core.records import TensorRecord
from steersman.worlds import Labelled, Simulated, World
from steersman.worlds.held import holding

SIZE, AGENT, STEP = 64, 8.0, 6.0
WALL, DOOR = (30.0, 34.0), (24.0, 40.0)  # columns, rows
NEAR, FAR = 4.0, 8.0
"""A goal is reached within NEAR, and lies at least FAR away."""
_FARTHEST = SIZE - AGENT
_FLOOR, _WALL, _AGENT = (20, 20, 31), (140, 140, 153), (255, 153, 26)
_SIGNATURE = Signature({"image": ObservationSpec("image", (SIZE, SIZE, 3))},
                       ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0), names=("right", "down")))


class WalledRoom(World, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Reach the place where a random walk of `ahead` steps ends, within twice as many.

    ahead  steps of the walk; the tutorial has 4, 8 and 16
    hold   steps that the walk, and the log, keep an action for on average: it goes on with probability .8

    Success counts from the first step on which the agent is within 4 px; the tutorial looks at the last one only.

    Raises:
        ConfigError: a walk of no step.
    """

    step_limit: ClassVar[int] = 16
    success: ClassVar[str] = f"within {NEAR:g} px of the goal"
    recorded: ClassVar[tuple[int, int]] = (1000, 32)

    ahead: int = 8
    hold: float = 5.0

    def __post_init__(self) -> None:
        if self.ahead < 1:
            raise ConfigError("a walk of at least 1 step", f"{self.ahead}", "take 4, 8 or 16")

    @property
    def signature(self) -> Signature:
        return _SIGNATURE

    def begin(self, count: int, seed: int) -> _Walks:
        generator = torch.Generator().manual_seed(seed % 2**63)
        starts, goals = torch.empty(0, 2), torch.empty(0, 2)
        while len(starts) < count:
            places, _ = walk(4 * count, self.ahead, self.hold, generator)
            far = (places[:, -1] - places[:, 0]).norm(dim=1) >= FAR
            starts, goals = torch.cat([starts, places[far, 0]]), torch.cat([goals, places[far, -1]])
        return _Walks(_SIGNATURE, _Place(starts[:count], goals[:count]), generator)

    def log(self, episodes: int, steps: int, seed: int) -> Iterator[Episode]:
        """Walks that keep their action for a while; no goal, no reward."""
        generator = torch.Generator().manual_seed(seed)
        for first in range(0, episodes, 256):
            places, actions = walk(min(256, episodes - first), steps, self.hold, generator)
            for place, action in zip(places, actions, strict=True):
                yield Episode({"image": render(place)}, action)

    def labelled(self, count: int, before: int, generator: torch.Generator) -> Labelled:
        """The last moments of walks, with the agent's place, columns x and y in px."""
        places, actions = walk(count, max(before, 1), self.hold, generator)
        kept = actions[:, actions.shape[1] - before :]
        return Labelled({"image": render(places[:, places.shape[1] - before - 1 :])}, kept, places[:, -1], ("x", "y"))


@dataclass(frozen=True)
class _Place(TensorRecord):
    """Where the agent is, and is to be: (B, 2) each."""

    now: Tensor
    goal: Tensor


class _Walks(Simulated):
    def advance(self, action: Tensor) -> _Place:
        return _Place(move(self.state.now, action), self.state.goal)

    def observe(self) -> Observation:
        return {"image": render(self.state.now)}

    def goals(self) -> ObservationGoal:
        return ObservationGoal({"image": render(self.state.goal)})

    def solved(self) -> Tensor:
        return (self.state.now - self.state.goal).norm(dim=-1) < NEAR

    def where(self) -> Tensor:
        place: Tensor = self.state.now
        return place


def blocked(place: Tensor) -> Tensor:
    """(…, 2) -> (…) bool: the agent overlaps the wall beside the door."""
    x, y = place.unbind(-1)
    in_columns = (x < WALL[1]) & (x + AGENT > WALL[0])
    return in_columns & ~((y >= DOOR[0]) & (y + AGENT <= DOOR[1]))


def move(place: Tensor, action: Tensor) -> Tensor:
    """(B, 2), actions in [-1, 1]: along x, then along y, each stopped by the border and by the wall."""
    way = action.clamp(-1, 1) * STEP
    x, y = place.unbind(-1)
    x = (x + way[:, 0]).clamp(0, _FARTHEST)
    side = torch.where(way[:, 0] > 0, WALL[0] - AGENT, WALL[1])
    x = torch.where(blocked(torch.stack([x, y], -1)), side, x)
    y = (y + way[:, 1]).clamp(0, _FARTHEST)
    end = torch.where(way[:, 1] > 0, DOOR[1] - AGENT, DOOR[0])
    y = torch.where(blocked(torch.stack([x, y], -1)), end, y)
    return torch.stack([x, y], -1)


def walk(count: int, steps: int, hold: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """From free places anywhere -> places (count, steps + 1, 2), actions (count, steps, 2)."""
    place = torch.rand(count, 2, generator=generator) * _FARTHEST
    while bool((taken := blocked(place)).any()):
        place = torch.where(taken[:, None], torch.rand(count, 2, generator=generator) * _FARTHEST, place)
    act, places, actions = holding(_SIGNATURE.action, count, hold, generator), [place], list[Tensor]()
    for _ in range(steps):
        actions.append(act())
        places.append(move(places[-1], actions[-1]))
    return torch.stack(places, 1), torch.stack(actions, 1)


def render(place: Tensor) -> Tensor:
    """(…, 2) -> uint8 (…, 64, 64, 3): floor, wall, and the agent above both."""
    centre = torch.arange(SIZE) + 0.5
    x, y = place[..., 0, None, None], place[..., 1, None, None]
    agent = ((centre >= x) & (centre < x + AGENT)) & ((centre[:, None] >= y) & (centre[:, None] < y + AGENT))
    wall = (centre >= WALL[0]) & (centre < WALL[1]) & ~((centre >= DOOR[0]) & (centre < DOOR[1]))[:, None]
    floor, grey, orange = (torch.tensor(colour, dtype=torch.uint8) for colour in (_FLOOR, _WALL, _AGENT))
    scene = torch.where(wall[..., None], grey, floor)
    return torch.where(agent[..., None], orange, scene)
