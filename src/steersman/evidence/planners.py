"""Every registered planner against exact answers, and on 100,000 random cases that no promise may be broken in.

Yardsticks: Riccati's solution of a linear-quadratic world, the best of all sequences of choices, value iteration where
choices have two outcomes, shortest ways through graphs (planners_oracles.py); and random problems with bounds of any
magnitude, planned together and in other company.
"""

from __future__ import annotations

from typing import Any

import msgspec

from steersman.actor import CEM, ICEM, MCTS, MPPI, Barrier, Gradient, PredictiveSampling
from steersman.core import Planner
from steersman.core.checks.many import Tally, try_batch
from steersman.core.parts import registered
from steersman.evidence import planners_oracles as oracles
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.drawing import canvas, picture
from steersman.evidence.planners_oracles import Gap, Price
from steersman.runs.artefacts import Column, Figure, Row, Table

EFFORT: dict[str, Any] = {
    "icem": ICEM.Config(samples=300, iterations=30, elites=30, decay=1.0, beta=0.0),
    "mppi": MPPI.Config(iterations=30, floor=0.0),
    "predictive-sampling": PredictiveSampling.Config(samples=300, iterations=30, knots=0),
    "gradient": Gradient.Config(steps=60),
    "barrier": Barrier.Config(planner=CEM.Config()),
    "mcts": MCTS.Config(simulations=2000),
}
"""Settings for the exact answer, where the defaults are meant for quick decisions."""
ALL = "all"
"""The row of all planners together."""
QUICK: dict[str, Any] = {
    "cem": {"samples": 16, "iterations": 3, "elites": 4}, "icem": {"samples": 16, "iterations": 3, "elites": 4},
    "mppi": {"samples": 16, "iterations": 3}, "predictive-sampling": {"samples": 16, "iterations": 3},
    "gradient": {"restarts": 2, "steps": 6},
    "augmented-lagrangian": {"restarts": 2, "outer": 2, "inner": 4, "fan": 8},
    "barrier": {"fan": 32, "planner": ICEM.Config(samples=16, iterations=2, elites=4)},
    "search": {"nodes": 32, "directions": 6, "look": 6, "expand": 8}, "mcts": {"simulations": 8},
}
"""Sizes for many cases: promises do not depend on them."""


class Cases(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many random cases for all planners together, and the largest batch of them."""

    cases: int = 100_000
    largest: int = 256


class Tag(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One planner."""

    tag: str


class Exact(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is known of one planner; None: it does not plan for such actions. `effort` is the exact answer at EFFORT."""

    riccati: Gap | None = None
    effort: Gap | None = None
    choices: Gap | None = None
    tables: Gap | None = None
    chance: Gap | None = None
    price: Price | None = None

    @property
    def figures(self) -> dict[str, Any]:
        p = self.price
        return {
            "lqr_gap": _worst(self.effort), "lqr_gap_default": _worst(self.riccati),
            "lqr_gap_default_median": self.riccati.median if self.riccati else None,
            "choices_gap": _worst(self.choices), "tables_gap": _worst(self.tables), "chance_gap": _worst(self.chance),
            "calls": p.calls if p else None, "milliseconds": p.milliseconds if p else None,
        }


class Tallies(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """planner -> what became of its random cases."""

    tallies: dict[str, Tally]


def cells(seed: int, cases: Cases = Cases()) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """Every planner that can be built without anything else against exact answers; A* on graphs; all on many cases."""
    exact = [Cell(tag, hold, 60, seed, Tag(tag)) for tag in _buildable()]
    return (*exact, Cell("graphs", find_ways, 60, seed), Cell("cases", try_many, 330, seed, cases))


def hold(context: Context) -> Found:
    """One planner against the exact answers."""
    tag, seed = context.settings.tag, context.seed
    config = _buildable()[tag]
    hard = EFFORT[tag].build() if tag in EFFORT else None
    riccati, price = oracles.riccati(config.build(), seed)
    effort = oracles.riccati(hard, seed)[0] if hard else riccati
    judged = hard or config.build()
    tables, chance = (oracles.tables(judged, seed, outcomes) for outcomes in (1, 2))
    one = Exact(riccati=riccati, effort=effort, choices=oracles.choices(judged, seed), tables=tables, chance=chance,
                price=price)
    context.say(f"{tag}: from Riccati {_percent(effort)}, from the best choices {_percent(one.choices)}, "
                f"from value iteration {_percent(tables)}, {_percent(chance)} where chance decides")
    return Found({tag: one.figures}, one)


def find_ways(context: Context) -> Found:
    """A* beside networkx."""
    unequal = oracles.graphs(context.seed)
    context.say(f"A*: {unequal} of {oracles.GRAPHS} graphs unlike networkx")
    return Found({ALL: {"graphs": oracles.GRAPHS, "graphs_unlike_networkx": unequal}})


def try_many(context: Context) -> Found:
    """All planners on random cases."""
    tallies = _many(context, _buildable())
    return Found({ALL: _counted(sum(tallies.values(), Tally()))}, Tallies(tallies))


def _counted(tally: Tally) -> dict[str, int]:
    return {"cases": tally.cases, "bounds_violations": tally.outside, "dependent": tally.dependent,
            "guardrails_broken": tally.broken}


def summary(results: Results) -> Outcome:
    """Figures by planner, and of all together."""
    found: dict[str, Exact] = {}
    tallies: dict[str, Tally] = {}
    whole: dict[str, Any] = {}
    largest = 0
    for one in results:
        if one.cell.row == "cases":
            tallies, largest = one.record(Tallies).tallies, one.cell.settings.largest
        if one.cell.row in ("cases", "graphs"):
            whole |= one.kept.figures[ALL]
        else:
            found[one.cell.row] = one.record(Exact)
    if tallies:  # those without a case want a world of another kind
        found = {tag: one for tag, one in found.items() if tallies[tag].cases}
    figures = {tag: one.figures for tag, one in found.items()}
    for tag in set(found) & set(tallies):
        t = tallies[tag]
        figures[tag] |= {"cases": t.cases, "bounds_violations": t.outside, "batch_invariant": t.dependent == 0,
                         "guardrails_broken": t.broken}
    figures |= {ALL: whole} if whole else {}
    table = _table(found, tallies, whole.get("graphs_unlike_networkx"), largest)
    shown = picture(
        _draw(found), "gaps", "How far from the exact answer",
        "energy above the optimum of each planner, median to worst start",
        f"Median and worst of {oracles.STARTS} starts in a double integrator, horizon {oracles.HORIZON}, "
        "settings as they come, by calls a decision; 0.00001% stands for less.")
    drawn = any(one.riccati and one.price for one in found.values())
    return Outcome(figures, (table,), (shown,) if drawn else ())


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


def _many(context: Context, planners: dict[str, Any]) -> dict[str, Tally]:
    """Random batches for each planner in turn, until there are enough cases."""
    settings: Cases = context.settings
    small = {tag: type(config)(**_fields(config) | QUICK.get(tag, {})).build() for tag, config in planners.items()}
    tallies = {tag: Tally() for tag in planners}
    number = total = said = 0
    while total < settings.cases and small:
        for tag in list(small):
            tally = try_batch(small[tag], context.seed * 10**6 + number, largest=settings.largest)
            tallies[tag] += tally
            total += tally.cases
        number += 1
        if number == 20:  # those that want a world of another kind
            small = {tag: planner for tag, planner in small.items() if tallies[tag].cases}
        if total // 10_000 > said:
            said = total // 10_000
            context.say(f"{total:,} cases")
    return tallies


def _fields(config: Any) -> dict[str, Any]:
    return {name: getattr(config, name) for name in config.__struct_fields__}


# For people -----------------------------------------------------------------------------------------------------


def _table(found: dict[str, Exact], tallies: dict[str, Tally], unequal: int | None, largest: int) -> Table:
    rows = []
    for tag, one in found.items():
        tally = tallies.get(tag)
        values = {
            "gap": _hundred(_worst(one.effort)), "plain": _hundred(_worst(one.riccati)),
            "median": _hundred(one.riccati.median if one.riccati else None), "choices": _hundred(_worst(one.choices)),
            "tables": _hundred(_worst(one.tables)), "chance": _hundred(_worst(one.chance)),
            "calls": one.price.calls if one.price else None,
            "ms": one.price.milliseconds if one.price else None,
        }
        if tally is not None:
            values |= {"cases": tally.cases, "outside": tally.outside, "dependent": tally.dependent,
                       "broken": tally.broken}
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
            "effort": ", ".join(EFFORT), "cases": f"batches of 1 to {largest}, each planned twice",
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


def _draw(found: dict[str, Exact]) -> Any:
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
