"""Every registered planner against exact answers, and on 100,000 random cases that no promise may be broken in.

Three yardsticks: Riccati's solution of a linear-quadratic world, the best of all sequences of choices, and random
problems with bounds of any magnitude, planned together and in other company.
"""

from __future__ import annotations

import io
import itertools
import time
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from steersman.actor import CEM, ICEM, MPPI, Barrier, Gradient, PredictiveSampling
from steersman.core import ActionSpec, Belief, CallableGoal, Planner, PlanningError, Problem, Task
from steersman.core.checks.drift import draw_case
from steersman.core.checks.many import Tally, try_batch
from steersman.core.parts import registered
from steersman.evidence.context import Context, Outcome
from steersman.runs.artefacts import Column, Figure, Picture, Row, Table
from steersman.world_model.linear import LinearModel
from steersman.worlds.lqr import LQR, LQRCost

CASES, LARGEST = 100_000, 256
HORIZON, STARTS = 10, 16

EFFORT: dict[str, Any] = {
    "icem": ICEM.Config(samples=300, iterations=30, elites=30, decay=1.0, beta=0.0),
    "mppi": MPPI.Config(iterations=30, floor=0.0),
    "predictive-sampling": PredictiveSampling.Config(samples=300, iterations=30, knots=0),
    "gradient": Gradient.Config(steps=60),
    "barrier": Barrier.Config(planner=CEM.Config()),
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
    """What is known of one planner; None: it does not plan for such actions."""

    lqr_gap: float | None = None
    lqr_gap_default: float | None = None
    choices_gap: float | None = None
    calls: int | None = None
    milliseconds: float | None = None
    tally: Tally = field(default_factory=Tally)

    @property
    def figures(self) -> dict[str, Any]:
        t = self.tally
        return {
            "lqr_gap": self.lqr_gap, "lqr_gap_default": self.lqr_gap_default, "choices_gap": self.choices_gap,
            "calls": self.calls, "milliseconds": self.milliseconds, "cases": t.cases, "bounds_violations": t.outside,
            "batch_invariant": t.dependent == 0, "guardrails_broken": t.broken,
        }


def experiment(context: Context) -> Outcome:
    """All planners that can be built without anything else; figures by tag, and in all."""
    planners = _buildable()
    found = {tag: Found() for tag in planners}
    for tag, config in planners.items():
        one = found[tag]
        one.lqr_gap_default, one.calls, one.milliseconds = _lqr(config.build(), context.seed)
        one.lqr_gap = _lqr(EFFORT[tag].build(), context.seed)[0] if tag in EFFORT else one.lqr_gap_default
        one.choices_gap = _choices(config.build(), context.seed)
        context.say(f"{tag}: from Riccati {_percent(one.lqr_gap)}, from the best choices {_percent(one.choices_gap)}")
    _many(context, planners, found)
    used = {tag: one for tag, one in found.items() if one.tally.cases}
    totals = sum((one.tally for one in used.values()), Tally())
    figures = {tag: one.figures for tag, one in used.items()} | {
        "cases": totals.cases, "bounds_violations": totals.outside, "dependent": totals.dependent,
        "guardrails_broken": totals.broken,
    }
    picture = Picture(
        name="gaps", title="How far from the exact answer", file="gaps.png",
        alt="energy above the optimum of each planner, against predictor calls",
        caption="Worst of 16 starts in a double integrator, horizon 10, settings as they come. Lower left is better.",
    )
    return Outcome(figures, (_table(used),), ((picture, {"gaps.png": _draw(used)}),))


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


# Exact answers --------------------------------------------------------------------------------------------------


def _lqr(planner: Planner, seed: int) -> tuple[float | None, int | None, float | None]:
    """The worst J / J* - 1 over starts in a double integrator; calls and CPU milliseconds of one decision."""
    world = LQR.double_integrator(dt=0.2)
    start = torch.randn(STARTS, 2, generator=torch.Generator().manual_seed(seed))
    problem = Problem(
        LinearModel(world.transition, world.control), Belief(start), (LQRCost(world),),
        Task(CallableGoal(lambda columns, imagined: imagined.states), {"lqr": 1.0}, horizon=HORIZON),
        world.signature.action, torch.arange(STARTS) + seed, torch.zeros(STARTS, dtype=torch.int64),
    )
    try:
        plan = planner.plan(problem)
    except PlanningError:
        return None, None, None
    reached = world.energy(start, plan.actions).double()
    if plan.actions.shape[1] < HORIZON:
        return None, int(plan.calls.max()), None  # it decides step by step
    one = replace(problem, belief=problem.belief[:1], seeds=problem.seeds[:1], decision=problem.decision[:1])
    seconds = []
    for _ in range(3):
        began = time.process_time()
        planner.plan(one)
        seconds.append(time.process_time() - began)
    gap = float((reached / world.optimal_energy(start, HORIZON) - 1).max())
    return gap, int(plan.calls.max()), 1000 * sorted(seconds)[1]


def _choices(planner: Planner, seed: int) -> float | None:
    """The worst (J - J*) / J* over starts, J* the best of all 5⁴ sequences of choices."""
    case = replace(draw_case(ActionSpec("discrete", choices=5), STARTS, seed), horizon=4)
    problem = case.problem()
    try:
        plan = planner.plan(problem)
    except PlanningError:
        return None
    if plan.actions.shape[1] < 4:
        return None
    every = torch.tensor(list(itertools.product(range(5), repeat=4)))[None, :, :, None].expand(STARTS, -1, -1, -1)
    cost = problem.costs[0]

    def energy(actions: torch.Tensor) -> torch.Tensor:
        return cost.energy(problem.model.imagine(problem.belief, actions), actions, problem.task).sum(2)

    best = energy(every).amin(1)
    return float(((energy(plan.actions[:, None])[:, 0] - best) / best).max())


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


def _table(found: dict[str, Found]) -> Table:
    rows = []
    for tag, one in found.items():
        values = {
            "gap": _hundred(one.lqr_gap), "plain": _hundred(one.lqr_gap_default), "choices": _hundred(one.choices_gap),
            "calls": one.calls, "ms": one.milliseconds, "cases": one.tally.cases, "outside": one.tally.outside,
            "dependent": one.tally.dependent, "broken": one.tally.broken,
        }
        figures = {key: Figure(value=float(value)) for key, value in values.items() if value is not None}
        rows.append(Row(label=tag, kind="agent", figures=figures))
    return Table(
        name="planners", title="Planners against exact answers and random cases",
        columns=(
            Column(key="gap", title="above Riccati", unit="%", better="lower", target=1.0),
            Column(key="plain", title="as it comes", unit="%", better="lower"),
            Column(key="choices", title="above the best choices", unit="%", better="lower"),
            Column(key="calls", title="calls", better="lower"),
            Column(key="ms", title="decision", unit="CPU ms", better="lower"),
            Column(key="cases", title="cases"),
            Column(key="outside", title="out of bounds", better="lower", target=0.0),
            Column(key="dependent", title="changed by neighbours", better="lower", target=0.0),
            Column(key="broken", title="guardrails broken", better="lower", target=0.0),
        ),
        rows=tuple(rows),
        protocol={"riccati": f"double integrator, {STARTS} starts, horizon {HORIZON}, worst start",
                  "effort": ", ".join(EFFORT), "cases": f"batches of 1 to {LARGEST}, each planned twice"},
        notes=("Energies are worst cases over starts. Planners that decide step by step have no plan of 10 to judge.",),
    )


def _hundred(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _percent(share: float | None) -> str:
    return "not asked" if share is None else f"{100 * share:.2g}%"


def _draw(found: dict[str, Found]) -> bytes:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(7, 3.6), layout="constrained")
    axes = canvas.subplots()
    for tag, one in found.items():
        if one.lqr_gap_default is not None and one.calls:
            gap = max(100 * one.lqr_gap_default, 1e-4)
            axes.loglog(one.calls, gap, "o", color="#0072b2")
            axes.annotate(tag, (one.calls, gap), xytext=(6, 3), textcoords="offset points", fontsize="small")
    axes.axhline(1, color="#555555", linewidth=0.8, linestyle="--")
    axes.margins(x=0.25, y=0.15)
    axes.set_xlabel("predictor calls a decision")
    axes.set_ylabel("above the optimum, %")
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()
