"""Collapse gauges of a whole training as a table, with the advice in words where they fell. Measures nothing.

Knows gauges by their names in a run's metrics, and what advises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from steersman.runs.artefacts import Column, Figure, Row, Table
from steersman.training.advice import FEW, STATIC, Objectives, advise, flat

NAME = "collapse"
"""The table of this name stands in the report's section on training."""

_GAUGES = {
    "std_mean": "spread of a feature, mean",
    "std_least": "spread of a feature, least",
    "rank_share": "effective rank, as a share of the features",
    "within_share": "variance inside windows, as a share of all",
}


def collapse_table(
    metrics: Sequence[Mapping[str, Any]], objectives: Objectives, acted: bool = True
) -> Table | None:
    """The gauges of a run's metrics and what to change where they fell; None where none was measured.

    acted  whether somebody acts in the log, see `advise`
    """
    measured = [(int(row["step"]), found) for row in metrics if (found := _gauges(row))]
    if not measured:
        return None
    bars = {"std_mean": flat(objectives), "rank_share": FEW, "within_share": STATIC}
    rows = [_row(title, name, measured, bars.get(name)) for name, title in _GAUGES.items()
            if any(name in found for _, found in measured)]
    return Table(
        name=NAME, title="Has the latent collapsed?", rows=tuple(rows),
        columns=(
            Column(key="first", title=f"at step {measured[0][0]:,}"), Column(key="least", title="at its lowest"),
            Column(key="when", title="which was at step", form="count"),
            Column(key="last", title=f"at step {measured[-1][0]:,}"), Column(key="bar", title="collapsed below"),
        ),
        caption="Measured on the batches of the training. A falling loss says nothing about them: the easiest way to "
                "predict a state is to let all states be the same.",
        notes=tuple(_sentences(measured, objectives, acted)),
    )


def _gauges(row: Mapping[str, Any]) -> dict[str, float]:
    """The finite ones of one line of the metrics."""
    found = {name.removeprefix("gauge/"): value for name, value in row.items() if name.startswith("gauge/")}
    return {name: float(value) for name, value in found.items()
            if isinstance(value, (int, float)) and math.isfinite(value)}


def _row(title: str, name: str, measured: Sequence[tuple[int, dict[str, float]]], bar: float | None) -> Row:
    known = [(found[name], step) for step, found in measured if name in found]
    least, when = min(known)
    ends = {"first": measured[0][1].get(name), "last": measured[-1][1].get(name), "least": least, "bar": bar}
    return Row(label=title, figures={key: Figure(value=value) for key, value in ends.items()} | {
        "when": Figure(value=when)})


def _sentences(
    measured: Sequence[tuple[int, dict[str, float]]], objectives: Objectives, acted: bool
) -> list[str]:
    """One for each stretch of the training in which the same had gone wrong, and how it ended."""
    stretches: list[tuple[str, str, int, int]] = []
    for step, found in measured:
        advice = advise(found, objectives, acted)
        seen, do = ("", "") if advice is None else (advice.seen, advice.do)
        if stretches and stretches[-1][0] == seen:
            stretches[-1] = (seen, do, stretches[-1][2], step)
        else:
            stretches.append((seen, do, step, step))
    told = []
    for i, (seen, do, first, last) in enumerate(stretches):
        when = f"At step {first:,}" if first == last else f"From step {first:,} to {last:,}"
        if seen:
            told.append(f"{when}: {seen}. " + (f"Against it: {do}." if i == len(stretches) - 1 else "It passed."))
    return told or ["No gauge fell below its bar: nothing collapsed."]
