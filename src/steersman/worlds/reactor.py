"""A stirred-tank reactor of the chemical industry, many side by side: the plant of `examples/reactor`.

Knows no controller and no do-mpc; that it moves as do-mpc's simulator does is a test.
Shapes: B reactors, T steps; states (…, 4) as COLUMNS, actions (…, 2) as ACTIONS, conditions (…, 4) as CONDITIONS.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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
_SUBSTEPS = 5


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


@dataclass(frozen=True)
class Log:
    """What a plant's historian keeps: measurements (B, T+1, 4), actions (B, T, 2); float32."""

    measurements: Tensor
    actions: Tensor


def log(episodes: int, steps: int, generator: torch.Generator) -> Log:
    """Both inputs are set to random values within their bounds, each for 4 to 40 periods, while conditions vary."""
    low, high = (torch.tensor(x, dtype=torch.float64) for x in (LOW, HIGH))
    actions = levels(low, high, episodes, steps, 4, 40, generator).float()
    conditions = disturbances(episodes, steps, generator)
    state = torch.tensor(START, dtype=torch.float64).expand(episodes, -1)
    states = [state]
    for t in range(steps):  # time is sequential
        state, _ = advance(state, actions[:, t].double(), conditions[:, t])
        states.append(state)
    return Log(measured(torch.stack(states, 1), generator).float(), actions)
