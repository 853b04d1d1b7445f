"""Two compared plans as a table, curves and sentences. Computes nothing."""

from __future__ import annotations

import math

from steersman.evaluation.trust_report import horizon_sentence
from steersman.evaluation.what_if import Comparison, Course
from steersman.runs.artefacts import Column, Figure, Line, Lines, Row, Table
from steersman.runs.trust import Trust

NAME = "what-if"
RARE = 0.05
"""A moment is unfamiliar where fewer than this share of the log's own moments lie as far from the rest."""
CAUTION = (
    "A log of a closed loop identifies less than an experiment does: where actions followed the observation, their "
    "effect cannot be told from what would have happened anyway. Before relying on a difference, try it."
)


def sentences(found: Comparison, trust: Trust) -> list[str]:
    """What can be told apart, how familiar the plans are, and what a log cannot tell."""
    ratio, steps = found.ratio, len(found.a.actions)
    told = []
    for i, name in enumerate(found.names):
        apart = (ratio[:, i] > 1).nonzero()[:, 0].tolist()
        if apart:
            gap = float(found.a.values[-1, i] - found.b.values[-1, i])
            told.append(f"{name}: told apart from step {apart[0] + 1} on; at step {steps} the plan is {abs(gap):.3g} "
                        f"{'above' if gap > 0 else 'below'} the other.")
    if not bool(found.bound.isfinite().any()):
        told.append(f"No bounds: {trust.units} held-out {trust.unit}s are too few for {found.level:.0%}. Whether the "
                    "plans differ by more than the model errs is not known.")
    elif not told:
        told.append(f"Within the bounds nothing tells the plans apart in {steps} steps.")
    for label, course in (("plan", found.a), ("other", found.b)):
        told.append(_familiar(label, course))
    told.append(f"Of what was done in the log, {found.follows:.0%} follows from what was observed. {CAUTION}")
    if 0 < trust.horizon < steps:
        told.append(f"Beyond step {trust.horizon} the model was not better than the simplest of predictors.")
    elif not trust.horizon:
        told.append(horizon_sentence(trust))
    return told


def _familiar(label: str, course: Course) -> str:
    rare = (course.familiar < RARE).nonzero()[:, 0].tolist()
    if not rare:
        return f"The {label} stays where the log has been: its least familiar step is usual for " \
               f"{float(course.familiar.min()):.0%} of the log."
    return (f"The {label} leaves what the log knows at step {rare[0] + 1} ({len(rare)} of {len(course.familiar)} "
            "steps): the bounds do not hold there.")


def table(found: Comparison, trust: Trust, words: tuple[str, str]) -> Table:
    """Values of both plans with their bounds, column by column, at a few steps."""
    steps, rows = len(found.a.actions), []
    shown = sorted({1, *(s for s in (2, 5, 10, 20, 50, 100) if s <= steps), steps})
    for i, name in enumerate(found.names):
        for step in shown:
            bound = float(found.bound[step - 1, i])
            figures = {"a": _within(float(found.a.values[step, i]), bound),
                       "b": _within(float(found.b.values[step, i]), bound),
                       "ratio": Figure(value=float(found.ratio[step - 1, i]) if math.isfinite(bound) else None)}
            if found.actual is not None:
                figures["actual"] = Figure(value=float(found.actual[step, i]))
            rows.append(Row(label=f"step {step}", figures=figures, group=name))
    columns = [Column(key="a", title="plan"), Column(key="b", title="other"),
               Column(key="ratio", title="apart, in bounds", better="higher")]
    if found.actual is not None:
        columns.insert(2, Column(key="actual", title="logged"))
    return Table(
        name=NAME, title=f"What if: from episode {found.episode}, row {found.row}", columns=tuple(columns),
        rows=tuple(rows), notes=tuple(sentences(found, trust)),
        protocol={"plan": words[0], "other": words[1], "steps": steps,
                  "bounds": f"{found.level:.0%}, each column at all steps"},
    )


def curves(found: Comparison, words: tuple[str, str]) -> list[Lines]:
    """One chart a column: both plans with their bands, and what was logged."""
    steps = len(found.a.actions)
    x = tuple(float(t) for t in range(steps + 1))
    figures = []
    for i, name in enumerate(found.names):
        bound = [0.0, *found.bound[:, i].tolist()]
        lines = [_line(f"plan: {words[0]}", x, found.a, i, bound, "imagined"),
                 _line(f"other: {words[1]}", x, found.b, i, bound, "other")]
        if found.actual is not None:
            lines.append(Line(label="logged", x=x, y=tuple(found.actual[:, i].tolist()), role="actual"))
        figures.append(Lines(
            name=f"{NAME}-{i}", title=f"{name} from episode {found.episode}, row {found.row}", x_title="step",
            y_title=name, lines=tuple(lines), order=i, caption=f"Bands: {found.level:.0%}, at all steps of one plan."))
    return figures


def facts(found: Comparison, trust: Trust) -> dict[str, object]:
    """The same for machines."""
    def course(c: Course) -> dict[str, object]:
        values = {name: c.values[1:, i].tolist() for i, name in enumerate(found.names)}
        return {"actions": c.actions.tolist(), "values": values, "familiar": c.familiar.tolist()}

    return {
        "episode": found.episode, "row": found.row, "steps": len(found.a.actions), "level": found.level,
        "plan": course(found.a), "other": course(found.b),
        "bound": {name: found.bound[:, i].tolist() for i, name in enumerate(found.names)},
        "apart": {name: (found.ratio[:, i] > 1).tolist() for i, name in enumerate(found.names)},
        "logged": None if found.actual is None else
        {name: found.actual[1:, i].tolist() for i, name in enumerate(found.names)},
        "follows": found.follows, "trusted_horizon": trust.horizon, "sentences": sentences(found, trust),
    }


def _within(value: float, bound: float) -> Figure:
    return Figure(value=value, low=value - bound, high=value + bound) if math.isfinite(bound) else Figure(value=value)


def _line(label: str, x: tuple[float, ...], course: Course, i: int, bound: list[float], role: str) -> Line:
    y = course.values[:, i].tolist()
    if not all(map(math.isfinite, bound)):
        return Line(label=label, x=x, y=tuple(y), role=role)  # type: ignore[arg-type]
    low, high = ([v + sign * w for v, w in zip(y, bound, strict=True)] for sign in (-1, 1))
    return Line(label=label, x=x, y=tuple(y), low=tuple(low), high=tuple(high), role=role)  # type: ignore[arg-type]
