"""The trees of one decision while they grow, for any world model: one call of it a simulation, for all problems.

Shapes: B problems, R choices, O outcomes, N nodes, T choices of a plan, H steps that each is held, D state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from steersman.actor.ground.bounds import fallback_action
from steersman.actor.ground.verdict import ends_of, terminal_terms, verdict
from steersman.actor.tree.rules import Bools, Floats, Rules
from steersman.actor.tree.stepping import Allowance, Step, Stepper, nearest_choice
from steersman.actor.tree.tree import Line, Tree, Walk
from steersman.core import Critic, Imagined, PlanningError, Problem, Streams


@dataclass(frozen=True)
class Search:
    """What is to be searched, by which rules, and how many `simulations` can be paid."""

    problem: Problem
    stepper: Stepper
    allowance: Allowance
    streams: Streams
    rules: Rules
    simulations: int


@dataclass(frozen=True)
class Grown:
    """What a search found.

    choice          (B, T): the plan; `feasible` (B,) bool: no step of it is refused
    imagined        its future (K = 1); parts: name of a term -> (B, T·H), weighted
    share           (B, T, R) of visits along it
    kept, vetoed    (B,): choices that were tried and allowed; name of a guardrail -> (B,) that it refused
    calls           (B,): of the predictor; simulations (B,): fewer where a tree was over before
    visits, energy  (B,): of the first choice, summed over visits
    """

    choice: Tensor
    feasible: Tensor
    imagined: Imagined
    parts: Mapping[str, Tensor]
    share: Floats
    kept: Tensor
    vetoed: Mapping[str, Tensor]
    calls: Tensor
    simulations: Tensor
    visits: Floats
    energy: Floats


class Growth:
    """Grows the trees of a search step by step."""

    def __init__(self, search: Search, outcomes: int, rollout: int, critic: Critic | None) -> None:
        self.search, self.rollout, self.critic = search, rollout, critic
        self.problem, self.stepper, self.allowance = search.problem, search.stepper, search.allowance
        self.valued = bool(terminal_terms(search.problem))
        self.each = calls_of_one(self.stepper, outcomes, rollout)
        b, belief = len(self.problem), self.problem.belief
        self.tree = Tree(b, search.simulations, len(self.stepper.choices), outcomes, self.stepper.depth, search.rules)
        self.states = _store(belief.state, b, self.tree.size)
        self.carry = tuple(_store(x, b, self.tree.size) for x in belief.carry)
        self.u: Tensor | None = None
        self.vetoed: dict[str, Tensor] = {}
        self.kept, self.looked = torch.zeros(b, dtype=torch.int64), torch.zeros(b, dtype=torch.int64)
        self.done = torch.zeros_like(self.kept)

    def grown(self) -> Grown:
        """After as many simulations as the budget has time for."""
        self._run()
        problem, stepper, tree = self.problem, self.stepper, self.tree
        line = tree.line()
        choice, u, open_ = self._completed(line)
        actions = stepper.choices[choice].repeat_interleave(stepper.hold, 1)
        exogenous = None if problem.exogenous is None else problem.exogenous[:, : stepper.steps]
        imagined = problem.model.imagine(problem.belief, actions[:, None], exogenous, None if u is None else u[:, None])
        scores, device = verdict(problem, imagined, actions[:, None]), actions.device
        feasible = torch.from_numpy(~tree.dead()).to(device) & open_ & scores.feasible[:, 0]
        vetoed = {name: self.vetoed.get(name, torch.zeros_like(self.kept)).to(device) for name in scores.refused}
        return Grown(
            choice, feasible, imagined, {name: part[:, 0] for name, part in scores.parts.items()}, line.share,
            self.kept.to(device), vetoed, self.each * self.done + self.looked, self.done, line.visits, line.energy,
        )

    def _run(self) -> None:
        slowest = 0.0
        for number in range(self.search.simulations):
            before = self.allowance.seconds
            if number and self.allowance.seconds_left() < slowest:
                return
            walk = self.tree.walk()
            if walk.over.all():
                return
            self._simulate(walk)
            slowest = max(slowest, self.allowance.seconds - before) if number else 0.0

    def _simulate(self, walk: Walk) -> None:
        tree, problem = self.tree, self.problem
        filled, device = tree.filled, problem.belief.state.device
        leaf = torch.from_numpy(walk.leaf).to(device)
        when = torch.from_numpy(np.minimum(walk.depth, tree.horizon - 1)).to(device)
        states = self.states.flatten(0, 1).index_select(0, leaf)[:, None]
        carry = tuple(x.flatten(0, 1).index_select(0, leaf)[:, None] for x in self.carry)
        step = self.stepper.step(states, carry, torch.from_numpy(walk.choice).to(device)[:, None], when)
        self.allowance.calls += self.each
        to_come = self._to_come(step, when)
        self._remember(step, slice(filled, filled + tree.outcomes))
        refused, counts = self._refused(step), ~walk.over
        energy, worth = (x.double().cpu().numpy() for x in (step.energy[:, 0], to_come))
        p = np.ones_like(energy) if step.outcomes is None else step.outcomes.probability[:, 0].double().cpu().numpy()
        self.done += torch.from_numpy(counts)
        self._note(step, counts, refused)
        returned = (np.where(p > 0, energy + worth, 0) * p).sum(1)
        tree.tell(walk, energy, worth, p, returned, refused)

    def _remember(self, step: Step, slots: slice) -> None:
        self.states[:, slots] = step.states
        for store, after in zip(self.carry, step.carry, strict=True):
            if store.shape[2:] != after.shape[2:]:
                raise PlanningError("a history that keeps its size", f"{tuple(after.shape[2:])} after a step",
                                    "act until the history is full, or use planner 'beam'")
            store[:, slots] = after
        if step.outcomes is not None:
            if self.u is None:
                self.u = step.outcomes.u.new_zeros(*self.states.shape[:2], step.outcomes.u.shape[-1])
            self.u[:, slots] = step.outcomes.u[:, 0]

    def _refused(self, step: Step) -> Bools:
        unsafe = step.unsafe if step.outcomes is None else step.unsafe & (step.outcomes.probability > 0)
        out: Bools = unsafe[:, 0].any(1).cpu().numpy()
        return out

    def _note(self, step: Step, counts: Bools, refused: Bools) -> None:
        self.kept += torch.from_numpy(counts & ~refused)
        for name, veto in step.refused.items():
            mine = veto[:, 0].cpu() & torch.from_numpy(counts)
            self.vetoed[name] = self.vetoed.get(name, 0) + mine.long()

    def _to_come(self, step: Step, when: Tensor) -> Tensor:
        """(B, O): what is thought to come of the new states until the horizon."""
        left = (self.stepper.depth - 1 - when)[:, None]
        if self.critic is not None:
            value: Tensor = self.critic.value(step.states, self.problem.belief.context)
            return value
        if self.valued:
            return torch.stack(list(ends_of(self.problem, step.states).values())).sum(0)
        states, carry, energy = step.states, step.carry, step.energy[:, 0]
        total = torch.zeros_like(energy)
        for number in range(self.rollout):
            choice = self.search.streams.integers(len(self.stepper.choices), states.shape[1]).to(states.device)
            after = self.stepper.step(states, carry, choice, (when + 1 + number).clamp(max=self.stepper.depth - 1))
            pick = torch.zeros_like(choice)[..., None]
            if after.outcomes is not None:  # one outcome each, by its probability
                draw = self.search.streams.uniform(states.shape[1], 1).to(states.device)
                pick = (after.outcomes.probability.cumsum(-1) < draw).sum(-1, keepdim=True)
                pick = pick.clamp(max=after.energy.shape[-1] - 1)
            going = left > number
            energy = torch.where(going, after.energy.gather(2, pick)[..., 0], energy)
            total = total + torch.where(going, energy, 0)
            rows = torch.arange(len(states), device=states.device)[:, None]
            place = torch.arange(states.shape[1], device=states.device) * after.energy.shape[-1] + pick[..., 0]
            states, carry = after.states[rows, place], tuple(x[rows, place] for x in after.carry)
        return total + energy * (left - self.rollout).clamp(min=0)

    def _completed(self, line: Line) -> tuple[Tensor, Tensor | None, Tensor]:
        """The choices (B, T), with the least energy of a single step where the tree ends; u (B, T, U) of the outcomes;
        (B,) whether an open choice was found for every step."""
        stepper, device = self.stepper, self.problem.belief.state.device
        b, r = len(self.problem), len(stepper.choices)
        choice, node = torch.from_numpy(line.choice).to(device), torch.from_numpy(line.node).to(device)
        rows = torch.arange(b, device=device)
        last = torch.from_numpy(np.maximum(line.node.max(1), self.tree.roots)).to(device)
        states = self.states.flatten(0, 1)[last]
        carry = tuple(x.flatten(0, 1)[last] for x in self.carry)
        u = None if self.u is None else self.u.new_zeros(b, stepper.depth, self.u.shape[-1])
        open_ = torch.ones(b, dtype=torch.bool, device=device)
        every = torch.arange(r, device=device).expand(b, -1)
        spare = nearest_choice(stepper.choices, fallback_action(self.problem).to(stepper.choices.dtype))
        for step in range(stepper.depth):
            known = choice[:, step] >= 0
            if u is not None and self.u is not None:
                u[:, step] = self.u.flatten(0, 1)[node[:, step].clamp(min=0)]
            if bool(known.all()):
                continue
            after = stepper.step(states[:, None].expand(-1, r, *states.shape[1:]),
                                 tuple(x[:, None].expand(-1, r, *x.shape[1:]) for x in carry), every, step)
            self.looked += torch.where(known.cpu(), 0, after.energy[0].numel() * stepper.hold)
            p = torch.ones_like(after.energy) if after.outcomes is None else after.outcomes.probability
            unsafe = (after.unsafe & (p > 0)).any(2)
            worth = torch.where(p > 0, after.energy * p, 0).sum(2).masked_fill(unsafe, torch.inf)
            best = torch.where(unsafe.all(1), spare, worth.argmin(1))
            open_ &= known | ~unsafe.all(1)
            choice[:, step] = torch.where(known, choice[:, step], best)
            outcome = p[rows, best].argmax(1)
            if u is not None and after.outcomes is not None:
                u[:, step] = torch.where(known[:, None], u[:, step], after.outcomes.u[rows, best, outcome])
            place = best * after.energy.shape[2] + outcome
            keep = known.view(-1, *[1] * (states.dim() - 1))
            states = torch.where(keep, states, after.states[rows, place])
            carry = tuple(
                torch.where(known.view(-1, *[1] * (x.dim() - 1)), x, y[rows, place])
                for x, y in zip(carry, after.carry, strict=True)
            )
        return choice, u, open_


def outcomes_of(stepper: Stepper) -> int:
    """O: how many outcomes a choice has at most."""
    belief = stepper.problem.belief
    first = torch.zeros(len(belief), 1, dtype=torch.int64, device=belief.state.device)
    listed = stepper.outcomes(belief.state[:, None], tuple(x[:, None] for x in belief.carry), first, 0)
    return 1 if listed is None else listed.probability.shape[-1]


def calls_of_one(stepper: Stepper, outcomes: int, rollout: int) -> int:
    """Predictor calls of one simulation."""
    return outcomes * stepper.hold + rollout * stepper.hold * outcomes


def _store(first: Tensor, problems: int, size: int) -> Tensor:
    """(B, …) -> (B, N, …), the first node filled."""
    store = first.new_zeros(problems, size, *first.shape[1:])
    store[:, 0] = first
    return store
