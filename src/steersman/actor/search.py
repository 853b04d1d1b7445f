"""Search in imagination: grow a graph of imagined latents from the start, then follow its shortest way to the goal.

For worlds in which distance to the goal misleads (walls, detours) and a belief is one state vector. Knows no
positions and no maps: only imagined states, distances between them, energies and guardrail margins.

Shapes: B problems, N nodes, F nodes expanded at a time, R rays, H steps of a ray, D state, A action.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman.actor.bounds import fallback_action
from steersman.actor.primitives import rays
from steersman.core import (
    Belief,
    Imagined,
    LatentGoal,
    Plan,
    Planner,
    PlanningError,
    Problem,
    Streams,
    Task,
    TensorRecord,
    WorldModel,
)

_FAR = 1e6
_AT_ONCE = 128  # candidates looked at in a round of growth; others come up again from other nodes
_PATIENCE = 6  # decisions before a graph that knows no way is grown again
_PROGRESS = 12  # decisions in which the value must have fallen, or the graph is grown again
_GOLDEN = 0.618  # of the angle between two directions: by so much those of the next graph are turned
_SHORTER = 0.6  # length of the actions of every other later graph: narrow ways need small steps
_DENSER, _COARSER = 0.7, 1.4  # spacing of a later graph over the configured one
_CHUNK = 16  # problems in memory at a time; a plan does not depend on it


@dataclass(frozen=True)
class Graph(TensorRecord):
    """What was imagined from B starts; handed on from decision to decision in `Plan.warm`.

    nodes     (B, N, D) states, node 0 the start; rows from `count` on are padding
    count     (B,)
    step      (B,) length of one full step in latent space
    near      (B, N, R, 3) nodes that lie nearest to the end of each ray, and their weights `share`
    via       (B, N, R, H, D) the states along each ray
    goal      (B, D) the state that `value` leads to
    value     (B, N) steps from each node to the goal
    last      (B, D) state at the decision before, and `pushed` (B, A) what was done there
    aside     (B,) decisions left in which to step aside
    kept      (B,) rays that met every guardrail; `vetoed` (B, guardrails) rays that each refused
    calls     (B,) predictor calls spent on growing it
    age       (B,) decisions since it was grown, and `tries`, how often it was
    fan       (B, R, A) the constant actions that it was grown with
    outside   (B,) bool: no node touches the goal; the value leads to the nearest
    record    (B,) least value met since it was grown, and `stuck`, decisions since
    """

    nodes: Tensor
    count: Tensor
    step: Tensor
    near: Tensor
    share: Tensor
    via: Tensor
    goal: Tensor
    value: Tensor
    last: Tensor
    pushed: Tensor
    aside: Tensor
    kept: Tensor
    vetoed: Tensor
    calls: Tensor
    age: Tensor
    tries: Tensor
    fan: Tensor
    outside: Tensor
    record: Tensor
    stuck: Tensor


class Search(Planner):
    """Breadth-first growth, value iteration, look-ahead.

    1. Grow: from each new node roll out `directions` constant actions for `ray` steps; an end that lies farther
       than `spacing` step lengths from every node becomes a node, until `nodes` are kept or nothing is new. A step
       length is the median latent change of an imagined step that moves, so it needs no unit.
    2. Value: V(n) = min over rays of [steps + Σ_j w_j V(n_j)] over the 3 nodes nearest to the ray's end (weights
       1 - d / 2 step lengths); nodes within `touch` step lengths of the goal cost d / step length.
    3. Act: from the present state roll out `look` directions for `look_ahead` steps and take the least
       t + V(state after t steps), V interpolated as above. The graph is kept while the goal and scene last.

    4. Be corrected: where an action did not move the state, no ray is believed any more that passes within `touch`
       step lengths of that state in a similar direction, and the value is computed anew. What happens overrules what
       was imagined, for the rest of the episode. The next `aside` decisions take a random allowed direction.

    Guardrails cut a ray at the first step whose margin exceeds 0, while growing and while acting. Where the task names
    a trusted horizon, no node lies more imagined steps from the start than that.

    Source: measured against CEM and greedy descent in design/search.md; graph search over latents as in
    "Semi-parametric topological memory" (Savinov 2018) and SoRB (Eysenbach 2019), grown in imagination.

    Errors: PlanningError if states are not vectors or the belief carries a history.
    """

    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="search"):
        """See the class; `execute`: actions of a plan to carry out before the next decision."""

        directions: int = 16
        ray: int = 3
        spacing: float = 1.2
        nodes: int = 450
        expand: int = 32
        touch: float = 1.5
        reach: float = 1.5
        stall: float = 0.4
        look: int = 32
        look_ahead: int = 6
        aside: int = 2
        execute: int = 2

        def build(self) -> Search:
            return Search(self)

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Search.Config()

    @property
    def execute(self) -> int:
        """Actions of a plan that are meant to be carried out before the next decision."""
        return self.config.execute

    def commits(self, task: Task) -> int:
        """The same for `task`: 1 where there are guardrails. A second step would rest on what the first was imagined
        to do, and a model errs most where it matters, in doors and beside walls."""
        return 1 if task.guardrails else self.config.execute

    @torch.inference_mode()
    def plan(self, problem: Problem) -> Plan:
        began = time.perf_counter()
        if problem.belief.state.ndim != 2:
            raise PlanningError("states that are vectors (B, D)", f"{tuple(problem.belief.state.shape)}",
                                "use planner 'cem' for token states")
        self._affords(problem)
        known = isinstance(problem.warm, Graph) and len(problem.warm.nodes) == len(problem)
        graph = problem.warm if known else None
        fresh = graph is None
        if graph is None:
            graph = self._grow_all(problem, torch.arange(len(problem), device=problem.belief.state.device))
        goal = self._goal(problem)
        wrong = self._noticed(graph, problem.belief.state)
        graph = self._corrected(graph, problem, wrong)
        stale = (goal != graph.goal).any(1) | wrong | fresh
        if bool(stale.any()):
            graph = self._solve(graph, goal, stale)
        graph = self._regrown(graph, problem, goal)
        return self._decide(problem, graph, began, fresh)

    def _affords(self, problem: Problem) -> None:
        """Refuse what would be overspent or ignored: a graph is grown whole, and knows no time of its own."""
        c, limit = self.config, problem.task.budget.calls
        fan = len(rays(problem.action, c.directions))
        least = 2 * fan * (12 + (c.nodes + c.expand) * c.ray) + len(rays(problem.action, c.look)) * c.look_ahead
        if limit is not None and limit < least:
            raise PlanningError(f"a budget of at least {least} predictor calls to grow {c.nodes} nodes twice",
                                f"{limit}", "set fewer nodes, or use planner 'icem'")
        if problem.exogenous is not None:
            raise PlanningError("a world without exogenous inputs", f"{problem.exogenous.shape[-1]} of them",
                                "use planner 'cem' or 'icem', which follow a forecast")

    def _regrown(self, graph: Graph, problem: Problem, goal: Tensor) -> Graph:
        """Grow anew from where we are, where no way to the goal is known or the known one leads nowhere: coarser if
        the graph was full, else denser, and in other directions."""
        value = self._value(graph, problem.belief.state[:, None])[:, 0]
        better = value < graph.record - 1
        stuck = torch.where(better, 0, graph.stuck + 1)
        lost = (value >= _FAR / 2) | graph.outside
        lost &= (graph.age == 0) & (graph.tries == 1) | (graph.age >= _PATIENCE)
        lost |= stuck >= _PROGRESS
        record = torch.where(better, value, graph.record)
        graph = replace(graph, age=graph.age + 1, stuck=stuck, record=record)
        if not bool(lost.any()):
            return graph
        full = graph.count == self.config.nodes
        for tries in graph.tries[lost].unique().tolist():
            for closeness, kind in ((_COARSER, full), (_DENSER, ~full)):
                rows = (lost & kind & (graph.tries == tries)).nonzero()[:, 0]
                if not len(rows):
                    continue
                new = self._grow_all(problem, rows, closeness, tries)
                new = replace(new, tries=graph.tries[rows] + 1, calls=new.calls + graph.calls[rows])
                new = self._solve(new, goal[rows], torch.ones_like(rows, dtype=torch.bool))
                graph = Graph(*(_put(getattr(graph, k), rows, getattr(new, k)) for k in Graph.__dataclass_fields__))
        return graph

    # Growing -----------------------------------------------------------------------------------------------------

    def _grow_all(self, problem: Problem, which: Tensor, closeness: float = 1.0, tries: int = 0) -> Graph:
        """Graphs for the problems `which` (indices), spaced `closeness` times as far as configured."""
        pieces = []
        reach = _SHORTER if tries % 2 else 1.0
        device = problem.belief.state.device
        fan = rays(problem.action, self.config.directions, tries * _GOLDEN % 1, reach).to(device)
        every = rays(problem.action, self.config.directions).to(device)
        ray = problem.within_trust(self.config.ray)
        for rows in which.split(_CHUNK):
            task = replace(problem.task, guardrails=tuple(g.keep(rows) for g in problem.task.guardrails))
            belief = problem.belief[rows]
            step = self._step_length(problem.model, belief, every, task.trusted)
            pieces.append(self._grow(problem.model, belief, fan, task, closeness * self.config.spacing, step, ray))
        return Graph(*(torch.cat([getattr(p, name) for p in pieces]) for name in Graph.__dataclass_fields__))

    def _grow(
        self, model: WorldModel, belief: Belief, fan: Tensor, task: Task, spacing: float, step: Tensor, ray: int
    ) -> Graph:
        c, b, d = self.config, len(belief), belief.state.shape[-1]
        r, f, n = len(fan), c.expand, c.nodes
        actions = fan[None, None, :, None].expand(b, f, r, ray, -1).flatten(1, 2)
        padded = -(-n // f) * f
        nodes = belief.state.new_zeros(b, padded, d)
        nodes[:, 0] = belief.state
        via = belief.state.new_zeros(b, padded, r, ray, d)
        usable = torch.zeros(b, padded, r, dtype=torch.bool, device=nodes.device)
        count = torch.ones(b, dtype=torch.long, device=nodes.device)
        done = torch.zeros_like(count)
        depth = belief.state.new_zeros(b, padded)  # imagined steps from the start, at most
        kept, vetoed = torch.zeros_like(count), torch.zeros(b, len(task.guardrails), dtype=torch.long)
        slot = torch.arange(f, device=nodes.device)
        rows, place = torch.arange(b, device=nodes.device)[:, None], torch.arange(padded, device=nodes.device)
        began, seconds = time.perf_counter(), task.budget.seconds
        while bool((done < count).any()):
            if seconds is not None and time.perf_counter() - began > seconds / 3:
                break  # what has grown so far is searched
            index = done[:, None] + slot
            live = index < count[:, None]
            index = index.clamp_max(padded - 1)
            starts = nodes[rows, index].repeat_interleave(r, 1)
            imagined = model.branch(belief, starts, actions)
            allowed, refused = self._allowed(imagined, actions, task)
            imagined = replace(imagined, states=imagined.states.nan_to_num())
            pace = (imagined.states[:, :, 1:] - imagined.states[:, :, :-1]).norm(dim=-1)  # (b, f*r, ray)
            local = pace[..., 0].unflatten(1, (f, r)).amax(2, keepdim=True).expand(-1, -1, r).flatten(1)
            allowed = allowed[..., -1] & live.repeat_interleave(r, 1)  # the whole ray
            allowed &= (pace > c.stall * local[..., None]).all(2)
            reached = depth[rows, index].masked_fill(~live, 0).amax(1) + ray
            if task.trusted is not None:
                allowed &= (reached <= task.trusted)[:, None]
            kept += allowed.sum(1)
            vetoed += (refused.any(2) & live.repeat_interleave(r, 1)[..., None]).sum(1)
            way = imagined.states[:, :, 1:].unflatten(1, (f, r))
            via[rows, index] = torch.where(live[..., None, None, None], way, via[rows, index])
            usable[rows, index] = torch.where(live[..., None], allowed.unflatten(1, (f, r)), usable[rows, index])
            done = torch.minimum(done + f, count)
            before = count
            count = self._add(nodes, count, imagined.states[:, :, -1], allowed, spacing * step, n)
            new = (place >= before[:, None]) & (place < count[:, None])
            depth = torch.where(new, reached[:, None], depth)
        near, share = self._nearest(nodes[:, :n], count, via[:, :n, :, -1].flatten(1, 2), step)
        share = (share * usable[:, :n].flatten(1, 2)[..., None]).unflatten(1, (n, r))
        zero = torch.zeros_like(belief.state)
        return Graph(
            nodes[:, :n], count, step, near.unflatten(1, (n, r)), share, via[:, :n], zero, zero.new_zeros(b, n),
            zero, fan.new_zeros(b, fan.shape[-1]), torch.zeros_like(count), kept, vetoed, count * r * ray,
            torch.zeros_like(count), torch.ones_like(count), fan.expand(b, -1, -1),
            torch.zeros_like(count, dtype=torch.bool), torch.full_like(step, 2 * _FAR), torch.zeros_like(count),
        )

    @staticmethod
    def _step_length(model: WorldModel, belief: Belief, fan: Tensor, trusted: int | None) -> Tensor:
        """(B,): the median change of the imagined steps that move, over directions and 12 steps of each (no more than
        are trusted).

        Moving is more than half of the .98 quantile: in a narrow place most steps run into something.
        """
        ahead = model.imagine(belief, fan[None, :, None].expand(len(belief), -1, min(12, trusted or 12), -1)).states
        pace = (ahead[:, :, 1:] - ahead[:, :, :-1]).norm(dim=-1).flatten(1).nan_to_num(posinf=0.0)
        moving = pace > 0.5 * pace.quantile(0.98, dim=1, keepdim=True)
        return pace.masked_fill(~moving, torch.nan).nanmedian(1).values.clamp_min(1e-6)

    @staticmethod
    def _allowed(imagined: Imagined, actions: Tensor, task: Task) -> tuple[Tensor, Tensor]:
        """Which steps, with all steps before them, keep every guardrail (B, K, H); which guardrail refuses what
        (B, K, H, guardrails)."""
        finite = imagined.states[:, :, 1:].isfinite().all(-1)
        if not task.guardrails:
            return finite.cumprod(2).bool(), finite.new_zeros((*finite.shape, 0))
        refused = torch.stack([~(g.margin(imagined, actions) <= 0) for g in task.guardrails], -1)
        return (finite & ~refused.any(-1)).cumprod(2).bool(), refused

    @staticmethod
    def _add(nodes: Tensor, count: Tensor, new: Tensor, allowed: Tensor, spacing: Tensor, limit: int) -> Tensor:
        """Keep, in order, every allowed candidate (B, K, D) that is farther than `spacing` from all kept before it.

        Greedy in order, computed in parallel: a candidate is kept once no undecided candidate before it is near,
        and drops once a kept one is near (as in Luby's independent sets). A handful of rounds suffice.
        """
        padding = torch.arange(nodes.shape[1], device=nodes.device) >= count[:, None]
        open_ = allowed & (_distance(new, nodes).masked_fill_(padding[:, None], _FAR).amin(2) > spacing[:, None])
        first = (~open_).to(torch.int8).argsort(dim=1, stable=True)[:, :_AT_ONCE]  # open ones, in order
        new, open_ = new.gather(1, first[..., None].expand(-1, -1, new.shape[-1])), open_.gather(1, first)
        clash = _distance(new, new) <= spacing[:, None, None]
        before = (clash & torch.ones_like(clash[0]).tril(-1)).float()
        keep = torch.zeros_like(open_)
        while bool(open_.any()):
            free = open_ & (torch.bmm(before, open_.float()[..., None])[..., 0] == 0)
            keep |= free
            open_ = open_ & ~free & (torch.bmm(clash.float(), free.float()[..., None])[..., 0] == 0)
        place = count[:, None] + keep.cumsum(1) - 1
        keep &= place < limit
        row, column = keep.nonzero(as_tuple=True)
        nodes[row, place[row, column]] = new[row, column]
        return count + keep.sum(1)

    def _nearest(self, nodes: Tensor, count: Tensor, points: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """The 3 nodes nearest to points (B, P, D) and their weights, 0 beyond two step lengths: (B, P, 3) each."""
        padding = torch.arange(nodes.shape[1], device=nodes.device) >= count[:, None]
        square = (nodes**2).sum(-1).masked_fill(padding, _FAR)
        distance = torch.baddbmm(square[:, None], points, nodes.transpose(1, 2), alpha=-2)  # less |points|²
        least, index = distance.topk(3, dim=2, largest=False, sorted=False)
        distance = (least + (points**2).sum(-1, keepdim=True)).clamp_min(0).sqrt()
        return index, (1 - distance / (self.config.reach * step[:, None, None])).clamp_min(0)

    # Value -------------------------------------------------------------------------------------------------------

    def _goal(self, problem: Problem) -> Tensor:
        if not isinstance(problem.task.goal, LatentGoal):
            raise PlanningError("an observation as the goal", type(problem.task.goal).__name__,
                                "give an ObservationGoal, or use planner 'cem' for goals on columns")
        state = problem.task.goal.latent.state
        return state.expand(len(problem), -1)

    def _solve(self, graph: Graph, goal: Tensor, stale: Tensor) -> Graph:
        """Value iteration over the imagined rays, for the problems of a mask (B,)."""
        c, part = self.config, graph.map(lambda x: x[stale])
        padding = torch.arange(c.nodes, device=goal.device) >= part.count[:, None]
        apart = (part.nodes - goal[stale][:, None]).norm(dim=-1).masked_fill(padding, _FAR) / part.step[:, None]
        stretch = torch.where(part.tries > 1, apart.amin(1) * 1.1, 0)  # at last: from the nearest that is known
        touch = stretch.clamp_min(c.touch)[:, None]
        value = torch.where(apart <= touch, apart, _FAR)
        total = part.share.sum(-1)
        weight = (part.share / total.clamp_min(1e-6)[..., None]).flatten(1)
        closed = (total <= 1e-6) | padding[..., None]
        index = part.near.flatten(1)
        moving = torch.ones_like(part.count, dtype=torch.bool)
        for _ in range(4 * c.nodes):  # a loop over the length of ways, not over nodes or problems
            through = (value.gather(1, index) * weight).view(*part.near.shape).sum(-1) + part.via.shape[3]
            better = torch.minimum(value, through.masked_fill(closed, _FAR).amin(2))
            better = torch.where(moving[:, None], better, value)
            moving = (better < value - 1e-3).any(1)
            value = better
            if not bool(moving.any()):
                break
        outside = _put(graph.outside, stale, apart.amin(1) > c.touch)
        fresh = {"record": torch.full_like(part.step, 2 * _FAR), "stuck": torch.zeros_like(part.count)}
        fresh = {name: _put(getattr(graph, name), stale, new) for name, new in fresh.items()}
        return replace(graph, goal=goal, value=_put(graph.value, stale, value), outside=outside, **fresh)

    def _value(self, graph: Graph, points: Tensor) -> Tensor:
        """Steps to the goal from points (B, P, D): interpolated, or straight where the goal is in touch."""
        index, weight = self._nearest(graph.nodes, graph.count, points, graph.step)
        value = graph.value.gather(1, index.flatten(1)).view(index.shape)
        known = (value < _FAR / 2) & (weight > 0)
        weight = weight * known
        mean = (value * weight).sum(-1) / weight.sum(-1).clamp_min(1e-6)
        apart = (points - graph.goal[:, None]).norm(dim=-1) / graph.step[:, None]
        far = _FAR + apart  # off the graph: at least go nearer
        mean = torch.where(weight.sum(-1) > 1e-6, mean, far)
        return torch.where(apart <= self.config.touch, torch.minimum(apart, mean), mean)

    # Acting ------------------------------------------------------------------------------------------------------

    def _noticed(self, graph: Graph, state: Tensor) -> Tensor:
        """(B,) bool: the last decision's action hardly moved the state."""
        moved = (state - graph.last).norm(dim=1)
        return (graph.pushed != 0).any(1) & (moved < self.config.stall * graph.step) & (graph.aside == 0)

    def _corrected(self, graph: Graph, problem: Problem, wrong: Tensor) -> Graph:
        """Close the rays that what happened disproves, and step aside for a while."""
        aside = torch.where(wrong, self.config.aside, (graph.aside - 1).clamp_min(0))
        graph = replace(graph, aside=aside)
        if not bool(wrong.any()):
            return graph
        part = graph.map(lambda x: x[wrong])
        alike = _similar(part.fan, part.pushed)  # (b, R)
        here = problem.belief.state[wrong]
        reach = self.config.touch * part.step
        starts = (part.nodes - here[:, None]).norm(dim=-1) < reach[:, None]
        apart = (part.via[:, :, :, :-1] - here[:, None, None, None]).norm(dim=-1)
        passes = (apart < reach[:, None, None, None]).any(-1)
        closed = (starts[..., None] | passes) & alike[:, None]
        return replace(graph, share=_put(graph.share, wrong, part.share * ~closed[..., None]))

    def _decide(self, problem: Problem, graph: Graph, began: float, fresh: bool) -> Plan:
        c, b = self.config, len(problem)
        fan = rays(problem.action, c.look).to(problem.belief.state.device)
        r, far = len(fan), problem.within_trust(c.look_ahead)
        actions = fan[None, :, None].expand(b, r, far, -1)
        imagined = problem.model.imagine(problem.belief, actions)
        allowed, refused = self._allowed(imagined, actions, problem.task)
        value = self._value(graph, imagined.states[:, :, 1:].flatten(1, 2)).view(b, r, far)
        steps = torch.arange(1, far + 1, device=value.device)
        score = (value + steps).masked_fill(~allowed, 2 * _FAR)
        best, which = score.flatten(1).min(1)
        ray, length = which // far, which % far
        noise = Streams(problem.seeds, problem.decision).uniform(r).to(value.device)
        sideways = (noise * allowed[:, :, : c.execute].all(2)).argmax(1)
        ray = torch.where(graph.aside > 0, sideways, ray)
        feasible = allowed[torch.arange(b), ray, 0]
        chosen = self._sequence(problem, actions, imagined, allowed, ray, feasible)
        picked = imagined.select(ray)
        pushed = torch.where(feasible[:, None], fan[ray], torch.zeros_like(fan[ray]))
        graph = replace(graph, last=problem.belief.state, pushed=pushed)
        calls = torch.full((b,), r * far) + (graph.calls if fresh else 0)
        names = [g.name for g in problem.task.guardrails]
        refusals = refused.any(2).sum(1)
        return Plan(
            actions=chosen, imagined=picked, energy={"goal": score.gather(2, length[:, None, None].expand(b, r, 1))
                                                     [torch.arange(b), ray].expand(b, far)},
            feasible=feasible, kept=allowed[..., 0].sum(1),
            vetoed={name: refusals[:, i] for i, name in enumerate(names)},
            reason=self._reasons(best, feasible, graph), calls=calls,
            seconds=time.perf_counter() - began, warm=graph,
        )

    def _sequence(self, problem: Problem, actions: Tensor, imagined: Imagined, allowed: Tensor, ray: Tensor,
                  feasible: Tensor) -> Tensor:
        """The chosen ray (B, H, A); past the point where a guardrail would cut it, the fallback."""
        rows = torch.arange(len(problem))
        fallback = fallback_action(problem).to(actions.dtype).expand_as(actions[rows, ray])
        return torch.where(allowed[rows, ray][..., None], actions[rows, ray], fallback)

    @staticmethod
    def _reasons(best: Tensor, feasible: Tensor, graph: Graph) -> tuple[str, ...]:
        def say(steps: float, ok: bool, aside: int, count: int) -> str:
            if not ok:
                return "no direction keeps every guardrail: the declared fallback is taken"
            if aside > 0:
                return "the last actions did not move the state as imagined: stepping aside"
            if steps >= _FAR:
                return f"the goal lies outside the {count} imagined states: going nearer in latent distance"
            return f"the shortest of {count} imagined states' ways reaches the goal in about {steps:.0f} steps"

        rows: Any = zip(best.tolist(), feasible.tolist(), graph.aside.tolist(), graph.count.tolist(), strict=True)
        return tuple(say(*row) for row in rows)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """(B, P, D), (B, Q, D) -> (B, P, Q)."""
    square = torch.baddbmm((b**2).sum(-1)[:, None], a, b.transpose(1, 2), alpha=-2)
    return square.add_((a**2).sum(-1, keepdim=True)).clamp_min_(0).sqrt_()


def _put(old: Tensor, rows: Tensor, new: Tensor) -> Tensor:
    out = old.clone()
    out[rows] = new
    return out


def _similar(fan: Tensor, pushed: Tensor) -> Tensor:
    """Which of each fan's actions (B, R, A) point the same way as `pushed` (B, A), within 45 degrees; (B, R) bool."""
    if not fan.is_floating_point():
        return (fan == pushed[:, None]).all(-1)
    cosine = torch.nn.functional.cosine_similarity(fan, pushed[:, None].to(fan.dtype), dim=-1)
    return cosine > 0.7
