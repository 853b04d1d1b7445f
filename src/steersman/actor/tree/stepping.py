"""One step of imagination from many different states of each problem: what the tree planners share.

Knows core's abstract boxes; not which planner asks. Shapes: B problems, K states, R choices, O outcomes, H steps that a
choice is held, D state, A action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from steersman.actor.ground.bounds import Bounds
from steersman.actor.ground.primitives import rays
from steersman.actor.ground.verdict import refuse_scenarios, step_terms, verdict, weighted_terms
from steersman.core import ConfigError, Imagined, PlanningError, Problem, Support
from steersman.core.clock import now

_ROWS = 8  # fewer rows than this take other ways through a matrix product, which round differently


@dataclass(frozen=True)
class Step:
    """What one choice leads to from each of K states.

    imagined   states (B, K·O, H+1, …): outcomes of a state are neighbours
    carry      the predictor's state after it, each (B, K·O, …)
    energy     (B, K, O) summed over the steps that the choice is held; infinite where it was not finite
    parts      name of a term -> (B, K, O, H)
    unsafe     (B, K, O) bool: a guardrail refuses it, or the energy is not finite
    refused    name of a guardrail -> (B, K) bool: refuses an outcome that may come
    outcomes   u (B, K, O, U) and probability (B, K, O); None: none is listed, O = 1
    """

    imagined: Imagined
    carry: tuple[Tensor, ...]
    energy: Tensor
    parts: dict[str, Tensor]
    unsafe: Tensor
    refused: dict[str, Tensor]
    outcomes: Support | None

    @property
    def states(self) -> Tensor:
        """(B, K·O, …): where each outcome ends."""
        return self.imagined.states[:, :, -1]


class Stepper:
    """Takes steps for the problems of one decision.

    choices  (R, A): every choice, or for continuous actions the middle of the range and a fan around it
    depth    choices of a plan; each is held for `hold` steps
    terms    names of the terms that a step is worth; what comes after the last one is for leaves (`ends_of`)
    """

    def __init__(self, problem: Problem, horizon: int, hold: int, fan: int, listed: bool = True) -> None:
        """listed: see every outcome of a step with its probability; otherwise what the model expects, or what the noise
        that is handed to `imagine` makes of it."""
        self.problem, self.listed = problem, listed
        self.hold = min(hold, horizon)
        self.depth = horizon // self.hold
        self.choices = choices(problem, fan)
        self.steps = self.depth * self.hold
        self.terms = step_terms(problem)
        if problem.exogenous is not None and problem.exogenous.shape[1] < self.steps:
            raise PlanningError(
                f"exogenous inputs for {self.steps} steps", f"{problem.exogenous.shape[1]}",
                "pass a longer forecast or plan less far",
            )

    def imagine(
        self, states: Tensor, carry: tuple[Tensor, ...], choice: Tensor, when: int | Tensor, u: Tensor | None = None
    ) -> Imagined:
        """From states (B, K, …) by choices (B, K), each held; `when` is the number of the choice in the plan, for all
        or for each problem; u (B, K, U). Returns states (B, K, H+1, …), carry each (B, K, …)."""
        count = states.shape[1]
        more = -(-_ROWS // (len(states) * count))
        if more <= 1:
            return self._imagine(states, carry, self.choices[choice], when, u)
        # repeated, because a plan must not depend on how many problems are planned together
        states, choice = _times(states, more), _times(choice, more)
        carry, u = tuple(_times(x, more) for x in carry), None if u is None else _times(u, more)
        imagined = self._imagine(states, carry, self.choices[choice], when, u)
        spread, looked = (None if x is None else x[:, :count] for x in (imagined.disagreement, imagined.attention))
        return Imagined(imagined.states[:, :count], imagined.context, spread, looked,
                        tuple(x[:, :count] for x in imagined.carry), imagined.shared)

    def _imagine(
        self, states: Tensor, carry: tuple[Tensor, ...], actions: Tensor, when: int | Tensor, u: Tensor | None
    ) -> Imagined:
        actions = actions[:, :, None].expand(-1, -1, self.hold, -1)
        return self.problem.model.branch(self.problem.belief, states, actions, self._known(when), u, carry)

    def _known(self, when: int | Tensor) -> Tensor | None:
        exogenous = self.problem.exogenous
        if exogenous is None or isinstance(when, int):
            return None if exogenous is None else exogenous[:, when * self.hold : (when + 1) * self.hold]
        index = when[:, None] * self.hold + torch.arange(self.hold, device=when.device)
        return exogenous[torch.arange(len(when), device=when.device)[:, None], index]

    def step(self, states: Tensor, carry: tuple[Tensor, ...], choice: Tensor, when: int | Tensor) -> Step:
        """Every outcome of choices (B, K) from states (B, K, …), and what each is worth."""
        outcomes = self.outcomes(states, carry, choice, when)
        b, k = choice.shape
        count, u, each = 1, None, choice
        if outcomes is not None:
            count, u = outcomes.probability.shape[-1], outcomes.u.flatten(1, 2)[:, :, None]
            states, each = states.repeat_interleave(count, 1), choice.repeat_interleave(count, 1)
            carry = tuple(x.repeat_interleave(count, 1) for x in carry)
        imagined = self.imagine(states, carry, each, when, u)
        actions = self.choices[each][:, :, None].expand(-1, -1, self.hold, -1)
        scores = verdict(self.problem, imagined, actions, terms=self.terms)
        parts, energy = self._energies(imagined, actions, scores.parts, scores.energy, when)
        may = None if outcomes is None else outcomes.probability > 0
        refused = {
            name: (veto.view(b, k, count) if may is None else veto.view(b, k, count) & may).any(2)
            for name, veto in scores.refused.items()
        }
        return Step(
            imagined, imagined.carry, energy.view(b, k, count), {n: p.view(b, k, count, -1) for n, p in parts.items()},
            ~scores.feasible.view(b, k, count), refused, outcomes,
        )

    def outcomes(
        self, states: Tensor, carry: tuple[Tensor, ...], choice: Tensor, when: int | Tensor
    ) -> Support | None:
        """What may come of choices (B, K) from states (B, K, …); arguments as in `imagine`."""
        if not self.listed:
            return None
        outcomes = self.problem.model.support(
            self.problem.belief, states, self.choices[choice], self._known(when), carry)
        risk = self.problem.task.risk  # listed outcomes are weighed by probability, and guardrails hold in each
        if outcomes is None or risk.over != "mean" or risk.broken:
            refuse_scenarios(self.problem, "that searches a tree")
        if outcomes is not None and self.hold > 1:
            raise PlanningError("hold 1 where steps are left to chance", f"{self.hold}",
                                "set the planner's hold to 1: outcomes are listed for one step")
        return outcomes

    def _energies(
        self, imagined: Imagined, actions: Tensor, parts: Mapping[str, Tensor], energy: Tensor, when: int | Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Terms and sums; some terms (a goal over "last") weigh the plan's last step apart."""
        ends, final = dict(parts), when == self.depth - 1
        if not self.last_differs or final is True:
            return ends, energy
        within = self._within(imagined, actions)
        if isinstance(final, Tensor):
            mask = final[:, None, None]
            within = {name: torch.where(mask, ends[name], part) for name, part in within.items()}
        total = torch.stack(list(within.values())).sum(0).sum(2)
        return within, torch.where(torch.isfinite(total), total, torch.inf)

    def _within(self, imagined: Imagined, actions: Tensor) -> dict[str, Tensor]:
        """Terms of the same steps when the plan goes on after them."""
        longer = torch.cat([actions, actions[:, :, -1:]], 2)
        parts = weighted_terms(self.problem, _lingering(imagined), longer, self.terms)
        return {name: part[:, :, : self.hold] for name, part in parts.items()}

    @cached_property
    def last_differs(self) -> bool:
        """Whether a step's energy depends on its being the last: tried once, on states that are like no others."""
        state = self.problem.belief.state
        noise = torch.randn(self.hold + 1, *state.shape[1:], generator=torch.Generator().manual_seed(0))
        states = state[:, None, None] + noise.to(state)
        spread = noise.new_ones(len(state), 1, self.hold).to(state)
        imagined = Imagined(states, self.problem.belief.context, spread)
        actions = self.choices[None, :1, None].expand(len(state), -1, self.hold, -1)
        ends = weighted_terms(self.problem, imagined, actions, self.terms)
        within = self._within(imagined, actions)
        return any(not torch.equal(within[name], part) for name, part in ends.items())


def choices(problem: Problem, fan: int) -> Tensor:
    """(R, A): every choice; for continuous actions the middle of the range and `fan` constant actions around it."""
    device = problem.belief.state.device
    if problem.action.kind == "discrete":
        return rays(problem.action, fan).to(device)
    bounds = Bounds(problem.action, problem.belief.state)
    around = bounds.clamp(rays(problem.action, fan).to(device))
    if problem.action.size == 1 and fan % 2:
        return around  # has the middle
    return torch.cat([bounds.middle[None], around])


def nearest_choice(table: Tensor, actions: Tensor) -> Tensor:
    """(R, A), (…, A) -> the choice (…) that is nearest to each action."""
    return (actions[..., None, :].double() - table.double()).square().sum(-1).argmin(-1)


def require_tree_sizes(fan: int, hold: int, horizon: int, execute: int, **sizes: int) -> None:
    """Sizes that every tree planner needs to be sane."""
    named = {"fan": fan, "hold": hold, "horizon": horizon, "execute": execute, **sizes}
    if min(named.values()) < 1 or fan < 2:
        raise ConfigError(
            f"{', '.join(named)} >= 1 and fan >= 2", ", ".join(f"{k} {v}" for k, v in named.items()),
            "correct the planner's configuration",
        )


class Allowance:
    """What is left of a budget while a tree grows; the final plan and the fallback are paid beforehand."""

    def __init__(self, problem: Problem, steps: int, finals: int = 1) -> None:
        self.budget, self.started, self.calls = problem.task.budget, now(), 0
        self.reserve = steps * (finals + bool(problem.task.guardrails))

    def left(self) -> int | None:
        """Predictor calls per problem that may still be spent; None: any number."""
        return None if self.budget.calls is None else self.budget.calls - self.reserve - self.calls

    def require(self, calls: int, what: str) -> None:
        """Raises PlanningError unless `calls` can be paid."""
        left = self.left()
        if left is not None and left < calls:
            raise PlanningError(
                f"a budget of at least {calls + self.reserve} predictor calls for {what}", f"{self.budget.calls}",
                "raise the budget, shorten the horizon or take fewer choices",
            )

    @property
    def seconds(self) -> float:
        """Since the decision began."""
        return now() - self.started

    def seconds_left(self) -> float:
        """Until the budget's limit; infinite without one."""
        return torch.inf if self.budget.seconds is None else self.budget.seconds - self.seconds


def widened(actions: Tensor) -> Tensor:
    """Candidates (B, K, H, A), repeated until there are enough of them to be scored alike in every batch."""
    return _times(actions, max(1, -(-_ROWS // (actions.shape[0] * actions.shape[1]))))


def _times(x: Tensor, times: int) -> Tensor:
    return torch.cat([x] * times, 1)


def _lingering(imagined: Imagined) -> Imagined:
    """One step more, that goes nowhere."""
    spread = imagined.disagreement
    return Imagined(
        torch.cat([imagined.states, imagined.states[:, :, -1:]], 2), imagined.context,
        None if spread is None else torch.cat([spread, spread[:, :, -1:]], 2),
    )
