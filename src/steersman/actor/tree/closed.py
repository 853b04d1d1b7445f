"""The form of tree search that runs as one compiled call: where the world model is a perceptron and the energy a
distance, both in closed form. The same search as `growth.Growth`'s, to rounding; fifty times as fast for one problem.

Shapes: B problems, R choices, T choices of a plan, each held for H steps, N nodes, D state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from steersman.actor.ground.bounds import fallback_action
from steersman.actor.tree import closed_kernels as kernels
from steersman.actor.tree.growth import Grown, Search
from steersman.actor.tree.kernels import ARRIVED, DEPTH
from steersman.actor.tree.stepping import Stepper, nearest_choice
from steersman.actor.tree.tree import Tree
from steersman.core import Distance, Imagined, Perceptron, Problem
from steersman.core.closed_forms import speaks_for

LARGEST = 1 << 17
"""Entries of a matrix that stay in a processor's cache; a larger one is faster as products for all problems."""
_TOGETHER = 8  # simulations between two looks at the clock


@dataclass(frozen=True)
class ClosedSearch:
    """What a problem looks like to compiled code."""

    problem: Problem
    perceptron: Perceptron
    distance: Distance
    name: str
    weight: float

    def grown(self, search: Search) -> Grown:
        """After as many simulations as the budget has time for."""
        problem, stepper = self.problem, search.stepper
        b, t, hold = len(problem), stepper.depth, stepper.hold
        tree = Tree(b, search.simulations, len(stepper.choices), 1, t, search.rules)
        net, aim = kernels.Net(*self.perceptron.arrays()), self._aim()
        states = np.empty((b, tree.size, len(net.bias)), np.float32)
        states[:, 0] = problem.belief.state.flatten(1).numpy()
        kept, looked = np.zeros(b, np.int64), np.zeros(b, np.int64)
        done = np.zeros(b, np.int64)
        self._run(search, tree, (net, aim, states, t, hold), kept, done)
        line = tree.line()
        imagined = np.empty((b, t * hold + 1, len(net.bias)), np.float32)
        energy = np.empty((b, t * hold), np.float32)
        kernels.finish(net, aim, states, tree.size, hold, self._spare(stepper), line.choice, line.node, imagined,
                       energy, looked)
        feasible = torch.from_numpy(np.isfinite(energy).all(1) & ~tree.dead())
        if self.distance.told is not None:
            there = tree.nodes.places[:, DEPTH] > 0
            energies = np.where(there, tree.nodes.values[:, ARRIVED] / self.weight, np.nan).reshape(b, -1)
            self.distance.told(torch.from_numpy(energies[:, 1 : 1 + int(done.max())]))
        future = torch.from_numpy(imagined).view(b, 1, -1, *problem.belief.state.shape[1:])
        calls = torch.from_numpy((looked + done) * hold)
        return Grown(
            torch.from_numpy(line.choice), feasible, Imagined(future, problem.belief.context),
            {self.name: torch.from_numpy(energy)}, line.share, torch.from_numpy(kept), {}, calls,
            torch.from_numpy(done), line.visits, line.energy,
        )

    def _run(self, search: Search, tree: Tree, rest: tuple[Any, ...], kept: Any, done: Any) -> None:
        allowance, number, slowest = search.allowance, 0, 0.0
        together = search.simulations if allowance.budget.seconds is None else _TOGETHER
        while number < search.simulations:
            before = allowance.seconds
            if number and allowance.seconds_left() < slowest:
                return
            end = min(number + together, search.simulations)
            kernels.simulate(tree.nodes, tree.rules, tree.size, *rest, number, end, kept, done)
            slowest, number = max(slowest, allowance.seconds - before) if number else 0.0, end

    def _spare(self, stepper: Stepper) -> int:
        if self.problem.task.fallback is None and self.problem.action.kind == "discrete":
            return 0
        return int(nearest_choice(stepper.choices, fallback_action(self.problem).to(stepper.choices.dtype)))

    def _aim(self) -> kernels.Aim:
        d = self.distance
        return kernels.Aim(d.target.detach().contiguous().numpy(), np.float32(self.weight), d.power == 2, d.last)


def closed_search(problem: Problem, stepper: Stepper) -> ClosedSearch | None:
    """None: something in the problem is not in closed form. Does not depend on how many problems there are."""
    task, state = problem.task, problem.belief.state
    weighed = [(name, weight) for name, weight in problem.weights.items() if weight]
    if len(weighed) != 1 or task.guardrails or problem.exogenous is not None or problem.belief.carry:
        return None
    if state.dtype != torch.float32 or state.device.type != "cpu":
        return None
    ((name, weight),) = weighed
    cost = next((cost for cost in problem.costs if cost.name == name), None)
    distance = cost.as_distance(task) if cost is not None and speaks_for(cost, "as_distance", "energy") else None
    if distance is None or distance.target.shape[1:] != state.flatten(1).shape[1:]:
        return None
    if len(distance.target) not in (1, len(state)):
        return None
    if not all(speaks_for(problem.model, "as_perceptron", method) for method in ("imagine", "branch", "support")):
        return None
    perceptron = problem.model.as_perceptron(stepper.choices)
    if perceptron is None or perceptron.largest > LARGEST:
        return None
    return ClosedSearch(problem, perceptron, distance, name, weight)
