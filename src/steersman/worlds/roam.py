"""Logs of roaming in Hazards: what a user's recording would be, fast and slow, near and far, collisions included.

No goal, no reward. Shapes: B episodes, T steps, N obstacles.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from steersman.core import Episode
from steersman.worlds import hazards
from steersman.worlds.escapes import braking
from steersman.worlds.hazards import HazardsConfig, HazardState

_SHARE = (0.3, 0.25, 0.2, 0.15, 0.1)  # wander, dash, approach, brake, coast
_CHANGE = 0.12  # probability of another mood, a step
_OUTSIDE = 0.5  # m over the edge: roamers turn back
_NOISE = 0.6  # of the heading a step, while wandering


def roam(config: HazardsConfig, state: HazardState, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Roam from `state` (B) -> columns (B, steps+1, C), actions (B, steps, 2).

    Each roamer is in a mood and takes another one now and then: wander (any thrust, a heading that drifts), dash (full
    thrust in one direction, up to the corners of the square of actions), approach (towards an obstacle or the edge),
    brake, coast. Far outside the arena it turns back.
    """
    b = len(state)
    share = torch.tensor(_SHARE)
    draw = lambda *shape: torch.rand(*shape, generator=generator)  # noqa: E731
    mood = torch.multinomial(share.expand(b, -1), 1, generator=generator)[:, 0]
    heading, force, target = 2 * math.pi * draw(b), draw(b), _target(config, state, generator)
    columns, actions = [hazards.observe(state)], []
    for _ in range(steps):  # time is sequential
        change = draw(b) < _CHANGE
        mood = torch.where(change, torch.multinomial(share.expand(b, -1), 1, generator=generator)[:, 0], mood)
        turned = heading + _NOISE * torch.randn(b, generator=generator)
        heading = torch.where(change, 2 * math.pi * draw(b), torch.where(mood == 0, turned, heading))
        force = torch.where(change, draw(b), force)
        target = torch.where(change, _target(config, state, generator), target)
        action = _act(config, state, mood, heading, force, target)
        state, _ = hazards.step(config, state, action)
        columns.append(hazards.observe(state))
        actions.append(action)
    return torch.stack(columns, 1), torch.stack(actions, 1)


def _act(config: HazardsConfig, state: HazardState, mood: Tensor, heading: Tensor, force: Tensor, target: Tensor,
         ) -> Tensor:
    ahead = hazards.fullest(torch.stack([heading.cos(), heading.sin()], 1))
    rows = torch.arange(len(state))
    places = torch.cat([state.place, config.half * ahead[:, None]], 1)  # an obstacle, or somewhere at the edge
    towards = hazards.fullest(places[rows, target] - state.position)
    choices = torch.stack([force[:, None] * ahead, ahead, towards, braking(config, state.velocity),
                           torch.zeros_like(ahead)], 1)
    back = hazards.fullest(-state.position)
    outside = hazards.edge(config, state.position) < -_OUTSIDE
    return torch.where(outside[:, None], back, choices[rows, mood]).clamp(-1, 1)


def _target(config: HazardsConfig, state: HazardState, generator: torch.Generator) -> Tensor:
    return torch.randint(config.obstacles + 1, (len(state),), generator=generator)


def episodes(config: HazardsConfig, count: int, steps: int, seed: int, chunk: int = 256) -> Iterator[list[Episode]]:
    """Yield `count` recordings of `steps` steps, `chunk` at a time; a new layout, place and speed each.

    Which moments are bad is told by `hazards.bad` from their columns.
    """
    generator = torch.Generator().manual_seed(seed)
    for first in range(0, count, chunk):
        n = min(chunk, count - first)
        columns, actions = roam(config, hazards.sample_states(config, n, generator), steps, generator)
        yield [
            Episode({"vector": c}, a, info={"world": "Hazards"})
            for c, a in zip(columns.unbind(0), actions.unbind(0), strict=True)
        ]
