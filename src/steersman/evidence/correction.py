"""Corrected by what happens: a world changes under an agent, the agent is surprised, and its model follows.

What is measured, from the same starts each time: the figure before; in the changed world without correction; after at
most 60 decisions lived there with correction; and in the old world, when it has returned and as many decisions were
lived in it. Which world, how it changes and what its figure is: `correction_pendulum`, `correction_hazards`.
"""

from __future__ import annotations

from typing import Any

from steersman.evidence import correction_pendulum as pendulum
from steersman.evidence.cell import Cell, Outcome, Results
from steersman.evidence.correction_trial import Corrected
from steersman.runs.artefacts import Column, Figure, Row, Table

SEEDS = 3


def cells(seed: int) -> tuple[Cell, ...]:
    """Three training seeds of each world."""
    return tuple(Cell("pendulum", pendulum.perform, 300, seed + i, pendulum.Sizes()) for i in range(SEEDS))


def summary(results: Results) -> Outcome:
    """Every seed of every world, and each world's mean and worst."""
    figures: dict[str, dict[str, Any]] = {}
    rows: list[Row] = []
    for one in results:
        found, world = one.record(Corrected), one.cell.row
        entry = figures.setdefault(world, {})
        for name, value in found.figures().items():
            entry.setdefault(name, []).append(value)
        rows.append(Row(label=f"seed {one.cell.seed}", group=world, figures={
            name: Figure(value=value) for name, value in found.figures().items() if value is not None}))
    table = Table(
        name="correction", title="A world changes, and the agent follows",
        columns=(
            Column(key="before", title="before", better="higher"),
            Column(key="shifted", title="changed, uncorrected", better="higher"),
            Column(key="recovered", title="corrected", better="higher"),
            Column(key="old_again", title="old world again", better="higher"),
            Column(key="lost", title="lost of what is possible", form="share", better="lower", target=0.1),
            Column(key="lost_again", title="lost in the old world", form="share", better="lower", target=0.05),
            Column(key="decisions", title="decisions to the last update", form="count", target=60.0),
            Column(key="false_alarms", title="false alarms", form="share", better="lower"),
            Column(key="certificates", title="certificates held", form="share", better="higher"),
        ),
        rows=tuple(rows),
        notes=("What is possible changes with a world, too: `lost` compares what is reached with the most that the "
               "true equations allow in the changed world, as `before` compares in the old one.",
               "False alarms: share of undisturbed decisions at which surprise stood above its threshold."),
    )
    return Outcome(figures, (table,))
