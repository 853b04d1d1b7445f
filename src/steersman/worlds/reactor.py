"""A stirred-tank reactor of the chemical industry, many side by side: the plant of `examples/reactor`.

Knows no controller and no do-mpc; that it moves as do-mpc's simulator does is a test.
Shapes: B reactors, T steps; states (…, 4) as COLUMNS, actions (…, 2) as ACTIONS, conditions (…, 4) as CONDITIONS.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from steersman.core import ActionSpec, ColumnGoal, Episode, Observation, ObservationSpec, Signature
from steersman.core.records import TensorRecord
from steersman.worlds.trials import Simulated, World

COLUMNS = ("C_a", "C_b", "T_R", "T_K")
"""Concentrations of educt and product in mol/l; temperatures of reactor and jacket in °C."""
ACTIONS = ("F", "Q_dot")
"""Feed per volume in 1/h; heat taken from the jacket in kJ/h."""
CONDITIONS = ("alpha", "beta", "feed", "feed_temperature")
"""Not measured: factors on the side reaction's activation energy and on the main reaction's rate; concentration of
educt in the feed in mol/l; temperature of the feed in °C."""

LOW, HIGH = (5.0, -8500.0), (100.0, 0.0)
NOMINAL = (1.0, 1.0, 5.1, 130.0)
LEAST, MOST = (0.99, 0.92, 4.7, 126.0), (1.01, 1.08, 5.5, 134.0)
"""What conditions range over while a plant is running."""
START = (0.8, 0.5, 134.14, 130.0)
NOISE = (0.01, 0.01, 0.2, 0.2)
"""Standard deviation of a measurement of each column."""
PERIOD = 0.005
"""Hours from one decision to the next: 18 s."""
LIMIT = 140.0
"""°C that the reactor must never exceed: the limit of do-mpc's published example."""
TARGETS = (0.7, 0.9)
"""Set-points of the product in mol/l."""
SCALE = {"C_b": 0.1, "T_R": 20.0}
"""Errors that count as 1 in what controllers minimise: of the product in mol/l, and of the reactor in °C."""
WARMTH = LIMIT
"""°C at which the plant is best run, for hot is quick: two inputs and one set-point would leave it open."""
SIGNATURE = Signature({"vector": ObservationSpec("vector", (4,), COLUMNS)},
                      ActionSpec("continuous", LOW, HIGH, names=ACTIONS))
_SUBSTEPS = 5
_NEAR, _HELD = 0.02, 10  # mol/l from the set-point, and periods on end: success


def derivative(state: Tensor, action: Tensor, conditions: Tensor) -> Tensor:
    """d state / dt per hour of the reactions A -> B -> C, 2 A -> D under cooling.

        C_a' = F (C_A0 - C_a) - k1 C_a - k3 C_a²          k1 = β 1.287e12 exp(-9758.3 / T)
        C_b' = -F C_b + k1 C_a - k2 C_b                   k2 = 1.287e12 exp(-9758.3 / T)
        T_R' = -(4.2 k1 C_a - 11 k2 C_b - 41.85 k3 C_a²) / (ρ c) + F (T_in - T_R) + K (T_K - T_R) / (ρ c V)
        T_K' = (Q + K (T_R - T_K)) / (m_K c_K)            k3 = 9.043e9 exp(-8560 α / T), T = T_R + 273.15

    Source: Klatt & Engell 1998, with the parameters of do-mpc's published example (Fiedler et al. 2023).
    """
    educt, product, reactor, jacket = state.unbind(-1)
    flow, heat = action.unbind(-1)
    alpha, beta, feed, feed_temperature = conditions.unbind(-1)
    kelvin = reactor + 273.15
    k2 = 1.287e12 * torch.exp(-9758.3 / kelvin)
    k1 = beta * k2
    k3 = 9.043e9 * torch.exp(-8560.0 * alpha / kelvin)
    capacity = 0.9342 * 3.01  # kJ/(l K)
    through_wall = 4032.0 * 0.215 * (jacket - reactor)  # kJ/h
    reactions = 4.2 * k1 * educt - 11.0 * k2 * product - 41.85 * k3 * educt.square()
    return torch.stack([
        flow * (feed - educt) - k1 * educt - k3 * educt.square(),
        -flow * product + k1 * educt - k2 * product,
        -reactions / capacity + flow * (feed_temperature - reactor) + through_wall / (capacity * 10.01),
        (heat - through_wall) / (5.0 * 2.0),
    ], -1)


def advance(state: Tensor, action: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor]:
    """One period by the classical Runge-Kutta method: (B, 4) -> the state after it, and the hottest T_R on the way.

    float64 in, float64 out; its error over a period is below 1e-5 in every column's unit, or 1e-6 of it.
    """
    h, hottest = PERIOD / _SUBSTEPS, state[..., 2]
    for _ in range(_SUBSTEPS):  # time is sequential
        a = derivative(state, action, conditions)
        b = derivative(state + h / 2 * a, action, conditions)
        c = derivative(state + h / 2 * b, action, conditions)
        d = derivative(state + h * c, action, conditions)
        state = state + h / 6 * (a + 2 * b + 2 * c + d)
        hottest = torch.maximum(hottest, state[..., 2])
    return state, hottest


def measured(state: Tensor, generator: torch.Generator) -> Tensor:
    """What instruments say of a state: independent normal errors of deviation NOISE."""
    noise = torch.randn(state.shape, generator=generator, dtype=state.dtype)
    return state + noise * torch.tensor(NOISE, dtype=state.dtype)


def levels(
    low: Tensor, high: Tensor, batch: int, steps: int, shortest: int, longest: int, generator: torch.Generator
) -> Tensor:
    """Random steps: (B, T, n) values uniform in [low, high] (n,), each held for `shortest` to `longest` periods."""
    size = len(low)
    spells = -(-steps // shortest)
    held = torch.randint(shortest, longest + 1, (batch, spells, size), generator=generator)
    value = low + (high - low) * torch.rand(batch, spells, size, generator=generator, dtype=low.dtype)
    spell = (torch.arange(steps)[None, :, None, None] >= held.cumsum(1)[:, None]).sum(2)
    return value.gather(1, spell)


def disturbances(batch: int, steps: int, generator: torch.Generator) -> Tensor:
    """Conditions (B, T, 4) as a plant meets them: every one steps to another value every 40 to 120 periods."""
    low, high = (torch.tensor(x, dtype=torch.float64) for x in (LEAST, MOST))
    return levels(low, high, batch, steps, 40, 120, generator)


class Plant(World, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bring the product to a set-point and hold it there, through disturbances, below the limit of temperature."""

    step_limit: ClassVar[int] = 120
    success: ClassVar[str] = f"{_HELD} periods on end within {_NEAR:g} mol/l of the set-point"
    violation: ClassVar[str] = f"hotter than {LIMIT:g} °C"
    recorded: ClassVar[tuple[int, int]] = (100, 200)

    @property
    def signature(self) -> Signature:
        return SIGNATURE

    def begin(self, count: int, seed: int) -> Plants:
        """From START, with a set-point each."""
        generator = torch.Generator().manual_seed(seed % 2**63)
        conditions = disturbances(count, self.step_limit, generator)
        target = TARGETS[0] + (TARGETS[1] - TARGETS[0]) * torch.rand(count, generator=generator)
        start = torch.tensor(START, dtype=torch.float64).expand(count, -1)
        time = torch.zeros(count, dtype=torch.long)
        return Plants(SIGNATURE, Operation(start, start[:, 2], conditions, target, time, time), generator)

    def log(self, episodes: int, steps: int, seed: int) -> Iterator[Episode]:
        """What a plant's historian has: both inputs are set to random values within their bounds, each for 4 to 40
        periods, while conditions vary."""
        generator = torch.Generator().manual_seed(seed)
        low, high = (torch.tensor(x, dtype=torch.float64) for x in (LOW, HIGH))
        actions = levels(low, high, episodes, steps, 4, 40, generator).float()
        conditions = disturbances(episodes, steps, generator)
        states = [torch.tensor(START, dtype=torch.float64).expand(episodes, -1)]
        for t in range(steps):  # time is sequential
            states.append(advance(states[-1], actions[:, t].double(), conditions[:, t])[0])
        seen = measured(torch.stack(states, 1), generator).float()
        return (Episode({"vector": o}, a) for o, a in zip(seen, actions, strict=True))


@dataclass(frozen=True)
class Operation(TensorRecord):
    """B plants in operation.

    state (B, 4); hottest (B,) T_R within the last period; conditions (B, T, 4) of every period; target (B,) set-points
    time  (B,) periods gone; near  (B,) how many of the last ones on end were near the set-point
    """

    state: Tensor
    hottest: Tensor
    conditions: Tensor
    target: Tensor
    time: Tensor
    near: Tensor


class Plants(Simulated):
    """B plants in operation, seen through their instruments."""

    def goals(self) -> ColumnGoal:
        return ColumnGoal({"C_b": self.state.target, "T_R": torch.full((len(self),), WARMTH)}, SCALE)

    def observe(self) -> Observation:
        return {"vector": measured(self.state.state, self.generator).float()}

    def advance(self, action: Tensor) -> Operation:
        now: Operation = self.state
        here = torch.arange(len(now.time)), now.time.clamp(max=now.conditions.shape[1] - 1)
        state, hottest = advance(now.state, action.double(), now.conditions[here])
        near = torch.where((state[:, 1] - now.target).abs() <= _NEAR, now.near + 1, 0)
        return Operation(state, hottest, now.conditions, now.target, now.time + 1, near)

    def solved(self) -> Tensor:
        return self.state.near >= _HELD  # type: ignore[no-any-return]

    def bad(self) -> Tensor:
        return self.state.hottest > LIMIT  # type: ignore[no-any-return]
