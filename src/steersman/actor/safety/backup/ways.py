"""Ways out: action sequences that end in a manoeuvre, imagined in closed loop, judged and ranked.

Knows the manoeuvre (a policy), costs and guardrails by core's abstract classes only.

Shapes: B problems, K candidates, S steps of a way, P steps before the manoeuvre, G guardrails, A action size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.actor.ground.bounds import Bounds
from steersman.actor.ground.ranking import feasibility_first
from steersman.actor.ground.verdict import verdict
from steersman.core import Guardrail, Imagined, Policy, Problem

_LEAST = 1e-6  # in a guardrail's unit: where nothing is kept for the model's error, clearance itself ranks


@dataclass(frozen=True)
class Ways:
    """K candidates of S steps for each of B problems, judged.

    actions (B, K, S, A); energy (B, K); parts name -> (B, K, S)
    worst   (B, K, G [+ 1]): the largest margin of each guardrail over the steps, and that of the rest at the end
    share   (B, K): how many times over the bare limits are kept, in units of what is kept from them for the model's
            error at that step: the least of -bare / (margin - bare) over steps and guardrails. From 1 on every margin
            is kept, from 0 on every limit
    """

    actions: Tensor
    imagined: Imagined
    energy: Tensor
    parts: dict[str, Tensor]
    worst: Tensor
    share: Tensor
    guardrails: int

    @property
    def certified(self) -> Tensor:
        """(B, K) bool."""
        return (self.worst <= 0).all(2) & torch.isfinite(self.energy)

    @property
    def excess(self) -> Tensor:
        """(B, K): by how much the guardrails are exceeded at worst."""
        return self.worst[..., : self.guardrails].amax(-1).clamp_min(0)

    @property
    def order(self) -> Tensor:
        """(B, K), best first: certificates by energy, then what keeps the largest share of its margins."""
        energy = self.energy.nan_to_num(nan=torch.inf, posinf=torch.inf)
        return feasibility_first(energy, -self.share.to(energy), self.certified)

    @property
    def calls(self) -> int:
        """Predictor calls per problem."""
        return self.actions.shape[1] * self.actions.shape[2]

    def best_of(self, count: int) -> Tensor:
        """(B, count, S, A): the actions of the best ones."""
        rows = torch.arange(len(self.actions))[:, None]
        return self.actions[rows, self.order[:, :count]]

    def best(self) -> tuple[Tensor, Tensor]:
        """The best candidates' actions (B, S, A), and whether each is a certificate (B,)."""
        rows, first = torch.arange(len(self.actions)), self.order[:, 0]
        return self.actions[rows, first], self.certified[rows, first]

    def vetoes(self) -> Tensor:
        """(B, guardrails): candidates that each guardrail refused."""
        return (self.worst[..., : self.guardrails] > 0).sum(1)


@dataclass(frozen=True)
class Judge:
    """What a way is asked: every guardrail at every step, and `rest` at the end of `steps` steps."""

    manoeuvre: Policy
    rest: Guardrail | None
    steps: int

    def ways(self, problem: Problem, prefix: Tensor, lengths: Tensor) -> Ways:
        """prefix (B, K, P, A), of which lengths (B, K) count; then the manoeuvre."""
        imagined, actions = self.follow(problem, prefix, lengths)
        found = verdict(problem, imagined, actions)
        limits, margins = problem.task.guardrails, list(found.margins.values())
        share = self.shares(problem, imagined, actions, margins).flatten(2).amin(2)
        if self.rest is not None:
            final = self.rest.margin(imagined, actions)[..., -1:]
            margins.append(torch.cat([torch.full_like(final, -torch.inf).expand_as(margins[0][..., 1:]), final], -1))
        worst = torch.stack([m.nan_to_num(nan=torch.inf).amax(2) for m in margins], -1)
        return Ways(actions, imagined, found.energy, dict(found.parts), worst, share, len(limits))

    @staticmethod
    def shares(problem: Problem, imagined: Imagined, actions: Tensor, margins: list[Tensor]) -> Tensor:
        """(B, K, S, G): `Ways.share` of each step and guardrail; -inf for what is not a number."""
        found = []
        for guardrail, margin in zip(problem.task.guardrails, margins, strict=True):
            bare = guardrail.bare().margin(imagined, actions)
            found.append(-bare / (margin - bare).clamp_min(_LEAST))
        return torch.stack(found, -1).nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)

    def follow(self, problem: Problem, prefix: Tensor, lengths: Tensor) -> tuple[Imagined, Tensor]:
        """Imagine S steps, the manoeuvre answering the imagined states: (B, K, S+1, D) and actions (B, K, S, A)."""
        (b, k), steps = prefix.shape[:2], self.steps
        belief, count, exogenous = problem.belief.repeat(k), lengths.flatten(), problem.exogenous
        bounds = Bounds(problem.action, problem.belief.state) if problem.action.kind == "continuous" else None
        clamp = (lambda action: action) if bounds is None else bounds.clamp
        known = None if exogenous is None else exogenous.repeat_interleave(k, 0)
        states, apart, actions = [belief.state[:, None]], list[Tensor](), list[Tensor]()
        t, given = 0, int(lengths.min())
        while t < steps:
            if t < given:  # nobody asks the manoeuvre yet: one call for all of these steps
                n, action = given, clamp(prefix[:, :, :given].flatten(0, 1))
            else:  # the manoeuvre looks at where it is
                n, action = 1, self.manoeuvre.propose(belief, problem.task)[:, :1].to(prefix.dtype)
                if t < prefix.shape[2]:
                    action = torch.where((t < count)[:, None, None], prefix[:, :, t].flatten(0, 1)[:, None], action)
                action = clamp(action)
            imagined = problem.model.imagine(belief, action[:, None], None if known is None else known[:, t : t + n])
            belief, t = imagined.last(), t + n
            states.append(imagined.states[:, 0, 1:])
            apart += [] if imagined.disagreement is None else [imagined.disagreement[:, 0]]
            actions.append(action)
        imagined = Imagined(torch.cat(states, 1).unflatten(0, (b, k)), problem.belief.context,
                            torch.cat(apart, 1).unflatten(0, (b, k)) if apart else None)
        return imagined, torch.cat(actions, 1).unflatten(0, (b, k))
