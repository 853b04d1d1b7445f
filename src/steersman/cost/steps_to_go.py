"""Steps to go as a terminal value: the value of a graph of ways, for any planner.

Knows a graph and a read-out, no planner. Shapes: B problems, K candidates, H horizon, N nodes, P entries of a place.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from steersman.core import ColumnGoal, Cost, Imagined, LatentGoal, PlanningError, Readout, Task
from steersman.core.way_graph import WayGraph
from steersman.memory.graphs.places import read_places
from steersman.memory.graphs.targets import Target, fewest_steps, value_of

_EVERY = 4  # steps between two looks at the graph, along a future


class StepsToGo(Cost):
    """e_H = steps by which the future reaches the goal, itself or by the graph's ways; 0 at the steps before.

        e_H = min over t of  t + |s_t - goal|  where the goal is touched,  t + V(s_t)  at every fourth step

    V is the value of every node of a graph of ways (`memory.build_ways`), computed once per goal. With it a planner
    that looks a dozen steps ahead goes round walls and through doors; it is what `actor.Reach` goes by. Goals are
    columns that the read-out knows (every state that matches), or states. It holds a graph and is not kept with an
    agent: `agent.add_cost(StepsToGo(graph, agent.readout))`, then weights={"steps-to-go": 1.0}.

    Raises:
        PlanningError: a goal that is code, or columns that the read-out does not know.
    """

    name: ClassVar[str] = "steps-to-go"
    terminal = True

    def __init__(self, graph: WayGraph, readout: Readout | None = None) -> None:
        """readout: the one that the graph was built with."""
        self.graph, self.readout = graph, readout
        self._last: tuple[Tensor, Tensor, Tensor] | None = None  # place, named, value of the goal before

    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        target = self._target(task, imagined)
        places = read_places(imagined.states, self.readout, self.graph.unit, imagined.context)
        steps = fewest_steps(self.graph, self._value(target), target, places, _EVERY)
        return torch.cat([steps.new_zeros(*steps.shape, actions.shape[2] - 1), steps[..., None]], -1)

    def _value(self, target: Target) -> Tensor:
        last = self._last
        if last is None or not (torch.equal(last[0], target.place) and torch.equal(last[1], target.named)):
            last = self._last = (target.place, target.named, value_of(self.graph, target))
        return last[2]

    def _target(self, task: Task, imagined: Imagined) -> Target:
        goal, graph, count = task.goal, self.graph, len(imagined.states)
        p = graph.places.shape[1]
        if isinstance(goal, LatentGoal):
            state = goal.latent.state.to(imagined.states).expand(count, -1)[:, None]
            place = read_places(state, self.readout, graph.unit, imagined.context)[:, 0]
            return Target(place, torch.ones(p, dtype=torch.bool))
        known = () if self.readout is None else self.readout.columns
        if not isinstance(goal, ColumnGoal) or not set(goal.targets) <= set(known):
            raise PlanningError(f"a goal on columns of {', '.join(known) or 'a read-out'}, or a state, for steps to go",
                                ", ".join(goal.targets) if isinstance(goal, ColumnGoal) else type(goal).__name__,
                                "correct the goal, or weigh steps-to-go 0")
        place, named = torch.zeros(count, p), torch.zeros(p, dtype=torch.bool)
        for name, value in goal.targets.items():
            index = known.index(name)
            place[:, index] = torch.as_tensor(value).to(place).reshape(-1).expand(count) / graph.unit[index]
            named[index] = True
        return Target(place, named)
