"""How much data: the score of the recipe for cameras against the length of its log, beside the doctor's forecast."""

from __future__ import annotations

import statistics
from typing import Any

import msgspec
import torch

from steersman import training
from steersman.data import Dataset
from steersman.evidence import filmed
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.drawing import canvas, picture
from steersman.evidence.filmed import Scored
from steersman.evidence.pixels import WORLDS
from steersman.recipes import pixels
from steersman.runs.artefacts import Column, Figure, Row, Table

SEEDS, SHARES = 3, (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
STUDIED = ("pendulum", "two-rooms", "arm")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One training on the first `share` of a log's episodes; steps, episodes: as in `pixels.Settings`."""

    world: str
    share: float
    steps: int | None = None
    episodes: int | None = None


def cells(
    seed: int, worlds: tuple[str, ...] = STUDIED, steps: int | None = None, episodes: int | None = None
) -> tuple[Cell, ...]:
    """For each world and seed one log, and a training on each part of it."""
    found = []
    for world in (name for name in worlds if name in WORLDS):
        for i in range(SEEDS):
            log = Cell(f"{world}/log", filmed.record, 300, seed + i, WORLDS[world], usual=False)
            for share in SHARES:
                settings = Settings(world=world, share=share, steps=steps, episodes=episodes)
                found.append(Cell(f"{world}/{share:g}", perform, 360, seed + i, settings, (log,),
                                  usual=i == 0 and world == "pendulum" and share in (SHARES[0], SHARES[2])))
    return tuple(found)


def perform(context: Context) -> Found:
    """Train on the first part of the log as long as on all of it, and act."""
    (log,), settings = context.needs, context.settings
    given = {} if settings.steps is None else {"steps": settings.steps}
    whole = Dataset.open(log.folder / "log")
    some = whole.subset(torch.arange(max(1, round(settings.share * len(whole)))))
    config = training.settled(pixels.recipe(seed=context.seed, **given), whole)
    learned = filmed.learn(context, config, log.folder, dataset=some)
    found = filmed.judge(context, learned, log.folder, WORLDS[settings.world].protocol, settings.episodes)
    context.say(f"{settings.world}, {some.steps:,} steps, seed {context.seed}: {found.score:.3g}")
    return Found({f"{settings.world}/{settings.share:g}": {"score": found.score, "steps": some.steps}}, found)


def summary(results: Results) -> Outcome:
    """{world/share: score, steps, random}: means over seeds."""
    figures: dict[str, dict[str, Any]] = {}
    for world in WORLDS:
        for share in SHARES:
            row = f"{world}/{share:g}"
            found = results.of(row)
            if found:
                known = [one.record(Scored) for one in found]
                floors = [one.random for one in known if one.random is not None]
                figures[row] = {
                    "score": statistics.fmean(one.score for one in known), "scores": [one.score for one in known],
                    "steps": found[0].kept.figures[row]["steps"],
                    "random": statistics.fmean(floors) if floors else None,
                    "decoded_ratio": statistics.fmean(one.decoded_ratio or 0.0 for one in known),
                }
    if not figures:
        return Outcome({})
    shown = picture(_draw(figures), "curve", "How much data", "score against the length of the log in each world",
                    "One line a world; dashed: the strongest policy that looks at nothing.")
    return Outcome(figures, (_table(figures),), (shown,))


def _table(figures: dict[str, dict[str, Any]]) -> Table:
    columns = (Column(key="steps", title="logged steps", form="count"), Column(key="score", title="score"),
               Column(key="random", title="looking at nothing"), Column(key="decoded_ratio", title="decoded error"))
    rows = tuple(
        Row(label=f"{float(name.split('/')[1]):.0%}", kind="agent", group=name.split("/")[0],
            figures={column.key: Figure(value=found[column.key]) for column in columns})
        for name, found in figures.items())
    return Table(name="data", title="How much data", columns=columns, rows=rows,
                 notes=("Every training has the same number of optimiser steps.",))


def _draw(figures: dict[str, dict[str, Any]]) -> Any:
    worlds = list(dict.fromkeys(name.split("/")[0] for name in figures))
    drawn, axes = canvas(3.2 * len(worlds), 3, 1, len(worlds), squeeze=False)
    for axis, world in zip(axes[0], worlds, strict=True):
        points = [found for name, found in figures.items() if name.startswith(f"{world}/")]
        axis.semilogx([point["steps"] for point in points], [point["score"] for point in points], "o-", color="#0072b2")
        if points[0]["random"] is not None:
            axis.axhline(points[0]["random"], color="#999999", linestyle="--", linewidth=0.8)
        axis.set_title(world)
        axis.set_xlabel("logged steps")
    return drawn
