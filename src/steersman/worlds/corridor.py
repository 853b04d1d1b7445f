"""Corridor: a short way over a bridge that the wind may sweep, a long way round, and exact answers for every attitude
to risk. Its outcome has two modes: a model that predicts the mean predicts a place where nobody ever is.

Shapes: B walkers, H steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from steersman.core import ActionError, ActionSpec, ColumnGoal, ConfigError, ObservationSpec, Signature
from steersman.worlds.trials import Simulated, World

BRIDGE = 0.5  # |y| below this is on the bridge's line


@dataclass(frozen=True)
class Outcome:
    """A distribution of total energy: values with their probabilities, ascending by value."""

    values: tuple[float, ...]
    probabilities: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Σ p v."""
        return sum(p * v for p, v in zip(self.probabilities, self.values, strict=True))

    @property
    def worst(self) -> float:
        """The largest value that may happen."""
        return max(v for p, v in zip(self.probabilities, self.values, strict=True) if p > 0)

    def cvar(self, share: float) -> float:
        """Conditional value at risk: the mean of the worst `share` of outcomes (Rockafellar & Uryasev 2000).

        >>> Outcome((8.0, 28.0), (0.9, 0.1)).cvar(0.2)
        18.0

        Raises:
            ConfigError: a share outside (0, 1].
        """
        if not 0 < share <= 1:
            raise ConfigError("a share in (0, 1]", f"{share}", "1 is the mean, towards 0 the worst")
        left, total = share, 0.0
        for p, v in sorted(zip(self.probabilities, self.values, strict=True), key=lambda x: -x[1]):
            taken = min(p, left)
            total, left = total + taken * v, left - taken
        return total / share


class Corridor:
    """A walker that goes one step along x at a time and steers y; half-way there is a bridge.

        x' = x + 1,  y' = clamp(y + a / 2, -1, 1);  the step onto the bridge (x' = length / 2) is the one that matters:
        with |y'| < 0.5 it leads over the bridge, where with probability `wind` the walker is swept off: y' = -3, and
        it stays there; with |y'| >= 0.5 it leads round, safely.

    Energy of a step: 1; `detour` more for the step that leads round; `fall` more for being swept off. Columns x, y.

    So every action sequence has one of two outcomes, and which is better depends on the attitude to risk:

    >>> world = Corridor()
    >>> world.best("mean"), world.best("worst"), world.best(0.5)
    ('bridge', 'round', 'round')
    """

    class Config(World, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """length: steps of an episode, even; wind: probability; detour, fall: energies. By default the mean prefers
        the bridge (2 < 3), CVaR of the worst half does not (4 > 3)."""

        length: int = 8
        wind: float = 0.1
        detour: float = 3.0
        fall: float = 20.0

        def __post_init__(self) -> None:
            if self.length < 4 or self.length % 2 or not 0 <= self.wind <= 1 or min(self.detour, self.fall) < 0:
                raise ConfigError("an even length >= 4, wind in [0, 1], energies >= 0", f"{self}",
                                  "correct the world's configuration")

        success: ClassVar[str] = "at the far end, not swept off"
        violation: ClassVar[str] = "swept off the bridge"
        recorded: ClassVar[tuple[int, int]] = (2000, 8)

        @property
        def step_limit(self) -> int:  # type: ignore[override]
            """The length: every step goes on."""
            return self.length

        @property
        def signature(self) -> Signature:
            return Corridor(self).signature

        def begin(self, count: int, seed: int) -> Walkers:
            world = Corridor(self)
            return Walkers(world, world.start(count), torch.Generator().manual_seed(seed % 2**63))

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Corridor.Config()

    @property
    def signature(self) -> Signature:
        """One vector of x, y; the action steers y."""
        vector = ObservationSpec("vector", (2,), ("x", "y"))
        return Signature({"vector": vector}, ActionSpec("continuous", (-1.0,), (1.0,), names=("side",)))

    def start(self, count: int) -> Tensor:
        """(count, 2) walkers at the corridor's beginning, in its middle."""
        return torch.zeros(count, 2)

    def step(self, state: Tensor, action: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """state (…, 2), action (…, 1), z (…) uniform on (0, 1), the wind's draw -> next state (…, 2), energy (…).

        Raises:
            ActionError: an action out of bounds.
        """
        if not bool((action.abs() <= 1 + 1e-5).all()):
            raise ActionError("actions within [-1, 1]", f"{float(action.abs().max()):g}", "clip the action")
        x, y = state.unbind(-1)
        fallen = y < -2
        aside = (y + action[..., 0] / 2).clamp(-1, 1)
        here = (x + 1 == self.config.length / 2) & ~fallen
        over = here & (aside.abs() < BRIDGE)
        swept = over & (z < self.config.wind)
        following = torch.where(fallen | swept, -3.0, aside)
        energy = 1 + self.config.detour * (here & ~over) + self.config.fall * swept
        return torch.stack([x + 1, following], -1), energy

    def mean_step(self, state: Tensor, action: Tensor) -> Tensor:
        """The mean of the next state (…, 2): what a model without a latent variable learns at best."""
        lucky, _ = self.step(state, action, torch.ones_like(state[..., 0]))
        unlucky, _ = self.step(state, action, torch.full_like(state[..., 0], -1.0))
        return torch.lerp(lucky, unlucky, self.config.wind)

    def rollout(self, actions: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """actions (B, H, 1), z (B, H) -> states (B, H+1, 2), energies (B, H)."""
        states, energies = [self.start(len(actions))], []
        for t in range(actions.shape[1]):
            state, energy = self.step(states[-1], actions[:, t], z[:, t])
            states.append(state)
            energies.append(energy)
        return torch.stack(states, 1), torch.stack(energies, 1)

    # Exact answers -----------------------------------------------------------------------------------------------

    def plan(self, way: str) -> Tensor:
        """Actions (length, 1) that go "bridge" or "round".

        Raises:
            ConfigError: another way.
        """
        self.outcome(way)
        actions = torch.zeros(self.config.length, 1)
        if way == "round":
            actions[:2] = 1.0
        return actions

    def outcome(self, way: str) -> Outcome:
        """The total energy of a whole episode that goes this way.

        Raises:
            ConfigError: another way.
        """
        c, steps = self.config, float(self.config.length)
        if way == "round":
            return Outcome((steps + c.detour,), (1.0,))
        if way == "bridge":
            return Outcome((steps, steps + c.fall), (1 - c.wind, c.wind))
        raise ConfigError("'bridge' or 'round'", repr(way), "name one of the two ways")

    def best(self, attitude: str | float) -> str:
        """The way of least mean ("mean"), of least worst case ("worst"), or of least CVaR of that share of outcomes."""

        def value(way: str) -> float:
            outcome = self.outcome(way)
            if attitude == "mean":
                return outcome.mean
            return outcome.worst if attitude == "worst" else outcome.cvar(float(attitude))

        return min(("bridge", "round"), key=value)

    def turning_point(self) -> float:
        """The share of worst outcomes at which both ways are alike in CVaR: more averse than that goes round.

        wind · fall / share = detour for a share >= wind; infinite where the bridge is never worth it (share > 1).
        """
        if self.config.detour == 0:
            return math.inf
        share = self.config.wind * self.config.fall / self.config.detour
        return share if share <= 1 else math.inf


class Walkers(Simulated):
    """B walkers; the wind is drawn for each of their steps."""

    def __init__(self, world: Corridor, state: Tensor, generator: torch.Generator) -> None:
        super().__init__(world.signature, state, generator)
        self.world = world

    def goals(self) -> ColumnGoal:
        end = torch.full((len(self),), float(self.world.config.length))
        return ColumnGoal({"x": end, "y": torch.zeros_like(end)}, {"x": 1.0, "y": 1.0})

    def advance(self, action: Tensor) -> Tensor:
        return self.world.step(self.state, action, torch.rand(len(self), generator=self.generator))[0]

    def solved(self) -> Tensor:
        return (self.state[:, 0] >= self.world.config.length) & ~self.bad()

    def bad(self) -> Tensor:
        return self.state[:, 1] < -2  # type: ignore[no-any-return]

    def where(self) -> Tensor:
        return self.state  # type: ignore[no-any-return]
