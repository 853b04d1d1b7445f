"""Reach: goals beyond any flat horizon, by the value of a graph of ways and pushes that level 1 imagines.

Level 2 is the graph: its states lie 3 to 12 steps apart, its macro-actions are stretches of the log and held pushes
that level 1 has imagined. Level 1 is the world model. Knows no world. Shapes: B problems, N nodes, K candidates, H
horizon, T marks of a horizon, D latent size, A action size, P entries of a place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
import torch
from torch import Tensor

from steersman.actor.ground.configured import Configured, require_ranges
from steersman.actor.ground.ranking import feasibility_first
from steersman.actor.ground.rounds import Best, Searched, Spending, decide
from steersman.actor.ground.verdict import VALUE, Verdict, imagine, refuse_scenarios, require_weights, verdict
from steersman.actor.hierarchy.choosing import STRATEGIES, Strategy, choice_said, kept_when_built, shortened
from steersman.actor.hierarchy.pushes import constant_pushes, disturbed, held_pushes
from steersman.actor.hierarchy.saying import said
from steersman.actor.hierarchy.valuing import target_of
from steersman.core import (
    Guardrail,
    Imagined,
    Plan,
    Planner,
    PlanningError,
    Problem,
    Readout,
    Signature,
    Streams,
    WorldModel,
    register,
)
from steersman.core.records import TensorRecord, put, rows
from steersman.core.way_graph import WayConfig, WayGraph, WaySource
from steersman.memory.graphs.cutting import Cut, cut_by
from steersman.memory.graphs.known import is_known_on_the_way
from steersman.memory.graphs.places import read_places
from steersman.memory.graphs.steps_to_go import FAR, from_anywhere
from steersman.memory.graphs.targets import Target, arrived_at, fewest_steps, value_of

_COARSER = 3  # nodes of the graph of logged states over those that imagination grows from


@dataclass(frozen=True)
class Underway(TensorRecord):
    """What Reach hands on from decision to decision.

    goal      (B, P) place of the goal that `value` belongs to
    value     (B, N) steps to go from every node; infinite behind the last
    free      (B, N) the same if no guardrail cut any way
    dearer    (B, N) steps that nodes count farther because aiming at them came to nothing
    best      (B,) fewest steps to go that were met so far
    stalled   (B,) decisions since then
    stalls    (B,) how often they came to nothing, since the last progress after one
    waypoint  (B, P) where a plan that came to nothing last aimed at
    spent     (B,) steps since the goal was set
    actions   (B, L, A) the plan of the decision before, as long as the longest strategy looks
    chosen    (B,) which of the strategies goes for the goal
    arrival   (B, S) steps by which each arrived in imagination; infinite: it did not, NaN: it was not tried
    """

    goal: Tensor
    value: Tensor
    free: Tensor
    dearer: Tensor
    best: Tensor
    stalled: Tensor
    stalls: Tensor
    waypoint: Tensor
    spent: Tensor
    actions: Tensor
    chosen: Tensor
    arrival: Tensor


class Reach(Configured["Reach.Config"]):
    """Value far ways by a graph, go them by pushes that level 1 imagines.

    1. Value. V(n), steps to go from every node of a graph of ways (`memory.build_ways`), by shortest ways backwards
       from all nodes that match the goal; once per goal. A goal on columns is every state that matches, at any speed.
    2. Imagine. `samples` sequences of held pushes, `horizon` steps long: directions held throughout, the plan of the
       decision before, random ones; then, in later rounds, the best one disturbed.
    3. Judge. The energy of a candidate is the goal's weight times

           min over t of  t + |s_t - goal|  where the goal is touched,  t + V(s_t)  at every `execute`-th step,

       plus every other term that the task weighs. Of what leaves the region that the log knows, nothing is believed.
       Guardrails veto as everywhere.
    4. Guard. The same guardrails act at the upper level: an edge whose imagined way crosses a limit is cut, before
       ways are valued (`memory.cut_by`), so that no value leads where the lower level may not go.
    5. Stall. Where `patience` decisions met no fewer steps to go, the nodes that the plan aims at count `aside` steps
       farther: a value that leads nowhere is not followed for ever.

    6. Choose. When a goal is set and the graph's ways were kept in imagination as it was built (`WayGraph.leaks`), its
       value is followed. In doubt, where they were not, nobody looked, or no way is known, each strategy is gone in
       imagination, in closed loop, as many samples a decision as later: the graph's value; flat, by the task's own
       costs; pushes held for 10 steps over a horizon of 60. The first of them that arrives goes for the goal, and
       `Plan.reason` says which and why. What that took is among `Plan.calls`; a task that limits calls or seconds of a
       decision leaves no room for it, and the graph is followed.

    Goals that touch no logged state are looked for in a graph that imagination has grown beyond the log. Where there is
    no way, `Plan.reason` says why, in one of six ways: the goal lies outside the log (nearest state, by column); no way
    is known (where it breaks); more steps than allowed; level 1 stalls (at which waypoint); a guardrail cuts every way;
    the log never holds a push (`hierarchy.why_not`).

    Nothing of the graph is believed before level 1 has imagined it from the present state. `horizon` and `execute` are
    short because the value carries the rest; few samples are enough, and more find the model's errors.

    Source: two levels of abstraction as in H-JEPA (LeCun 2022) with a graph as the upper one; graph search over states
    as in SoRB (Eysenbach et al. 2019), its edges imagined instead of learned.

    Errors: PlanningError without a graph, for scenarios, and for goals that are code.
    """

    @register(Planner)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="reach"):
        """horizon   steps that level 1 imagines; hold: steps that it holds a push
        samples    candidates a round, of `rounds`; fan: held pushes among the first of them
        execute    actions of a plan to carry out before the next decision
        patience   decisions without progress after which the nodes that were aimed at count `aside` steps farther
        beyond     rounds by which imagination grows the graph for goals that touch no logged state, 0: never
        choose     whether strategies are tried in imagination where the graph is in doubt, each for at most `patient`
                   steps; else the graph's value is always followed
        cut        whether guardrails also cut ways of the graph; at the lower level they veto in any case
        allowed    most steps to the goal; a way that takes more is gone all the same, and said to. None: any number
        ways       how an agent makes the graph from its run's log
        """

        horizon: int = 12
        hold: int = 6
        samples: int = 16
        rounds: int = 1
        fan: int = 8
        execute: int = 4
        patience: int = 5
        aside: float = 25.0
        beyond: int = 12
        choose: bool = True
        patient: int = 150
        cut: bool = True
        allowed: int | None = None
        ways: WayConfig = WayConfig(mend=2)

        def __post_init__(self) -> None:
            require_ranges(self, {
                "horizon, hold, samples, rounds, execute, patience >= 1": min(
                    self.horizon, self.hold, self.samples, self.rounds, self.execute, self.patience) >= 1,
                "patient >= 1": self.patient >= 1,
                "fan >= 2, aside >= 0, beyond >= 0": self.fan >= 2 and self.aside >= 0 and self.beyond >= 0,
            })

        def build(self) -> Reach:
            return Reach(self)

    def __init__(self, config: Reach.Config | None = None, graph: WayGraph | None = None) -> None:
        """graph: from `memory.build_ways`; None: an agent of a run gets it from the run's log."""
        super().__init__(config)
        self.graph: WayGraph | None = graph
        self.wider: WayGraph | None = None
        self.source: WaySource | None = None
        self._readout: Readout | None = None
        self._cuts: tuple[WayGraph, WorldModel, tuple[Guardrail, ...], Cut] | None = None

    def prepare(self, signature: Signature, readout: Readout | None, latent_shape: tuple[int, ...]) -> None:
        self._readout = readout

    def recall(self, source: WaySource) -> None:
        self.source = source

    def remembered(self) -> tuple[TensorRecord, ...]:
        return (self.memory(),)

    def memory(self) -> WayGraph:
        if self.graph is None and self.source is not None:
            self.graph = self.source(self.config.ways)
        if self.graph is None or not len(self.graph):
            raise PlanningError("a graph of ways", "none", "load the agent from its run, whose log the graph is made "
                                "from, or build one with memory.build_ways and give it: Reach(config, graph)")
        return self.graph

    @torch.inference_mode()
    def plan(self, problem: Problem) -> Plan:
        refuse_scenarios(problem, "that values a graph")
        graph = self.memory()
        outside = ~arrived_at(graph, target_of(problem, graph, self._readout, "reach")).isfinite().any(1)
        wider = self._wider() if bool(outside.any()) else None
        if wider is None or not bool(outside.any()):
            return self._planned(problem, graph)
        if bool(outside.all()):
            return self._planned(problem, wider, graph)
        plan: Plan | None = None
        reasons = [""] * len(problem)
        for on, rows_ in ((graph, ~outside), (wider, outside)):
            warm = problem.warm if problem.warm is None else rows(problem.warm, rows_)
            part = self._planned(replace(problem.rows(rows_), warm=warm), on, graph)
            for b, reason in zip(rows_.nonzero()[:, 0].tolist(), part.reason, strict=True):
                reasons[b] = reason
            part = replace(part, reason=(), warm=_padded(part.warm, max(len(graph), len(wider))))
            if plan is None:  # rows of the other part are written over
                index = torch.where(rows_, rows_.cumsum(0) - 1, 0)
                plan = rows(part, index)
            else:
                plan = put(plan, rows_, part)
        assert plan is not None
        return replace(plan, reason=tuple(reasons))

    def _wider(self) -> WayGraph | None:
        """The graph that imagination has grown beyond the log; None where it cannot be had."""
        if self.wider is None and self.source is not None and self.config.beyond:
            ways = self.config.ways
            few = max(1, ways.nodes // _COARSER)  # so that as many more reach far beyond
            self.wider = self.source(msgspec.structs.replace(ways, nodes=few, beyond=self.config.beyond))
        return self.wider

    def _planned(self, problem: Problem, graph: WayGraph, log: WayGraph | None = None) -> Plan:
        """By this graph; log: the graph of logged states, if this one goes beyond it."""
        c = self.config
        target = target_of(problem, graph, self._readout, "reach")
        horizon = problem.horizon(c.horizon)
        under, chosen_now, tried = self._underway(problem, graph, target)
        here = self._places(graph, problem, problem.belief.state[:, None])
        now = self._to_go(graph, target, under, here)
        plan: Plan | None = None
        reasons = [""] * len(problem)
        for number in sorted(set(under.chosen.tolist())):
            mine = under.chosen == number
            part = self._decided(problem.rows(mine), graph, target.rows_of(mine), under.rows(mine), STRATEGIES[number],
                                 horizon)
            for b, sentence in zip(mine.nonzero()[:, 0].tolist(), part.reason, strict=True):
                reasons[b] = sentence
            part = replace(part, reason=(), warm=None)
            whole = rows(part, torch.where(mine, mine.cumsum(0) - 1, 0)) if plan is None else put(plan, mine, part)
            plan = whole
        assert plan is not None
        longer = self._longest(problem) - plan.actions.shape[1]
        ahead = torch.cat([plan.actions, plan.actions[:, -1:].expand(-1, longer, -1)], 1)
        ends = self._places(graph, problem, plan.imagined.states[:, 0, -1:])[:, 0]
        under = self._after(graph, replace(under, actions=ahead), now, ends)
        allowed = None if c.allowed is None else c.allowed - under.spent
        opened = now >= FAR
        if bool(opened.any()):
            opened = opened & (from_anywhere(graph, under.free, here)[:, 0] < FAR)
        words = said(graph, log or graph, target, now, here[:, 0], under.waypoint, under.stalls, opened, self._readout,
                     allowed)
        share = float(graph.leaks[-1, 2]) if kept_when_built(graph, c.ways.leaks) else None
        choice = choice_said(under.chosen, under.arrival, log is not None, share)
        spent = under.spent + min(self.commits(problem.task), horizon)
        reason = tuple("; ".join(three) for three in zip(words, choice, reasons, strict=True))
        calls = plan.calls + torch.zeros_like(plan.calls).masked_scatter(chosen_now, tried)
        return replace(plan, warm=replace(under, spent=spent), reason=reason, calls=calls)

    def _longest(self, problem: Problem) -> int:
        """L: steps of the strategy that looks farthest."""
        return max(self._horizon(problem, strategy) for strategy in STRATEGIES)

    def _horizon(self, problem: Problem, strategy: Strategy) -> int:
        return problem.horizon(strategy.horizon or self.config.horizon)

    def _to_go(self, graph: WayGraph, target: Target, under: Underway, here: Tensor) -> Tensor:
        """(B,): steps to go by the graph, or as imagined where another strategy goes for the goal."""
        rest = target.rest(here, graph.unit)
        by_graph = torch.minimum(from_anywhere(graph, under.value + under.dearer, here),
                                 rest.masked_fill(rest > graph.touch, torch.inf))[:, 0]
        left = under.arrival.gather(1, under.chosen[:, None])[:, 0] - under.spent
        return torch.where(under.chosen == 0, by_graph, left.clamp_min(1.0))

    def _decided(
        self, problem: Problem, graph: WayGraph, target: Target, under: Underway, strategy: Strategy, horizon: int,
    ) -> Plan:
        """One decision of one strategy, its first `horizon` steps."""
        spending = Spending(problem, self._horizon(problem, strategy))
        found = self._searched(problem, graph, target, under, strategy, spending)
        plan = decide(problem, found, spending,
                      lambda problem, actions: self._judged(problem, graph, target, under, actions, strategy))
        terms = frozenset({VALUE, *(name for name, weight in require_weights(problem).items() if weight)})
        return shortened(plan, horizon, terms if self.config.choose else frozenset())

    def _searched(
        self, problem: Problem, graph: WayGraph, target: Target, under: Underway, strategy: Strategy,
        spending: Spending,
    ) -> Searched:
        streams, horizon = Streams(problem.seeds, problem.decision), self._horizon(problem, strategy)
        found: Searched | None = None
        for _ in range(self.config.rounds):
            count = spending.affords(self.config.samples)
            if count < 1:
                break
            hold = strategy.hold or self.config.hold
            actions = self._candidates(problem, count, horizon, hold, streams, under, found)
            spending.spend(count)
            spending.rounds += 1
            later = self._examined(problem, graph, target, under, actions, strategy)
            found = later if found is None else found.followed(later)
        assert found is not None
        return found

    def _tried(
        self, problem: Problem, graph: WayGraph, target: Target, under: Underway,
    ) -> tuple[Underway, Tensor]:
        """The choice, and predictor calls (B,) that it took."""
        c, b = self.config, len(problem)
        calls = torch.zeros(b, dtype=torch.int64)
        here = self._places(graph, problem, problem.belief.state[:, None])
        said_ = self._to_go(graph, target, under, here)
        doubt = (said_ >= FAR) | (not kept_when_built(graph, c.ways.leaks))
        limited = problem.task.budget.calls is not None or problem.task.budget.seconds is not None
        if not c.choose or limited or not bool(doubt.any()):
            return under, calls
        arrival = under.arrival.clone()
        for number, strategy in enumerate(STRATEGIES):
            open_ = doubt & ~(arrival < torch.inf).any(1)  # by none so far
            on = open_ & ((said_ < FAR) | (strategy.judges != "value"))
            if bool(on.any()):
                arrival[on, number], spent = self._gone(problem.rows(on), graph, target.rows_of(on), under.rows(on),
                                                        strategy)
                calls[on] += spent
        best = arrival.nan_to_num(nan=torch.inf, posinf=torch.inf)
        chosen = torch.where(best.amin(1).isfinite(), best.argmin(1), 0)
        return replace(under, arrival=arrival, chosen=chosen), calls

    def _gone(
        self, problem: Problem, graph: WayGraph, target: Target, under: Underway, strategy: Strategy,
    ) -> tuple[Tensor, Tensor]:
        """Go for the goal in imagination: steps (B,) until it is touched, and predictor calls (B,). Infinite where it
        is not touched within `patient` steps, where no candidate keeps every guardrail, and where the way leaves what
        the log knows: level 1 may have imagined it through a wall."""
        b, step = len(problem), 0
        arrival, calls = torch.full((b,), torch.inf), torch.zeros(b, dtype=torch.int64)
        state, on = problem.belief.state.clone(), torch.arange(b)
        while len(on):  # over time
            some = problem.rows(on)
            some = replace(some, belief=replace(some.belief, state=state[on]), decision=some.decision + 1 + step)
            aim, own = target.rows_of(on), under.rows(on)
            here = self._places(graph, some, some.belief.state[:, None])
            spending = Spending(some, self._horizon(some, strategy))
            found = self._searched(some, graph, aim, own, strategy, spending)
            calls[on] += found.calls
            places = self._places(graph, some, found.best.imagined.states[:, 0, 1:])
            ahead = found.best.imagined.states[:, 0, 1 : self.config.execute + 1]
            rest = aim.rest(places[:, : self.config.execute], graph.unit)
            begun = torch.cat([here, places], 1)[:, : self.config.execute + 1]
            believed = is_known_on_the_way(graph.known, begun) & found.best.feasible[:, None]
            touched = (rest <= graph.touch) & believed
            there = touched.any(1)
            arrival[on[there]] = (step + 1 + touched.to(torch.uint8).argmax(1)).to(arrival)[there]
            state[on], step = ahead[:, -1], step + ahead.shape[1]
            missing = under.actions.shape[1] - found.best.actions.shape[1]
            longer = torch.cat([found.best.actions, found.best.actions[:, -1:].expand(-1, missing, -1)], 1)
            own = self._after(graph, replace(own, actions=longer), self._to_go(graph, aim, own, here), places[:, -1])
            under = put(under, on, own)
            on = on[~there & believed.all(1) & (step < self.config.patient)]
        return arrival, calls

    def _underway(
        self, problem: Problem, graph: WayGraph, target: Target,
    ) -> tuple[Underway, Tensor, Tensor]:
        """What was handed on, made anew where an episode begins or the goal is another; where that is, (B,) bool; and
        the predictor calls that the choice of a strategy took there."""
        kept, b, n = problem.warm, len(problem), len(graph)
        known = isinstance(kept, Underway) and len(kept.value) == b and kept.value.shape[1] >= n
        length = self._longest(problem)
        known = known and kept.actions.shape[1] == length
        if known:
            kept = replace(kept, value=kept.value[:, :n], free=kept.free[:, :n], dearer=kept.dearer[:, :n])
        fresh = torch.ones(b, dtype=torch.bool)
        if known:
            fresh = (problem.decision == 0) | (kept.goal != target.place).any(1)
        if not bool(fresh.any()):
            return kept, fresh, torch.zeros(0, dtype=torch.int64)
        goal = Target(target.place[fresh], target.named)
        some = problem.rows(fresh)
        cut = self._cut(some, graph)
        free = value_of(graph, goal)
        value = free if cut is None else value_of(graph, goal, cut)
        few = len(value)
        dtype = torch.int64 if problem.action.kind == "discrete" else torch.float32
        new = Underway(goal.place, value, free, torch.zeros(few, n), torch.full((few,), torch.inf),
                       torch.zeros(few, dtype=torch.int64), torch.zeros(few, dtype=torch.int64),
                       torch.zeros_like(goal.place), torch.zeros(few, dtype=torch.int64),
                       torch.zeros(few, length, problem.action.size, dtype=dtype),
                       torch.zeros(few, dtype=torch.int64), torch.full((few, len(STRATEGIES)), torch.nan))
        new, calls = self._tried(some, graph, goal, new)
        return put(kept, fresh, new) if known else new, fresh, calls

    def _cut(self, problem: Problem, graph: WayGraph) -> Cut | None:
        """What the task's guardrails take from the graph; limits that are the same for all are asked once."""
        limits, last = problem.task.guardrails, self._cuts
        if not limits or not self.config.cut:
            return None
        known = last is not None and last[0] is graph and last[1] is problem.model and len(last[2]) == len(limits)
        if known and last is not None and all(a is b for a, b in zip(last[2], limits, strict=True)):
            return last[3]
        context = None if problem.belief.context is None else problem.belief.context[:1]
        cut = cut_by(limits, graph, problem.model, len(problem), context)
        if len(cut.nodes) == 1:
            self._cuts = (graph, problem.model, limits, cut)
        return cut

    def _places(self, graph: WayGraph, problem: Problem, states: Tensor) -> Tensor:
        return read_places(states, self._readout, graph.unit, problem.belief.context)

    def _candidates(
        self, problem: Problem, count: int, horizon: int, hold: int, streams: Streams, under: Underway,
        found: Searched | None,
    ) -> Tensor:
        """(B, count, H, A): the plan before, a fan, held pushes; later the best one disturbed."""
        c = self.config
        if found is not None:
            return disturbed(problem, found.best.actions, count, hold, streams)
        last = under.actions[:, -1:].expand(-1, c.execute, -1)
        before = torch.cat([under.actions[:, c.execute:], last], 1)[:, None, :horizon]
        fan = constant_pushes(problem, c.fan, horizon)
        drawn = held_pushes(problem, count, horizon, hold, streams)
        return torch.cat([before.to(drawn.dtype), fan.to(drawn.dtype), drawn], 1)[:, :count]

    def _examined(
        self, problem: Problem, graph: WayGraph, target: Target, under: Underway, actions: Tensor, strategy: Strategy,
    ) -> Searched:
        scores = self._judged(problem, graph, target, under, actions, strategy)
        order = feasibility_first(scores.energy, scores.violation, scores.feasible)
        scored = torch.full((len(problem),), actions.shape[1], dtype=torch.int64)
        return Searched(Best.of(actions, scores, order), scored, scored * actions.shape[2])

    def _judged(
        self, problem: Problem, graph: WayGraph, target: Target, under: Underway, actions: Tensor, strategy: Strategy,
    ) -> Verdict:
        imagined = imagine(problem, actions)
        if strategy.judges == "cost":
            return verdict(problem, imagined, actions)
        steps = self._steps(problem, graph, target, under, imagined)
        weights = require_weights(problem)
        others = [name for name in weights if name != "goal"]
        return verdict(problem, imagined, actions, weights.get("goal", 1.0) * steps, terms=others)

    def _steps(
        self, problem: Problem, graph: WayGraph, target: Target, under: Underway, imagined: Imagined
    ) -> Tensor:
        """(B, K): the fewest steps by which each future reaches the goal: itself, or by the graph from its marks."""
        places = self._places(graph, problem, imagined.states)
        return fewest_steps(graph, under.value + under.dearer, target, places, self.config.execute)

    def _after(self, graph: WayGraph, under: Underway, now: Tensor, ends: Tensor) -> Underway:
        """Progress, or none: now (B,) steps to go where the decision was made, ends (B, P) where its plan ends."""
        c = self.config
        better = now < under.best - 1
        stalled = torch.where(better, 0, under.stalled + 1)
        best, dearer, tired = torch.where(better, now, under.best), under.dearer, stalled >= c.patience
        if bool(tired.any()):
            near = torch.cdist(ends[:, None], graph.places.expand(len(ends), -1, -1))[:, 0] <= graph.touch
            dearer = dearer + c.aside * (near & tired[:, None])
            stalled, best = torch.where(tired, 0, stalled), torch.where(tired, now, best)
        stalls = torch.where(tired, under.stalls + 1, torch.where(better, 0, under.stalls))
        waypoint = torch.where(tired[:, None], ends, under.waypoint)
        return replace(under, dearer=dearer, best=best, stalled=stalled, stalls=stalls, waypoint=waypoint)


def _padded(under: Underway, width: int) -> Underway:
    """The same for graphs of up to `width` nodes."""
    missing = (0, width - under.value.shape[1])
    pad = torch.nn.functional.pad
    value, free = (pad(steps, missing, value=torch.inf) for steps in (under.value, under.free))
    return replace(under, value=value, free=free, dearer=pad(under.dearer, missing))
