"""Hierarchical implicit Q-learning: a value without actions; a high level names a sub-goal, a low level goes there.

Park et al. 2023 (HIQL), with the settings of OGBench (Park et al. 2025). A sub-goal is not a picture but a short code
of it, φ(s, g), which the value learns. Shapes: B samples, F features, R numbers of the code, W of an action.
"""

from __future__ import annotations

import math

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steersman.core import ConfigError, Observation, Signature
from steersman.data import Dataset
from steersman.evidence.peers.descending import descend
from steersman.evidence.peers.gciql import backup
from steersman.evidence.peers.hindsight import (
    FUTURE,
    Hindsight,
    ahead_of,
    draw_goals,
    draw_steps,
    require_learnable,
    same,
    see,
)
from steersman.evidence.peers.networks import (
    Doing,
    Fit,
    Head,
    Sight,
    adam,
    advantage_weight,
    averaged,
    follow,
    gaussian,
)
from steersman.evidence.peers.policy import GoalPolicy, Trained, parameters_of, peak_memory


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """discount γ; expectile τ; ahead: steps from here to a sub-goal, k; code: R; high, low: β of both regressions."""

    fit: Fit = Fit()
    discount: float = 0.99
    expectile: float = 0.7
    ahead: int = 25
    code: int = 10
    high: float = 3.0
    low: float = 3.0
    goals: Hindsight = Hindsight()
    policy_goals: Hindsight = FUTURE

    def __post_init__(self) -> None:
        if not (0 < self.discount < 1 and 0 < self.expectile < 1 and min(self.ahead, self.code) >= 1
                and min(self.high, self.low) >= 0):
            raise ConfigError("0 < discount < 1, 0 < expectile < 1, ahead and code >= 1, high and low >= 0", f"{self}",
                              "correct the settings")


class Valued(nn.Module):
    """Perception φ_o, code φ(s, g) of length √R, and two values V(s, φ(s, g))."""

    def __init__(self, signature: Signature, fit: Fit, code: int) -> None:
        super().__init__()
        self.sight = Sight(signature, fit)
        self.code = Head(2 * self.sight.size, fit.hidden, code)
        self.values = Head(self.sight.size + code, fit.hidden, 1, count=2)

    def coded(self, s: Tensor, g: Tensor) -> Tensor:
        """Features of here and of the goal -> (B, R)."""
        return of_one_length(self.code(s, g)[0])

    def value(self, s: Tensor, g: Tensor) -> Tensor:
        """(2, B)."""
        return self.values(s, self.coded(s, g))[..., 0]


class Levels(nn.Module, GoalPolicy):
    """π_high(code | s, g) and π_low(a | s, code)."""

    def __init__(self, signature: Signature, fit: Fit, code: int) -> None:
        super().__init__()
        self.signature, self.doing = signature, Doing(signature.action)
        self.valued = Valued(signature, fit, code)
        size = self.valued.sight.size
        self.high = Head(2 * size, fit.hidden, code, small=True)
        self.low = Head(size + code, fit.hidden, self.doing.width, small=True)

    @torch.no_grad()
    def act(self, observation: Observation, goal: Observation) -> Tensor:
        s, g = self.valued.sight.several(observation, goal)
        return self.doing.best(self.low(s, of_one_length(self.high(s, g)[0]))[0])[:, None]

    __call__ = GoalPolicy.__call__


def build(signature: Signature, config: Config) -> Levels:
    """The policy with its value, not trained."""
    return Levels(signature, config.fit, config.code)


def of_one_length(code: Tensor) -> Tensor:
    """(B, R) -> √R · code / |code|."""
    return F.normalize(code, dim=-1) * math.sqrt(code.shape[-1])


def value_loss(value: Tensor, slow: Tensor, slow_after: Tensor, reached: Tensor, discount: float, tau: float) -> Tensor:
    """Σ_i mean |τ - 1(A < 0)| (r + γ V̄_i(s') - V_i(s))², A = r + γ min_i V̄_i(s') - mean_i V̄_i(s).

    value, slow, slow_after (2, B): values now, averaged ones now and one step later; reached (B,) bool.
    """
    advantage = backup(slow_after.amin(0), reached, discount) - slow.mean(0)
    error = backup(slow_after, reached, discount).detach() - value
    weight = torch.where(advantage < 0, 1 - tau, tau).detach()
    return (weight * error.square()).mean(1).sum()


def train(log: Dataset, config: Config = Config(), seconds: float = 60.0, seed: int = 0) -> Trained:  # noqa: B008
    """The value and both levels, together, from the same batches of the log.

    On pictures, the low level's gradient reaches the code as well, as published; on vectors it does not.

    Raises:
        MismatchError: a log without actions, or of another kind. DivergedError: a loss is not finite.
    """
    require_learnable(log)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        levels = build(log.signature, config)
    valued, doing = levels.valued, levels.doing
    valued.sight.calibrate(log, generator)
    slow = averaged(valued)
    pictures = len(valued.sight.images) > 0

    def loss() -> tuple[Tensor, dict[str, Tensor]]:
        steps = draw_steps(log, config.fit.batch_size, generator)
        here = steps.places
        goal = draw_goals(log, here, config.goals, config.discount, generator)
        aim = draw_goals(log, here, config.policy_goals, config.discount, generator)
        seen = (steps.observation, see(log, goal), see(log, aim), see(log, ahead_of(log, here, config.ahead)),
                see(log, ahead_of(log, here, config.ahead, aim)))
        s, g, w, near, way = valued.sight.several(*seen)
        with torch.no_grad():
            slow_s, slow_g, slow_after = slow.sight.several(steps.observation, seen[1], steps.following)
            before, after = slow.value(slow_s, slow_g), slow.value(slow_after, slow_g)
            onward = valued.value(valued.sight(steps.following), near).mean(0) - valued.value(s, near).mean(0)
            upward = valued.value(way, w).mean(0) - valued.value(s, w).mean(0)
        value = value_loss(valued.value(s, g), before, after, same(here, goal), config.discount, config.expectile)
        code = valued.coded(s, near)
        said = levels.low(s, code if pictures else code.detach())[0]
        low = -(advantage_weight(onward, config.low) * doing.log_prob(said, steps.action)).mean()
        told = gaussian(levels.high(s, w)[0], valued.coded(s, way).detach())
        high = -(advantage_weight(upward, config.high) * told).mean()
        return value + low + high, {"value": value.detach(), "low": low.detach(), "high": high.detach()}

    done = descend(loss, *adam(levels, config.fit.lr), seconds, steps=config.fit.steps,
                   after=lambda: follow(slow, valued, config.fit.target))
    return Trained(levels.eval(), done.seconds, done.steps, parameters_of(levels), peak_memory(), done.losses)
