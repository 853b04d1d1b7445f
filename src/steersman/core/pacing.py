"""Rows of a log made into moments and steps of a model, and back: pictures stacked, actions in chunks.

What a pace is says `core.signature`. Shapes: B episodes, k rows a step, F pictures a moment, A action size of the
world.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import torch
from torch import Tensor

from steersman.core.signature import ActionSpec, Pace, Signature
from steersman.core.types import Observation


def stacked(pictures: Tensor) -> Tensor:
    """(…, F, H, W, C), the newest first -> (…, H, W, F·C)."""
    image: Tensor = pictures.movedim(-4, -2).flatten(-2)
    return image


def unstacked(images: Tensor, frames: int) -> Tensor:
    """(…, H, W, F·C) -> (…, F, H, W, C), the newest first."""
    pictures: Tensor = images.unflatten(-1, (frames, -1)).movedim(-2, -4)
    return pictures


def still(observation: Observation, signature: Signature) -> Observation:
    """An observation in which nothing moves, a goal for instance, as a model sees it: where one picture is given for a
    moment of several, it is stacked on itself. What is stacked already stays; signature: the model's."""
    specs, found = signature.observations, dict(observation)
    for name, x in observation.items():
        frames = specs[name].frames if name in specs else 1
        if frames > 1 and x.shape[-1] * frames == specs[name].shape[-1]:
            found[name] = x.repeat(*[1] * (x.dim() - 1), frames)
    return found


def chunked(actions: Tensor, spec: ActionSpec) -> Tensor:
    """Actions of the world (…, k, A) -> one action of the model (…, k·A), discrete (…, 1); spec: the model's."""
    if spec.kind != "discrete":
        return actions.flatten(-2)
    one: Tensor = (actions[..., 0] * _places(spec, actions)).sum(-1, keepdim=True)
    return one


def unchunked(actions: Tensor, spec: ActionSpec) -> Tensor:
    """Actions of the model (…, k·A), discrete (…, 1) -> actions of the world (…, k, A), the first one first."""
    if spec.kind != "discrete":
        amounts: Tensor = actions.unflatten(-1, (spec.chunk, -1))
        return amounts
    digits: Tensor = actions // _places(spec, actions) % spec.single.choices
    return digits[..., None]


def _places(spec: ActionSpec, like: Tensor) -> Tensor:
    """(k,): what each digit of a choice counts."""
    places: Tensor = spec.single.choices ** torch.arange(spec.chunk - 1, -1, -1, device=like.device)
    return places


class Past:
    """The last rows of B episodes, as far as a moment shows them."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self._rows: deque[Observation] = deque(maxlen=pace.before + 1)

    def add(self, row: Observation, on: Tensor | None = None) -> None:
        """One more row; episodes outside the mask `on` (B,) stay where they are."""
        if not self._rows:
            self._rows.extend([row] * (self.pace.before + 1))
            return
        if on is None or bool(on.all()):
            self._rows.append(row)
            return
        rows = [*self._rows, row]
        later = [
            {n: torch.where(on.view(-1, *[1] * (x.dim() - 1)), new[n], x) for n, x in old.items()}
            for old, new in pairwise(rows)
        ]
        self._rows.extend(later)

    def moment(self) -> Observation:
        """Pictures (B, H, W, F·C), the newest first; other observations as the last row has them."""
        now, pace = self._rows[-1], self.pace
        if pace.frames == 1:
            return now
        shown = [self._rows[-1 - i * pace.apart] for i in range(pace.frames)]
        return {
            name: stacked(torch.stack([row[name] for row in shown], 1)) if _pictures(x) else x
            for name, x in now.items()
        }

    def first(self, count: int) -> Past:
        few = Past(self.pace)
        few._rows.extend({name: x[:count] for name, x in row.items()} for row in self._rows)
        return few

    def rows(self, index: Tensor) -> Past:
        """Some of the episodes."""
        few = Past(self.pace)
        few._rows.extend({name: x[index] for name, x in row.items()} for row in self._rows)
        return few


def _pictures(x: Tensor) -> bool:
    """Whether a named observation (B, …) is pictures."""
    return x.dtype == torch.uint8 and x.dim() == 4
