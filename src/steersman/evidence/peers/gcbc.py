"""Goal-conditioned behaviour cloning: do what was done when this goal came later.

Lynch et al. 2019 (learning latent plans from play), Ghosh et al. 2021 (goal-conditioned supervised learning), in the
form of OGBench (Park et al. 2025). Shapes: B samples, F features, W numbers that stand for an action.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor, nn

from steersman.core import Observation, Signature
from steersman.data import Dataset
from steersman.evidence.peers.descending import descend
from steersman.evidence.peers.hindsight import FUTURE, Hindsight, draw_goals, draw_steps, require_learnable, see
from steersman.evidence.peers.networks import Doing, Fit, Head, Sight, adam
from steersman.evidence.peers.policy import GoalPolicy, Trained, parameters_of, peak_memory


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """goals: what a step is told it was for; discount: γ, used where goals are drawn geometrically."""

    fit: Fit = Fit()
    goals: Hindsight = FUTURE
    discount: float = 0.99


class Actor(nn.Module, GoalPolicy):
    """π(a | s, g): one head on the features of both."""

    def __init__(self, signature: Signature, fit: Fit) -> None:
        super().__init__()
        self.signature = signature
        self.sight, self.doing = Sight(signature, fit), Doing(signature.action)
        self.head = Head(2 * self.sight.size, fit.hidden, self.doing.width, small=True)

    @torch.no_grad()
    def act(self, observation: Observation, goal: Observation) -> Tensor:
        return self.doing.best(self.head(*self.sight.several(observation, goal))[0])[:, None]

    __call__ = GoalPolicy.__call__


def build(signature: Signature, config: Config) -> Actor:
    """The policy, not trained."""
    return Actor(signature, config.fit)


def cloning(doing: Doing, said: Tensor, action: Tensor) -> Tensor:
    """E = -mean_b log π(a_b | s_b, g_b); said (B, W), action (B, A)."""
    return -doing.log_prob(said, action).mean()


def train(log: Dataset, config: Config = Config(), seconds: float = 60.0, seed: int = 0) -> Trained:  # noqa: B008
    """Clone the log towards goals chosen in hindsight.

    log      with actions; pictures, vectors or both
    seconds  on the clock

    Raises:
        MismatchError: a log without actions, or of another kind. DivergedError: the loss is not finite.
    """
    require_learnable(log)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        actor = build(log.signature, config)
    actor.sight.calibrate(log, generator)

    def loss() -> tuple[Tensor, dict[str, Tensor]]:
        steps = draw_steps(log, config.fit.batch_size, generator)
        goal = see(log, draw_goals(log, steps.places, config.goals, config.discount, generator))
        said = actor.head(*actor.sight.several(steps.observation, goal))[0]
        error = cloning(actor.doing, said, steps.action)
        return error, {"cloning": error.detach()}

    done = descend(loss, *adam(actor, config.fit.lr), seconds, steps=config.fit.steps)
    return Trained(actor.eval(), done.seconds, done.steps, parameters_of(actor), peak_memory(), done.losses)
