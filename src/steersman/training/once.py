"""A log of which each moment was encoded once, as far as encoding never changes (`Perception.fixed`).

Where a part of perception is frozen, everything that a training asks it for is known after one pass through the log.
Knows perception by core's abstract class. Shapes: N moments of all episodes, B windows, L steps.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from steersman.core.boxes import Perception
from steersman.core.signature import Signature
from steersman.core.types import Observation, Window
from steersman.training.source import WindowSource

_ROWS = 256  # moments that are encoded at a time


class EncodedOnce:
    """A `WindowSource` whose windows hold what `encode` takes in place of observations, all of it in memory.

    Everything else (actions, exogenous inputs, what was measured, signature, lengths) is the log's own.
    """

    def __init__(self, source: WindowSource, perception: Perception, device: torch.device) -> None:
        self._source = source
        self.lengths = source.lengths
        steps = torch.as_tensor(self.lengths)
        moments = torch.where(steps < _least(source), 0, steps + 1)  # an episode without a step gives no window
        self._steps, self._rows = (x.cumsum(0) - x for x in (steps, moments))  # number of the first of each episode
        pieces = [piece for e, count in enumerate(steps.tolist()) for piece in _pieces(source, e, count)]
        modes = {module: module.training for module in perception.modules()}
        perception.eval()
        try:
            found = [_fixed(perception, piece.observations, device) for piece in pieces]
        finally:
            for module, mode in modes.items():
                module.training = mode
        self._observations = {name: torch.cat([one[name] for one in found]) for name in found[0]}
        self._actions = torch.cat([piece.actions[0, : piece.actions.shape[1]] for piece in pieces])
        known = [piece.exogenous[0] for piece in pieces if piece.exogenous is not None]
        self._exogenous = torch.cat(known) if known else None

    @property
    def signature(self) -> Signature:
        return self._source.signature

    @property
    def fingerprint(self) -> str:
        return self._source.fingerprint

    def windows(self, episode: Tensor, start: Tensor, length: int) -> Window:
        steps = (self._steps[episode] + start)[:, None] + torch.arange(length)
        rows = (self._rows[episode] + start)[:, None] + torch.arange(length + 1)
        known = None if self._exogenous is None else self._exogenous[steps]
        return Window({name: x[rows] for name, x in self._observations.items()}, self._actions[steps], known,
                      episode.clone(), start.clone())


def encoded_once(source: WindowSource, perception: Perception, device: torch.device) -> WindowSource:
    """The same log, encoded as far as that never changes; `source` itself where nothing of the perception is fixed, or
    where observations are not all measured in every row."""
    long = (torch.as_tensor(source.lengths) >= _least(source)).nonzero()[:, 0]
    if not len(long) or source.signature.slow:
        return source
    first = source.windows(long[:1], torch.tensor([0]), min(1, int(source.lengths[int(long[0])])))
    probe = {name: x[:, :1].to(device) for name, x in first.observations.items()}
    return source if perception.fixed(probe) is None else EncodedOnce(source, perception, device)


def _least(source: WindowSource) -> int:
    """Steps that a window has at least: where nobody acts, a single moment is one."""
    return int(source.signature.action.kind != "none")


def _pieces(source: WindowSource, episode: int, count: int) -> list[Window]:
    """An episode in windows that follow one another; the last moment of each but the last is the first of the next,
    and is left out. Of an episode too short for a window there are none."""
    found, where = list[Window](), torch.tensor([episode])
    if count < _least(source):
        return found
    for start in range(0, max(count, 1), _ROWS):
        length = min(_ROWS, count - start)
        window: Any = source.windows(where, torch.tensor([start]), length)
        if start + length < count:
            window = replace(window, observations={name: x[:, :-1] for name, x in window.observations.items()})
        found.append(window)
    return found


@torch.no_grad()
def _fixed(perception: Perception, observation: Observation, device: torch.device) -> dict[str, Tensor]:
    """(1, n, …) -> (n, …) on the CPU."""
    made = perception.fixed({name: x.to(device) for name, x in observation.items()})
    assert made is not None
    return {name: x[0].float().cpu() for name, x in made.items()}
