"""Costs from demonstrations: which weights of known terms make what somebody did the best thing to do.

Inverse planning with energies. Knows terms by core's abstract Cost and a planner only by what it plans.

Shapes: B problems, K candidates, H horizon, I terms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.core import Cost, Imagined, PlanningError, Task

_MOMENTUM, _MEMORY = 0.5, 0.8
_FLAT = 1e-3  # relative differences below this are a planner's noise
_SMALL = 1e-6  # of a term's own size: what a demonstration avoids altogether still has a share


@dataclass(frozen=True)
class Recovered:
    """What demonstrations say of the terms.

    weights  name -> weight; they sum to 1, since only their ratios can be seen
    gap      by step: mean over problems of C(demonstrated) - C(planned) under the weights of that step, as a share of
             C(demonstrated). Near 0 at the end: no cheaper plan is known than what was demonstrated
    terms    by step: name -> mean energy of what was planned over that of what was demonstrated; near 1 at the end
    """

    weights: Mapping[str, float]
    gap: tuple[float, ...]
    terms: tuple[Mapping[str, float], ...]


def term_energies(costs: Sequence[Cost], imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
    """Each term's mean energy over the horizon, unweighted: (B, K, I)."""
    return torch.stack([cost.energy(imagined, actions, task).mean(2) for cost in costs], -1)


def recover_weights(
    costs: Sequence[Cost],
    demonstrated: Tensor,
    plan: Callable[[Mapping[str, float]], Tensor],
    *,
    steps: int = 60,
    rate: float = 0.4,
    start: Mapping[str, float] | None = None,
) -> Recovered:
    """Weights u of C = Σ u_i c_i under which what was demonstrated is planned.

    The loss is how much dearer the demonstrations are than the best plans, L(u) = C_u(demo) - min C_u, convex in u and
    0 where the demonstrations are optimal. Its gradient needs no derivative of a planner:

        ∂L/∂u_i = c_i(demo) - c_i(planned),   log u_i <- log u_i - η_t · Adam[(∂L/∂u_i) / mean of the two energies]

    A term that the plan has less of than the demonstration is weighed too much, and the other way round. Steps are
    relative, so that terms of any unit and size move alike, and Adam's, because terms that hardly matter move slowly
    otherwise; η_t fades from `rate` to a twentieth of it; the result is the geometric mean of the last third, in which
    a planner's noise averages out. What a planner cannot tell apart demonstrations do not tell: let it start from what
    was demonstrated too (`Problem.proposal`), or its own imprecision passes for a difference.

    demonstrated  (B, I): the terms' mean energies of the demonstrations, see `term_energies`
    plan          weights -> (B, I): the same of what is planned, or carried out, from the same starts
    start         weights to begin with (default: each term counts alike, by its size in the demonstrations)

    Source: maximum-margin planning (Ratliff et al. 2006) with the gradient of an energy-based loss (LeCun 2022,
    "A path towards autonomous machine intelligence", section 4.5).

    Raises:
        PlanningError: fewer than two terms, shapes that do not fit, or energies below 0 or not finite.
    """
    names = [cost.name for cost in costs]
    shape = (len(demonstrated), len(names))
    if len(names) < 2 or len(set(names)) < len(names):
        raise PlanningError("at least two terms of different names", f"{names}", "a single weight cannot be seen")
    seen = _mean(demonstrated, shape, "demonstrated")
    if start is None:
        log = -(seen + _SMALL * seen.max()).log()
    else:
        log = torch.tensor([start[name] for name in names], dtype=torch.float64).log()
    gaps, ratios, later = [], [], []
    first, second = torch.zeros_like(log), torch.zeros_like(log)
    for step in range(steps):
        log = log - log.logsumexp(0)
        weights = log.exp()
        planned = _mean(plan(dict(zip(names, weights.tolist(), strict=True))), shape, "planned")
        gaps.append(float((weights * (seen - planned)).sum() / (weights * seen).sum()))
        ratios.append(dict(zip(names, (planned / seen.clamp_min(1e-12)).tolist(), strict=True)))
        if step >= steps - max(1, steps // 3):
            later.append(log)
        slope = (seen - planned) / ((seen + planned) / 2 + _SMALL * (seen + planned).max())
        first, second = torch.lerp(slope, first, _MOMENTUM), torch.lerp(slope.square(), second, _MEMORY)
        size = (second / (1 - _MEMORY ** (step + 1))).sqrt() + _FLAT
        log = log - rate * 0.05 ** (step / steps) * first / (1 - _MOMENTUM ** (step + 1)) / size
    mean = torch.stack(later).mean(0).softmax(0)
    return Recovered(dict(zip(names, mean.tolist(), strict=True)), tuple(gaps), tuple(ratios))


def _mean(energies: Tensor, shape: tuple[int, int], what: str) -> Tensor:
    fits = tuple(energies.shape) == shape and bool(torch.isfinite(energies).all()) and float(energies.min()) >= 0
    if not fits:
        least = float(energies.min()) if energies.numel() else 0.0
        raise PlanningError(f"{what} energies {shape} (problems, terms), finite and at least 0",
                            f"{tuple(energies.shape)}, least {least:.3g}", "use terms that are 0 at their best")
    return energies.detach().double().mean(0)
