"""The one judge: what imagined futures are worth, by term, and which of them a guardrail refuses.

Every planner asks it, and so do serving and rehearsal. It knows core's abstract Cost and Guardrail, never who asks.

Where a task weighs chance, S scenarios of every candidate are imagined and folded into the candidates (K·S futures,
the scenarios of a candidate side by side) before costs and guardrails see them; only here they are unfolded again.

Shapes: B problems, K candidates, S scenarios, H horizon, A action size.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steersman.core import Guardrail, Imagined, PlanningError, Problem, Risk, Streams, TensorRecord

VALUE = "value"
"""The name of what is to come after the horizon, among the terms of a verdict."""
_CHANCE = 0x5CA1AB1E  # sets the draws of scenarios apart from those of candidates


@dataclass(frozen=True)
class Verdict(TensorRecord):
    """What K candidates of B problems are worth.

    energy     (B, K): weighted terms summed over the horizon; infinite where the model or a term was not finite
    parts      name of a term -> (B, K, H), weighted; they add up to the energy
    violation  (B, K): sum over guardrails and steps of max(0, margin)
    feasible   (B, K) bool: every margin <= 0 at every step, and a finite energy
    refused    name of a guardrail -> (B, K) bool
    margins    name of a guardrail -> (B, K, H), as it said
    imagined   the futures that were judged, (B, K·S, …)
    shown      (B, K): the scenario of each candidate that stands for it where one is shown

    With scenarios, energies are those that count for the task's `Risk`: the weighted mean over scenarios, the same
    weights for all terms. A guardrail refuses a candidate that breaks it in more than the share `broken` of its
    scenarios; its margins are those of the scenario that decides this.
    """

    energy: Tensor
    parts: Mapping[str, Tensor]
    violation: Tensor
    feasible: Tensor
    refused: Mapping[str, Tensor]
    margins: Mapping[str, Tensor]
    imagined: Imagined
    shown: Tensor | None = None

    def future(self, index: Tensor) -> Imagined:
        """One future per problem, index (B,) of candidates -> K = 1."""
        if self.shown is None:
            return self.imagined.select(index)
        scenarios = self.imagined.states.shape[1] // self.shown.shape[1]
        rows = torch.arange(len(index), device=index.device)
        return self.imagined.select(index * scenarios + self.shown[rows, index])


def score(problem: Problem, actions: Tensor) -> Verdict:
    """Imagine `actions` (B, K, H, A) and judge them. K·S·H predictor calls per problem."""
    return verdict(problem, imagine(problem, actions), actions)


def imagine(problem: Problem, actions: Tensor) -> Imagined:
    """The futures of `actions` (B, K, H, A): (B, K·S, …), from draws that a problem's candidates share."""
    horizon = actions.shape[2]
    exogenous = None if problem.exogenous is None else problem.exogenous[:, :horizon]
    if exogenous is not None and exogenous.shape[1] < horizon:
        raise PlanningError(
            f"exogenous inputs for {horizon} steps", f"{exogenous.shape[1]}", "pass a longer forecast or plan less far"
        )
    scenarios = scenarios_of(problem)
    if scenarios == 1:
        return problem.model.imagine(problem.belief, actions, exogenous)
    shared = scenario_draws(problem, horizon)[:, None].expand(-1, actions.shape[1], -1, -1, -1).flatten(1, 2)
    return problem.model.imagine(problem.belief, actions.repeat_interleave(scenarios, 1), exogenous, shared)


def scenario_draws(problem: Problem, horizon: int) -> Tensor:
    """(B, S, H, U) on (0, 1), a problem's scenarios, which all its candidates share. Stratified: at each step every
    S-th of the interval is met once, in random order, so that few scenarios tell probabilities well (Latin hypercube
    sampling, McKay et al. 1979)."""
    scenarios = scenarios_of(problem)
    streams = Streams(problem.seeds ^ _CHANCE, problem.decision)
    place, within = (streams.uniform(scenarios, horizon, problem.model.chance) for _ in range(2))
    draws = (place.argsort(1).argsort(1) + within) / scenarios
    return draws.clamp(max=1 - 2.0**-24).to(problem.belief.state.device)


def scenarios_of(problem: Problem) -> int:
    """S: as many as the task weighs, 1 where the model leaves nothing to chance."""
    return problem.task.risk.scenarios if problem.model.chance else 1


def verdict(
    problem: Problem, imagined: Imagined, actions: Tensor, value: Tensor | None = None, *,
    terms: Collection[str] | None = None, guardrails: tuple[Guardrail, ...] | None = None,
) -> Verdict:
    """What imagined futures (B, K·S, …) of `actions` (B, K, H, A) are worth.

    value       (B, K·S), what is to come after the last step, in the unit of the weighted energy (a critic, a graph)
    terms       names of the terms that are asked; None: all that the task weighs
    guardrails  that are asked; None: the task's

    Raises:
        PlanningError: a weight for a term that does not exist, no weighted term at all, or a term or a guardrail that
            returns another shape.
    """
    scenarios = imagined.states.shape[1] // actions.shape[1]
    each = actions if scenarios == 1 else actions.repeat_interleave(scenarios, 1)
    parts = weighted_terms(problem, imagined, each, terms)
    if value is not None:
        before = imagined.states.new_zeros(*each.shape[:2], each.shape[2] - 1)
        parts[VALUE] = torch.cat([before, value[..., None].to(before)], -1)
    margins = margins_of(problem.task.guardrails if guardrails is None else guardrails, imagined, each)
    shown = None
    if scenarios > 1:
        parts, margins, shown = _unfolded(problem.task.risk, scenarios, parts, margins)
    return _judged(parts, margins, imagined, actions, shown)


def weighted_terms(
    problem: Problem, imagined: Imagined, actions: Tensor, terms: Collection[str] | None = None
) -> dict[str, Tensor]:
    """Name -> w C, each (B, K, H). A term that weighs nothing is not computed; terms: as in `verdict`."""
    weights = require_weights(problem)
    costs = {cost.name: cost for cost in problem.costs}
    parts: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight and (terms is None or name in terms):
            energy = costs[name].energy(imagined, actions, problem.task)
            _require(f"cost {name!r}", energy, actions)
            parts[name] = weight * energy
    return parts


def terminal_terms(problem: Problem) -> tuple[str, ...]:
    """Names of the weighed terms that speak of a future's last state alone (`Cost.terminal`): a critic, a graph's
    value. Planners that add up single steps leave them out of a step and ask them in their leaves: `ends_of`."""
    weights = problem.weights
    return tuple(cost.name for cost in problem.costs if cost.terminal and weights.get(cost.name))


def step_terms(problem: Problem) -> tuple[str, ...] | None:
    """Names of all other weighed terms, as `verdict` takes them; None: all that the task weighs."""
    ends = terminal_terms(problem)
    return tuple(name for name in problem.weights if name not in ends) if ends else None


def ends_of(problem: Problem, states: Tensor) -> dict[str, Tensor]:
    """Name -> w V of each terminal term, (B, K), of futures that end in states (B, K, …)."""
    names = terminal_terms(problem)
    if not names:
        return {}
    still = states.new_zeros(*states.shape[:2], 1, problem.action.size)
    ended = Imagined(torch.stack([states, states], 2), problem.belief.context)
    return {name: part[..., 0] for name, part in weighted_terms(problem, ended, still, names).items()}


def require_weights(problem: Problem) -> Mapping[str, float]:
    """Name -> weight of every term that counts.

    Raises:
        PlanningError: a weight for a term that does not exist, one that is not finite, or none that is not 0.
    """
    weights = problem.weights
    known = {cost.name for cost in problem.costs}
    unknown = sorted(set(weights) - known)
    if unknown:
        raise PlanningError(
            f"weights for {', '.join(sorted(known)) or 'no cost term'}", f"one for {', '.join(unknown)}",
            "correct the task's weights, or give the agent that cost",
        )
    wrong = {name: weight for name, weight in weights.items() if not _is_finite(weight)}
    if wrong:
        raise PlanningError("weights that are finite numbers", f"{wrong}",
                            "weigh a term by a number, 0 to leave it out")
    if not any(weights.values()):
        raise PlanningError("at least one cost term with a weight", f"{dict(weights)}", "weigh a term, usually 'goal'")
    return weights


def _is_finite(weight: Any) -> bool:
    try:
        return math.isfinite(weight)
    except TypeError:
        return False


def refuse_scenarios(problem: Problem, planner: str) -> None:
    """For planners that do not imagine scenarios.

    Raises:
        PlanningError: the task asks for them.
    """
    if scenarios_of(problem) > 1:
        able = "'cem', 'icem', 'mppi' or 'beam'"
        if problem.action.kind != "discrete":
            able = "'cem', 'icem', 'mppi', 'gradient' or 'beam'"
        raise PlanningError(f"a task without scenarios for a planner {planner}", f"{problem.task.risk}",
                            f"use planner {able} for risk, or leave it out")


def total_of(parts: Mapping[str, Tensor], like: Tensor) -> Tensor:
    """Σ of the terms, (B, K, H); zeros where there is none, like (B, K, H)."""
    if not parts:
        return torch.zeros_like(like)
    first, *others = parts.values()
    return torch.stack([first, *others]).sum(0) if others else first


def margins_of(guardrails: Collection[Guardrail], imagined: Imagined, actions: Tensor) -> dict[str, Tensor]:
    """Name -> margin (B, K, H) of each guardrail along `actions` (B, K, H, A); <= 0 is safe.

    Raises:
        PlanningError: a guardrail that returns another shape.
    """
    margins: dict[str, Tensor] = {}
    for name, guardrail in zip(guardrail_names(guardrails), guardrails, strict=True):
        margins[name] = guardrail.margin(imagined, actions)
        _require(f"guardrail {name!r}", margins[name], actions)
    return margins


def guardrail_names(guardrails: Collection[Guardrail]) -> list[str]:
    """The names under which a verdict counts them: a second one of the same name is "NAME (2)"."""
    names: list[str] = []
    for guardrail in guardrails:
        number, name = 2, guardrail.name
        while name in names:
            name, number = f"{guardrail.name} ({number})", number + 1
        names.append(name)
    return names


def _judged(
    parts: dict[str, Tensor], margins: dict[str, Tensor], imagined: Imagined, actions: Tensor, shown: Tensor | None
) -> Verdict:
    energy = total_of(parts, imagined.states.new_empty(actions.shape[:3])).sum(2)
    finite = torch.isfinite(energy)
    violation = torch.zeros_like(energy)
    for margin in margins.values():
        excess = margin.clamp(min=0).nan_to_num(nan=torch.inf, posinf=torch.inf)
        violation = violation + excess.sum(2).to(energy.dtype)
    refused = {name: ~(margin <= 0).all(2) for name, margin in margins.items()}
    feasible = finite & ~torch.stack(list(refused.values())).any(0) if refused else finite
    energy = torch.where(finite, energy, torch.inf)
    return Verdict(energy, parts, violation, feasible, refused, margins, imagined, shown)


# Scenarios -------------------------------------------------------------------------------------------------------


def _unfolded(
    risk: Risk, scenarios: int, parts: Mapping[str, Tensor], margins: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Terms and margins (B, K·S, H) -> (B, K, H) each, and the scenario (B, K) of middling energy."""
    apart = {name: part.unflatten(1, (-1, scenarios)) for name, part in parts.items()}
    limits = {name: margin.unflatten(1, (-1, scenarios)) for name, margin in margins.items()}
    like = next(iter([*apart.values(), *limits.values()]))
    energy = total_of(apart, like).sum(3)
    energy = torch.where(energy.isfinite(), energy, torch.inf)
    share = tail_weights(risk, energy.detach())
    counted = {name: torch.where(share[..., None] > 0, part * share[..., None], 0.0).sum(2)
               for name, part in apart.items()}
    held = {name: decisive(margin, risk.broken) for name, margin in limits.items()}
    middle = energy.detach().argsort(dim=2, stable=True)[..., (scenarios - 1) // 2]
    return counted, held, middle


def tail_weights(risk: Risk, energy: Tensor) -> Tensor:
    """How much each scenario counts, (B, K, S) -> (B, K, S), adding up to 1 over S.

        mean 1 / S;   worst 1 for the largest;   cvar min(1, α S - r)⁺ / (α S) for the r-th largest, r from 0
    """
    count = energy.shape[2]
    if risk.over == "mean":
        return torch.full_like(energy, 1 / count)
    order = energy.argsort(dim=2, descending=True, stable=True)
    size = 1.0 if risk.over == "worst" else risk.tail * count
    rank = torch.arange(count, dtype=energy.dtype, device=energy.device)
    weight = (size - rank).clamp(0, 1) / size if size >= 1 else (rank == 0).to(energy)
    return torch.zeros_like(energy).scatter(2, order, weight.expand_as(energy))


def decisive(margin: Tensor, broken: float) -> Tensor:
    """Margins (B, K, S, H) -> (B, K, H): those of the scenario that decides whether at least (1 - `broken`) S scenarios
    keep the limit at every step: the ⌈(1 - broken) S⌉-th in the order of worst margins."""
    count = margin.shape[2]
    worst = margin.detach().nan_to_num(nan=torch.inf).amax(3)
    place = math.ceil(round((1 - broken) * count, 9)) - 1
    index = worst.argsort(dim=2, stable=True)[..., place]
    return margin.gather(2, index[..., None, None].expand(-1, -1, 1, margin.shape[3])).squeeze(2)


def _require(what: str, value: Tensor, actions: Tensor) -> None:
    if value.shape != actions.shape[:3]:
        raise PlanningError(
            f"{what} of shape {tuple(actions.shape[:3])} (problems, candidates, steps)", f"{tuple(value.shape)}",
            "return one number per imagined step",
        )
