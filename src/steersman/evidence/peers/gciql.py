"""Goal-conditioned implicit Q-learning: values of goals by expectiles of Q, a policy by advantage-weighted regression.

Kostrikov et al. 2022 (implicit Q-learning), with goals in the form of OGBench (Park et al. 2025). A step costs 1 until
the goal is there, so V(s, g) = -(1 - γ^d) / (1 - γ) for a goal d steps away. Shapes: B samples, F features.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor, nn

from steersman.core import ConfigError, Signature
from steersman.data import Dataset
from steersman.evidence.peers.descending import descend
from steersman.evidence.peers.gcbc import Actor
from steersman.evidence.peers.hindsight import (
    FUTURE,
    Hindsight,
    draw_goals,
    draw_steps,
    require_learnable,
    same,
    see,
)
from steersman.evidence.peers.networks import Fit, Head, adam, advantage_weight, averaged, expectile, follow
from steersman.evidence.peers.policy import Trained, parameters_of, peak_memory


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """discount γ; expectile τ of the value; beta β of the regression; goals of the value, and of the policy."""

    fit: Fit = Fit()
    discount: float = 0.99
    expectile: float = 0.9
    beta: float = 3.0
    goals: Hindsight = Hindsight()
    policy_goals: Hindsight = FUTURE

    def __post_init__(self) -> None:
        if not (0 < self.discount < 1 and 0 < self.expectile < 1 and self.beta >= 0):
            raise ConfigError("0 < discount < 1, 0 < expectile < 1 and beta >= 0", f"{self}", "correct the settings")


class Networks(nn.Module):
    """Perception and policy (`actor`), V(s, g), two Q(s, a, g); all read the same features."""

    def __init__(self, signature: Signature, fit: Fit) -> None:
        super().__init__()
        self.actor = Actor(signature, fit)
        size = 2 * self.actor.sight.size
        self.value = Head(size, fit.hidden, 1)
        self.critics = Head(size + self.actor.doing.width, fit.hidden, 1, count=2)


def build(signature: Signature, config: Config) -> Actor:
    """The policy, not trained."""
    return Actor(signature, config.fit)


def backup(value: Tensor, reached: Tensor, discount: float) -> Tensor:
    """r + γ (1 - reached) V(s', g) with r = reached - 1: value (B,), reached (B,) bool -> (B,)."""
    there = reached.float()
    return there - 1 + discount * (1 - there) * value


def losses(q: Tensor, target: Tensor, v: Tensor, lowest: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """E_Q = Σ_i mean (Q_i - target)², E_V = mean L_τ(min_i Q̄_i - V).

    q (2, B) of the critics, target (B,) of `backup`, v (B,), lowest (B,) of the averaged critics.
    """
    return (q - target.detach()).square().mean(1).sum(), expectile(lowest.detach() - v, tau).mean()


def train(log: Dataset, config: Config = Config(), seconds: float = 60.0, seed: int = 0) -> Trained:  # noqa: B008
    """Values, critics and the policy, together, from the same batches of the log.

    Raises:
        MismatchError: a log without actions, or of another kind. DivergedError: a loss is not finite.
    """
    require_learnable(log)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        nets = Networks(log.signature, config.fit)
    nets.actor.sight.calibrate(log, generator)
    slow_sight, slow_critics = averaged(nets.actor.sight), averaged(nets.critics)
    sight, doing = nets.actor.sight, nets.actor.doing

    def loss() -> tuple[Tensor, dict[str, Tensor]]:
        steps = draw_steps(log, config.fit.batch_size, generator)
        goal = draw_goals(log, steps.places, config.goals, config.discount, generator)
        aim = draw_goals(log, steps.places, config.policy_goals, config.discount, generator)
        seen, aimed = see(log, goal), see(log, aim)
        s, g, w = sight.several(steps.observation, seen, aimed)
        a = doing.embedding(steps.action)
        with torch.no_grad():
            after = nets.value(sight(steps.following), g)[0, :, 0]
            slow, slow_g, slow_w = slow_sight.several(steps.observation, seen, aimed)
            lowest = slow_critics(slow, slow_g, a)[..., 0].amin(0)
            advantage = slow_critics(slow, slow_w, a)[..., 0].amin(0) - nets.value(s, w)[0, :, 0]
        target = backup(after, same(steps.places, goal), config.discount)
        critic, value = losses(nets.critics(s, g, a)[..., 0], target, nets.value(s, g)[0, :, 0], lowest,
                               config.expectile)
        weight = advantage_weight(advantage, config.beta)
        policy = -(weight * doing.log_prob(nets.actor.head(s, w)[0], steps.action)).mean()
        return critic + value + policy, {"critic": critic.detach(), "value": value.detach(), "policy": policy.detach()}

    def after() -> None:
        follow(slow_sight, sight, config.fit.target)
        follow(slow_critics, nets.critics, config.fit.target)

    done = descend(loss, *adam(nets, config.fit.lr), seconds, steps=config.fit.steps, after=after)
    return Trained(nets.actor.eval(), done.seconds, done.steps, parameters_of(nets), peak_memory(), done.losses)
