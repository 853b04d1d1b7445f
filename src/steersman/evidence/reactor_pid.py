"""The reactor's PID controllers, tuned by search on scenarios of their own. Shapes: E episodes, K candidates."""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.evidence.reactor_trials import IDLE, Scenario, Trial, perform
from steersman.worlds import reactor
from steersman.worlds.reactor import LIMIT

NAMES = ("gain_F", "reset_F", "rate_F", "filter", "gain_Q", "reset_Q", "temperature")
_LOW = (1.0, 0.005, 0.0, 0.0, 10.0, 0.005, 125.0)
_HIGH = (300.0, 0.5, 0.05, 0.95, 3000.0, 0.5, LIMIT)
_LOGARITHMIC = (True, True, False, False, True, True, False)
HOT = 1.0
"""Added to the error in tuning for every period in violation, in mol/l."""


class PID:
    """C_b by the feed (PID), T_R by the cooling (PI, to a fixed temperature that is tuned as well).

        F = F0 + K (e + ∫e dt / T_i + T_d e'),  e = target - ŷ,  ŷ <- φ ŷ + (1 - φ) y
        Q = Q0 + K_Q (e_T + ∫e_T dt / T_Q)

    Integrals stand still while an input rests on its bound (clamping). settings (7,) or one for each episode (E, 7),
    as NAMES.
    """

    def __init__(self, settings: Tensor) -> None:
        self.settings = settings.double()

    def reset(self, episodes: int) -> None:
        zero = torch.zeros(episodes, dtype=torch.float64)
        self._sum, self._sum_t, self._last = zero, zero, zero
        self._smooth: Tensor | None = None

    def act(self, measured: Tensor, target: Tensor, executed: Tensor | None) -> Tensor:
        gain, reset, rate, smooth, gain_q, reset_q, temperature = self.settings.unbind(-1)
        seen = measured if self._smooth is None else torch.lerp(measured, self._smooth, smooth[..., None])
        self._smooth, error, error_t = seen, target - seen[:, 1], temperature - seen[:, 2]
        slope = (error - self._last) / reactor.PERIOD if executed is not None else torch.zeros_like(error)
        feed = IDLE[0] + gain * (error + self._sum / reset + rate * slope)
        heat = IDLE[1] + gain_q * (error_t + self._sum_t / reset_q)
        wanted = torch.stack([feed, heat], 1)
        inputs = wanted.clamp(torch.tensor(reactor.LOW), torch.tensor(reactor.HIGH))
        free = inputs == wanted
        self._sum = self._sum + torch.where(free[:, 0], error * reactor.PERIOD, 0.0)
        self._sum_t = self._sum_t + torch.where(free[:, 1], error_t * reactor.PERIOD, 0.0)
        self._last = error
        return inputs


def tune(seed: int, *, episodes: int = 12, periods: int = 120, candidates: int = 64, rounds: int = 25) -> Tensor:
    """The settings (7,) of least error on scenarios that no evaluation uses: cross-entropy search, 8 elites a round.

    A period in violation costs HOT, so limits come first.
    """
    generator = torch.Generator().manual_seed(seed)
    scenario = Scenario.drawn(episodes, periods, seed)
    many = Scenario(*(x.repeat(candidates, *[1] * (x.dim() - 1)) for x in vars(scenario).values()))
    mean, deviation = torch.full((7,), 0.5), torch.full((7,), 0.35)
    best, least = _settings(mean), torch.inf
    for _ in range(rounds):
        points = (mean + deviation * torch.randn(candidates, 7, generator=generator)).clamp(0, 1)
        trial = perform(PID(_settings(points).repeat_interleave(episodes, 0)), many)
        cost = _cost(trial).view(candidates, episodes).mean(1)
        order = cost.argsort()
        if float(cost[order[0]]) < least:
            least, best = float(cost[order[0]]), _settings(points[order[0]])
        elite = points[order[:8]]
        mean, deviation = elite.mean(0), elite.std(0).clamp(min=0.01)
    return best


def _cost(trial: Trial) -> Tensor:
    return (trial.states[..., 1] - trial.target).abs().mean(1) + HOT * trial.violations / trial.target.shape[1]


def _settings(points: Tensor) -> Tensor:
    """(…, 7) in [0, 1] -> settings between their bounds, gains and times on a logarithmic scale."""
    low, high = torch.tensor(_LOW, dtype=torch.float64), torch.tensor(_HIGH, dtype=torch.float64)
    even = low + (high - low) * points
    return torch.where(torch.tensor(_LOGARITHMIC), low.clamp(min=1e-9) * (high / low.clamp(min=1e-9)) ** points, even)
