"""What steps of imagination cost and which of them are allowed: the verdict, as search needs it.

A step towards the goal counts as the goal's weight; every other term that the task weighs makes a step dearer. So
what is searched is the way of least Σ (w_goal + Σ w_i C_i), here in units of w_goal: in steps. Terms that speak of a
future's end alone are no part of a step: `valuing` asks them where the graph knows no way.

Shapes: B problems, K candidates, H horizon, G guardrails.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.actor.ground.verdict import require_weights, terminal_terms, total_of, verdict
from steersman.core import Imagined, PlanningError, Problem

GOAL = "goal"
_CHEAPEST = 0.05  # of a step: terms that reward must not make going on free


@dataclass(frozen=True)
class Steps:
    """allowed (B, K, H) bool: a step and all before it keep every guardrail; refused name -> (B, K, H) bool;
    cost (B, K, H) in steps."""

    allowed: Tensor
    refused: dict[str, Tensor]
    cost: Tensor


def judged_steps(problem: Problem, imagined: Imagined, actions: Tensor) -> Steps:
    """What a verdict says of every step of `actions` (B, K, H, A), and of the steps before it.

    Raises:
        PlanningError: the goal is not weighed, so that there is nothing to search for.
    """
    weights = require_weights(problem)
    weight = weights.get(GOAL, 0.0)
    if not weight > 0:
        raise PlanningError(f"a weight above 0 for {GOAL!r}: planner 'search' counts steps to the goal",
                            f"{dict(weights)}", "weigh the goal, or use planner 'icem'")
    apart = (GOAL, *terminal_terms(problem))
    found = verdict(problem, imagined, actions, terms=[name for name in weights if name not in apart])
    extra = total_of(found.parts, imagined.states.new_empty(actions.shape[:3]))
    cost = (1 + extra / weight).clamp_min(_CHEAPEST)
    refused = {name: ~(margin <= 0) for name, margin in found.margins.items()}
    fine = imagined.states[:, :, 1:].flatten(3).isfinite().all(-1) & extra.isfinite()
    for broken in refused.values():
        fine = fine & ~broken
    return Steps(fine.cumprod(2).bool(), refused, torch.where(extra.isfinite(), cost, 1.0))
