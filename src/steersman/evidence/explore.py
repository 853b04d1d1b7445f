"""Guarded curiosity beside exploration by chance: hazards whose log is slow, nine rooms whose log holds three of them.

What is measured, from one log and one first model, at equal steps of exploration: error over states drawn evenly from
all of the world, trips to goals all over it, what was touched while exploring, and whether forecasts from the shorter
logs hold what the longest gave. Curiosity and chance (held actions and white noise) act inside the same guardrails and
the same way out; once curiosity acts without.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from steersman import training
from steersman.agent import Agent, record_experience
from steersman.agent.fitting import fit_readout
from steersman.data import CacheWriter, Dataset
from steersman.evaluation.exploring import curious, explore, reached
from steersman.evaluation.learning_curve import forecast_error, forecast_success
from steersman.evidence.cell import Cell, Context, Finished, Found, Outcome, Results
from steersman.evidence.explore_random import RandomPlans
from steersman.evidence.explore_worlds import GROUNDS
from steersman.evidence.seeds import spread
from steersman.runs import Run
from steersman.runs.artefacts import Column, Figure, Row, Table
from steersman.training.rounds import successor

Arm = Literal["curious", "held", "white", "unguarded"]
HOLDS = {"held": 8.0, "white": 1.0}
COMPARED: tuple[Arm, ...] = ("curious", "held", "white")
_COLUMNS = (
    Column(key="error_ratio", title="error: of the best by chance", form="share", better="lower", target=0.5),
    Column(key="data_ratio", title="data for its success", form="share", better="lower", target=0.5),
    Column(key="violations", title="violations, exploring", form="count", better="lower", target=0.0),
    Column(key="violations_unguarded", title="unguarded", form="count"),
    Column(key="forecast_covered", title="forecasts that held", form="share", better="higher", target=0.9),
    Column(key="error", title="error, m", better="lower"),
    Column(key="error_held", title="held actions", better="lower"),
    Column(key="error_white", title="white noise", better="lower"),
    Column(key="error_start", title="before", better="lower"),
    Column(key="error_untrained", title="untrained", better="lower"),
    Column(key="success", title="goals reached", form="share", better="higher"),
    Column(key="success_chance", title="best by chance", form="share", better="higher"),
    Column(key="success_start", title="before", form="share", better="higher"),
)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """world: of `explore_worlds.GROUNDS`; arm: who explores; rounds: of exploring and training; trips: by which success
    is measured; steps: of each training, None: the world's own; states: on which errors are."""

    world: str
    arm: Arm = "curious"
    rounds: int = 2
    trips: int = 16
    steps: int | None = None
    states: int = 1000


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One way of exploring, before and after each round: steps of log, of exploration, error in m, trips that arrived;
    violated: episodes of exploration in which something was touched; infeasible: decisions; untrained: the error of the
    model as it was drawn."""

    log: list[int]
    errors: list[float]
    reached: list[int]
    trips: int
    violated: int = 0
    infeasible: int = 0
    untrained: float = 0.0


def cells(seed: int, settings: Settings = Settings(world="")) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """For each world, three times: a log and a first model, then each way of exploring; the first seed is performed by
    the plain command."""
    found: list[Cell] = []
    for world in GROUNDS:
        for i in range(3):
            own = msgspec.structs.replace(settings, world=world)
            start = Cell(f"{world}/start", begin, 90, seed + i, own, usual=i == 0)
            found += [start, *(Cell(f"{world}/{arm}", perform, 60 if arm == "unguarded" else 150, seed + i,
                                    msgspec.structs.replace(own, arm=arm), (start,), usual=i == 0)
                               for arm in (*COMPARED, "unguarded"))]
    return tuple(found)


def begin(context: Context) -> Found:
    """Record the log, train the first model on it, measure both it and the model as it was drawn."""
    settings: Settings = context.settings
    ground, seed = GROUNDS[settings.world], context.seed
    bare = msgspec.structs.replace(ground.configuration(seed, 1), lr=1e-9)
    agent = _learned(context, "untrained", bare)
    untrained = ground.error(agent, _drawn(seed), settings.states)
    agent = _learned(context, "run", ground.configuration(seed, settings.steps))
    error, arrived = _measure(agent, settings, seed)
    log = training.open_log(Run.open(context.folder / "run"))
    context.say(f"{settings.world}, {log.steps:,} steps of log: error {error:.3g} m, untrained {untrained:.3g}; "
                f"{arrived} of {settings.trips} goals")
    return Found(record=Measured(log=[log.steps], errors=[error], reached=[arrived], trips=settings.trips,
                                 untrained=untrained))


def _learned(context: Context, name: str, config: training.TrainConfig) -> Agent:
    """Record the log into a new run, train on it, fit the read-out."""
    settings: Settings = context.settings
    ground, place = GROUNDS[settings.world], context.folder / name

    def record(beside: Path) -> Dataset:
        with CacheWriter(beside, ground.signature, origin=f"{settings.world}, a part, seed {context.seed}") as writer:
            writer.append(ground.log(context.seed))
            writer.finish()
        return Dataset.open(beside)

    with training.StagedLog(place, record) as log, training.create_run(
            place, config, log.dataset, recipe="explore", log=log.place) as run:
        training.train(config, log.dataset, run, progress=context.progress)
        fit_readout(run, log.dataset, seed=config.seed)
    return Agent.load(place)


def perform(context: Context) -> Found:
    """Explore and train in turn, and measure after each round; unguarded: one round, and what it touched."""
    settings: Settings = context.settings
    ground, seed, arm = GROUNDS[settings.world], context.seed, settings.arm
    first = context.needs[0]
    before = first.record(Measured)
    log, errors, arrived, violated, infeasible = before.log[:], before.errors[:], before.reached[:], 0, 0
    place = first.folder / "run"
    for number in range(1, 1 + (1 if arm == "unguarded" else settings.rounds)):
        agent = Agent.load(place)
        if arm in HOLDS:
            inner = RandomPlans.Config(hold=HOLDS[arm])
            agent = Agent.load(place, planner=msgspec.structs.replace(agent.planner.config, planner=inner).build())
        run = _copied(Run.open(place), context) if number == 1 else Run.open(place)
        record_experience(agent, run)
        rails = () if arm == "unguarded" else ground.guardrails(agent)
        found = explore(agent, ground.starts(ground.batch, seed + 1000 * number), ground.length, rails,
                        seed=seed + number, task=curious(agent, rails))
        assert agent.log is not None
        agent.log.close()
        violated, infeasible = violated + int(found.violated.sum()), infeasible + found.infeasible
        if arm == "unguarded":
            break
        made = successor(run, context.folder / f"round-{number}", seed=seed, progress=context.progress)
        place = made.path
        error, count = _measure(Agent.load(made), settings, seed)
        log.append(training.open_log(made).steps)
        errors.append(error)
        arrived.append(count)
        context.say(f"{settings.world}, {arm}, {log[-1]:,} steps of log: error {error:.3g} m, {count} of "
                    f"{settings.trips} goals, {violated} episodes touched something")
    return Found(record=Measured(log=log, errors=errors, reached=arrived, trips=settings.trips, violated=violated,
                                 infeasible=infeasible))


def _copied(run: Run, context: Context) -> Run:
    """The first run, where this cell may write: its experience is its own."""
    place = context.folder / "first"
    shutil.copytree(run.path, place)
    return Run.open(place)


def _drawn(seed: int) -> int:
    """The seed of the states and trips that everything is measured on."""
    return seed + 777_000


def _measure(agent: Agent, settings: Settings, seed: int) -> tuple[float, int]:
    """Error, and trips that arrived inside the guardrails."""
    ground = GROUNDS[settings.world]
    error = ground.error(agent, _drawn(seed), settings.states)
    if not settings.trips:
        return error, 0
    trips = ground.trips(settings.trips, _drawn(seed))
    return error, reached(agent, trips, ground.trip, ground.guardrails(agent), seed=seed)


def figures_of(start: Measured, arms: dict[str, Measured]) -> dict[str, Any]:
    """What one seed of one world comes to; what was not performed is None."""
    curiosity, chance = arms.get("curious"), [arms[name] for name in ("held", "white") if name in arms]
    figures: dict[str, Any] = {
        "error_start": start.errors[0], "error_untrained": start.untrained,
        "success_start": start.reached[0] / max(1, start.trips),
        "violations_unguarded": arms["unguarded"].violated if "unguarded" in arms else None,
        **{f"error_{name}": arms[name].errors[-1] if name in arms else None for name in ("held", "white")},
    }
    if curiosity is None:
        return figures
    figures |= {"error": curiosity.errors[-1], "success": curiosity.reached[-1] / max(1, curiosity.trips),
                "violations": curiosity.violated, "infeasible": curiosity.infeasible,
                "forecast_covered": covered([curiosity, *chance])}
    if chance:
        best = max(one.reached[-1] for one in chance)
        figures |= {
            "error_ratio": curiosity.errors[-1] / min(one.errors[-1] for one in chance),
            "success_chance": best / max(1, curiosity.trips), "data_ratio": _share(curiosity, best),
        }
    return figures


def _share(curiosity: Measured, best: int) -> float:
    """Of the steps that chance explored, those after which curiosity reaches as many goals; infinite: never. Rounds are
    what can be told apart, and no success counts before the first."""
    steps = [length - curiosity.log[0] for length in curiosity.log]
    enough = [n for n, count in zip(steps[1:], curiosity.reached[1:], strict=True) if count >= best]
    return enough[0] / steps[-1] if enough else math.inf


def covered(measured: Sequence[Measured]) -> float | None:
    """Share of forecasts that hold what the last length gave, told by the lengths before it: of errors and of success,
    of every way of exploring. None: too few lengths."""
    held: list[bool] = []
    for one in measured:
        if len(one.log) < 3:
            continue
        held.append(forecast_error(one.log[:-1], one.errors[:-1], one.log[-1]).covers(one.errors[-1]))
        if one.trips:
            ahead = forecast_success(one.log[:-1], one.reached[:-1], one.trips, one.log[-1])
            held.append(ahead.covers(one.reached[-1] / one.trips))
    return sum(held) / len(held) if held else None


def summary(results: Results) -> Outcome:
    """{world: error_ratio, data_ratio, violations, forecast_covered, …}, means over seeds."""
    found: dict[str, list[dict[str, Any]]] = {}
    for world in GROUNDS:
        for start in results.of(f"{world}/start"):
            arms: dict[str, Measured] = {
                arm: one.record(Measured) for arm in (*COMPARED, "unguarded")
                for one in _of_seed(results, f"{world}/{arm}", start.cell.seed)}
            found.setdefault(world, []).append(figures_of(start.record(Measured), arms))
    figures, rows = dict[str, dict[str, Any]](), list[Row]()
    for world, seeds in found.items():
        own: dict[str, Any] = {}
        shown: dict[str, Figure] = {}
        for key in dict.fromkeys(key for one in seeds for key in one):
            values = [one[key] for one in seeds if one.get(key) is not None]
            if not values:
                own[key] = None
                continue
            counted = key.startswith("violations") or key == "infeasible"
            figure = Figure(value=sum(values), n=len(values)) if counted else spread(values)
            own[key], shown[key] = figure.value, figure
            if len(values) > 1:
                own[f"{key}_by_seed"] = values
        figures[world] = own
        rows.append(Row(label=world, figures={c.key: shown[c.key] for c in _COLUMNS if c.key in shown}))
    table = Table(
        name="explore", title="Guarded curiosity beside exploration by chance", columns=_COLUMNS, rows=tuple(rows),
        notes=("Chance: the better of held actions and white noise, inside the same guardrails, at equal steps.",
               "Errors: m, five held actions ahead, root mean square over states drawn evenly from all of the world.",
               "Violations: episodes of exploration; summed over seeds. Other intervals: 95%, Student's t over seeds."))
    return Outcome(figures, (table,))


def _of_seed(results: Results, row: str, seed: int) -> list[Finished]:
    return [one for one in results.of(row) if one.cell.seed == seed]
