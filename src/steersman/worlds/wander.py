"""Random wandering in two rooms: logs as a user's recording would be, without goal or reward, and labelled frames.

The walker keeps its heading with some noise and draws its speed anew at each step. After a bump it mostly goes on
pushing: contact is the rare event that a world model must learn. Shapes: B arenas, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from steersman.core import Episode
from steersman.worlds import rooms
from steersman.worlds.rooms_sampling import RoomsSettings, displacement, sample_free, sample_layouts
from steersman.worlds.trials import Labelled

HEADING_NOISE = 0.5  # rad a step
TURN_AFTER_BUMP = 0.2  # probability
_SETTLED = 16  # steps walked before a labelled frame


def walk(layout: rooms.Layout, start: Tensor, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Wander from `start` (B, 2) -> positions (B, steps+1, 2), actions (B, steps, 2)."""
    n = len(layout)
    heading = 2 * math.pi * torch.rand(n, generator=generator)
    position, positions, actions = start, [start], []
    for _ in range(steps):  # time is sequential: contact decides the next heading
        speed = torch.rand(n, generator=generator).sqrt()
        action = speed[:, None] * torch.stack([heading.cos(), heading.sin()], 1)
        position, touched = rooms.move(layout, position, displacement(action, n))
        positions.append(position)
        actions.append(action)
        fresh = 2 * math.pi * torch.rand(n, generator=generator)
        turn = touched & (torch.rand(n, generator=generator) < TURN_AFTER_BUMP)
        heading = torch.where(turn, fresh, heading + HEADING_NOISE * torch.randn(n, generator=generator))
    return torch.stack(positions, 1), torch.stack(actions, 1)


def wander(
    config: RoomsSettings, episodes: int, steps: int, seed: int, chunk: int = 256
) -> Iterator[list[Episode]]:
    """Yield `episodes` recordings of `steps` steps, `chunk` at a time; uniform starts, a new layout each."""
    generator = torch.Generator().manual_seed(seed)
    for first in range(0, episodes, chunk):
        n = min(chunk, episodes - first)
        layout = sample_layouts(config, n, generator)
        positions, actions = walk(layout, sample_starts(layout, generator), steps, generator)
        frames = rooms.Painter(layout, config.noise, generator).frames(positions, generator)
        yield [
            Episode({"image": f}, a, info={"world": "TwoRooms"})
            for f, a in zip(frames.unbind(0), actions.unbind(0), strict=True)
        ]


def label(config: RoomsSettings, count: int, before: int, generator: torch.Generator) -> Labelled:
    """`count` wanderings of the log's kind; of each, one frame is labelled with the position, columns x and y in px."""
    layout = sample_layouts(config, count, generator)
    positions, actions = walk(layout, sample_starts(layout, generator), max(_SETTLED, before), generator)
    frames = rooms.Painter(layout, config.noise, generator).frames(positions[:, -before - 1 :], generator)
    return Labelled({"image": frames}, actions[:, actions.shape[1] - before :], positions[:, -1], ("x", "y"))


def sample_starts(layout: rooms.Layout, generator: torch.Generator) -> Tensor:
    """Uniform free places (B, 2), one in each layout: where a log begins."""
    room = torch.multinomial(_room_widths(layout), 1, generator=generator)[:, 0]
    return sample_free(layout, room, generator)


def _room_widths(layout: rooms.Layout) -> Tensor:
    ends = torch.tensor([[rooms.LOW - rooms.REACH]]), torch.tensor([[rooms.HIGH + rooms.REACH]])
    edges = torch.cat([ends[0].expand(len(layout), 1), layout.wall_x, ends[1].expand(len(layout), 1)], 1)
    return (edges.diff(dim=1) - 2 * rooms.REACH).clamp_min(0.1)
