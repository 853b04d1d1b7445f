"""A cost from a trained head: how unlikely it is that the goal is reached within the steps that remain.

Knows the head that `objectives.Reachability` trains, not who trained it. Shapes: B problems, K candidates, H horizon,
D latent size (tokens flattened), N budgets.
"""

from __future__ import annotations

import math
from typing import ClassVar

import msgspec
import torch
from torch import Tensor
from torch.nn import functional as F

from steersman.core import ConfigError, FittedCost, Imagined, LatentGoal, PlanningError, Task, register
from steersman.nn.pair_head import PairHead


class ReachableCost(FittedCost):
    """e_t = -log p(the goal is reached from the state after step t within H - t + beyond steps).

    p = σ(ℓ), ℓ the head's logits at `budgets`, read at the remaining steps by linear interpolation in the logarithm of
    the budget; fewer than the first budget count as it, more than the last as the last. Towards the end of a plan less
    remains, so a plan is cheap that gets near in time. `beyond` is how many steps are to come after the plan: the
    larger, the more the cost asks "on the right side" and the less "there".

    Latent distance says nothing of walls and of what cannot be turned back; this does as far as the log tells. It adds
    to the goal term and does not replace it: near the goal it is flat. A published weight is .1 to .5 of the goal's.

    Source: RC-aux (Li et al. 2026, arXiv:2605.07278), "reachability-aware planner".

    Raises:
        PlanningError: a goal that is no latent, or a head without trained weights.
    """

    name: ClassVar[str] = "reachable"

    @register(FittedCost)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="reachable"):
        """budgets and width: the head's, as it was trained; beyond: steps that remain after a plan."""

        budgets: tuple[int, ...]
        width: int
        beyond: int = 1

        def __post_init__(self) -> None:
            grow = all(a < b for a, b in zip((0, *self.budgets), self.budgets, strict=False))
            if not self.budgets or not grow or self.width < 1 or self.beyond < 0:
                raise ConfigError("growing budgets of at least 1, a positive width and beyond >= 0", f"{self}",
                                  "give the head's own budgets and width")

        def build(self, latent_shape: tuple[int, ...]) -> ReachableCost:
            return ReachableCost(latent_shape, self)

    config: Config
    fitted: Tensor

    def __init__(self, latent_shape: tuple[int, ...], config: Config) -> None:
        super().__init__()
        self.config, self.latent_shape = config, tuple(latent_shape)
        self.head = PairHead(math.prod(latent_shape), config.width, len(config.budgets))
        self.register_buffer("fitted", torch.tensor(False))
        self.requires_grad_(False)

    def take(self, head: dict[str, Tensor]) -> ReachableCost:
        """Take the weights of a trained head, `PairHead.state_dict()`; returns itself."""
        self.head.load_state_dict(head)
        self.fitted.fill_(True)
        return self

    def probability(self, states: Tensor, goal: Tensor, remaining: Tensor) -> Tensor:
        """p that `goal` is reached within `remaining` steps: states and goal (…, D) flattened, remaining (…) -> (…)."""
        return torch.sigmoid(self._logit(states, goal, remaining))

    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        if not bool(self.fitted):
            raise PlanningError("a trained head", "one without weights", "make it with training.reachable_cost(run)")
        if not isinstance(task.goal, LatentGoal):
            raise PlanningError("a goal that is an observation or a latent, for the cost reachable",
                                type(task.goal).__name__, "weigh reachable 0, or name such a goal")
        states = imagined.states[:, :, 1:]
        states = states.flatten(-len(self.latent_shape))
        goal = task.goal.latent.state.to(states).flatten(-len(self.latent_shape))
        steps = states.shape[2]
        remaining = torch.arange(steps - 1, -1, -1, device=states.device) + self.config.beyond
        return F.softplus(-self._logit(states, goal[:, None, None].expand_as(states), remaining))

    def _logit(self, states: Tensor, goal: Tensor, remaining: Tensor) -> Tensor:
        logits = self.head(states, goal)
        return (logits * self._share(remaining.to(logits))).sum(-1)

    def _share(self, remaining: Tensor) -> Tensor:
        """(…) steps -> (…, N): how much each budget counts."""
        knots = torch.tensor(self.config.budgets, device=remaining.device).float().log()
        at = remaining.clamp(min=1).log().clamp(knots[0], knots[-1])
        high = torch.searchsorted(knots, at.contiguous()).clamp(1, max(len(knots) - 1, 1))
        if len(knots) == 1:
            return torch.ones(*at.shape, 1, device=at.device)
        low = high - 1
        share = (at - knots[low]) / (knots[high] - knots[low])
        weights = torch.zeros(*at.shape, len(knots), device=at.device)
        return weights.scatter(-1, low[..., None], (1 - share)[..., None]).scatter(-1, high[..., None],
                                                                                  share[..., None])
