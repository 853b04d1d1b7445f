"""Strategies of Reach, and what it says of its choice among them. Knows no world.

Shapes: B problems, S strategies, H horizon.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from steersman.core import Plan
from steersman.core.way_graph import WayGraph


@dataclass(frozen=True)
class Strategy:
    """One way to go for a goal at the lower level.

    name     for people
    judges   by what candidates are judged: the graph's "value", or the task's own "cost"
    horizon  steps that are imagined of each, hold: steps that a push is held for; None: the planner's own
    """

    name: str
    judges: Literal["value", "cost"]
    horizon: int | None = None
    hold: int | None = None


STRATEGIES = (
    Strategy("graph value", "value"),
    Strategy("flat", "cost"),
    Strategy("held pushes, long horizon", "cost", 60, 10),
)
"""In the order in which they are tried. Where the goal touches no logged state, the graph is one of imagined macros."""


def kept_when_built(graph: WayGraph, tolerated: float) -> bool | None:
    """Whether ways of this graph could be kept in imagination when it was built; None: nobody looked."""
    if not len(graph.leaks):
        return None
    own = graph.leaks[graph.leaks[:, 0] == len(graph)]
    return bool(own[-1, 2] <= tolerated) if len(own) else None


def choice_said(chosen: Tensor, arrival: Tensor, macros: bool, share: float | None) -> list[str]:
    """Which strategy and why, a phrase a problem; chosen (B,), arrival (B, S) imagined steps, infinite where it did not
    arrive, NaN where it was not tried; macros: the graph is one of imagined macros; share: of ways that leaked when
    the graph was built."""
    names = [strategy.name for strategy in STRATEGIES]
    names[0] = "imagined macros" if macros else names[0]
    phrases = []
    for which, steps in zip(chosen.tolist(), arrival.tolist(), strict=True):
        if all(step != step for step in steps):
            phrases.append(f"by {names[which]}" + ("" if share is None else
                           f", whose ways were kept in imagination ({100 * share:.0f}% leaked)"))
            continue
        others = [f"{name} {f'after {step:.0f}' if step < torch.inf else 'did not'}"
                  for i, (name, step) in enumerate(zip(names, steps, strict=True)) if i != which and step == step]
        own = f"arrived in imagination after {steps[which]:.0f} steps" if steps[which] < torch.inf else "none arrived"
        phrases.append(f"by {names[which]}, {own}" + (f" ({', '.join(others)})" if others else ""))
    return phrases


def shortened(plan: Plan, horizon: int, terms: frozenset[str]) -> Plan:
    """The first steps of a plan, with every one of these terms: those that it does not weigh are 0."""
    imagined = plan.imagined
    imagined = replace(
        imagined, states=imagined.states[:, :, : horizon + 1], carry=(), shared=(),
        disagreement=None if imagined.disagreement is None else imagined.disagreement[:, :, :horizon],
        attention=None if imagined.attention is None else imagined.attention[:, :, :horizon])
    energy = {name: term[:, :horizon] for name, term in plan.energy.items()}
    nothing = torch.zeros_like(next(iter(energy.values())))
    return replace(plan, actions=plan.actions[:, :horizon], imagined=imagined,
                   energy={name: energy.get(name, nothing) for name in sorted(terms | set(energy))})
