"""Does abstraction buy horizon? Levels of abstraction over films in which nobody acts, beside one level rolled as far.

Two films: balls in a box that rocks, a digit that wanders and counts. For each, trainings of three seeds: three levels;
two levels on the same first one, whose second is trained for the seconds that the other's two took; one level, trained
for the seconds of all three, and once more with a training that looks 16 frames ahead; and two levels whose second
steps as far as the third of three, so that depth and stride can be told apart. What counts is decoded: true
factors of frames, fast and slow, read off each level's states, at the same moments of films that were not trained on,
beside no change and the mean.
"""

from __future__ import annotations

from typing import Any

import msgspec
import torch

from steersman import training
from steersman.data import Dataset
from steersman.evaluation import Foresight, fit_levels, foresight
from steersman.evidence.cell import Cell, Context, Finished, Found, Outcome, Results
from steersman.evidence.drawing import canvas, picture
from steersman.evidence.futures import recorded
from steersman.perception import MLPReadout
from steersman.recipes import abstraction
from steersman.runs.artefacts import Column, Figure, Row, Table
from steersman.training import open_hierarchy
from steersman.world_model.hierarchy import Hierarchy
from steersman.worlds import Clips, CountingDigits, RockingBalls

SEEDS = 3
FILMS: dict[str, Clips] = {"physics": RockingBalls(), "digits": CountingDigits()}
TESTS: dict[str, Clips] = {"physics": RockingBalls(), "digits": CountingDigits(part="test")}
"""Digits are tested in writings that no training and no read-out has seen."""
HORIZONS = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128)
LEAST = 0.2
"""Skill over the better of no change and the mean from which on a level counts as foreseeing something."""
_FIRST, _LAST, _EVERY = 24, 64, 4  # rows of the test films from which is foreseen
_LABELLED = 48  # rows of the films that read-outs are fitted to


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """episodes: films that are trained on; steps: optimiser steps of each of three levels; labelled: films that
    read-outs are fitted to; tested: films; read: steps of a read-out's training."""

    episodes: int = 300
    steps: tuple[int, int, int] = (900, 900, 900)
    labelled: int = 200
    tested: int = 64
    read: int = 800


class Levels(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many levels a cell trains, over which film.

    ahead   frames that the first one's training looks ahead
    stride  of every level above it, in steps of the level below; a level sees so many of its states at once
    """

    film: str
    count: int
    sizes: Sizes
    ahead: int = 2
    stride: int = 4

    @property
    def label(self) -> str:
        """Row of the cell behind the film."""
        told = (f"-ahead-{self.ahead}" if self.ahead != 2 else "") + (
            f"-stride-{self.stride}" if self.stride != 4 else "")
        return f"levels-{self.count}{told}"


class Curve(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One factor, foreseen by one of a hierarchy's levels. read: R² of the factor at the moment at hand."""

    level: int
    factor: str
    horizons: list[int]
    skill: list[float]
    over_best: list[float]
    read: float
    reach: int


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a cell found. mean: for each factor, the skill over persistence that the mean has, by horizon; seconds:
    CPU-seconds of each level's training; steps: of each."""

    film: str
    count: int
    label: str
    curves: list[Curve]
    mean: dict[str, list[float]]
    seconds: list[float]
    steps: list[int]


def cells(seed: int, sizes: Sizes = Sizes()) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """For each film and seed: film it, train three levels, then two and one for the same seconds."""
    found = []
    for i in range(seed, seed + SEEDS):
        for film in FILMS:
            log = Cell(f"{film}/filmed", record, 20, i, Levels(film=film, count=0, sizes=sizes))

            def of(count: int, needs: tuple[Cell, ...], ahead: int = 2, stride: int = 4, film: str = film,
                   i: int = i) -> Cell:
                settings = Levels(film=film, count=count, sizes=sizes, ahead=ahead, stride=stride)
                usual = (ahead == 2 and count != 2) or i == seed
                return Cell(f"{film}/{settings.label}", perform, 75, i, settings, needs, usual)

            three = of(3, (log,))
            both = (log, three)
            found += [three, of(1, both), of(2, both), of(2, both, stride=16), of(1, both, ahead=16)]
    return tuple(found)


def record(context: Context) -> Found:
    """The films that are trained on."""
    settings: Levels = context.settings
    recorded(FILMS[settings.film], context.folder / "log", settings.sizes.episodes, FILMS[settings.film].recorded[1],
             1000 + context.seed)
    return Found()


def perform(context: Context) -> Found:
    """Train so many levels, read each off, and hold what they foresee against the truth."""
    settings: Levels = context.settings
    log = Dataset.open(context.needs[0].folder / "log")
    other = context.needs[1] if len(context.needs) > 1 else None
    hierarchy, seconds, steps = _trained(context, log, other)
    film, test = FILMS[settings.film], TESTS[settings.film]
    generator = torch.Generator().manual_seed(5000 + context.seed)
    labelled = film.filmed(settings.sizes.labelled, _LABELLED, generator)
    tested = test.filmed(settings.sizes.tested, _LAST + HORIZONS[-1], generator)
    read = MLPReadout.Config(steps=settings.sizes.read, weight_decay=0.1)
    readouts = fit_levels(hierarchy, labelled.observation, labelled.factors, film.columns, read, context.seed)
    found = foresight(hierarchy, readouts, tested.observation, tested.factors, film.factors,
                      range(_FIRST, _LAST + 1, _EVERY), HORIZONS)
    curves = [_curve(level, factor, one) for (level, factor), one in found.items()]
    mean = {factor: (1 - one.spread / one.change).tolist() for (level, factor), one in found.items() if level == 1}
    for curve in curves:
        context.say(f"{settings.film}, {settings.label}, level {curve.level}, {curve.factor}, seed {context.seed}: "
                    f"R² {curve.read:.2f}, reach {curve.reach}, skill {curve.skill[-1]:.2f}, over the best "
                    f"{curve.over_best[-1]:.2f} at {curve.horizons[-1]}")
    measured = Measured(film=settings.film, count=settings.count, label=settings.label, curves=curves, mean=mean,
                        seconds=seconds, steps=steps)
    return Found(_figures([measured]), measured)


def _trained(context: Context, log: Dataset, other: Finished | None) -> tuple[Hierarchy, list[float], list[int]]:
    """The hierarchy, CPU-seconds and steps of each of its levels.

    other  the cell with three levels, whose seconds the shorter hierarchies are given; None: this is it
    """
    settings: Levels = context.settings
    strides, ahead = (settings.stride,) * (settings.count - 1), settings.ahead
    if other is None:
        steps = settings.sizes.steps
        found = training.ascend(abstraction.levels(strides=strides, steps=steps, first_ahead=ahead,
                                                   seed=context.seed), log, context.folder, progress=context.progress)
        return found.hierarchy, list(found.seconds), list(steps)
    took = other.record(Measured)
    level, free = settings.count - 1, sum(took.seconds[settings.count - 1 :])
    steps_ = [*took.steps[:level], round(took.steps[level] * free / took.seconds[level])]
    config = abstraction.levels(strides=strides, steps=steps_, first_ahead=ahead, window=settings.stride,
                                seed=context.seed)
    if level == 0:
        found = training.ascend(config, log, context.folder, progress=context.progress)
        return found.hierarchy, list(found.seconds), steps_
    first = Hierarchy([open_hierarchy(other.folder).level(1)])
    found = training.ascend(config[1:], log, context.folder, upon=first, progress=context.progress)
    return found.hierarchy, [took.seconds[0], *found.seconds], steps_


def _curve(level: int, factor: str, found: Foresight) -> Curve:
    return Curve(level=level, factor=factor, horizons=list(found.horizons), skill=found.skill.tolist(),
                 over_best=found.skill_over_best.tolist(), read=float(1 - found.now / found.spread[-1]),
                 reach=found.reach(LEAST))


def _figures(seeds: list[Measured]) -> dict[str, dict[str, Any]]:
    """Rows of one film and number of levels, several seeds: the mean, and each seed's."""
    figures: dict[str, dict[str, Any]] = {}
    first = seeds[0]
    for i, curve in enumerate(first.curves):
        row = f"{first.film}/{curve.factor}/{_name(first, curve.level)}"
        each = [one.curves[i] for one in seeds]
        for j, horizon in enumerate(curve.horizons):
            figures[f"{row}/{horizon}"] = {
                "skill": _mean([x.skill[j] for x in each]), "skill_by_seed": [x.skill[j] for x in each],
                "skill_over_best": _mean([x.over_best[j] for x in each]),
                "skill_over_best_by_seed": [x.over_best[j] for x in each]}
        figures[row] = {"reach": min(x.reach for x in each), "reach_by_seed": [x.reach for x in each],
                        "read": _mean([x.read for x in each])}
    figures[f"{first.film}/{first.label}"] = {
        "train_cpu_seconds": _mean([sum(x.seconds) for x in seeds]),
        "train_cpu_seconds_by_seed": [sum(x.seconds) for x in seeds]}
    return figures


def _name(measured: Measured, level: int) -> str:
    """"level-2-of-3", or "level-1-of-1-ahead-16"."""
    return f"level-{level}-of-{measured.label.removeprefix('levels-')}"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def summary(results: Results) -> Outcome:
    """{film/factor/level-i-of-n/horizon: `skill`, `skill_over_best`}, means over the seeds, and each seed's;
    {film/factor/level-i-of-n: `reach`}, the shortest of the seeds, `read`, R² of the factor read off the present;
    {film/levels-n: `train_cpu_seconds`}; {film/factor: `farther`}, in how many seeds the top of three levels reaches
    farther than the one level alone, of `seeds`."""
    every: dict[tuple[str, str], list[Measured]] = {}
    for one in results:
        if one.cell.settings.count:
            found = one.record(Measured)
            every.setdefault((found.film, found.label), []).append(found)
    figures = {row: values for seeds in every.values() for row, values in _figures(seeds).items()}
    for film in FILMS:
        for factor in FILMS[film].factors:
            top, flat = (figures.get(f"{film}/{factor}/{row}", {}).get("reach_by_seed", [])
                         for row in ("level-3-of-3", "level-1-of-1"))
            if len(top) == len(flat) > 0:
                figures[f"{film}/{factor}"] = {
                    "farther": sum(a > b for a, b in zip(top, flat, strict=True)), "seeds": len(top)}
    shown = [] if not every else [picture(
        _draw(every), "abstraction", "Abstraction buys horizon",
        "skill over persistence by horizon, a line for each level of abstraction, fast and slow factors of two films",
        "Skill over persistence, 1 - error / error of no change, by frames ahead; mean of the seeds, all of them in "
        "the band. Dotted: what the mean alone earns; a level foresees something where it is above 0 and above that.")]
    return Outcome(figures, tuple(_table(film, every) for film in FILMS if any(f == film for f, _ in every)),
                   tuple(shown))


def _lines(every: dict[tuple[str, str], list[Measured]], film: str) -> list[tuple[int, str, list[Measured]]]:
    """(level, its name, seeds) in the order of the table: every level of three, the top of the others."""
    labels = [label for label in ("levels-1", "levels-1-ahead-16", "levels-2", "levels-2-stride-16", "levels-3")
              if (film, label) in every]
    return [(level, _name(seeds[0], level).replace("-", " "), seeds) for seeds in (every[film, x] for x in labels)
            for level in range(1, seeds[0].count + 1) if seeds[0].count == 3 or level == seeds[0].count]


def _table(film: str, every: dict[tuple[str, str], list[Measured]]) -> Table:
    rows = []
    for factor in FILMS[film].factors:
        for level, name, seeds in _lines(every, film):
            curves = [c for one in seeds for c in one.curves if (c.level, c.factor) == (level, factor)]
            cells_ = {str(h): Figure(value=_mean([c.over_best[c.horizons.index(h)] for c in curves]))
                      for h in curves[0].horizons if h in HORIZONS[3:]}
            cells_ |= {"reach": Figure(value=min(c.reach for c in curves)),
                       "seconds": Figure(value=_mean([sum(one.seconds) for one in seeds]))}
            rows.append(Row(label=name, kind="baseline" if seeds[0].count == 1 else "agent",
                            figures=cells_, group=factor))
    return Table(
        name=f"abstraction-{film}", title=f"Skill by frames ahead: {film}", rows=tuple(rows),
        columns=(*(Column(key=str(h), title=f"{h}", better="higher") for h in HORIZONS[3:]),
                 Column(key="reach", title="reach", better="higher"),
                 Column(key="seconds", title="training", form="seconds")),
        notes=("Skill over the better of no change and the mean, 1 - error / error, mean of the seeds; a level says "
               "something only at whole steps of its own.",
               f"Reach: the farthest horizon of skill {LEAST:g} or more, the shortest of the seeds. Training: "
               "CPU-seconds of all levels together."))


def _draw(every: dict[tuple[str, str], list[Measured]]) -> Any:
    panels = [(film, factor) for film in FILMS for factor in FILMS[film].factors if any(f == film for f, _ in every)]
    figure, axes = canvas(3.2 * len(panels), 3.2, 1, len(panels), squeeze=False, sharey=True)
    for axis, (film, factor) in zip(axes[0], panels, strict=True):
        for i, (level, name, seeds) in enumerate(_lines(every, film)):
            curves = [c for one in seeds for c in one.curves if (c.level, c.factor) == (level, factor)]
            values = torch.tensor([c.skill for c in curves])
            axis.plot(curves[0].horizons, values.mean(0), "o-", ms=3, color=f"C{i}", label=name)
            axis.fill_between(curves[0].horizons, values.amin(0), values.amax(0), color=f"C{i}", alpha=0.2, lw=0)
        means = torch.tensor([one.mean[factor] for (f, _), seeds in every.items() if f == film for one in seeds])
        axis.plot(HORIZONS, means.mean(0), ":", color="grey", label="the mean")
        axis.axhline(0, color="grey", lw=0.5)
        axis.set(title=f"{film}: {factor}", xlabel="frames ahead", xscale="log", ylim=(-1, 1.02))
        axis.set_xticks([1, 4, 16, 64], ["1", "4", "16", "64"])
    axes[0, 0].set_ylabel("skill over persistence")
    axes[0, 0].legend(fontsize="x-small")
    return figure
