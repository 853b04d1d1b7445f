"""World models from pixels by the general recipe: what each world comes to, beside what it must be held against.

Where more is asked than one picture tells (the acrobot, the cart pole) or an arm of several joints moves, a second
training over what a read-out reads follows (`recipes.read`), and the seconds are those of both. The pendulum's latents
hold its speed: it came to less so (LOG.md), and does without. What is read off the cart pole and the arm is read off
small patches by a read-out that finds places (`--patches`), which needs no first training; so are two rooms, whose
patches the world model foresees as they are. Columns that are read badly, as speeds are that no single picture shows,
do not become part of the state.

Where layouts change from episode to episode the recipe takes pictures by their tiles (`--tiles`); what it is held
against always takes them as they are.

A row for each world: the score of the recipe over its seeds, of the strongest policy that looks at nothing, of a twin
that predicts pixels with the same encoder, predictor and planner in as many CPU-seconds, and of an encoder that never
learned.
"""

from __future__ import annotations

import statistics
from typing import Any

import msgspec

from steersman import training
from steersman.data import Dataset
from steersman.evidence import filmed
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.drawing import canvas, picture
from steersman.evidence.filmed import Log, Scored
from steersman.evidence.seeds import mean
from steersman.objectives import PixelPrediction, Prediction
from steersman.recipes import pixels
from steersman.runs import Run
from steersman.runs.artefacts import Column, Figure, Row, Table
from steersman.training import ParameterLevel, TrainConfig

SEEDS = 3
WORLDS: dict[str, Log] = {
    "pendulum": Log(protocol="pendulum-pixels"),
    "pendulum-by-picture": Log(protocol="pendulum-pixels-by-picture"),
    "cartpole": Log(protocol="cartpole-pixels", episodes=800, read=True, patches=4),
    "acrobot": Log(protocol="acrobot-pixels", read=True),
    "mountain-car": Log(protocol="mountain-car-pixels"),
    "push-t": Log(protocol="push-t", read=True, patches=4),
    "empty-8x8": Log(protocol="empty-8x8"),
    "door-key-6x6": Log(protocol="door-key-6x6", tiles=True),
    "simple-crossing": Log(protocol="simple-crossing", tiles=True),
    "arm": Log(protocol="arm", read=True, patches=4, far=1.0),
    "arm-by-picture": Log(protocol="arm-picture"),
    "two-rooms": Log(protocol="held-out", log="two-rooms", episodes=1000, patches=4, acted=20),
    "reacher": Log(protocol="reacher-pixels"),
}
"""World -> what is recorded there."""
AGAIN = {"pendulum-by-picture": "pendulum", "arm-by-picture": "arm"}
"""World with another goal -> the world whose log and trainings are judged once more."""
USUAL = ("pendulum", "pendulum-by-picture")
METHODS = ("ours", "pixel_twin", "untrained")
PATCHED_STEPS = 750
"""Optimiser steps of a world model of patches: about three minutes on a core. Beneath a second training there is
nothing to learn, and one step is made."""
TWIN_SECONDS = 240.0
"""CPU-seconds of the pixel twin's training: about as many as the recipe takes on a core; decoding costs it steps."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One training.

    world, method  keys of `WORLDS` and `METHODS`
    steps          optimiser steps; None: the recipe's
    episodes       acted in; None: the protocol's
    """

    world: str
    method: str = "ours"
    steps: int | None = None
    episodes: int | None = None


def cells(
    seed: int, worlds: tuple[str, ...] = tuple(WORLDS), steps: int | None = None, episodes: int | None = None,
) -> tuple[Cell, ...]:
    """For each world and seed a log, and a training by each method; where only the goal is another, the same again."""
    found = []
    for world in worlds:
        trained = AGAIN.get(world, world)
        for i in range(SEEDS):
            usual = trained in USUAL and i == 0
            log = Cell(f"{trained}/log", filmed.record, 300, seed + i, WORLDS[trained], usual=usual)
            for method in METHODS:
                settings = Settings(world=trained, method=method, steps=steps, episodes=episodes)
                cell = Cell(f"{trained}/{method}", perform, 360, seed + i, settings, (log,), usual=usual)
                if world != trained:
                    cell = Cell(f"{world}/{method}", again, 120, seed + i,
                                Settings(world=world, method=method, episodes=episodes), (log, cell),
                                usual=usual and world in USUAL and method == "ours")
                found.append(cell)
    return tuple(found)


def perform(context: Context) -> Found:
    """Train by one method, fit the read-out on a few labels, act."""
    (log,), settings = context.needs, context.settings
    given = {} if settings.steps is None else {"steps": settings.steps}
    dataset = Dataset.open(log.folder / "log")
    world, ours = WORLDS[settings.world], settings.method == "ours"
    tiles, patches = ours and world.tiles, world.patches if ours else 0
    if patches and (world.read or not given):
        given = {"steps": 1 if world.read else PATCHED_STEPS}
    config = method(pixels.recipe(seed=context.seed, tiles=tiles, patches=patches, **given), settings.method)
    if settings.method == "pixel_twin" and settings.steps is None:
        config = filmed.within(training.settled(config, dataset), dataset, TWIN_SECONDS)
    learned = filmed.learn(context, config, log.folder)
    if world.read and ours:
        learned = filmed.learn_read(context, learned, log.folder, seed=context.seed)
    episodes = settings.episodes or world.acted or None
    found = filmed.judge(context, learned, log.folder, world.protocol, episodes, far=world.far,
                         searched=tiles or (patches > 0 and not world.read))
    context.say(f"{settings.world}, {settings.method}, seed {context.seed}: {found.score:.3g} (random "
                f"{found.random or 0:.3g}), {found.seconds:.0f} s of training")
    return Found({settings.world: {settings.method: found.score}}, found)


def again(context: Context) -> Found:
    """What was trained already, towards another goal."""
    (log, before), settings = context.needs, context.settings
    last = "read" if WORLDS[settings.world].read and settings.method == "ours" else "run"
    learned = Run.open(before.folder / last), before.record(Scored).seconds, before.record(Scored).cpu
    protocol = WORLDS[settings.world].protocol
    found = filmed.judge(context, learned, log.folder, protocol, settings.episodes)
    return Found({settings.world: {settings.method: found.score}}, found)


def method(config: TrainConfig, name: str) -> TrainConfig:
    """The recipe's configuration, or what it is held against: a twin that predicts pixels instead of latents; an
    encoder as it was drawn, under a world model that learns."""
    if name == "pixel_twin":
        return msgspec.structs.replace(config, objectives=(PixelPrediction.Config(size=32),))
    if name == "untrained":
        frozen = ParameterLevel(name="perception", modules=("perception",), every=0)
        learned = ParameterLevel(name="world model", modules=("world_model",))
        return msgspec.structs.replace(config, objectives=(Prediction.Config(),), levels=(frozen, learned))
    return config


def summary(results: Results) -> Outcome:
    """{world: score, worst, random, pixel_twin, untrained, seconds, decoded_ratio}: means over seeds, but for the worst
    episode and the longest training; `score_by_seed` tells the seeds apart."""
    figures: dict[str, dict[str, Any]] = {}
    for world in WORLDS:
        of = {name: [one.record(Scored) for one in results.of(f"{world}/{name}")] for name in METHODS}
        ours = of["ours"]
        if not ours:
            continue
        figures[world] = {
            "score": statistics.fmean(one.score for one in ours), "worst": min(one.worst for one in ours),
            "random": mean(one.random for one in ours), "score_by_seed": [one.score for one in ours],
            "upright": [one.wins for one in ours], "episodes": ours[0].n,
            "pixel_twin": mean(one.score for one in of["pixel_twin"]),
            "untrained": mean(one.score for one in of["untrained"]),
            "seconds": max(one.seconds for one in ours), "cpu_seconds": max(one.cpu for one in ours),
            "decoded_ratio": mean(one.decoded_ratio for one in ours),
            "read": {name: min(one.read[name] for one in ours) for name in ours[0].read},
        }
    if not figures:
        return Outcome({})
    shown = picture(_draw(figures), "scores", "What each world comes to",
                    "score of the recipe, of its pixel twin and of an untrained encoder in each world",
                    "From the strongest policy that looks at nothing (0) to the recipe (1).")
    return Outcome(figures, (_table(figures),), (shown,))


def _table(figures: dict[str, dict[str, Any]]) -> Table:
    columns = tuple(Column(key=key, title=title) for key, title in (
        ("score", "score"), ("worst", "worst episode"), ("random", "looking at nothing"), ("pixel_twin", "pixel twin"),
        ("untrained", "untrained"), ("decoded_ratio", "decoded error"), ("seconds", "training (s)")))
    rows = tuple(
        Row(label=world, kind="agent", figures={column.key: Figure(value=found[column.key]) for column in columns})
        for world, found in figures.items())
    return Table(name="worlds", title="World models from pixels", columns=columns, rows=rows, notes=(
        "Score: mean return, or share of goals reached, over all seeds.",
        f"Decoded error: of the columns read off latents imagined {filmed.AHEAD} rows ahead, as a share of that of "
        "columns that stand still."))


def _draw(figures: dict[str, dict[str, Any]]) -> Any:
    drawn, axes = canvas(7, 0.5 * len(figures) + 1)
    for i, found in enumerate(figures.values()):
        low, high = found["random"] or 0.0, found["score"]
        for key, colour in (("score", "#0072b2"), ("pixel_twin", "#d55e00"), ("untrained", "#999999")):
            if found[key] is not None and high != low:
                axes.plot((found[key] - low) / (high - low), i, "o", color=colour, label=key if i == 0 else None)
    axes.set_yticks(range(len(figures)), list(figures))
    axes.axvline(0, color="#999999", linewidth=0.8)
    axes.set_xlabel("share of the way from the floor to the recipe")
    axes.legend(fontsize="x-small")
    return drawn
