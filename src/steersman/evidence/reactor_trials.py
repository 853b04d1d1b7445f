"""What controllers of the reactor are put through: the same plant, disturbances, noise and set-points for each of them.

Knows no controller. Shapes: E episodes, T periods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from steersman.worlds import reactor
from steersman.worlds.reactor import LIMIT, TARGETS

WARM = 24
"""Periods that the plant runs with IDLE before a controller takes over; it sees their measurements."""
IDLE = (15.0, -5000.0)
MOVE = 0.036
"""Weight of a move of the inputs (mean square, in units of half their range) in what controllers minimise."""
HORIZON = 20


class Controller(Protocol):
    """Decides for E plants at once."""

    def reset(self, episodes: int) -> None: ...

    def act(self, measured: Tensor, target: Tensor, executed: Tensor | None) -> Tensor:
        """measured (E, 4), set-point (E,), what was executed since the last call (E, 2) -> inputs (E, 2)."""


@dataclass(frozen=True)
class Scenario:
    """conditions (E, T, 4), target (E, T), noise (E, T, 4); T counts the WARM periods."""

    conditions: Tensor
    target: Tensor
    noise: Tensor

    @classmethod
    def drawn(cls, episodes: int, periods: int, seed: int) -> Scenario:
        generator = torch.Generator().manual_seed(seed)
        conditions = reactor.disturbances(episodes, WARM + periods, generator)
        low, high = (torch.tensor([x], dtype=torch.float64) for x in TARGETS)
        target = reactor.levels(low, high, episodes, periods, 40, 60, generator)[..., 0]
        target = torch.cat([target[:, :1].expand(-1, WARM), target], 1)
        deviation = torch.tensor(reactor.NOISE, dtype=torch.float64)
        noise = deviation * torch.randn(episodes, WARM + periods, 4, generator=generator, dtype=torch.float64)
        return cls(conditions, target, noise)


@dataclass(frozen=True)
class Trial:
    """What happened after the WARM periods: states (E, T, 4), inputs (E, T, 2), hottest T_R within each period (E, T),
    target (E, T)."""

    states: Tensor
    inputs: Tensor
    hottest: Tensor
    target: Tensor

    @property
    def error(self) -> Tensor:
        """(E,) integrated tracking error ∫ |C_b - target| dt in mol h / l."""
        return (self.states[..., 1] - self.target).abs().sum(1) * reactor.PERIOD

    @property
    def violations(self) -> Tensor:
        """(E,) periods in which the reactor was hotter than the limit at any time."""
        return (self.hottest > LIMIT).sum(1)


def perform(controller: Controller, scenario: Scenario) -> Trial:
    """Run the plant under a controller; the target after a period is what its state is held against."""
    episodes, periods = scenario.target.shape
    controller.reset(episodes)
    state = torch.tensor(reactor.START, dtype=torch.float64).expand(episodes, -1)
    idle = torch.tensor(IDLE, dtype=torch.float64).expand(episodes, -1)
    executed: Tensor | None = None
    states: list[Tensor] = []
    inputs: list[Tensor] = []
    hottest: list[Tensor] = []
    for t in range(periods):  # time is sequential
        wanted = controller.act(state + scenario.noise[:, t], scenario.target[:, t], executed)
        executed = idle if t < WARM else wanted.double()
        state, peak = reactor.advance(state, executed, scenario.conditions[:, t])
        for past, now in ((states, state), (inputs, executed), (hottest, peak)):
            past.append(now)
    x, u, peaks = (torch.stack(past, 1)[:, WARM:] for past in (states, inputs, hottest))
    return Trial(x, u, peaks, scenario.target[:, WARM:])
