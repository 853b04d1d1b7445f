"""What a planner needs to know of candidates: weighted energies, guardrails, feasibility. The same for all planners.

Knows core's abstract Cost and Guardrail only. Shapes: B problems, K candidates, H horizon, A action size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.core import Cost, Imagined, PlanningError, Problem, Task
from steersman.core.records import TensorRecord


@dataclass(frozen=True)
class Scores(TensorRecord):
    """What K candidates of B problems are worth.

    energy     (B, K): weighted terms summed over the horizon; infinite where the model or a term was not finite
    parts      name of a term -> (B, K, H), weighted
    violation  (B, K): sum over guardrails and steps of max(0, margin)
    feasible   (B, K) bool: every margin <= 0 at every step, and a finite energy
    refused    name of a guardrail -> (B, K) bool
    margins    name of a guardrail -> (B, K, H), as it said
    imagined   the futures that were scored
    """

    energy: Tensor
    parts: Mapping[str, Tensor]
    violation: Tensor
    feasible: Tensor
    refused: Mapping[str, Tensor]
    margins: Mapping[str, Tensor]
    imagined: Imagined


def score(problem: Problem, actions: Tensor) -> Scores:
    """Imagine `actions` (B, K, H, A) and score them. K·H predictor calls per problem."""
    horizon = actions.shape[2]
    exogenous = None if problem.exogenous is None else problem.exogenous[:, :horizon]
    if exogenous is not None and exogenous.shape[1] < horizon:
        raise PlanningError(
            f"exogenous inputs for {horizon} steps", f"{exogenous.shape[1]}", "pass a longer forecast or plan less far"
        )
    return judge(problem, problem.model.imagine(problem.belief, actions, exogenous), actions)


def judge(problem: Problem, imagined: Imagined, actions: Tensor) -> Scores:
    """What imagined futures of `actions` (B, K, H, A) are worth."""
    total, parts = total_energy(problem.costs, problem.task.weights, imagined, actions, problem.task)
    energy = total.sum(2)
    finite = torch.isfinite(energy)
    violation = torch.zeros_like(energy)
    margins: dict[str, Tensor] = {}
    for guardrail in problem.task.guardrails:
        margin = guardrail.margin(imagined, actions)
        _require(f"guardrail {guardrail.name!r}", margin, actions)
        excess = margin.clamp(min=0).nan_to_num(nan=torch.inf, posinf=torch.inf)
        violation = violation + excess.sum(2).to(energy.dtype)
        margins[_fresh(guardrail.name, margins)] = margin
    refused = {name: ~(margin <= 0).all(2) for name, margin in margins.items()}
    feasible = finite & ~torch.stack(list(refused.values())).any(0) if refused else finite
    energy = torch.where(finite, energy, torch.inf)
    return Scores(energy, parts, violation, feasible, refused, margins, imagined)


def total_energy(
    costs: Sequence[Cost], weights: Mapping[str, float], imagined: Imagined, actions: Tensor, task: Task
) -> tuple[Tensor, dict[str, Tensor]]:
    """Σ w_i C_i: the weighted sum (B, K, H) and its terms by name, each (B, K, H).

    A term that the task does not name, or weighs 0, is not computed.

    Raises:
        PlanningError: a weight for a term that does not exist, no weighted term at all, or a term of the wrong shape.
    """
    terms = {cost.name: cost for cost in costs}
    unknown = sorted(set(weights) - set(terms))
    if unknown:
        raise PlanningError(
            f"weights for {', '.join(sorted(terms)) or 'no cost term'}", f"one for {', '.join(unknown)}",
            "correct the task's weights, or give the agent that cost",
        )
    parts: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight:
            energy = terms[name].energy(imagined, actions, task)
            _require(f"cost {name!r}", energy, actions)
            parts[name] = weight * energy
    if not parts:
        raise PlanningError("at least one cost term with a weight", f"{dict(weights)}", "weigh a term, usually 'goal'")
    first, *others = parts.values()
    return torch.stack([first, *others]).sum(0) if others else first, parts


def _require(what: str, value: Tensor, actions: Tensor) -> None:
    if value.shape != actions.shape[:3]:
        raise PlanningError(
            f"{what} of shape {tuple(actions.shape[:3])} (problems, candidates, steps)", f"{tuple(value.shape)}",
            "return one number per imagined step",
        )


def _fresh(name: str, taken: Mapping[str, Tensor]) -> str:
    """Two guardrails may share a name; their vetoes are still told apart."""
    number = 2
    candidate = name
    while candidate in taken:
        candidate, number = f"{name} ({number})", number + 1
    return candidate
