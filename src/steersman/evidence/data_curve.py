"""How much data: the score of the recipe for cameras against the length of its log, beside the doctor's forecast.

The doctor tells how much of the actions the pictures show (R², before any training) on nested parts of the log, and
guesses what more of it would show; the guess from the first quarter stands beside what the whole log then shows.
Knows the recipe by the configuration that it returns.
"""

from __future__ import annotations

import statistics
from typing import Any

import msgspec
import torch

from steersman import training
from steersman.data import Dataset, examine_cameras
from steersman.data.doctor.growth import SHARES
from steersman.data.doctor.report import Growth
from steersman.evidence import filmed
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.drawing import canvas, picture
from steersman.evidence.filmed import Scored
from steersman.evidence.pixels import WORLDS
from steersman.evidence.seeds import mean
from steersman.recipes import pixels
from steersman.runs.artefacts import Column, Figure, Row, Table

SEEDS, QUARTER = 3, 1 / 4
"""Seeds, and the part of the log whose forecast for longer ones is held against them. Trainings have the doctor's
parts, `SHARES`."""
STUDIED = ("pendulum", "two-rooms", "arm")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One training on the first `share` of a log's episodes; steps, episodes: as in `pixels.Settings`."""

    world: str
    share: float
    steps: int | None = None
    episodes: int | None = None


class Forecast(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the doctor says of the whole log and of its first quarter; None: nothing shows, or too little to say."""

    whole: Growth | None
    quarter: Growth | None


def cells(
    seed: int, worlds: tuple[str, ...] = STUDIED, steps: int | None = None, episodes: int | None = None
) -> tuple[Cell, ...]:
    """For each world and seed one log, the doctor's forecast, and a training on each part of it."""
    found = []
    for world in (name for name in worlds if name in WORLDS):
        for i in range(SEEDS):
            log = Cell(f"{world}/log", filmed.record, 300, seed + i, WORLDS[world], usual=False)
            usual = i == 0 and world == "pendulum"
            found.append(Cell(f"{world}/forecast", forecast, 240, seed + i, None, (log,), usual=usual))
            for share in SHARES:
                settings = Settings(world=world, share=share, steps=steps, episodes=episodes)
                found.append(Cell(f"{world}/{share:g}", perform, 360, seed + i, settings, (log,),
                                  usual=usual and share in (SHARES[0], SHARES[2])))
    return tuple(found)


def forecast(context: Context) -> Found:
    """Have the doctor look at the whole log and at its first quarter."""
    (log,) = context.needs
    whole = Dataset.open(log.folder / "log")
    grown = [None if seen is None else seen.growth for seen in (
        examine_cameras(part, growth=True).visibility for part in (whole, _first(whole, QUARTER)))]
    for growth in grown:
        context.say("too little to say" if growth is None else growth.words)
    return Found(record=Forecast(*grown))


def _first(whole: Dataset, share: float) -> Dataset:
    """The first `share` of a log's episodes, at least one."""
    return whole.subset(torch.arange(max(1, round(share * len(whole)))))


def perform(context: Context) -> Found:
    """Train on the first part of the log as long as on all of it, in the model steps that this asks for, and act."""
    (log,), settings = context.needs, context.settings
    given = {} if settings.steps is None else {"steps": settings.steps}
    whole = Dataset.open(log.folder / "log")
    some = _first(whole, settings.share)
    config = training.settled(pixels.recipe(seed=context.seed, **given), whole)
    learned = filmed.learn(context, config, log.folder, dataset=some)
    found = filmed.judge(context, learned, log.folder, WORLDS[settings.world].protocol, settings.episodes,
                         dataset=some)
    context.say(f"{settings.world}, {some.steps:,} steps, seed {context.seed}: {found.score:.3g}")
    return Found({f"{settings.world}/{settings.share:g}": {"score": found.score, "steps": some.steps}}, found)


def summary(results: Results) -> Outcome:
    """{world/share: score, steps, random, told, told_error, forecast, …}: means over seeds.

    told: R² of the actions by the pictures in that part of the log; forecast: the doctor's guess of it from the first
    quarter. Below the table: what the doctor says of each log.
    """
    figures: dict[str, dict[str, Any]] = {}
    for world in WORLDS:
        for share in SHARES:
            row = f"{world}/{share:g}"
            found = results.of(row)
            if found:
                known = [one.record(Scored) for one in found]
                figures[row] = {
                    "score": statistics.fmean(one.score for one in known), "scores": [one.score for one in known],
                    "steps": mean(one.kept.figures[row]["steps"] for one in found),
                    "random": mean(one.random for one in known),
                    "decoded_ratio": mean(one.decoded_ratio for one in known), **_forecast(results, world, share),
                }
    if not figures:
        return Outcome({})
    shown = picture(_draw(figures), "curve", "How much data", "score against the length of the log in each world",
                    "One line a world; dashed: the strongest policy that looks at nothing.")
    return Outcome(figures, (_table(figures, _words(results)),), (shown,))


def _forecast(results: Results, world: str, share: float) -> dict[str, float | None]:
    """What the doctor says of a part of the log, from all of it and from its first quarter; means over seeds."""
    known = [one.record(Forecast) for one in results.of(f"{world}/forecast")]
    whole, quarter = [one.whole for one in known if one.whole], [one.quarter for one in known if one.quarter]
    i, more = SHARES.index(share), f"{share / QUARTER:g}"
    guesses = [one.more[more] for one in quarter if more in one.more]
    return {
        "told": mean(one.told[i] for one in whole), "told_error": mean(one.error[i] for one in whole),
        "forecast": mean(guess for guess, _, _ in guesses), "forecast_low": mean(low for _, low, _ in guesses),
        "forecast_high": mean(high for _, _, high in guesses),
    }


def _words(results: Results) -> list[str]:
    """What the doctor says of each log."""
    found = [(f"{world}, seed {one.cell.seed}", one.record(Forecast).whole)
             for world in WORLDS for one in results.of(f"{world}/forecast")]
    return [f"{name}: {'too little to say' if growth is None else growth.words}." for name, growth in found]


def _table(figures: dict[str, dict[str, Any]], words: list[str]) -> Table:
    columns = (Column(key="steps", title="logged steps", form="count"), Column(key="score", title="score"),
               Column(key="random", title="looking at nothing"), Column(key="decoded_ratio", title="decoded error"),
               Column(key="told", title="doctor"), Column(key="forecast", title="its forecast"))
    rows = tuple(
        Row(label=f"{float(name.split('/')[1]):.0%}", kind="agent", group=name.split("/")[0],
            figures={column.key: Figure(value=found[column.key]) for column in columns})
        for name, found in figures.items())
    return Table(name="data", title="How much data", columns=columns, rows=rows,
                 notes=("Every training has the same number of optimiser steps.",
                        "Doctor: R² of the actions by the pictures, without a training; forecast: guessed from the "
                        "first quarter of the log.", *words))


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
