"""Search in imagination: grow a graph of imagined latents from the start, then follow its shortest way to the goal.

For worlds in which distance to the goal misleads (walls, detours). Knows no positions and no maps: only imagined
states, distances between them or between what a read-out reads of them, energies and guardrail margins.

Shapes: B problems, N nodes, F nodes expanded at a time, R rays, H steps of a ray, D state, P its place,
A action.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from steersman.actor.graph.aim import Aim
from steersman.actor.graph.search.acting import corrected, decide, noticed
from steersman.actor.graph.search.graph import FAR, Graph
from steersman.actor.graph.search.growing import grow_all
from steersman.actor.graph.search.settings import Settings
from steersman.actor.graph.search.space import Space
from steersman.actor.graph.search.valuing import solve, value_of
from steersman.actor.ground.configured import Configured
from steersman.actor.ground.primitives import rays
from steersman.actor.ground.verdict import refuse_scenarios
from steersman.core import Plan, Planner, PlanningError, Problem, Readout, Signature, Task, register
from steersman.core.clock import now

_PATIENCE = 6  # decisions before a graph that knows no way is grown again
_PROGRESS = 12  # decisions in which the value must have fallen, or the graph is grown again
_DENSER, _COARSER = 0.7, 1.4  # spacing of a later graph over the configured one


class Search(Configured["Search.Config"]):
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

    A step towards the goal counts as the goal's weight; any other term that the task weighs makes the steps that pay
    it dearer, in the graph and from the present state (`judging.Steps`). A term that speaks of a future's end alone
    (`cost.IntrinsicCritic`) says where to go while the graph knows no way. Goals are states, or columns that the
    agent's read-out knows: then every state that matches is the goal (`aim.Aim`). `Plan.energy` is the verdict on the
    chosen plan; how many steps are left to the goal stands in the reason.

    With `space` = "read" states are told apart by the columns of the agent's read-out, in deviations: for states of
    tokens, and wherever a state holds more than what is to be reached. They are imagined as they are; goals that are
    pictures are read as well.

    Errors: PlanningError if states are not vectors and not read, or the belief carries a history, for tasks that do not
    weigh the goal, and for scenarios.
    """

    @register(Planner)
    class Config(Settings, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="search"):
        """See `Settings`."""

        def build(self) -> Search:
            return Search(self)

    _readout: Readout | None = None

    def commits(self, task: Task) -> int:
        """`execute`, or 1 where there are guardrails: a second step would rest on what the first was imagined to do,
        and a model errs most where it matters, in doors and beside walls."""
        return 1 if task.guardrails else self.config.execute

    def prepare(self, signature: Signature, readout: Readout | None, latent_shape: tuple[int, ...]) -> None:
        self._readout = readout

    @torch.inference_mode()
    def plan(self, problem: Problem) -> Plan:
        began = now()
        self._require(problem)
        space = Space(self._readout if self.config.space == "read" else None, self._readout)
        aim, here = space.aim(problem), space.place(problem.belief.state[:, None], problem.belief.context)[:, 0]
        graph, fresh = self._graph(problem, space, aim)
        wrong = noticed(self.config, graph, here)
        graph = corrected(self.config, graph, here, wrong)
        stale = (aim.target != graph.goal).any(1) | wrong | fresh
        if bool(stale.any()):
            graph = solve(self.config, graph, problem, aim, stale)
        graph = self._regrown(graph, problem, space, aim, here)
        return decide(self.config, problem, space, aim, graph, here, began, fresh)

    def _require(self, problem: Problem) -> None:
        """Refuse what would be overspent or ignored: a graph is grown whole, and knows no time of its own."""
        c, limit, belief = self.config, problem.task.budget.calls, problem.belief
        if c.space == "read" and self._readout is None:
            raise PlanningError("a read-out, which `space` = \"read\" tells states apart by", "none",
                                "fit one to labels: steersman fit RUN --labels LOG")
        if belief.carry or (belief.state.ndim != 2 and c.space != "read"):
            what = "a history" if belief.carry else f"states of shape {tuple(belief.state.shape[1:])}"
            raise PlanningError("a belief that is one state vector", what,
                                "use planner 'cem' or 'icem', a memoryless world model of vectors, or for tokens "
                                "`space` = \"read\" and a read-out")
        fan = len(rays(problem.action, c.directions))
        least = 2 * fan * (12 + (c.nodes + c.expand) * c.ray) + len(rays(problem.action, c.look)) * c.look_ahead
        if limit is not None and limit < least:
            raise PlanningError(f"a budget of at least {least} predictor calls to grow {c.nodes} nodes twice",
                                f"{limit}", "set fewer nodes, or use planner 'icem'")
        if problem.exogenous is not None:
            raise PlanningError("a world without exogenous inputs", f"{problem.exogenous.shape[-1]} of them",
                                "use planner 'cem' or 'icem', which follow a forecast")
        refuse_scenarios(problem, "that searches a graph")

    def _graph(self, problem: Problem, space: Space, aim: Aim) -> tuple[Graph, Tensor]:
        """The graphs of the decision before, new ones where an episode begins; which are new, (B,) bool."""
        kept, every = problem.warm, torch.arange(len(problem), device=problem.belief.state.device)
        if not isinstance(kept, Graph) or len(kept.nodes) != len(every) or kept.goal.shape != aim.target.shape:
            return grow_all(self.config, problem, space, aim, every), torch.ones_like(every, dtype=torch.bool)
        fresh = problem.decision.to(every.device) == 0
        if bool(fresh.any()):
            kept = kept.put(fresh, grow_all(self.config, problem, space, aim, every[fresh]))
        return kept, fresh

    def _regrown(self, graph: Graph, problem: Problem, space: Space, aim: Aim, here: Tensor) -> Graph:
        """Grow anew from where we are, where no way to the goal is known or the known one leads nowhere: coarser if
        the graph was full, else denser, and in other directions."""
        value = value_of(self.config, graph, problem, aim, here[:, None], problem.belief.state[:, None])[:, 0]
        better = value < graph.record - 1
        stuck = torch.where(better, 0, graph.stuck + 1)
        lost = (value >= FAR / 2) | graph.outside
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
                new = grow_all(self.config, problem, space, aim, rows, closeness, tries)
                new = replace(new, tries=graph.tries[rows] + 1, calls=new.calls + graph.calls[rows])
                every = torch.ones_like(rows, dtype=torch.bool)
                new = solve(self.config, new, problem.rows(rows), replace(aim, target=aim.target[rows]), every)
                graph = graph.put(rows, new)
        return graph
