"""Quasimetric reinforcement learning: the largest quasimetric in which one step costs at most 1 is the way to go.

Wang et al. 2023 (QRL): push random pairs apart, hold steps together by a Lagrange multiplier; act where the distance to
the goal falls. Shapes: B samples, F features, D numbers of a point, W of an action.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steersman.core import ConfigError, Observation, Signature
from steersman.data import Dataset
from steersman.evidence.peers.descending import descend
from steersman.evidence.peers.hindsight import (
    FUTURE,
    Hindsight,
    draw_goals,
    draw_moments,
    draw_steps,
    require_learnable,
    see,
)
from steersman.evidence.peers.networks import Doing, Fit, Head, Sight, adam, advantage_weight, averaged, follow
from steersman.evidence.peers.policy import GoalPolicy, Trained, parameters_of, peak_memory
from steersman.evidence.peers.quasimetrics import Kind, Quasimetric
from steersman.nn import AdamW

_AT_ONCE = 1 << 16  # most imagined points that are compared at a time


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings; the defaults are the paper's for logs, but for the size of the points (512 there).

    metric, size, component  the quasimetric and its points, D numbers
    offset, sharpness  of the softplus that pushes apart: beyond `offset` steps there is nothing to gain
    slack       ε²: how much the mean squared excess of a step may be
    multiplier  learning rate of the Lagrange multiplier
    extraction  "dynamics": the action whose next point, foreseen by T(φ(s), a), is nearest to the goal; "awr":
                regression on the log's actions, weighed by e^{β (d(s, g) - d(s', g))}
    beta        β; cloning: weight of log π beside "dynamics" with amounts
    """

    fit: Fit = Fit()
    metric: Kind = "iqe"
    size: int = 128
    component: int = 8
    offset: float = 500.0
    sharpness: float = 0.01
    slack: float = 0.0625
    multiplier: float = 0.01
    extraction: Literal["dynamics", "awr"] = "dynamics"
    beta: float = 3.0
    cloning: float = 0.003
    policy_goals: Hindsight = FUTURE

    def __post_init__(self) -> None:
        if min(self.offset, self.sharpness, self.slack, self.multiplier) <= 0 or min(self.beta, self.cloning) < 0:
            raise ConfigError("offset, sharpness, slack and multiplier above 0, beta and cloning >= 0", f"{self}",
                              "correct the settings")


class Metric(nn.Module):
    """φ(o) = points (B, D), their quasimetric d, and T(x, a) = x + change, the point after an action."""

    def __init__(self, signature: Signature, config: Config, width: int) -> None:
        super().__init__()
        self.sight = Sight(signature, config.fit)
        self.point = Head(self.sight.size, config.fit.hidden, config.size)
        self.distance = Quasimetric(config.metric, config.size, config.component)
        self.change = Head(config.size + width, config.fit.hidden, config.size)

    def after(self, x: Tensor, action: Tensor) -> Tensor:
        """x (B, D), action (B, W) -> (B, D)."""
        return x + self.change(x, action)[0]


class Nearer(nn.Module, GoalPolicy):
    """Goes where the distance falls: by a head π(a | s, g), or by trying every choice in T."""

    def __init__(self, signature: Signature, config: Config) -> None:
        super().__init__()
        self.signature, self.doing = signature, Doing(signature.action)
        self.metric = Metric(signature, config, self.doing.width)
        self.tries = config.extraction == "dynamics" and signature.action.kind == "discrete"
        self.head = Head(2 * self.metric.sight.size, config.fit.hidden, self.doing.width, small=True)

    @torch.no_grad()
    def act(self, observation: Observation, goal: Observation) -> Tensor:
        s, g = self.metric.sight.several(observation, goal)
        if not self.tries:
            return self.doing.best(self.head(s, g)[0])[:, None]
        x, aim = self.metric.point(torch.cat([s, g]))[0].chunk(2)
        best = [self._nearest(x[i : i + 1], aim[i : i + 1]) for i in range(len(x))] if self._many(len(x)) else None
        return (self._nearest(x, aim) if best is None else torch.cat(best))[:, None]

    def _many(self, problems: int) -> bool:
        return problems * self.doing.width > _AT_ONCE

    def _nearest(self, x: Tensor, aim: Tensor) -> Tensor:
        """x, aim (B, D) -> the choice (B, 1) after which the goal is nearest."""
        choices = torch.eye(self.doing.width)
        each = x.repeat_interleave(len(choices), 0)
        after = self.metric.after(each, choices.repeat(len(x), 1))
        return self.metric.distance(after.unflatten(0, (len(x), -1)), aim[:, None]).argmin(1, keepdim=True)

    __call__ = GoalPolicy.__call__


def build(signature: Signature, config: Config) -> Nearer:
    """The policy with its metric, not trained."""
    return Nearer(signature, config)


def apart(distance: Tensor, offset: float, sharpness: float) -> Tensor:
    """E = mean softplus_β(offset - d), softplus_β(z) = log(1 + e^{β z}) / β: distances of random pairs (B,)."""
    return F.softplus(offset - distance, beta=sharpness).mean()


def excess(distance: Tensor) -> Tensor:
    """mean relu(d - 1)²: by how much steps (B,) are longer than 1."""
    return (distance - 1).relu().square().mean()


def train(log: Dataset, config: Config = Config(), seconds: float = 60.0, seed: int = 0) -> Trained:  # noqa: B008
    """Minimise apart + λ (excess - ε²) + ½ (d(x̂, x')² + d(x', x̂)²), x̂ = T(φ(s), a), over the networks, maximise over
    λ; and the policy beside it. What the policy reads of the metric are moving averages: its gradient stops there.

    Raises:
        MismatchError: a log without actions, or of another kind. DivergedError: a loss is not finite.
    """
    require_learnable(log)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        nearer = build(log.signature, config)
    metric, doing = nearer.metric, nearer.doing
    metric.sight.calibrate(log, generator)
    slow, raw = averaged(metric), nn.Parameter(torch.tensor(0.5413))  # softplus: λ = 1 at first

    def loss() -> tuple[Tensor, dict[str, Tensor]]:
        steps = draw_steps(log, config.fit.batch_size, generator)
        anything = see(log, draw_moments(log, config.fit.batch_size, generator))
        aim = see(log, draw_goals(log, steps.places, config.policy_goals, 0.99, generator))
        s, after, g, w = metric.sight.several(steps.observation, steps.following, anything, aim)
        x, following, far = metric.point(torch.cat([s, after, g]))[0].chunk(3)
        push = apart(metric.distance(x, far), config.offset, config.sharpness)
        over = excess(metric.distance(x, following))
        held = F.softplus(raw)
        foreseen = metric.after(x, doing.embedding(steps.action))
        moved = 0.5 * (metric.distance(foreseen, following).square() + metric.distance(following, foreseen).square())
        total = push + held.detach() * over - held * (over.detach() - config.slack) + moved.mean()
        named = {"apart": push, "excess": over, "multiplier": held, "dynamics": moved.mean()}
        if not nearer.tries:
            policy = _policy(nearer, slow, config, steps.action, (s, w), (steps.observation, steps.following, aim))
            total, named = total + policy, named | {"policy": policy}
        return total, {name: value.detach() for name, value in named.items()}

    parameters, step = adam(nearer, config.fit.lr)
    ascent = AdamW([("multiplier", raw)], decay=0.0)

    def both(factor: float) -> None:
        step(factor)
        ascent.step(config.multiplier)

    done = descend(loss, [*parameters, raw], both, seconds, steps=config.fit.steps,
                   after=lambda: follow(slow, metric, config.fit.target))
    return Trained(nearer.eval(), done.seconds, done.steps, parameters_of(nearer), peak_memory(), done.losses)


def _policy(nearer: Nearer, slow: Metric, config: Config, action: Tensor, features: tuple[Tensor, Tensor],
            seen: tuple[Observation, Observation, Observation]) -> Tensor:
    """The energy of the head π, by either extraction; features of here and goal, and here, next, goal as seen."""
    said = nearer.head(*features)[0]
    likely = nearer.doing.log_prob(said, action)
    with torch.no_grad():
        x, following, aim = slow.point(torch.cat(slow.sight.several(*seen)))[0].chunk(3)
    if config.extraction == "awr":
        fallen = slow.distance(x, aim) - slow.distance(following, aim)
        return -(advantage_weight(fallen, config.beta) * likely).mean()
    left = slow.distance(slow.after(x, said.clamp(-1, 1)), aim).mean()
    return left / left.detach().clamp(min=1e-6) - config.cloning * likely.mean()
