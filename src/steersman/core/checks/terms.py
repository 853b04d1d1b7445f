"""Does a planner weigh all that a task weighs, and does it take chance as the task says? Part of `check_planner`.

Shapes: B problems, K candidates, S scenarios, H horizon, D latent size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from steersman.core.boxes import Cost
from steersman.core.checks.drift import Case, Drift
from steersman.core.errors import PlanningError
from steersman.core.latent_variable import Energy, LatentVariable, Posterior
from steersman.core.problem import Plan, Problem
from steersman.core.signature import ActionSpec
from steersman.core.task import Risk, Task
from steersman.core.types import Belief, Imagined

Planning = Callable[[Problem], Plan]
Keep = Callable[[str, bool, str, str, str], None]
_GUST = 0.5


class Toll(Cost):
    """e_t = the first entry of the state: the lower, the cheaper."""

    name = "toll"

    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        return imagined.states[:, :, 1:, 0]


class _Coin(LatentVariable):
    """1 or 0, told by nothing."""

    @property
    def uniform(self) -> int:
        return 1

    @property
    def size(self) -> int:
        return 1

    def draw(self, u: Tensor, given: Tensor, actions: Tensor) -> Tensor:
        return (u < 0.5).to(given)

    def expected(self, given: Tensor, actions: Tensor) -> Tensor:
        return torch.full_like(given[:, :1], 0.5)

    def posterior(
        self, given: Tensor, actions: Tensor, following: Tensor, energy: Energy | None = None, u: Tensor | None = None
    ) -> Posterior:
        z = self.expected(given, actions)
        return Posterior(z, torch.zeros_like(z[:, 0]))


class Gusty(Drift):
    """The first entry of the state moves by half a unit more where a coin that is tossed in each step falls so."""

    def __init__(self, action: ActionSpec) -> None:
        super().__init__(action)
        self.latent_variable = _Coin()

    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, u: Tensor | None = None
    ) -> Imagined:
        calm = super().imagine(belief, actions, exogenous, u).states
        gust = torch.full_like(actions[..., :1], _GUST / 2, dtype=calm.dtype) if u is None else _GUST * (u < 0.5)
        blown = torch.nn.functional.pad(gust.to(calm.dtype).cumsum(2), (0, calm.shape[-1] - 1, 1, 0))
        return Imagined(calm + blown)


def weighs_every_term(plan: Planning, keep: Keep, problem: Problem) -> None:
    """A term beside the goal changes plans, is named in their energies, and one that nobody knows is refused."""
    weights = dict(problem.task.weights)

    def weighed(weight: float, name: str = Toll.name) -> Problem:
        task = replace(problem.task, weights={**weights, name: weight})
        return replace(problem, costs=(*problem.costs, Toll()), task=task)

    try:
        free, dear = plan(weighed(0.0)), plan(asked := weighed(1e6))
    except PlanningError as error:
        keep("names the term that it refuses to weigh", Toll.name in str(error), "a term weighed a million",
             str(error), "say which term, and which planner weighs it")
        return
    ends = [found.imagined.states[:, 0, -1, 0].double().mean() for found in (free, dear)]
    one_way = problem.action.kind == "discrete" and problem.action.choices == 1
    keep("weighs every term that the task weighs", one_way or bool(ends[1] < ends[0]), "a term weighed a million",
         f"plans that end at {float(ends[1]):.4g} where the term asks for less than {float(ends[0]):.4g}",
         "add up all weighted terms: ask actor.verdict")
    imagined = asked.model.imagine(asked.belief, dear.actions[:, None])
    wanted = {cost.name: asked.task.weights[cost.name] * cost.energy(imagined, dear.actions[:, None], asked.task)[:, 0]
              for cost in asked.costs if asked.task.weights.get(cost.name)}
    same = dear.energy.keys() == wanted.keys() and all(
        torch.allclose(dear.energy[name], energy, rtol=1e-3, atol=1e-3) for name, energy in wanted.items())
    keep("says of its plan what every weighted term is", same, "a term weighed a million",
         f"{ {name: round(float(x.sum()), 3) for name, x in dear.energy.items()} } instead of "
         f"{ {name: round(float(x.sum()), 3) for name, x in wanted.items()} }", "fill Plan.energy from the verdict")
    own = Toll()
    own.intrinsic = True
    unsaid = plan(replace(problem, costs=(*problem.costs, own)))
    keep("weighs intrinsic costs that the task does not name", Toll.name in unsaid.energy, "an intrinsic term",
         f"energies of {', '.join(unsaid.energy)}", "weigh by Problem.weights, not by the task's alone")
    try:
        plan(weighed(1.0, "nonsense"))
        refused = False
    except PlanningError:
        refused = True
    keep("refuses a weight for a term that does not exist", refused, "a weight for 'nonsense'", "a plan",
         "raise a PlanningError that names it")


def takes_chance_as_told(plan: Planning, keep: Keep, case: Case, make: Callable[[Case], Problem]) -> None:
    """Where a guardrail is to hold in every scenario, a plan called feasible keeps it in all of them; or it refuses."""
    problem = make(replace(case, wall=case.start[:, 0] + 0.4, horizon=1))
    if not isinstance(problem.model, Drift):
        return  # a world of the caller's own
    problem = replace(problem, model=Gusty(problem.action),
                      task=replace(problem.task, risk=Risk(scenarios=64, over="worst")))
    try:
        found = plan(problem)
    except PlanningError:
        return
    (wall,) = problem.task.guardrails
    still = Drift(problem.action).imagine(problem.belief, found.actions[:, None, :1])
    blown = replace(still, states=still.states + _GUST * torch.eye(still.states.shape[-1])[0])
    margin = wall.margin(blown, found.actions[:, None, :1])[:, 0, 0]
    broken = bool((margin > 0)[found.feasible].any())
    keep("calls feasible only what keeps every guardrail in every scenario", not broken,
         "64 scenarios, a gust in half of them", f"a margin of {float(margin.max()):.3g}",
         "fold scenarios into candidates and ask actor.verdict, or refuse task.risk")
