"""Every registered planner against exact answers, and on 100,000 random cases that no promise may be broken in.

Yardsticks: Riccati's solution of a linear-quadratic world, the best of all sequences of choices, value iteration where
choices have two outcomes, shortest ways through graphs (planners_oracles.py); and random problems with bounds of any
magnitude, planned together and in other company.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from steersman.actor import CEM, ICEM, MCTS, MPPI, Barrier, Gradient, PredictiveSampling
from steersman.core import Planner
from steersman.core.checks.many import Tally, try_batch
from steersman.core.parts import registered
from steersman.evidence import planners_oracles as oracles
from steersman.evidence.context import Context, Outcome
from steersman.evidence.drawing import canvas, picture
from steersman.evidence.planners_oracles import Gap, Price
from steersman.runs.artefacts import Column, Figure, Row, Table

CASES, LARGEST = 100_000, 256

EFFORT: dict[str, Any] = {
    "icem": ICEM.Config(samples=300, iterations=30, elites=30, decay=1.0, beta=0.0),
    "mppi": MPPI.Config(iterations=30, floor=0.0),
    "predictive-sampling": PredictiveSampling.Config(samples=300, iterations=30, knots=0),
    "gradient": Gradient.Config(steps=60),
    "barrier": Barrier.Config(planner=CEM.Config()),
    "mcts": MCTS.Config(simulations=2000),
}
"""Settings for the exact answer, where the defaults are meant for quick decisions."""
QUICK: dict[str, Any] = {
    "cem": {"samples": 16, "iterations": 3, "elites": 4}, "icem": {"samples": 16, "iterations": 3, "elites": 4},
    "mppi": {"samples": 16, "iterations": 3}, "predictive-sampling": {"samples": 16, "iterations": 3},
    "gradient": {"restarts": 2, "steps": 6},
    "augmented-lagrangian": {"restarts": 2, "outer": 2, "inner": 4, "fan": 8},
    "barrier": {"fan": 32, "planner": ICEM.Config(samples=16, iterations=2, elites=4)},
    "search": {"nodes": 32, "directions": 6, "look": 6, "expand": 8}, "mcts": {"simulations": 8},
}
"""Sizes for many cases: promises do not depend on them."""


@dataclass
class Found:
    """What is known of one planner; None: it does not plan for such actions. `effort` is the exact answer at EFFORT."""

    riccati: Gap | None = None
    effort: Gap | None = None
    choices: Gap | None = None
    tables: Gap | None = None
    chance: Gap | None = None
    price: Price | None = None
    tally: Tally = field(default_factory=Tally)

    @property
    def figures(self) -> dict[str, Any]:
        t, p = self.tally, self.price
        return {
            "lqr_gap": _worst(self.effort), "lqr_gap_default": _worst(self.riccati),
            "lqr_gap_default_median": self.riccati.median if self.riccati else None,
            "choices_gap": _worst(self.choices), "tables_gap": _worst(self.tables), "chance_gap": _worst(self.chance),
            "calls": p.calls if p else None, "milliseconds": p.milliseconds if p else None, "cases": t.cases,
            "bounds_violations": t.outside, "batch_invariant": t.dependent == 0, "guardrails_broken": t.broken,
        }


def experiment(context: Context) -> Outcome:
    """All planners that can be built without anything else; figures by tag, and in all."""
    planners = _buildable()
    found = {tag: Found() for tag in planners}
    for tag, config in planners.items():
        one, seed = found[tag], context.seed
        hard = EFFORT[tag].build() if tag in EFFORT else None
        one.riccati, one.price = oracles.riccati(config.build(), seed)
        one.effort = oracles.riccati(hard, seed)[0] if hard else one.riccati
        judged = hard or config.build()
        one.choices = oracles.choices(judged, seed)
        one.tables, one.chance = (oracles.tables(judged, seed, outcomes) for outcomes in (1, 2))
        context.say(f"{tag}: from Riccati {_percent(one.effort)}, from the best choices {_percent(one.choices)}, "
                    f"from value iteration {_percent(one.tables)}, {_percent(one.chance)} where chance decides")
    unequal = oracles.graphs(context.seed)
    context.say(f"A*: {unequal} of {oracles.GRAPHS} graphs unlike networkx")
    _many(context, planners, found)
    used = {tag: one for tag, one in found.items() if one.tally.cases}
    totals = sum((one.tally for one in used.values()), Tally())
    figures = {tag: one.figures for tag, one in used.items()} | {
        "cases": totals.cases, "bounds_violations": totals.outside, "dependent": totals.dependent,
        "guardrails_broken": totals.broken, "graphs": oracles.GRAPHS, "graphs_unlike_networkx": unequal,
    }
    shown = picture(
        _draw(used), "gaps", "How far from the exact answer",
        "energy above the optimum of each planner, median to worst start",
        f"Median and worst of {oracles.STARTS} starts in a double integrator, horizon {oracles.HORIZON}, "
        "settings as they come, by calls a decision; 0.00001% stands for less.")
    return Outcome(figures, (_table(used, unequal),), (shown,))


def _buildable() -> dict[str, Any]:
    """Tag -> default configuration."""
    configs = {}
    for kind in registered(Planner):
        try:
            config: Any = kind()
            config.build()
        except Exception:  # a part of somebody else's, or one that needs a policy
            continue
        configs[str(kind.__struct_config__.tag)] = config  # type: ignore[attr-defined]
    return configs


# Many cases -----------------------------------------------------------------------------------------------------


def _many(context: Context, planners: dict[str, Any], found: dict[str, Found]) -> None:
    """Random batches for each planner in turn, until there are enough cases."""
    small = {tag: type(config)(**_fields(config) | QUICK.get(tag, {})).build() for tag, config in planners.items()}
    number = total = said = 0
    while total < CASES and small:
        for tag in list(small):
            tally = try_batch(small[tag], context.seed * 10**6 + number, largest=LARGEST)
            found[tag].tally += tally
            total += tally.cases
        number += 1
        if number == 20:  # those that want a world of another kind
            small = {tag: planner for tag, planner in small.items() if found[tag].tally.cases}
        if total // 10_000 > said:
            said = total // 10_000
            context.say(f"{total:,} cases")


def _fields(config: Any) -> dict[str, Any]:
    return {name: getattr(config, name) for name in config.__struct_fields__}


# For people -----------------------------------------------------------------------------------------------------


def _table(found: dict[str, Found], unequal: int) -> Table:
    rows = []
    for tag, one in found.items():
        values = {
            "gap": _hundred(_worst(one.effort)), "plain": _hundred(_worst(one.riccati)),
            "median": _hundred(one.riccati.median if one.riccati else None), "choices": _hundred(_worst(one.choices)),
            "tables": _hundred(_worst(one.tables)), "chance": _hundred(_worst(one.chance)),
            "calls": one.price.calls if one.price else None,
            "ms": one.price.milliseconds if one.price else None, "cases": one.tally.cases,
            "outside": one.tally.outside, "dependent": one.tally.dependent, "broken": one.tally.broken,
        }
        figures = {key: Figure(value=float(value)) for key, value in values.items() if value is not None}
        rows.append(Row(label=tag, kind="agent", figures=figures))
    return Table(
        name="planners", title="Planners against exact answers and random cases",
        columns=(
            Column(key="gap", title="above Riccati", unit="%", better="lower", target=1.0),
            Column(key="plain", title="as it comes", unit="%", better="lower"),
            Column(key="median", title="as it comes, median", unit="%", better="lower"),
            Column(key="choices", title="above the best choices", unit="%", better="lower"),
            Column(key="tables", title="above value iteration", unit="%", better="lower"),
            Column(key="chance", title="the same with chance", unit="%", better="lower"),
            Column(key="calls", title="calls", better="lower"),
            Column(key="ms", title="decision", unit="CPU ms", better="lower"),
            Column(key="cases", title="cases"),
            Column(key="outside", title="out of bounds", better="lower", target=0.0),
            Column(key="dependent", title="changed by neighbours", better="lower", target=0.0),
            Column(key="broken", title="guardrails broken", better="lower", target=0.0),
        ),
        rows=tuple(rows),
        protocol={
            "Riccati": f"double integrator, {oracles.STARTS} starts, horizon {oracles.HORIZON}, worst start",
            "choices": f"{oracles.LEFT} decisions among {oracles.CHOICES}, each for what is left",
            "value iteration": f"{oracles.TABLES} tables of {oracles.STATES} states, one outcome a choice or two",
            "effort": ", ".join(EFFORT), "cases": f"batches of 1 to {LARGEST}, each planned twice",
            "graphs unlike networkx": f"{unequal} of {oracles.GRAPHS}",
        },
        notes=("Worst cases over starts unless it says median. Planners that decide step by step have no plan of "
               f"{oracles.HORIZON} steps to judge. Those named under effort are judged with more than they come with.",
               "With chance: only dynamic programming and tree search weigh outcomes; the others plan for the mean."),
    )


def _worst(gap: Gap | None) -> float | None:
    return None if gap is None else gap.worst


def _hundred(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _percent(gap: Gap | None) -> str:
    return "not asked" if gap is None else f"{100 * gap.worst:.2g}%"


def _draw(found: dict[str, Found]) -> Any:
    known = sorted((one.price.calls, tag, one.riccati) for tag, one in found.items() if one.riccati and one.price)
    figure, axes = canvas(7, 0.6 + 0.32 * len(known))
    for row, (_, _, gap) in enumerate(known):
        median, worst = (max(100 * value, 1e-5) for value in (gap.median, gap.worst))
        axes.plot([median, worst], [row, row], color="#0072b2", linewidth=1)
        axes.plot(median, row, "o", color="#0072b2")
        axes.plot(worst, row, "|", color="#0072b2")
    axes.set_xscale("log")
    axes.axvline(1, color="#555555", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(known)), [f"{tag}  ({calls:,} calls)" for calls, tag, _ in known])
    axes.set_xlabel("above the optimum, %")
    return figure
