"""A policy distilled from plans: from a belief to an action in one pass, without imagining. For one task, or for one
whose targets it is told. And a planner that does what a policy says.

Knows beliefs and the bounds of actions, not where the plans came from (see `agent.distilling`).

Shapes: B problems, D latent size (tokens are flattened), (M, C) scene map, A action size, G targets.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steersman.actor.ground.rounds import Proposal, plan_in_rounds
from steersman.actor.ground.verdict import Verdict
from steersman.core import (
    ActionSpec,
    Belief,
    ColumnGoal,
    ConfigError,
    FittedPolicy,
    MismatchError,
    Plan,
    Planner,
    Policy,
    Problem,
    Signature,
    Task,
    register,
)
from steersman.nn import mlp


class DistilledPolicy(FittedPolicy):
    """a = middle + half range · tanh(MLP([x, W m])) (continuous), the most likely choice of softmax(MLP(…)) (discrete).

    x is the state, followed by the targets of the columns `targets` if there are any, in units of the deviations that
    it was fitted to; m the scene map (flattened), if there is one. Actions are within bounds by construction. Limits
    are not: a policy does not imagine, so it keeps a guardrail only as far as the plans that it copies did. It serves
    the task that it was distilled for, with whatever targets, and no other; and it does not remember: world models with
    a history have more to tell than it sees.

    Raises:
        MismatchError: beliefs of another agent, or no targets for a policy that wants them.
    """

    @register(FittedPolicy)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="distilled"):
        """hidden: widths of the hidden layers; map_width: numbers that the scene map is reduced to; targets: columns
        of the goal whose values the policy is told."""

        hidden: tuple[int, ...] = (128, 128)
        map_width: int = 32
        targets: tuple[str, ...] = ()

        def __post_init__(self) -> None:
            if not self.hidden or min(*self.hidden, self.map_width) < 1:
                raise ConfigError("positive widths, at least one", f"{self}", "correct the policy's configuration")

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...],
            context_shape: tuple[int, int, int] | None = None,
        ) -> DistilledPolicy:
            return DistilledPolicy(self, signature.action, latent_shape, context_shape)

    mean: Tensor
    deviation: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self, config: Config, action: ActionSpec, latent_shape: tuple[int, ...],
        context_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        size = torch.Size(latent_shape).numel() + len(config.targets)
        self.config, self.latent_shape = config, latent_shape
        self.kind, self.size, self.targets = action.kind, size, config.targets
        mapped = torch.Size(context_shape).numel() if context_shape is not None else 0
        self.reduce = nn.Linear(mapped, config.map_width) if mapped else None
        width = size + (config.map_width if mapped else 0)
        self.network = mlp([width, *config.hidden, action.width])
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))
        discrete = action.kind == "discrete"
        self.register_buffer("low", torch.zeros(1) if discrete else torch.tensor(action.low))
        self.register_buffer("high", torch.ones(1) if discrete else torch.tensor(action.high))

    def calibrate(self, states: Tensor, target: Tensor | None = None) -> None:
        """Take mean and deviation from states (n, D) and targets (n, G)."""
        deviation, mean = torch.std_mean(self._beside(states, target).double(), 0, correction=0)
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > 1e-6 * (1 + mean.abs()), deviation, 1.0))

    def scores(self, state: Tensor, context: Tensor | None = None, target: Tensor | None = None) -> Tensor:
        """What the network says: (B, A) in [-1, 1] of the range, or logits (B, choices)."""
        flat = self._beside(state, target)
        if flat.shape[1] != self.size or (context is None) != (self.reduce is None):
            raise MismatchError(
                f"states of {self.size - len(self.targets)} numbers{' and a scene map' if self.reduce else ''}",
                f"{tuple(state.shape)}", "use the policy with the agent that it was distilled from",
            )
        x = (flat - self.mean) / self.deviation
        if self.reduce is not None and context is not None:
            x = torch.cat([x, self.reduce(context.flatten(1))], -1)
        found: Tensor = self.network(x)
        return found if self.kind == "discrete" else found.tanh()

    def act(self, state: Tensor, context: Tensor | None = None, target: Tensor | None = None) -> Tensor:
        """(B, D), (B, M, C), (B, G) -> actions (B, A) float32 within bounds, or choices (B, 1) int64."""
        scores = self.scores(state, context, target)
        if self.kind == "discrete":
            return scores.argmax(-1, keepdim=True)
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        return torch.minimum(torch.maximum(middle + half * scores, self.low), self.high)

    def loss(self, state: Tensor, context: Tensor | None, actions: Tensor, target: Tensor | None = None) -> Tensor:
        """To the actions that plans began with: mean absolute error in units of half the range, or cross-entropy.

        Absolute, not squared: where plans go one way or the other, their median is one of them and their mean neither.
        """
        scores = self.scores(state, context, target)
        if self.kind == "discrete":
            return F.cross_entropy(scores, actions[:, 0])
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        return F.l1_loss(scores, (actions - middle) / half)

    def propose(self, belief: Belief, task: Task) -> Tensor:
        """One action: (B, 1, A), towards the targets of the task where the policy wants any."""
        return self.act(belief.state, belief.context, self._target(task, belief))[:, None]

    def _target(self, task: Task, belief: Belief) -> Tensor | None:
        if not self.targets:
            return None
        given = task.goal.targets if isinstance(task.goal, ColumnGoal) else {}
        missing = [name for name in self.targets if name not in given]
        if missing:
            raise MismatchError(f"a goal on {', '.join(self.targets)}", f"none for {', '.join(missing)}",
                                "name every column that the policy is told")
        values = [torch.as_tensor(given[name]).to(belief.state) for name in self.targets]
        return torch.stack([value.expand(len(belief)) for value in values], -1)

    def _beside(self, state: Tensor, target: Tensor | None) -> Tensor:
        """(B, D), (B, G) -> (B, D + G)."""
        given = 0 if target is None else target.shape[-1]
        if given != len(self.targets):
            raise MismatchError(f"targets of {len(self.targets)} columns", f"{given}", "give the policy what it wants")
        return state.flatten(1) if target is None else torch.cat([state.flatten(1), target.to(state)], -1)


class Reactive(Planner):
    """Mode 1 where a planner is expected: the policy's action. One step is imagined, so that energies are told and a
    guardrail that it breaks is noticed: then the task's fallback acts, as with every planner."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def plan(self, problem: Problem) -> Plan:
        action = self.policy.propose(problem.belief, problem.task)[:, None, :1]
        return plan_in_rounds(problem, _Proposed(action), 1, 1)


class _Proposed(Proposal):
    """One candidate (B, 1, 1, A), whatever it is worth."""

    def __init__(self, action: Tensor) -> None:
        self.action = action

    def candidates(self, number: int) -> int:
        return 1

    def sample(self, number: int, count: int) -> Tensor:
        return self.action

    def refit(self, actions: Tensor, scores: Verdict, order: Tensor) -> None:
        pass

    def warm(self) -> None:
        return None
