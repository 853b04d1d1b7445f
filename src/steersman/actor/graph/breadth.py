"""Breadth-first search in imagination: every state that can be reached, each once, and the shortest way to the goal.

For worlds of a countable number of states: grids, boards, puzzles. Shapes: B problems, M nodes, W nodes of the last
layer, R choices, H steps of a way, Q edges that turned out otherwise, D state, A action.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
import torch
from torch import Tensor

from steersman.actor.ground.configured import Configured
from steersman.actor.ground.ranking import feasibility_first
from steersman.actor.ground.rounds import Best, Searched, Spending, decide
from steersman.actor.ground.verdict import refuse_scenarios, score
from steersman.actor.tree.merging import keys, merged
from steersman.actor.tree.stepping import Allowance, Step, Stepper, require_tree_sizes
from steersman.core import ConfigError, LatentGoal, Plan, Planner, PlanningError, Problem, TensorRecord, register

_REACHED = 1e-6  # of the largest energy of a first step: what is less is the goal


@dataclass(frozen=True)
class Way(TensorRecord):
    """What is handed on from decision to decision.

    choices  (B, H) of the way, -1 behind its end; states (B, H+1, D) along it, from the state that it was found in
    at       (B,) steps of it that the decision before had behind it
    energy   (B,) of its end
    goal     (B, D') what it leads to; empty (B, 0) where that cannot be compared: then it is searched anew
    scale    (B,) largest change of an entry in a first step
    closed   (B, Q) int64: key and choice of edges that turned out otherwise, 0 where there is none
    """

    choices: Tensor
    states: Tensor
    at: Tensor
    energy: Tensor
    goal: Tensor
    scale: Tensor
    closed: Tensor


class BreadthFirst(Configured["BreadthFirst.Config"]):
    """The fewest steps to the goal, through all states that the model can reach (Moore 1959).

        layer 0 = the state;   layer t+1 = what every choice makes of layer t and is in no layer so far
        plan = the way to the node of least energy; of several the one in the fewest steps

    Exact for deterministic models and up to `resolution`: where distance to the goal misleads, detours, a key behind
    one, none is too long, and a state is imagined once however many ways lead to it. Growth ends where a node's energy
    is a millionth of a first step's (it is the goal), where nothing new is reached, after `layers` layers or `nodes`
    nodes. If the goal was not found the plan goes where the energy is least, to another state than the present one if
    there is any. Continuous actions are chosen from a fan as in beam search, each held for `hold` steps.

    Energies are those of states: what a way costs beside its steps is not added up. A choice that a guardrail refuses
    is no edge; no allowed choice at the start -> the declared fallback.

    The way is followed without a new search for as long as the states on it are as imagined, to the same goal. A step
    that led elsewhere is closed: it is not counted on again in that state, so an agent does not push for ever against a
    wall that its model does not see. A way is handed on only towards goals that are latents; others are searched anew
    at each decision.

    For models that come to the same state in the same numbers: a table, or `TokenConvolution` with codes. Where errors
    add up, no state is ever met again; take `Search`, which spaces its nodes.

    Raises:
        PlanningError: beliefs with a history, a world with exogenous inputs or with chance, a budget too small for a
            single layer.
    """

    @register(Planner)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="breadth-first"):
        """nodes M, about, at most; layers H at most, when the task names no horizon.

        resolution  states nearer than this, entry by entry, are one, relative to the largest change of an entry in a
                    first step
        fan, hold, execute  as in beam search
        remember    edges that turned out otherwise, the last so many: Q
        """

        nodes: int = 2000
        layers: int = 100
        resolution: float = 1e-3
        fan: int = 8
        hold: int = 1
        execute: int = 1
        remember: int = 64

        def __post_init__(self) -> None:
            require_tree_sizes(self.fan, self.hold, self.layers, self.execute, nodes=self.nodes,
                               remember=self.remember)
            if not self.resolution > 0 or self.execute % self.hold:
                raise ConfigError("resolution > 0, and execute a multiple of hold", f"{self}",
                                  "correct the planner's configuration")

        def build(self) -> BreadthFirst:
            return BreadthFirst(self)

    @torch.no_grad()
    def plan(self, problem: Problem) -> Plan:
        self._require(problem)
        c = self.config
        spending = Spending(problem, c.execute, 1)
        stepper = Stepper(problem, problem.horizon(c.layers), c.hold, c.fan, listed=False)
        way, lost = self._kept(problem, stepper.depth)
        found = _Growth(problem, stepper, c)
        calls = torch.zeros(len(problem), dtype=torch.int64)
        if bool(lost.any()):
            grown, spent = found.ways(way.closed, lost)
            way, calls = grown.where(lost, way) if way.choices.numel() else grown, spent
        return self._decided(problem, stepper, way, calls, spending, lost)

    def _require(self, problem: Problem) -> None:
        if problem.belief.carry:
            raise PlanningError("a world model whose belief is its state alone", "one that carries a history",
                                "use planner 'beam', or a memoryless world model")
        if problem.exogenous is not None:
            raise PlanningError("a world without exogenous inputs", f"{problem.exogenous.shape[-1]} of them",
                                "use planner 'beam', which follows a forecast")
        refuse_scenarios(problem, "that searches a graph")

    def _kept(self, problem: Problem, depth: int) -> tuple[Way, Tensor]:
        """The ways as they stand now, and (B,) bool: where one is to be searched."""
        c, b, state = self.config, len(problem), problem.belief.state.flatten(1)
        every, device = torch.ones(b, dtype=torch.bool), state.device
        goal, warm = _target(problem), problem.warm
        empty = torch.zeros(b, 0, dtype=torch.int64, device=device)
        closed = torch.zeros(b, c.remember, dtype=torch.int64, device=device)
        at, ones = torch.zeros(b, dtype=torch.int64), torch.ones(b)
        none = Way(empty, state[:, None], at, torch.zeros(b), goal, ones, closed)
        if not isinstance(warm, Way) or warm.choices.shape != (b, depth) or (
                warm.states.shape[-1] != state.shape[-1]):
            return none, every
        rows = torch.arange(b, device=device)
        now = warm.at.to(device) + problem.since(c.execute) // c.hold
        there = warm.states[rows, now.clamp(max=warm.states.shape[1] - 1)]
        near = c.resolution * warm.scale.to(device)
        met = (there - state).abs().amax(1) <= near
        fresh = (problem.decision.to(device) == 0)
        before = warm.states[rows, warm.at.to(device)]
        pushed = warm.choices[rows, warm.at.to(device).clamp(max=warm.choices.shape[1] - 1)]
        wrong = ~met & ~fresh & (pushed >= 0) & (now == warm.at.to(device) + 1)
        edge = _edge(keys(before[:, None] / warm.scale.to(device).view(-1, 1, 1), c.resolution)[:, 0], pushed)
        closed = torch.where(wrong[:, None], torch.cat([edge[:, None], warm.closed[:, :-1]], 1), warm.closed)
        closed = closed.masked_fill(fresh[:, None], 0)
        ended = warm.choices[rows, now.clamp(max=warm.choices.shape[1] - 1)] < 0
        ended |= now >= warm.choices.shape[1]
        same = torch.zeros_like(met)
        if goal.shape == warm.goal.shape and goal.shape[1]:
            same = (goal - warm.goal).abs().amax(1) <= near
        lost = fresh | ~met | ended | ~same
        return replace(warm, at=now.cpu(), closed=closed, goal=goal), lost.cpu()

    def _decided(
        self, problem: Problem, stepper: Stepper, way: Way, calls: Tensor, spending: Spending, fresh: Tensor
    ) -> Plan:
        """The next steps of each way, judged as they stand."""
        c, device = self.config, way.choices.device
        ahead = way.at[:, None].to(device) + torch.arange(c.execute // c.hold, device=device)
        length = (way.choices >= 0).sum(1, keepdim=True)
        chosen = way.choices.gather(1, torch.minimum(ahead, (length - 1).clamp_min(0)))
        actions = stepper.choices[chosen.clamp_min(0)].repeat_interleave(c.hold, 1)
        wide = max(1, -(-8 // len(problem)))  # fewer rows round otherwise: a plan does not depend on its neighbours
        scores = score(problem, actions[:, None].expand(-1, wide, -1, -1))
        best = Best.of(actions[:, None].expand(-1, wide, -1, -1), scores,
                       feasibility_first(scores.energy, scores.violation, scores.feasible))
        blocked = length[:, 0] == 0
        best = replace(best, feasible=best.feasible & ~blocked)
        count = torch.full((len(problem),), 1, dtype=torch.int64)
        plan = decide(problem, Searched(best, count, calls + c.execute, way), spending)
        return replace(plan, reason=_reasons(plan, way, length[:, 0], fresh))


class _Growth:
    """Grows the layers of the problems that need a way."""

    def __init__(self, problem: Problem, stepper: Stepper, config: BreadthFirst.Config) -> None:
        self.problem, self.stepper, self.config = problem, stepper, config
        self.allowance = Allowance(problem, config.execute)

    def ways(self, closed: Tensor, wanted: Tensor) -> tuple[Way, Tensor]:
        """The ways, and the calls (B,) that each took. closed (B, Q); wanted (B,) bool: others stay where they are."""
        problem, stepper, c = self.problem, self.stepper, self.config
        b, r, device = len(problem), len(stepper.choices), problem.belief.state.device
        rows = torch.arange(b, device=device)[:, None]
        last = problem.belief.state[:, None]
        live = wanted.to(device)[:, None].clone()
        states, slots = [last], torch.zeros(b, 1, dtype=torch.int64, device=device)
        parent, choice = torch.zeros_like(slots), torch.full_like(slots, -1)
        energy = torch.full((b, 1), torch.inf, device=device, dtype=torch.float64)
        seen, calls = None, torch.zeros(b, dtype=torch.int64)
        spare = torch.full((b,), -1, dtype=torch.int64, device=device), last[:, 0].flatten(1)
        scale = enough = torch.ones(b, device=device)
        self.allowance.require(r * c.hold, f"one layer of {r} choices")
        left, count = self.allowance.left(), live.new_ones(b, dtype=torch.int64)
        for _ in range(stepper.depth):
            if left is not None:
                live = live & (calls + live.sum(1).cpu() * r * c.hold <= left).to(device)[:, None]
            if not bool(live.any()) or self.allowance.seconds_left() <= 0:
                break
            width = last.shape[1]
            origin = torch.arange(width, device=device).repeat_interleave(r)
            each = torch.arange(r, device=device).repeat(width).expand(b, -1)
            step = stepper.step(last[:, origin], (), each, stepper.depth - 1)
            calls += live.sum(1).cpu() * r * c.hold
            ends, value = step.states.flatten(2), _last(step)
            if seen is None:
                change = (ends - last.flatten(2)).abs()
                scale = torch.where(torch.isfinite(change), change, 0).amax((1, 2)).clamp_min(1e-12)
                enough = _REACHED * torch.where(torch.isfinite(value), value, 0).abs().amax(1)
                seen = keys(last.flatten(2) / scale[:, None, None], c.resolution)
                spare = _least(step, value, each)
            here = keys(last.flatten(2) / scale[:, None, None], c.resolution)[:, origin]
            key = keys(ends / scale[:, None, None], c.resolution)
            may = live[:, origin] & ~step.unsafe[:, :, 0] & ~_among(_edge(here, each), closed)
            fresh = may & ~_among(key, seen)
            worth = torch.arange(width * r, device=device, dtype=torch.float64).expand(b, -1)
            found = merged(key, fresh, worth, c.nodes)
            before = energy.shape[1]
            parent = torch.cat([parent, slots[rows, origin[found.first]]], 1)
            choice = torch.cat([choice, each.gather(1, found.first)], 1)
            gained = value.double().gather(1, found.first).masked_fill(~found.live, torch.inf)
            energy = torch.cat([energy, gained], 1)
            seen = torch.cat([seen, key.gather(1, found.first).masked_fill(~found.live, _NOBODY)], 1)
            last, slots = step.states[rows, found.first], before + torch.arange(found.first.shape[1], device=device)
            slots = slots.expand(b, -1)
            states.append(last)
            arrived = energy.amin(1) <= enough
            count = count + found.live.sum(1)
            live = found.live & (~arrived & (count < c.nodes))[:, None]
        return self._traced(torch.cat(states, 1).flatten(2), parent, choice, energy, closed, scale, spare), calls

    def _traced(
        self, states: Tensor, parent: Tensor, choice: Tensor, energy: Tensor, closed: Tensor, scale: Tensor,
        spare: tuple[Tensor, Tensor],
    ) -> Way:
        """From the node of least energy back to the start, at once for all problems. Where no other state is reached,
        the spare choice (B,) and where it ends (B, D), if there is one."""
        b, device = len(states), states.device
        rows = torch.arange(b, device=device)
        least, node = energy.min(1)
        node = torch.where(torch.isfinite(least), node, 0)
        steps, nodes = [], [node]
        while bool((nodes[-1] > 0).any()):
            steps.append(choice[rows, nodes[-1]])
            nodes.append(torch.where(nodes[-1] > 0, parent[rows, nodes[-1]], 0))
        depth = self.stepper.depth
        length = torch.stack([node > 0 for node in nodes], 1).sum(1)  # (B,)
        place = (length[:, None] - 1 - torch.arange(depth, device=device)).clamp_min(0)
        done = torch.arange(depth, device=device) < length[:, None]
        taken = torch.stack(steps, 1) if steps else choice.new_full((b, 1), -1)
        choices = taken.gather(1, place.clamp(max=taken.shape[1] - 1)).masked_fill(~done, -1)
        every = torch.stack(nodes, 1)
        back = (length[:, None] - torch.arange(depth + 1, device=device)).clamp_min(0)
        path = states[rows[:, None], every.gather(1, back)]
        stays = (length == 0) & (spare[0] >= 0)
        choices[:, 0] = torch.where(stays, spare[0], choices[:, 0])
        path[:, 1] = torch.where(stays[:, None], spare[1], path[:, 1])
        return Way(choices, path, torch.zeros(b, dtype=torch.int64), least.cpu(), _target(self.problem), scale.cpu(),
                   closed)


def _least(step: Step, value: Tensor, choice: Tensor) -> tuple[Tensor, Tensor]:
    """The allowed choice (B,) of a first step that ends in the least energy, -1 where none is; where it ends (B, D)."""
    worth = value.masked_fill(step.unsafe[:, :, 0], torch.inf)
    least, which = worth.min(1)
    rows = torch.arange(len(value), device=value.device)
    return torch.where(torch.isfinite(least), choice[rows, which], -1), step.states[rows, which].flatten(1)


_NOBODY = torch.iinfo(torch.int64).min


def _last(step: Step) -> Tensor:
    """(B, K): the energy of the states in which steps end, infinite where it is not finite."""
    value = torch.stack([part[:, :, 0, -1] for part in step.parts.values()]).sum(0)
    return torch.where(torch.isfinite(value), value, torch.inf)


def _edge(key: Tensor, choice: Tensor) -> Tensor:
    """One number for a state and a choice in it."""
    return key * 1_000_003 + choice * 7_919 + 1


def _among(key: Tensor, others: Tensor) -> Tensor:
    """(B, K), (B, M) -> (B, K) bool: which stand among the others."""
    ordered = others.sort(1).values
    place = torch.searchsorted(ordered, key.contiguous()).clamp(max=others.shape[1] - 1)
    return ordered.gather(1, place) == key


def _target(problem: Problem) -> Tensor:
    """(B, D) the goal, if that is a latent; else (B, 0)."""
    goal, state = problem.task.goal, problem.belief.state
    if not isinstance(goal, LatentGoal):
        return state.new_zeros(len(problem), 0)
    return goal.latent.state.to(state).flatten(1).expand(len(problem), -1)


def _reasons(plan: Plan, way: Way, length: Tensor, fresh: Tensor) -> tuple[str, ...]:
    rows = zip(plan.reason, plan.feasible.tolist(), (length.cpu() - way.at).tolist(), way.energy.tolist(),
               fresh.tolist(), strict=True)
    return tuple(
        reason if not feasible else
        f"{'the shortest way' if anew else 'still on the shortest way'} to the state of least energy ({energy:.4g}) of "
        f"all that can be reached, {left} choices away"
        for reason, feasible, left, energy, anew in rows)
