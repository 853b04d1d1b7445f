"""What deliberation showed: frontiers of success against predictor calls, in figures, a table and a picture."""

from __future__ import annotations

import math
import statistics
from typing import Any

import msgspec

from steersman.evidence.drawing import canvas, picture
from steersman.runs.artefacts import Column, Figure, Picture, Row, Table
from steersman.studio import quantities as q


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Scores of every episode, returns or 1 and 0, and predictor calls of a decision as a share of full planning's."""

    wanted: float
    scores: list[float]
    share: float


class Frontier(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """full: the planner alone, with its own warm start; floor: scores of random actions."""

    full: Budget
    fixed: list[Budget]
    gated: list[Budget]
    floor: list[float]


def figures_of(world: str, seeds: list[Frontier]) -> dict[str, Any]:
    """Of all seeds' episodes together.

    quarter_budget_loss  what the gate at a quarter of full planning's calls loses to it: success; of the pendulum as a
                         share of what full planning gains over random actions
    below_frontier       budgets of the gate that lie below the line through the fixed budgets, at the calls that they
                         spent, by more than the 95% interval of the difference
    """
    full = [x for seed in seeds for x in seed.full.scores]
    floor = statistics.fmean(x for seed in seeds for x in seed.floor)
    fixed, gated = (_pooled([getattr(seed, name) for seed in seeds]) for name in ("fixed", "gated"))
    size = 1.0 if world == "hazards" else statistics.fmean(full) - floor
    quarter = next(one for one in gated if one[0] == 0.25)
    gaps = [_gap(one, fixed) for one in gated]
    return {
        "full": statistics.fmean(full), "floor": floor,
        "quarter_budget_loss": (statistics.fmean(full) - statistics.fmean(quarter[2])) / size,
        "quarter_share": quarter[1], "below_frontier": sum(gap < -half for gap, half in gaps),
        "gap": [gap / size for gap, _ in gaps], "gap_interval": [half / size for _, half in gaps],
        "fixed_share": [one[1] for one in fixed], "fixed": [statistics.fmean(one[2]) for one in fixed],
        "gate_share": [one[1] for one in gated], "gate": [statistics.fmean(one[2]) for one in gated],
    }


Pooled = tuple[float, float, list[float]]
"""Wanted share, share that was spent, scores of all seeds."""


def _pooled(seeds: list[list[Budget]]) -> list[Pooled]:
    return [(each[0].wanted, statistics.fmean(one.share for one in each), [x for one in each for x in one.scores])
            for each in zip(*seeds, strict=True)]


def _gap(one: Pooled, fixed: list[Pooled]) -> tuple[float, float]:
    """By how much the gate lies above the line through the fixed budgets, and half the interval of that."""
    points = sorted(fixed, key=lambda point: point[1])
    at = min(max(one[1], points[0][1]), points[-1][1])
    below = max((p for p in points if p[1] <= at), key=lambda p: p[1])
    above = min((p for p in points if p[1] >= at), key=lambda p: p[1])
    between = 0.0 if above[1] == below[1] else (at - below[1]) / (above[1] - below[1])
    line = (1 - between) * statistics.fmean(below[2]) + between * statistics.fmean(above[2])
    spread = _error(one[2]) ** 2 + ((1 - between) * _error(below[2])) ** 2 + (between * _error(above[2])) ** 2
    return statistics.fmean(one[2]) - line, 1.96 * math.sqrt(spread)


def _error(values: list[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def frontier_table(frontiers: dict[str, list[Frontier]], figures: dict[str, dict[str, Any]]) -> Table:
    """One row a budget."""
    rows = []
    for world, seeds in frontiers.items():
        full = [x for seed in seeds for x in seed.full.scores]
        rows.append(Row(label="full planning", kind="baseline", group=world,
                        figures={"score": q.mean(full), "share": Figure(value=1.0)}))
        for label, name, kind in (("fixed", "fixed", "ablation"), ("gate", "gated", "agent")):
            for wanted, share, scores in _pooled([getattr(seed, name) for seed in seeds]):
                rows.append(Row(label=f"{label}, {100 * wanted:.3g}%", kind=kind, group=world,  # type: ignore[arg-type]
                                figures={"score": q.mean(scores), "share": Figure(value=share)}))
        rows.append(Row(label="random actions", kind="baseline", group=world, figures={
            "score": q.mean([x for seed in seeds for x in seed.floor]), "share": Figure(value=0.0)}))
    return Table(
        name="deliberation", title="Success against predictor calls",
        columns=(Column(key="score", title="score", better="higher"),
                 Column(key="share", title="calls of full planning", better="lower")),
        rows=tuple(rows), protocol={"seeds": max(map(len, frontiers.values())), "starts": "the same for all"},
        notes=("Score: return of the pendulum; in Hazards the share that reached the goal and touched nothing.",
               "Fixed and gate: the same habit and the same planner; the gate gives the calls to some decisions.",
               "Calls count everything: following the policy, what is left of the last plan, and the search.",
               *(f"{world}: at a quarter the gate loses {given['quarter_budget_loss']:.3f}; below the line through the "
                 f"fixed budgets: {given['below_frontier']} of {len(given['gate'])}."
                 for world, given in figures.items() if "gate" in given),
               "Intervals: 95%, normal approximation over episodes of all seeds."),
    )


def drawn(frontiers: dict[str, list[Frontier]]) -> tuple[Picture, dict[str, bytes]]:
    """One panel a world."""
    figure, axes = canvas(3.6 * len(frontiers), 3.0, 1, len(frontiers), squeeze=False)
    for panel, (world, seeds) in zip(axes[0], frontiers.items(), strict=True):
        for name, label, colour, mark in (("fixed", "fixed budget", "#999999", "o"), ("gated", "gate", "#0072b2", "s")):
            points = _pooled([getattr(seed, name) for seed in seeds])
            panel.errorbar([one[1] for one in points], [statistics.fmean(one[2]) for one in points],
                           [1.96 * _error(one[2]) for one in points], color=colour, marker=mark, label=label)
        panel.axhline(statistics.fmean(x for seed in seeds for x in seed.full.scores), color="#009e73", lw=1,
                      label="full planning")
        panel.set_xlabel("predictor calls, share of full planning's")
        panel.set_title(world)
    axes[0][0].legend(fontsize="small")
    return picture(figure, "frontier", "Success against predictor calls",
                   "score against the share of full planning's predictor calls, fixed budgets and the gate, by world",
                   "Bars: 95% intervals over episodes. Both act by the same habit and think with the same planner.")
