"""Small worlds that are tables, with stochastic transitions and exact values: the yardstick for discrete actions.

Knows no planner and no learned model. Shapes: B problems, K candidates, H horizon, S states, C choices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import msgspec
import torch
from torch import Tensor

from steersman.core import (
    ActionSpec,
    ConfigError,
    Cost,
    Imagined,
    Observation,
    ObservationGoal,
    ObservationSpec,
    Signature,
    Task,
)
from steersman.core.records import TensorRecord
from steersman.worlds.trials import Simulated, World

MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))
"""(x, y) of the four choices: up, right, down, left."""


@dataclass(frozen=True)
class TabularMDP(TensorRecord):
    """P[a, s, s'] and the energy of a in s, discounted:

        J = E Σ_{t<H} γ^t e(s_t, a_t) + γ^H final(s_H)

    transition (C, S, S), energies (S, C), final (S,) or None: 0; discount γ in (0, 1].

    >>> mdp = TabularMDP.random(states=5, choices=2, seed=0)
    >>> values, policy = mdp.solve(10)                       # closed loop: values (11, S), policy (10, S)
    >>> bool((mdp.solve_open_loop(0, 3)[0] >= mdp.solve(3)[0][0, 0] - 1e-9).all())
    True

    Raises:
        ConfigError: tables that do not fit, rows that are no distributions, a discount outside (0, 1].
    """

    transition: Tensor
    energies: Tensor
    final: Tensor | None = None
    discount: float = 1.0

    def __post_init__(self) -> None:
        c, s = self.transition.shape[0], self.transition.shape[-1]
        final = self.final is None or self.final.shape == (s,)
        if self.transition.shape != (c, s, s) or self.energies.shape != (s, c) or not final:
            raise ConfigError("P (C, S, S), energies (S, C), final (S,)",
                              f"{tuple(self.transition.shape)}, {tuple(self.energies.shape)}", "correct the tables")
        rows = self.transition.double().sum(-1)
        if bool((self.transition < 0).any()) or bool(((rows - 1).abs() > 1e-4).any()) or not 0 < self.discount <= 1:
            raise ConfigError("rows that sum to 1 and a discount in (0, 1]", f"{self.discount}", "normalise the table")

    @staticmethod
    def random(states: int, choices: int, seed: int, outcomes: int = 3, discount: float = 1.0) -> TabularMDP:
        """Each choice in each state leads to `outcomes` random states with random probabilities; energies in [0, 1]."""
        g = torch.Generator().manual_seed(seed)
        weight = -torch.rand(choices, states, outcomes, generator=g).clamp_min(1e-6).log()
        target = torch.randint(states, (choices, states, outcomes), generator=g)
        table = torch.zeros(choices, states, states).scatter_add_(2, target, weight / weight.sum(-1, keepdim=True))
        return TabularMDP(table, torch.rand(states, choices, generator=g), discount=discount)

    @property
    def states(self) -> int:
        """S."""
        return self.transition.shape[-1]

    @property
    def choices(self) -> int:
        """C."""
        return self.transition.shape[0]

    @property
    def signature(self) -> Signature:
        """One one-hot vector of the state; discrete actions."""
        names = tuple(f"state{i}" for i in range(self.states))
        state = ObservationSpec("vector", (self.states,), names)
        return Signature({"vector": state}, ActionSpec("discrete", choices=self.choices))

    # The world ---------------------------------------------------------------------------------------------------

    def one_hot(self, state: Tensor) -> Tensor:
        """State numbers (…) -> (…, S) float32: what is observed, and a planner's belief."""
        return torch.nn.functional.one_hot(state, self.states).float()

    def step(self, state: Tensor, action: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """State numbers (B,), choices (B, 1) -> state numbers (B,)."""
        return torch.multinomial(self.transition[action[:, 0], state], 1, generator=generator)[:, 0]

    # Its exact solutions -----------------------------------------------------------------------------------------

    def solve(self, horizon: int) -> tuple[Tensor, Tensor]:
        """Values (H+1, S), float64, and policy (H, S) of the best closed loop: row t has H - t steps to go.

        V_H = final;  V_t(s) = min_a e(s, a) + γ Σ P[a, s, s'] V_{t+1}(s').
        """
        table, energies = self.transition.double(), self.energies.double()
        values = [energies.new_zeros(self.states) if self.final is None else self.final.double()]
        policy: list[Tensor] = []
        for _ in range(horizon):
            worth = energies + self.discount * (table @ values[0]).T
            best, choice = worth.min(1)
            values.insert(0, best)
            policy.insert(0, choice)
        return torch.stack(values), torch.stack(policy) if policy else torch.empty(0, self.states, dtype=torch.long)

    def solve_for_ever(self, tolerance: float = 1e-10, limit: int = 1_000_000) -> tuple[Tensor, Tensor]:
        """Value (S,), float64, within `tolerance`, and policy (S,) of the infinite horizon.

        Raises:
            ConfigError: energies that grow for ever: a discount of 1 and no rest of energy 0.
        """
        table, energies = self.transition.double(), self.energies.double()
        value = energies.new_zeros(self.states)
        stop = tolerance * (1 - self.discount) if self.discount < 1 else tolerance
        for _ in range(limit):
            following = (energies + self.discount * (table @ value).T).amin(1)
            if bool((following - value).abs().max() <= stop):
                return following, (energies + self.discount * (table @ following).T).argmin(1)
            value = following
        raise ConfigError("values that converge", "energies that grow for ever", "use a discount below 1")

    def open_loop_energy(self, start: Tensor, actions: Tensor) -> Tensor:
        """J of action sequences that do not look: states (N,), choices (N, H, 1) -> (N,), float64."""
        table, energies = self.transition.double(), self.energies.double()
        p = torch.nn.functional.one_hot(start, self.states).double()
        total = p.new_zeros(len(p))
        for t, choice in enumerate(actions[..., 0].unbind(1)):
            total = total + self.discount**t * (p * energies.T[choice]).sum(1)
            p = torch.bmm(p[:, None], table[choice])[:, 0]
        if self.final is not None:
            total = total + self.discount ** actions.shape[1] * p @ self.final.double()
        return total

    def solve_open_loop(self, start: int, horizon: int) -> tuple[Tensor, Tensor]:
        """Least J of all C^H action sequences from one state, and the sequence (H, 1). By looking at each."""
        sequences = torch.cartesian_prod(*[torch.arange(self.choices)] * horizon).reshape(-1, horizon, 1)
        energy = self.open_loop_energy(torch.full((len(sequences),), start), sequences)
        best = int(energy.argmin())
        return energy[best], sequences[best]


class TabularCost(Cost):
    """The energy of a `TabularMDP` for states that are distributions over its own (`world_model.TabularModel`):

        e_t = γ^t Σ_s p_t(s) e(s, a_t), and γ^H Σ_s p_H(s) final(s) with the last step.
    """

    name: ClassVar[str] = "tabular"

    def __init__(self, mdp: TabularMDP) -> None:
        self.mdp = mdp

    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        states, horizon = imagined.states, actions.shape[2]
        each = self.mdp.energies.to(states).T[actions[..., 0]]  # (B, K, H, S)
        energy = (states[:, :, :-1] * each).sum(-1)
        if self.mdp.discount != 1:
            energy = energy * self.mdp.discount ** torch.arange(horizon, device=energy.device)
        if self.mdp.final is None:
            return energy
        last = self.mdp.discount**horizon * states[:, :, -1:] @ self.mdp.final.to(states)
        return torch.cat([energy[..., :-1], energy[..., -1:] + last], -1)


# Grids -----------------------------------------------------------------------------------------------------------


class Grid:
    """A maze of cells; four moves that may slip; a goal that holds.

    State number = y · width + x. A move into a wall or the edge stays. Every step costs 1, at the goal 0, and in a pit
    `pit` more. Cells that are walls are states that nothing leads to.
    """

    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """width and height in cells; walls, pits: share of cells; slip: probability of moving to either side instead,
        half each; pit: energy of a step spent in a pit."""

        width: int = 6
        height: int = 6
        walls: float = 0.2
        pits: float = 0.0
        slip: float = 0.0
        pit: float = 10.0
        discount: float = 1.0

        def __post_init__(self) -> None:
            shares = 0 <= self.walls < 1 and 0 <= self.pits < 1 and 0 <= self.slip <= 1
            if min(self.width, self.height) < 2 or not shares or not 0 < self.discount <= 1:
                raise ConfigError("at least 2 by 2 cells, shares in [0, 1), a discount in (0, 1]", f"{self}",
                                  "correct the grid's configuration")

    def __init__(self, config: Config, wall: Tensor, pit: Tensor, goal: int) -> None:
        """wall, pit (height, width) bool; goal: number of a free cell."""
        self.config, self.wall, self.pit, self.goal = config, wall, pit, goal
        self.mdp = TabularMDP(self._table(), self._energies(), discount=config.discount)

    @staticmethod
    def sample(config: Config, seed: int) -> Grid:
        """Random walls, pits and goal."""
        g = torch.Generator().manual_seed(seed)
        draw = torch.rand(config.height, config.width, generator=g)
        wall = draw < config.walls
        pit = ~wall & (draw >= 1 - config.pits)
        free = (~wall & ~pit).flatten().nonzero()[:, 0]
        if not len(free):
            raise ConfigError("a grid with a free cell", f"walls {config.walls}, pits {config.pits}", "use fewer")
        return Grid(config, wall, pit, int(free[int(torch.randint(len(free), (1,), generator=g))]))

    @property
    def free(self) -> Tensor:
        """State numbers of cells that are no walls, ascending."""
        return (~self.wall).flatten().nonzero()[:, 0]

    def distance(self) -> Tensor:
        """Steps to the goal without slipping, (S,) float64; infinite where no way leads."""
        sure = msgspec.structs.replace(self.config, slip=0.0, discount=1.0)
        values, _ = Grid(sure, self.wall, torch.zeros_like(self.pit), self.goal).mdp.solve(self.wall.numel())
        return torch.where((values[0] >= self.wall.numel()) | self.wall.flatten(), torch.inf, values[0])

    def _table(self) -> Tensor:
        width, cells = self.config.width, self.wall.numel()
        place = torch.arange(cells)
        x, y = place % width, place // width
        reached = []
        for right, down in MOVES:
            to = (x + right).clamp(0, width - 1), (y + down).clamp(0, self.config.height - 1)
            number = to[1] * width + to[0]
            reached.append(torch.where(self.wall.flatten()[number], place, number))
        sure = torch.nn.functional.one_hot(torch.stack(reached), cells).float()
        slip = self.config.slip
        table = (1 - slip) * sure + slip / 2 * (sure.roll(1, 0) + sure.roll(-1, 0))
        table[:, self.goal] = torch.nn.functional.one_hot(torch.tensor(self.goal), cells).float()
        return table

    def _energies(self) -> Tensor:
        energies = 1 + self.config.pit * self.pit.flatten().float()
        energies[self.goal] = 0
        return energies[:, None].expand(-1, len(MOVES)).clone()


class Maze(World, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One grid, `Grid.sample(grid, layout)`: reach its goal from any cell that a way leads from.

    Raises:
        ConfigError: at `begin`: no way leads to the goal from anywhere.
    """

    grid: Grid.Config = Grid.Config()
    layout: int = 0
    step_limit: ClassVar[int] = 100
    success: ClassVar[str] = "in the goal's cell"
    violation: ClassVar[str] = "step into a pit"
    recorded: ClassVar[tuple[int, int]] = (500, 40)

    @property
    def signature(self) -> Signature:
        return Grid.sample(self.grid, self.layout).mdp.signature

    def begin(self, count: int, seed: int) -> Wanderers:
        grid, generator = Grid.sample(self.grid, self.layout), torch.Generator().manual_seed(seed % 2**63)
        distance = grid.distance()
        starts = (distance.isfinite() & (distance > 0)).nonzero()[:, 0]
        if not len(starts):
            raise ConfigError("a grid with a way to its goal", f"layout {self.layout}", "choose another layout")
        state = starts[torch.randint(len(starts), (count,), generator=generator)]
        return Wanderers(grid, state, generator)


class Wanderers(Simulated):
    """B state numbers (B,) in one grid; pits are forbidden."""

    def __init__(self, grid: Grid, state: Tensor, generator: torch.Generator) -> None:
        super().__init__(grid.mdp.signature, state, generator)
        self.grid, self.shortest = grid, grid.distance()[state].float()

    def goals(self) -> ObservationGoal:
        return ObservationGoal({"vector": self.grid.mdp.one_hot(torch.full_like(self.state, self.grid.goal))})

    def observe(self) -> Observation:
        return {"vector": self.grid.mdp.one_hot(self.state)}

    def advance(self, action: Tensor) -> Tensor:
        return self.grid.mdp.step(self.state, action, self.generator)

    def solved(self) -> Tensor:
        return self.state == self.grid.goal  # type: ignore[no-any-return]

    def bad(self) -> Tensor | None:
        return self.grid.pit.flatten()[self.state] if bool(self.grid.pit.any()) else None

    def where(self) -> Tensor:
        width = self.grid.config.width
        return torch.stack([self.state % width, self.state // width], 1).float()
