"""A linear world with a quadratic energy, and its exact solution: the yardstick of planners for continuous actions.

Knows no planner and no learned model. Shapes: B problems, K candidates, H horizon, D state, A action size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from steersman.core import (
    ActionSpec,
    ColumnGoal,
    ConfigError,
    Cost,
    Imagined,
    ObservationSpec,
    Signature,
    Task,
)
from steersman.core.records import TensorRecord
from steersman.worlds.trials import Simulated, World


@dataclass(frozen=True)
class LQR(TensorRecord):
    """s' = F s + G a + w, w ~ N(0, noise² I), with the energy of H steps

        J = Σ_{t=1..H-1} s_tᵀ Q s_t + s_Hᵀ Q_H s_H + Σ_{t=0..H-1} a_tᵀ R a_t

    transition F (D, D), control G (D, A), state_weight Q (D, D), action_weight R (A, A) positive definite,
    final_weight Q_H (D, D) or None: Q. bound: every |a_i| <= bound is allowed; the exact solution knows no bounds.

    >>> world = LQR.double_integrator()
    >>> state = torch.tensor([[1.0, 0.0]])
    >>> actions = world.optimal_actions(state, 20)                                              # (1, 20, 1)
    >>> bool((world.energy(state, actions) - world.optimal_energy(state, 20)).abs() < 1e-4)
    True

    Raises:
        ConfigError: matrices that do not fit, or an R that is not positive definite.
    """

    transition: Tensor
    control: Tensor
    state_weight: Tensor
    action_weight: Tensor
    final_weight: Tensor | None = None
    bound: float = 10.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        d, a = self.control.shape
        shapes = [self.transition.shape, self.state_weight.shape, self.action_weight.shape]
        final = self.final_weight
        if shapes != [(d, d), (d, d), (a, a)] or (final is not None and final.shape != (d, d)):
            raise ConfigError(
                f"F, Q, Q_H ({d}, {d}) and R ({a}, {a}) for G ({d}, {a})", f"{[tuple(s) for s in shapes]}",
                "correct the matrices",
            )
        if not bool((torch.linalg.eigvalsh(self.action_weight.double()) > 0).all()) or not self.bound > 0:
            raise ConfigError("R positive definite and bound > 0", f"{self.action_weight.tolist()}, {self.bound}",
                              "weigh every action")

    # Worlds of this kind -----------------------------------------------------------------------------------------

    @staticmethod
    def double_integrator(dt: float = 0.1, axes: int = 1, effort: float = 0.1, bound: float = 10.0) -> LQR:
        """Positions and speeds of `axes` independent carts; the action is the acceleration, held for `dt` seconds."""
        one = torch.eye(axes)
        zero = torch.zeros_like(one)
        transition = torch.cat([torch.cat([one, dt * one], 1), torch.cat([zero, one], 1)])
        control = torch.cat([dt**2 / 2 * one, dt * one])
        weight = torch.diag(torch.tensor([1.0] * axes + [0.1] * axes))
        return LQR(transition, control, weight, effort * one, bound=bound)

    @staticmethod
    def random(states: int, actions: int, seed: int, radius: float = 1.0, bound: float = 10.0) -> LQR:
        """Gaussian F with the given spectral radius (1: neither stable nor not), Gaussian G, Q = I, R = 0.1 I."""
        g = torch.Generator().manual_seed(seed)
        f = torch.randn(states, states, generator=g)
        f = f * (radius / torch.linalg.eigvals(f).abs().max())
        return LQR(f, torch.randn(states, actions, generator=g), torch.eye(states), 0.1 * torch.eye(actions),
                   bound=bound)

    @property
    def signature(self) -> Signature:
        """One vector of states s0, s1, …; actions within the bound."""
        d, a = self.control.shape
        state = ObservationSpec("vector", (d,), tuple(f"s{i}" for i in range(d)))
        return Signature({"vector": state}, ActionSpec("continuous", (-self.bound,) * a, (self.bound,) * a))

    # The world ---------------------------------------------------------------------------------------------------

    def step(self, state: Tensor, action: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(…, D), (…, A) -> (…, D)."""
        following = state @ self.transition.T + action @ self.control.T
        if not self.noise:
            return following
        return following + self.noise * torch.randn(following.shape, generator=generator)

    def rollout(self, state: Tensor, actions: Tensor) -> Tensor:
        """(…, D), (…, H, A) -> (…, H+1, D), without noise."""
        states = [state]
        for action in actions.unbind(-2):
            states.append(states[-1] @ self.transition.T + action @ self.control.T)
        return torch.stack(states, -2)

    def energy(self, state: Tensor, actions: Tensor) -> Tensor:
        """J of action sequences, without noise: (…, D), (…, H, A) -> (…)."""
        return self.step_energies(self.rollout(state, actions)[..., 1:, :], actions).sum(-1)

    def step_energies(self, reached: Tensor, actions: Tensor) -> Tensor:
        """s_{t+1}ᵀ Q s_{t+1} + a_tᵀ R a_t, Q_H at the last step: (…, H, D), (…, H, A) -> (…, H)."""
        state, action = self.state_weight.to(reached), self.action_weight.to(reached)
        energy = _quadratic(reached, state) + _quadratic(actions.to(reached), action)
        if self.final_weight is None:
            return energy
        last = _quadratic(reached[..., -1:, :], self.final_weight.to(reached) - state)
        return torch.cat([energy[..., :-1], energy[..., -1:] + last], -1)

    # Its exact solution ------------------------------------------------------------------------------------------

    def riccati(self, horizon: int) -> tuple[Tensor, Tensor]:
        """Gains L (H, A, D) and P (H+1, D, D), float64: a_t = -L_t s_t is optimal and the least energy from s_t on,
        s_t's own not counted, is s_tᵀ (P_t - Q) s_t for t > 0 and s_0ᵀ P_0 s_0 for t = 0.

        P_H = Q_H;  L_t = (R + Gᵀ P G)⁻¹ Gᵀ P F with P = P_{t+1};  P_t = Q + Fᵀ P (F - G L_t), without Q for t = 0.
        """
        f, g, q, r = (x.double() for x in (self.transition, self.control, self.state_weight, self.action_weight))
        values, gains = [q if self.final_weight is None else self.final_weight.double()], list[Tensor]()
        for t in reversed(range(horizon)):
            p = values[0]
            gain = torch.linalg.solve(r + g.T @ p @ g, g.T @ p @ f)
            value = f.T @ p @ (f - g @ gain) + (q if t else 0)
            gains.insert(0, gain)
            values.insert(0, (value + value.T) / 2)
        return torch.stack(gains), torch.stack(values)

    def stationary(self, tolerance: float = 1e-12, limit: int = 100_000) -> tuple[Tensor, Tensor]:
        """Gain (A, D) and P (D, D) of the infinite horizon, float64; with final_weight = P, short plans are optimal
        for ever.

        Raises:
            ConfigError: no fixed point: the world cannot be stabilised.
        """
        f, g, q, r = (x.double() for x in (self.transition, self.control, self.state_weight, self.action_weight))
        p = q
        for _ in range(limit):
            gain = torch.linalg.solve(r + g.T @ p @ g, g.T @ p @ f)
            following = q + f.T @ p @ (f - g @ gain)
            if not bool(torch.isfinite(following).all()):
                break
            if bool((following - p).abs().max() <= tolerance * following.abs().max()):
                return gain, following
            p = (following + following.T) / 2
        raise ConfigError("a world that its actions can stabilise", "energies that grow for ever", "add actions")

    def optimal_energy(self, state: Tensor, horizon: int) -> Tensor:
        """Least J from states (…, D) -> (…), float64. With noise this is the energy that noise adds nothing to."""
        return _quadratic(state.double(), self.riccati(horizon)[1][0])

    def optimal_actions(self, state: Tensor, horizon: int) -> Tensor:
        """The actions of least J, (…, D) -> (…, H, A) in the state's type, whether within the bound or not."""
        gains, _ = self.riccati(horizon)
        f, g = self.transition.double(), self.control.double()
        now, actions = state.double(), []
        for gain in gains:
            actions.append(-now @ gain.T)
            now = now @ f.T + actions[-1] @ g.T
        return torch.stack(actions, -2).to(state.dtype)


class LQRCost(Cost):
    """The energy of an `LQR` world, step by step, for states that are its own: e_t = s_{t+1}ᵀ Q s_{t+1} + a_tᵀ R a_t,
    with Q_H at the horizon's end."""

    name: ClassVar[str] = "lqr"

    def __init__(self, world: LQR) -> None:
        self.world = world

    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        return self.world.step_energies(imagined.states[:, :, 1:], actions)


def _quadratic(x: Tensor, weight: Tensor) -> Tensor:
    return ((x @ weight) * x).sum(-1)


class Rest(World, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bring the carts of `LQR.double_integrator` to rest at 0, from positions and speeds within 2."""

    axes: int = 1
    noise: float = 0.0
    step_limit: ClassVar[int] = 60
    success: ClassVar[str] = "every position and speed within 0.1"
    recorded: ClassVar[tuple[int, int]] = (200, 50)

    @property
    def lqr(self) -> LQR:
        """The world itself."""
        return replace(LQR.double_integrator(axes=self.axes), noise=self.noise)

    @property
    def signature(self) -> Signature:
        return self.lqr.signature

    def begin(self, count: int, seed: int) -> Carts:
        generator = torch.Generator().manual_seed(seed % 2**63)
        start = 4 * torch.rand(8 * count, 2 * self.axes, generator=generator) - 2
        return Carts(self.lqr, start[start.abs().amax(1) > 0.5][:count], generator)


class Carts(Simulated):
    """B states of an `LQR` that are to come to rest."""

    def __init__(self, world: LQR, state: Tensor, generator: torch.Generator) -> None:
        super().__init__(world.signature, state, generator)
        self.world = world

    def goals(self) -> ColumnGoal:
        names = self.signature.observations["vector"].columns
        return ColumnGoal(dict.fromkeys(names, torch.zeros(len(self))), dict.fromkeys(names, 1.0))

    def advance(self, action: Tensor) -> Tensor:
        return self.world.step(self.state, action, self.generator)

    def solved(self) -> Tensor:
        return self.state.abs().amax(1) <= 0.1  # type: ignore[no-any-return]
