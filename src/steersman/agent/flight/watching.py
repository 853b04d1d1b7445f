"""What a planner weighed, seen from outside: every energy and margin that it asked for, whichever planner it is.

Costs and guardrails are handed to the planner as copies whose one method also writes down what it returned; the values
are the same, bit for bit, and gradients pass.

Shapes: B problems, K candidates, H horizon, Q quantiles.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from steersman.actor.ground.verdict import guardrail_names
from steersman.agent.flight.forms import finite
from steersman.core import Cost, Distance, Guardrail, Imagined, Problem
from steersman.runs.decisions import QUANTILES, Candidates, Limits

_MOST = 1 << 16  # candidates of a problem whose energies are kept for the quantiles; further ones are only counted


class Sheet:
    """Notes on one decision. `problem` is what the planner gets."""

    def __init__(self, problem: Problem) -> None:
        self._size = len(problem)
        self._weights = {name: weight for name, weight in problem.weights.items() if weight}
        self._totals: list[Tensor] = []  # each (B, K)
        self._kept = self._scored = 0
        self._open: dict[str, Tensor] = {}  # terms of the futures that are being scored
        self._futures: Imagined | None = None
        self._guards = [_Judged(self._size) for _ in problem.task.guardrails]
        task = replace(problem.task, guardrails=tuple(
            self._guard(guard, notes, None) for guard, notes in zip(problem.task.guardrails, self._guards, strict=True)
        ))
        self.problem = replace(problem, costs=tuple(map(self._cost, problem.costs)), task=task)

    # Watching ------------------------------------------------------------------------------------------------------

    def _cost(self, cost: Cost) -> Cost:
        def energy(imagined: Imagined, actions: Tensor, task: Any) -> Tensor:
            found = cost.energy(imagined, actions, task)
            self._note(cost.name, imagined, found)
            return found

        def as_distance(task: Any) -> Distance | None:
            found = cost.as_distance(task)
            return None if found is None else replace(found, told=lambda total: self._tell(cost.name, total))

        return _with(cost, energy=energy, as_distance=as_distance)

    def _tell(self, name: str, total: Tensor) -> None:
        """Energies (B, K) that a search computed by itself, of the one term that it weighed."""
        self._count(self._weights.get(name, 0.0) * total)

    def _note(self, name: str, imagined: Imagined, energy: Tensor) -> None:
        if self._futures is not imagined:
            self._futures, self._open = imagined, {}
        if name not in self._weights or energy.shape[:1] != (self._size,) or energy.dim() != 3:
            return
        self._open[name] = self._weights[name] * energy.detach().sum(2)
        if self._open.keys() == self._weights.keys():
            self._count(torch.stack(list(self._open.values())).sum(0))
            self._open = {}

    def _count(self, total: Tensor) -> None:
        self._scored += total.shape[1]
        if self._kept < _MOST:
            self._totals.append(total)
            self._kept += total.shape[1]

    def _guard(self, guardrail: Guardrail, notes: _Judged, rows: Tensor | None) -> Guardrail:
        def margin(imagined: Imagined, actions: Tensor) -> Tensor:
            found = guardrail.margin(imagined, actions)
            notes.add(found.detach(), rows)
            return found

        def some(chosen: Any) -> Guardrail:
            numbers = torch.arange(self._size) if rows is None else rows
            return self._guard(guardrail.rows(chosen), notes, numbers[chosen])

        return _with(guardrail, margin=margin, rows=some, bare=guardrail.bare)

    # Telling -------------------------------------------------------------------------------------------------------

    def candidates(self) -> Candidates | None:
        """The energies; None if the planner asked for none, or not for whole candidates."""
        if not self._totals:
            return None
        total = torch.cat(self._totals, 1).double().cpu()
        good = torch.isfinite(total)
        at = torch.tensor(QUANTILES, dtype=torch.float64)
        rows = [tuple(row[ok].quantile(at).tolist()) if bool(ok.any()) else (None,) * len(QUANTILES)
                for row, ok in zip(total[:, : 1 << 20], good[:, : 1 << 20], strict=True)]
        return Candidates(scored=(self._scored,) * self._size, finite=tuple(good.sum(1).tolist()), energy=tuple(rows))

    def limits(self, chosen: dict[str, Tensor]) -> dict[str, Limits]:
        """Guardrail -> what it said; chosen: guardrail -> margins (B, H) along the chosen plans."""
        names = guardrail_names(self.problem.task.guardrails)
        return {name: notes.told(chosen.get(name)) for name, notes in zip(names, self._guards, strict=True)}


class _Judged:
    """Counts of one guardrail, for each problem."""

    def __init__(self, size: int) -> None:
        with torch.inference_mode(False):  # planners that differentiate leave that mode; its tensors refuse them
            self.looked = torch.zeros(size, dtype=torch.long)
            self.refused = torch.zeros(size, dtype=torch.long)
            self.worst = torch.full((size,), -torch.inf, dtype=torch.float64)
            self.first = torch.zeros(size, 0, dtype=torch.long)  # refused candidates by the step that they first broke

    @torch.inference_mode(False)
    def add(self, margin: Tensor, rows: Tensor | None) -> None:
        """margin (B', K, H) of the problems `rows`, or of all; other shapes are no business of ours."""
        count = len(self.looked) if rows is None else len(rows)
        if margin.dim() != 3 or len(margin) != count or not margin.shape[1]:
            return
        rows = torch.arange(count) if rows is None else rows
        broken = ~(margin <= 0).cpu()
        refused = broken.any(2)
        self.looked[rows] += margin.shape[1]
        self.refused[rows] += refused.sum(1)
        worst = margin.double().cpu().nan_to_num(nan=torch.inf).amax((1, 2))
        self.worst[rows] = torch.maximum(self.worst[rows], worst)
        missing = margin.shape[2] - self.first.shape[1]
        if missing > 0:
            self.first = torch.nn.functional.pad(self.first, (0, missing))
        step = torch.nn.functional.one_hot(broken.int().argmax(2), margin.shape[2]) * refused[..., None]
        self.first[rows, : margin.shape[2]] += step.sum(1)

    def told(self, chosen: Tensor | None) -> Limits:
        any_refused = self.refused > 0
        first = torch.where(any_refused, self.first.argmax(1) + 1, 0) if self.first.shape[1] else self.refused
        return Limits(
            looked=tuple(self.looked.tolist()), refused=tuple(self.refused.tolist()),
            worst=tuple(map(finite, self.worst.tolist())), first=tuple(first.tolist()),
            chosen=() if chosen is None else tuple(tuple(row) for row in chosen.tolist()),
        )


def _with(part: Any, **methods: Callable[..., Any]) -> Any:
    """A shallow copy whose methods are others: everything else, its class included, is the same."""
    other = copy.copy(part)
    for name, method in methods.items():
        object.__setattr__(other, name, method)
    return other
