"""Corrected by what happens: a world changes under an agent, the agent is surprised, and its model follows.

What is measured, from the same starts each time: the figure before; in the changed world without correction; after at
most 60 decisions lived there with correction; and in the old world, when it has returned and as many decisions were
lived in it: `correction_pendulum`. And margins of guardrails in a changed world: `correction_margins`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from steersman.evidence import correction_margins as margins
from steersman.evidence import correction_pendulum as pendulum
from steersman.evidence.cell import Cell, Outcome, Results
from steersman.evidence.correction_trial import Corrected
from steersman.runs.artefacts import Column, Figure, Row, Table

SEEDS = 3


def cells(seed: int) -> tuple[Cell, ...]:
    """Three training seeds of each."""
    return (*(Cell("pendulum", pendulum.perform, 280, seed + i, pendulum.Sizes()) for i in range(SEEDS)),
            *(Cell("margins", margins.perform, 120, seed + i, margins.Sizes()) for i in range(SEEDS)))


def summary(results: Results) -> Outcome:
    """Every seed of each, one number a seed."""
    figures: dict[str, dict[str, Any]] = {}
    rows: dict[str, list[Row]] = {"pendulum": [], "margins": []}
    for one in results:
        row = one.cell.row
        found = one.record(Corrected).figures() if row == "pendulum" else msgspec.to_builtins(
            one.record(margins.Followed))
        for name, value in found.items():
            figures.setdefault(row, {}).setdefault(name, []).append(value)
        rows[row].append(Row(label=f"seed {one.cell.seed}", figures={
            name: Figure(value=value) for name, value in found.items() if value is not None}))
    made = (_corrected(rows["pendulum"]), _followed(rows["margins"]))
    return Outcome(figures, tuple(table for table in made if table.rows))


def _corrected(rows: list[Row]) -> Table:
    return Table(
        name="correction", title="A pendulum weighs half as much again, and the agent follows",
        columns=(
            Column(key="before", title="before", better="higher"),
            Column(key="shifted", title="changed, uncorrected", better="higher"),
            Column(key="recovered", title="corrected", better="higher"),
            Column(key="old_again", title="old world again", better="higher"),
            Column(key="lost", title="lost of what is possible", form="share", better="lower", target=0.1),
            Column(key="lost_again", title="lost in the old world", form="share", better="lower", target=0.05),
            Column(key="decisions", title="decisions to the last update", form="count", target=60.0),
            Column(key="false_alarms", title="false alarms", form="share", better="lower"),
        ),
        rows=tuple(rows),
        notes=("What is possible changes with a world, too: `lost` compares what is reached with the most that the "
               "true equations allow in the changed world, as `before` compares in the old one.",
               "False alarms: share of undisturbed decisions at which surprise stood above its threshold."),
    )


def _followed(rows: list[Row]) -> Table:
    titles = {"stated": "stated", "before": "calibrated", "shifted": "calibrated, drag halved",
              "followed_before": "following", "followed": "following, drag halved",
              "followed_late": "the last half of that", "followed_again": "following, old world again"}
    return Table(
        name="margins", title="Hazards: windows within margins, where the drag halves and the model stays",
        columns=(*(Column(key=name, title=title, form="share") for name, title in titles.items()),
                 Column(key="factor", title="widened by"), Column(key="factor_again", title="at the end")),
        rows=tuple(rows),
    )
