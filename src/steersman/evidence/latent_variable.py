"""z in three forms, in worlds whose futures are known: does a draw from the prior cover what may come, and what does a
nat's price do to it, from collapse (z carries everything) over good to blur (z carries nothing)?

A row for each world and form, worst of three training seeds; a row for each price of the sweep at the fork.
`prediction` is the error of the best of 16 draws as a share of the error of a twin without chance.
"""

from __future__ import annotations

from typing import Any

import msgspec

from steersman.evidence import chance_pixels
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.drawing import canvas, picture
from steersman.evidence.futures import BEST, FORMS, Judged, configuration, form, judge, learn, recorded
from steersman.runs.artefacts import Column, Figure, Row, Table
from steersman.worlds import Branching, Fork, Gate, Traffic

SEEDS = 3
WORLDS: dict[str, Branching] = {"fork": Fork(), "gate": Gate(), "traffic": Traffic()}
PRICE = {"codebook": 0.03, "sparse": 0.03, "gaussian": 0.03}
"""Energy for a nat that each form is trained with where it is not swept."""
SWEPT = (0.0001, 0.001, 0.01, 0.1, 1.0)
_SECONDS = {"codebook": 15.0, "sparse": 50.0, "gaussian": 20.0}
_TWIN = "deterministic"
_KEYS = ("coverage", "coverage_worst", "stray", "calibration", "collapse", "nats", "elsewhere", "entropy", "prediction")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One training.

    world, form  keys of `WORLDS`, and one of `FORMS` or "deterministic"
    price        energy for a nat
    budget       nats that cost a hundredth of it
    episodes     recorded; steps: of training
    swept        a row of the sweep
    """

    world: str
    form: str
    price: float
    budget: float = 0.0
    episodes: int = 2000
    steps: int = 800
    swept: bool = False


def cells(seed: int, episodes: int = 2000, steps: int = 800) -> tuple[Cell, ...]:
    """Every form in every world, three seeds; the sweep of prices, one; the fork before a camera, three. The plain
    command performs one seed of the sparse and the Gaussian form, and of the camera."""
    found = []

    def twin(world: str, number: int) -> Cell:
        settings = Settings(world=world, form=_TWIN, price=1.0, episodes=episodes, steps=steps)
        return Cell(f"{world}/{_TWIN}", perform, 15, number, settings)

    for world in WORLDS:
        for i in range(SEEDS):
            for name in FORMS:
                settings = Settings(world=world, form=name, price=PRICE[name], episodes=episodes, steps=steps)
                found.append(Cell(f"{world}/{name}", perform, _SECONDS[name], seed + i, settings,
                                  (twin(world, seed + i),), usual=name == "codebook" or i == 0))
    for name in FORMS:
        for price in SWEPT:
            settings = Settings(world="fork", form=name, price=price, episodes=episodes, steps=steps, swept=True)
            row = f"sweep/{name}/{price:g}"
            found.append(Cell(row, perform, _SECONDS[name], seed, settings, (twin("fork", seed),)))
    return (*found, *chance_pixels.cells(seed))


def perform(context: Context) -> Found:
    """Record, train, hold the model's futures against the world's."""
    settings: Settings = context.settings
    world = WORLDS[settings.world]
    dataset = recorded(world, context.folder / "log", settings.episodes, world.recorded[1], 1000 + context.seed)
    config = configuration(form(settings.form, settings.price), len(world.columns), settings.price, settings.steps,
                           context.seed, budget=settings.budget)
    learned = learn(config, dataset, context.folder / "run", world.seen, context.progress)
    found = judge(learned, world, context.seed, settings.price)
    figures: dict[str, Any] = {key: getattr(found, key) for key in Judged.__struct_fields__ if key != "ranks"}
    if context.needs:
        figures["prediction"] = found.error / context.needs[0].record(Judged).error
    context.say(f"{settings.world}, {settings.form}, price {settings.price:g}, seed {context.seed}: " + ", ".join(
        f"{key} {value:.3f}" for key, value in figures.items()))
    row = f"sweep/{settings.form}/{settings.price:g}" if settings.swept else f"{settings.world}/{settings.form}"
    return Found({row: figures}, found)


def summary(results: Results) -> Outcome:
    """{world/form: collapse, prediction, coverage, calibration, nats, …}: the worst training seed, `nats`, `elsewhere`
    and `entropy` means over the seeds; `…_by_seed` tells them apart. {sweep/form/price: the same, one seed}."""
    figures: dict[str, dict[str, Any]] = {}
    for world in WORLDS:
        for name in FORMS:
            found = results.of(f"{world}/{name}")
            if found:
                figures[f"{world}/{name}"] = _together([next(iter(one.kept.figures.values())) for one in found])
    sweep = {one.cell.row: next(iter(one.kept.figures.values())) for one in results.below("sweep")}
    figures |= {name: {key: one[key] for key in _KEYS} for name, one in sweep.items()}
    pixels = results.of(chance_pixels.ROW)
    if pixels:
        figures[chance_pixels.ROW] = _together([next(iter(one.kept.figures.values())) for one in pixels])
    shown = [] if not sweep else [picture(
        _sweep(sweep), "sweep", "From collapse over good to blur",
        "nats told, what is collapsed, missed and left of the error, against the price of a nat, for each form",
        "Left: a nat is cheap, z carries everything and impossible steps are explained as well. Right: a nat is dear, "
        "z carries nothing and the future is the mean. Dotted: the nats that the true outcomes have.")]
    return Outcome(figures, (_table(figures),), tuple(shown))


def _together(seeds: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in _KEYS:
        values = [one[key] for one in seeds if key in one]
        if values:
            middle = key in ("nats", "elsewhere", "entropy")
            found[key] = sum(values) / len(values) if middle else max(values)
            found[f"{key}_by_seed"] = values
    return found


def _table(figures: dict[str, dict[str, Any]]) -> Table:
    columns = (
        Column(key="coverage", title="off by", better="lower", target=0.05),
        Column(key="coverage_worst", title="at most", better="lower"),
        Column(key="prediction", title=f"best of {BEST}", better="lower", target=0.3),
        Column(key="calibration", title="ranks", better="lower"),
        Column(key="collapse", title="collapse", better="lower"),
        Column(key="nats", title="nats"), Column(key="entropy", title="of"),
        Column(key="elsewhere", title="elsewhere", better="lower"),
    )
    rows = tuple(Row(label=name, kind="agent", figures={
        column.key: Figure(value=found.get(column.key)) for column in columns}) for name, found in figures.items())
    return Table(name="forms", title="z from the prior", columns=columns, rows=rows, notes=(
        "Off by: the mean distance of a share of 512 draws from its true probability, of the outcome where it is "
        "largest; at most: in any moment.",
        f"Best of {BEST}: error as a share of a twin's without chance. Ranks: total variation from uniform.",
        "Collapse: twice the share of pairs of a step that came and one that cannot come whose free energies are in "
        "the wrong order.", "Worst of the training seeds."))


def _sweep(sweep: dict[str, Any]) -> Any:
    names = [name for name in FORMS if any(row.split("/")[1] == name for row in sweep)]
    drawn, axes = canvas(3.4 * len(names), 3.4, 1, len(names), squeeze=False, sharey=True)
    for axis, name in zip(axes[0], names, strict=True):
        rows = sorted(((float(row.split("/")[2]), one) for row, one in sweep.items() if row.split("/")[1] == name),
                      key=lambda row: row[0])
        prices = [price for price, _ in rows]
        for key, title, colour in (("collapse", "collapse", "#d55e00"), ("coverage", "coverage is off by", "#0072b2"),
                                   ("prediction", f"error, best of {BEST}", "#009e73"), ("nats", "nats", "#999999")):
            axis.semilogx(prices, [one[key] for _, one in rows], "o-", markersize=3, color=colour, label=title)
        axis.axhline(rows[0][1]["entropy"], color="#999999", linewidth=0.8, linestyle=":")
        axis.set_ylim(0, 1.5)
        axis.set_title(name)
        axis.set_xlabel("price of a nat")
    axes[0][0].legend(fontsize="x-small")
    return drawn
