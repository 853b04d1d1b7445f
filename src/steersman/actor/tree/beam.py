"""Beam search: keep the best beginnings of a plan, extend each by every choice, keep the best again.

Shapes: B problems, W beginnings, S scenarios, R choices, T steps so far, H horizon, D state, A action.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
import torch
from torch import Tensor

from steersman.actor.ground.bounds import Bounds
from steersman.actor.ground.configured import Configured
from steersman.actor.ground.ranking import feasibility_first
from steersman.actor.ground.rounds import Best, Searched, Spending, decide
from steersman.actor.ground.verdict import Verdict, scenario_draws, scenarios_of, score, verdict
from steersman.actor.sampling.distributions import fitted, shifted
from steersman.actor.tree.merging import first_of_each
from steersman.actor.tree.stepping import Allowance, Stepper, require_tree_sizes, widened
from steersman.core import ConfigError, Imagined, Plan, Planner, Problem, TensorRecord, register


@dataclass(frozen=True)
class LastPlan(TensorRecord):
    """The plan of the last decision (B, H, A), which the next one compares with its own."""

    actions: Tensor


class Beam(Configured["Beam.Config"]):
    """Beam search over sequences of choices (Lowerre 1976).

        W_{t+1} = the `width` best of { (w, a) : w in W_t, a a choice } by Σ_{τ<=t} E(s_τ), feasibility first

    A beginning is scored as if the plan ended with it, so every term sees whole sequences, also those that look back or
    weigh the last step. Continuous actions are chosen from a fan: the middle of the range and `fan` constant actions,
    each held for `hold` steps. With `merge`, beginnings that lead to the same state count once, the better one: with
    width >= states this is dynamic programming, exact for deterministic models and energies of single steps.

    A beginning that a guardrail refuses ranks behind all others and never becomes a plan. The plan before, moved on,
    and a policy's proposal are compared with the best sequence at the end. What is left to chance is what the model
    expects without u, or, where the task weighs scenarios, S futures of every beginning from draws that all share,
    ranked by the task's risk. Plans do not react to outcomes; for those that do take dynamic programming or tree
    search. Nothing else is random.

    Budget: the width shrinks to what calls allow, and to what the pace so far leaves of the seconds.
    """

    @register(Planner)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="beam"):
        """width W; fan: constant actions that stand for continuous ones; horizon when the task does not say.

        merge    states nearer than this, entry by entry, count as one; None: none do
        execute  actions of a plan to carry out before the next decision
        """

        width: int = 64
        fan: int = 8
        hold: int = 1
        horizon: int = 12
        merge: float | None = None
        execute: int = 1

        def __post_init__(self) -> None:
            require_tree_sizes(self.fan, self.hold, self.horizon, self.execute, width=self.width)
            if self.merge is not None and not self.merge > 0:
                raise ConfigError("merge > 0, or None", f"{self.merge}", "correct the planner's configuration")

        def build(self) -> Beam:
            return Beam(self)

    @torch.no_grad()
    def plan(self, problem: Problem) -> Plan:
        c = self.config
        horizon = problem.horizon(c.horizon)
        spending, stepper = Spending(problem, horizon), Stepper(problem, horizon, c.hold, c.fan, listed=False)
        others = _others(problem, stepper.steps, c.execute)
        scenarios = scenarios_of(problem)
        allowance = Allowance(problem, stepper.steps * scenarios, len(others))
        best, scored = self._search(problem, stepper, allowance)
        if others:
            known = [torch.where(fits.view(-1, 1, 1), other, best.actions) for other, fits in others]
            actions = torch.stack(known, 1)
            allowance.calls += actions.shape[1] * stepper.steps * scenarios
            scores = score(problem, widened(actions))
            better = best.improved(Best.of(widened(actions), scores, _order(scores)))
            best = replace(better, kept=best.kept, refused=best.refused)
        counts = torch.full((len(problem),), 1, dtype=torch.int64)
        plan = decide(problem, Searched(best, scored * counts, allowance.calls * counts), spending)
        return replace(plan, warm=LastPlan(plan.actions))

    def _search(self, problem: Problem, stepper: Stepper, allowance: Allowance) -> tuple[Best, int]:
        """The best sequence of each problem and how many were scored."""
        b, r, hold, count = len(problem), len(stepper.choices), stepper.hold, scenarios_of(problem)
        width = self._affordable(stepper, allowance, count)
        path, carry = problem.belief.state[:, None, None], tuple(x[:, None] for x in problem.belief.carry)
        path, carry = path.repeat_interleave(count, 1), tuple(x.repeat_interleave(count, 1) for x in carry)
        noise = scenario_draws(problem, stepper.steps) if count > 1 else None
        disagreement: Tensor | None = None
        done = stepper.choices.new_zeros(b, 1, 0, stepper.choices.shape[1])
        rows = torch.arange(b, device=path.device)[:, None]
        scored, kept, refused = 0, torch.zeros((), dtype=torch.int64), dict[str, Tensor]()
        for when in range(stepper.depth):
            begun = done.shape[1]
            parent = torch.arange(begun, device=path.device).repeat_interleave(r)
            choice = torch.arange(r, device=path.device).repeat(begun).expand(b, -1)
            each = _scenarios(parent, count)  # rows of the beginnings' futures, those of a beginning side by side
            u = None if noise is None else noise[:, :, when * hold : (when + 1) * hold].repeat(1, len(parent), 1, 1)
            before = allowance.seconds
            step = stepper.imagine(path[:, each, -1], tuple(x[:, each] for x in carry),
                                   choice.repeat_interleave(count, 1), when, u)
            allowance.calls += len(each) * hold
            actions = torch.cat([done[:, parent], stepper.choices[choice][:, :, None].expand(-1, -1, hold, -1)], 2)
            spread = step.disagreement
            if spread is not None and disagreement is not None:
                spread = torch.cat([disagreement[:, each], spread], 2)
            states = torch.cat([path[:, each], step.states[:, :, 1:]], 2)
            scores = verdict(problem, Imagined(states, problem.belief.context, spread, carry=step.carry), actions)
            scored += len(parent)
            kept = kept.to(path.device) + scores.feasible.sum(1)
            refused = {name: refused.get(name, 0) + veto.sum(1) for name, veto in scores.refused.items()}
            order = self._ranked(scores, states[:, :, -1].unflatten(1, (-1, count)))[:, :width]
            left = _scenarios(order, count)
            path, done = states[rows, left], actions[rows, order]
            carry = tuple(x[rows, left] for x in step.carry)
            disagreement = None if spread is None else spread[rows, left]
            width = self._pace(width, allowance.seconds - before, stepper.depth - 1 - when, allowance)
        whole = Best.of(actions, scores, order)
        return replace(whole, kept=kept, refused=refused), scored

    def _ranked(self, scores: Verdict, ends: Tensor) -> Tensor:
        """(B, K) best first; with `merge`, a beginning that ends where a better one does, ends (B, K, S, …), in every
        scenario, comes last."""
        order = _order(scores)
        if self.config.merge is None:
            return order
        rows = torch.arange(len(order), device=order.device)[:, None]
        double = ~first_of_each(ends[rows, order].flatten(2), self.config.merge)
        return order.gather(1, double.to(torch.uint8).argsort(dim=1, stable=True))

    def _affordable(self, stepper: Stepper, allowance: Allowance, scenarios: int) -> int:
        """The width that the budget's calls allow for all layers."""
        first = len(stepper.choices) * stepper.hold * scenarios
        allowance.require(first * stepper.depth, f"{stepper.depth} layers of {len(stepper.choices)} choices")
        left = allowance.left()
        if left is None or stepper.depth == 1:
            return self.config.width
        return min(self.config.width, (left - first) // (first * (stepper.depth - 1)))

    @staticmethod
    def _pace(width: int, seconds: float, layers: int, allowance: Allowance) -> int:
        """A width for which the layers to come fit into what is left of the seconds."""
        left = allowance.seconds_left()
        if left == torch.inf or not layers:
            return width
        return max(1, min(width, int(width * left / max(seconds * layers, 1e-9))))


def _scenarios(candidates: Tensor, count: int) -> Tensor:
    """Indices (…, K) of candidates -> those of their futures (…, K·S)."""
    if count == 1:
        return candidates
    return (candidates[..., None] * count + torch.arange(count, device=candidates.device)).flatten(-2)


def _order(scores: Verdict) -> Tensor:
    return feasibility_first(scores.energy, scores.violation, scores.feasible)


def _others(problem: Problem, steps: int, execute: int) -> list[tuple[Tensor, Tensor]]:
    """Whole plans to compare with, and for which problems they are there: the last one, moved on; a policy's."""
    others = []
    if isinstance(problem.warm, LastPlan) and len(problem.warm.actions) == len(problem):
        others.append((fitted(shifted(problem.warm.actions, problem.since(execute)), steps), problem.decision > 0))
    if problem.proposal is not None:
        proposal = fitted(problem.proposal, steps)
        if problem.action.kind == "continuous":
            proposal = Bounds(problem.action, problem.belief.state).clamp(proposal)
        others.append((proposal, torch.ones_like(problem.decision, dtype=torch.bool)))
    return others
