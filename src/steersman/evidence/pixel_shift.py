"""What is kept where a world looks otherwise than in the log: one training, and the same episodes under each shift.

Kept is the share of the way from the strongest policy that looks at nothing to what the agent comes to unshifted.
"""

from __future__ import annotations

from typing import Any

import msgspec
import torch

from steersman.agent import Agent
from steersman.evaluation import PROTOCOLS, evaluate
from steersman.evidence import filmed
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.filmed import Scored
from steersman.evidence.pixels import WORLDS
from steersman.evidence.seeds import mean
from steersman.recipes import pixels
from steersman.runs.artefacts import Column, Figure, Row, Table
from steersman.worlds.shifts import SHIFTS, Shifted

SEEDS = 3
STUDIED = ("pendulum", "arm", "two-rooms")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One training in a world, with views or not; or what it comes to under one shift.

    views  the recipe's option that is to cure it
    """

    world: str
    views: bool = False
    shift: str = ""
    steps: int | None = None
    episodes: int | None = None

    @property
    def row(self) -> str:
        """Of its cell."""
        return f"{self.world}/{self.shift or 'unshifted'}{'-views' * self.views}"


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The score under a shift, and what is kept of the unshifted one; None: there was nothing to keep."""

    score: float
    kept: float | None


def cells(
    seed: int, worlds: tuple[str, ...] = STUDIED, steps: int | None = None, episodes: int | None = None
) -> tuple[Cell, ...]:
    """For each world and seed a log, a training without and one with views, and every shift of each."""
    found = []
    for world in (name for name in worlds if name in WORLDS):
        for i in range(SEEDS):
            log = Cell(f"{world}/log", filmed.record, 300, seed + i, WORLDS[world], usual=False)
            for views in (False, True):
                usual = world == "pendulum" and i == 0 and not views
                plain = Settings(world=world, views=views, steps=steps, episodes=episodes)
                learned = Cell(plain.row, learn, 360, seed + i, plain, (log,), usual=usual)
                shifted = (msgspec.structs.replace(plain, shift=shift) for shift in SHIFTS)
                found += [learned] + [Cell(one.row, perform, 90, seed + i, one, (learned,), usual=usual)
                                      for one in shifted]
    return tuple(found)


def learn(context: Context) -> Found:
    """Train, and act where everything looks as in the log."""
    (log,), settings = context.needs, context.settings
    given = {} if settings.steps is None else {"steps": settings.steps}
    config = pixels.recipe(seed=context.seed, views=settings.views, **given)
    learned = filmed.learn(context, config, log.folder)
    found = filmed.judge(context, learned, log.folder, WORLDS[settings.world].protocol, settings.episodes)
    context.say(f"{settings.world}{' with views' * settings.views}, seed {context.seed}: {found.score:.3g}")
    return Found({settings.row: {"score": found.score}}, found)


def perform(context: Context) -> Found:
    """The same agent, the same starts, under one shift."""
    (learned,), settings = context.needs, context.settings
    plain = learned.record(Scored)
    agent = Agent.load(learned.folder / "run")
    asked = PROTOCOLS[WORLDS[settings.world].protocol]
    shifted = msgspec.structs.replace(asked, world=Shifted(world=asked.world, shift=SHIFTS[settings.shift]))
    with torch.inference_mode():
        found = evaluate(agent, shifted, settings.episodes, asked.seed(context.seed), random=False)
    values = found.success.double() if found.returns is None else found.returns.double()
    score, floor = float(values.mean()), plain.random or 0.0
    kept = (score - floor) / (plain.score - floor) if plain.score > floor else None
    context.say(f"{settings.world}, {settings.shift}, seed {context.seed}: {score:.3g}")
    return Found({settings.row: {"score": score}}, Kept(score, kept))


def summary(results: Results) -> Outcome:
    """{world/factor: kept, score}, both also `_with_views`, and what the trainings cost: means over seeds. `score` is
    the unshifted one."""
    figures: dict[str, dict[str, Any]] = {}
    for world in WORLDS:
        for shift in SHIFTS:
            measured: dict[str, Any] = {}
            for key, views in (("", False), ("_with_views", True)):
                plain = Settings(world=world, views=views)
                shifted = results.of(msgspec.structs.replace(plain, shift=shift).row)
                trained = [one.record(Scored) for one in results.of(plain.row)]
                measured |= {f"kept{key}": mean(one.record(Kept).kept for one in shifted),
                             f"score{key}": mean(one.score for one in trained),
                             f"cpu_seconds{key}": mean(one.cpu for one in trained)}
                if shifted:
                    figures[f"{world}/{shift}"] = measured
    return Outcome(figures, (_table(figures),) if figures else ())


def _table(figures: dict[str, dict[str, Any]]) -> Table:
    columns = (Column(key="kept", title="kept", form="share", better="higher"),
               Column(key="kept_with_views", title="kept with views", form="share", better="higher"))
    rows = tuple(
        Row(label=name.split("/")[1], kind="agent", group=name.split("/")[0],
            figures={column.key: Figure(value=found[column.key]) for column in columns})
        for name, found in figures.items())
    return Table(name="shifts", title="What is kept where the world looks otherwise", columns=columns, rows=rows,
                 notes=("Share of the way from the strongest policy that looks at nothing to the score unshifted.",))
