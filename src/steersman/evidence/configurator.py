"""What a task's token changes: the same frame, two tasks, and what can be read off each latent, beside no token.

Two discs wander, each for itself, before a transformer whose state is as wide as one place. With tokens it is asked for
one disc or the other, window by window, and its state must hold what is asked for and no more. Beside it: the same
encoder as it was drawn; without tokens, of the same width, which has to share it between both; and without tokens, of
twice the width, which holds both.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman import training
from steersman.agent import AgentConfig, load_parts
from steersman.core import ColumnGoal, Perception, Task, TaskSettings
from steersman.data import Dataset
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.drawing import canvas, picture
from steersman.evidence.futures import recorded
from steersman.evidence.seeds import mean
from steersman.objectives import AskedColumns
from steersman.perception import MLPReadout, ViTEncoder
from steersman.runs import Run
from steersman.runs.artefacts import Column, Figure, Row, Table
from steersman.training import TrainConfig
from steersman.worlds import Wanderers

SEEDS = 3
FILM = Wanderers()
TASKS = tuple(FILM.factors)
NONE = "none"
METHODS = ("tokens", "untrained", "without", "without-twice-as-wide")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One training, and how its latents are read.

    method    of `METHODS`
    episodes  films that are trained on
    steps     optimiser steps
    labelled  films that probes are fitted to; tested: films that they are tested on; read: steps of a probe's fit
    """

    method: str = "tokens"
    episodes: int = 200
    steps: int = 600
    labelled: int = 100
    tested: int = 50
    read: int = 600


class Read(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """R² of each disc's place, by task: task -> disc -> R² on films that no training and no probe has seen."""

    r2: dict[str, dict[str, float]]
    size: int
    seconds: float


def cells(seed: int, steps: int = 600) -> tuple[Cell, ...]:
    """For each seed every method."""
    return tuple(Cell(method, perform, 60, i, Settings(method=method, steps=steps))
                 for i in range(seed, seed + SEEDS) for method in METHODS)


def recipe(settings: Settings, seed: int) -> TrainConfig:
    """A small vision transformer on single frames, asked for the places of the discs."""
    tokens = settings.method in ("tokens", "untrained")
    width = 2 * len(FILM.factors["red"]) if settings.method == "without-twice-as-wide" else len(FILM.factors["red"])
    perception = ViTEncoder.Config(patch=4, width=64, depth=3, heads=4, hidden=128, size=width,
                                   tasks=TASKS if tokens else ())
    asked = AskedColumns.Config(tasks=dict(FILM.factors) if tokens else {}, always=FILM.columns)
    return TrainConfig(
        agent=AgentConfig(perception=perception), objectives=(asked,), window=0, batch_size=64, lr=2e-3, warmup=100,
        steps=1 if settings.method == "untrained" else settings.steps, gauge_every=0, probe=False, seed=seed)


def perform(context: Context) -> Found:
    """Train, then read both discs off the latents of each task."""
    settings: Settings = context.settings
    log = recorded(FILM, context.folder / "log", settings.episodes, FILM.recorded[1], 1000 + context.seed)
    began = time.process_time()
    perception, seconds = _learned(context, log), time.process_time() - began
    generator = torch.Generator().manual_seed(5000 + context.seed)
    labelled, tested = (FILM.filmed(count, 8, generator) for count in (settings.labelled, settings.tested))
    names = (*TASKS, NONE) if perception.tasks else (NONE,)
    r2 = {name: _read(perception, name, labelled.pictures, labelled.factors, tested.pictures, tested.factors, context)
          for name in names}
    context.say(f"{settings.method}, seed {context.seed}: " + "; ".join(
        f"{name}: " + ", ".join(f"{disc} {value:.3f}" for disc, value in found.items()) for name, found in r2.items())
        + f"; {seconds:.0f} s")
    record = Read(r2=r2, size=perception.latent_shape[0], seconds=seconds)
    return Found({settings.method: {f"{name}/{disc}": value for name, found in r2.items()
                                    for disc, value in found.items()}}, record)


def _learned(context: Context, log: Dataset) -> Perception:
    """The perception after training; as it was drawn where the method says so."""
    settings: Settings = context.settings
    config = recipe(settings, context.seed)
    if settings.method == "untrained":
        torch.manual_seed(context.seed)
        return config.agent.perception.build(log.signature).eval()
    with training.create_run(context.folder / "run", config, log, recipe="configurator") as run:
        training.train(config, log, run, progress=context.progress)
    return load_parts(Run.open(context.folder / "run")).parts.perception


def _read(
    perception: Perception, name: str, pictures: Tensor, truth: Tensor, tested: Tensor, tested_truth: Tensor,
    context: Context,
) -> dict[str, float]:
    """Disc -> R² of its place, read by a perceptron off the latents of one task."""
    probe = MLPReadout.Config(hidden=(64, 64), steps=context.settings.read).build(
        FILM.columns, perception.latent_shape)
    probe.fit(encoded(perception, name, pictures), truth.flatten(0, 1), context.seed)
    with torch.no_grad():
        gap = probe.read(encoded(perception, name, tested)) - tested_truth.flatten(0, 1)
    share = gap.square().mean(0) / tested_truth.flatten(0, 1).var(0, correction=0)
    return {disc: float(1 - share[[FILM.columns.index(c) for c in columns]].mean())
            for disc, columns in FILM.factors.items()}


@torch.no_grad()
def encoded(perception: Perception, name: str, pictures: Tensor) -> Tensor:
    """Films (N, T, …) -> latents (N·T, D) under the task."""
    task = None if name == NONE else Task(ColumnGoal({}), settings=TaskSettings(attend=name))
    return torch.cat([perception.encode({"image": x}, task).state.flatten(0, 1) for x in pictures.split(16)])


def summary(results: Results) -> Outcome:
    """{task: `own_r2`, `other_r2`}, the least and the largest of the seeds, beside `untrained_r2`, the own one's of an
    encoder as it was drawn; {"none": `r2`} of the same encoder when it attends to no task; {"without-…": `r2`, `size`}
    of encoders without tokens. `*_by_seed` tell the seeds apart."""
    of = {method: [one.record(Read) for one in results.of(method)] for method in METHODS}
    figures: dict[str, dict[str, Any]] = {}
    for task in TASKS if of["tokens"] else ():
        other = next(name for name in TASKS if name != task)
        own = [one.r2[task][task] for one in of["tokens"]]
        rest = [one.r2[task][other] for one in of["tokens"]]
        figures[task] = {
            "own_r2": min(own), "other_r2": max(rest), "own_r2_by_seed": own, "other_r2_by_seed": rest,
            "untrained_r2": mean(one.r2[task][task] for one in of["untrained"]), "size": of["tokens"][0].size,
            "seconds": max(one.seconds for one in of["tokens"])}
    shared = {NONE: of["tokens"], "without": of["without"], "without-twice-as-wide": of["without-twice-as-wide"]}
    for row, seeds in shared.items():
        if seeds:
            each = [sum(one.r2[NONE].values()) / len(TASKS) for one in seeds]
            figures[row] = {"r2": mean(each), "r2_by_seed": each, "size": seeds[0].size}
    if not figures:
        return Outcome({})
    shown = picture(_draw(figures), "configurator", "The same frame, two tasks",
                    "R² of the place that a task asks for and of the other one, for each task",
                    "A dot a seed: what can be read off the latent of a frame that is encoded for the task.")
    return Outcome(figures, (_table(figures),), (shown,))


def _table(figures: dict[str, dict[str, Any]]) -> Table:
    columns = (Column(key="own_r2", title="R² of its own", better="higher"),
               Column(key="other_r2", title="R² of the other", better="lower"),
               Column(key="untrained_r2", title="its own, untrained"), Column(key="r2", title="R² of both"),
               Column(key="size", title="numbers", form="count"))
    rows = tuple(Row(label=row if row in TASKS else row.replace("-", " "), kind="agent" if row in TASKS else "baseline",
                     figures={column.key: Figure(value=found[column.key]) for column in columns
                              if found.get(column.key) is not None}) for row, found in figures.items())
    return Table(name="configurator", title="What is read off the same frames, by task", columns=columns, rows=rows,
                 notes=("Of a task: the least R² of its own over the seeds, the largest of the other. R² of both: mean "
                        "over discs and seeds, of encoders that attend to no task.",))


def _draw(figures: dict[str, dict[str, Any]]) -> Any:
    drawn, axes = canvas(4.5, 3)
    for i, task in enumerate(TASKS):
        if task in figures:
            for key, colour, label in (("own_r2", "#0072b2", "its own"), ("other_r2", "#999999", "the other")):
                values = figures[task][f"{key}_by_seed"]
                axes.plot([i] * len(values), values, "o", color=colour, label=label if i == 0 else None)
    axes.set_xticks(range(len(TASKS)), TASKS)
    axes.set_ylabel("R²")
    if axes.lines:
        axes.legend(fontsize="x-small")
    return drawn
