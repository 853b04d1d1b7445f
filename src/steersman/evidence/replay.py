"""Is every recorded decision made again, bit for bit? Every planner on three worlds, replayed by another process.

What is measured: decisions recorded while acting, and how many of them come out identical in a process that has only
the run directory. Vectors with amounts, vectors with choices, pictures; with and without guardrails; by calls and by
the clock.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from steersman import actor, training
from steersman.agent import Agent, record_decisions
from steersman.agent.fitting import fit_readout
from steersman.core import (
    Budget,
    ColumnGoal,
    ConfigError,
    ObservationGoal,
    Planner,
    PlanningError,
    Task,
    UsageError,
)
from steersman.core.parts import registered
from steersman.cost import Box
from steersman.data import CacheWriter, Dataset
from steersman.evaluation.acting import act_in, own_goal
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.drawing import canvas, picture
from steersman.recipes import two_rooms, vectors
from steersman.runs import Run
from steersman.runs.artefacts import Column, Figure, Row, Table
from steersman.worlds import make_world
from steersman.worlds import record as act

_AGAIN = """
import json, sys
from steersman.agent.replay import replays
for session in sys.argv[2:]:
    found = [(again.identical, again.difference) for again in replays(sys.argv[1], session=session)]
    print(json.dumps({"decisions": len(found), "identical": sum(ok for ok, _ in found),
                      "difference": max(gap for _, gap in found)}), flush=True)
"""


class World(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where sessions are recorded: a limit, if there is one, is on a column."""

    id: str
    goal: dict[str, float] | None
    limit: tuple[str, float, float] | None
    longest: int


WORLDS = (
    World("Pendulum-v1", {"cos": 1.0, "speed": 0.0}, ("speed", -6.0, 6.0), 15),
    World("CartPole-v1", {"angle": 0.0}, ("position", -1.0, 1.0), 15),
    World("two-rooms", None, None, 4),
)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """log, steps: of training on vectors; episodes: acted in, of each session."""

    world: World
    log: int = 4000
    steps: int = 200
    episodes: int = 2


class Recorded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One session: a world, a planner, what was set; and what came of it when it was replayed."""

    world: str
    planner: str
    setting: str
    session: str
    decisions: int = 0
    identical: int = 0
    difference: float = 0.0


class Replayed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every session of a world, and the planners that it does not suit, in words."""

    sessions: list[Recorded]
    unsuited: list[str]


def cells(seed: int) -> tuple[Cell, ...]:
    """World by world."""
    return tuple(Cell(world.id, perform, 280, seed, Settings(world=world)) for world in WORLDS)


def perform(context: Context) -> Found:
    """Record with every planner that suits the world, then have another process replay every session."""
    settings: Settings = context.settings
    unsuited: list[str] = []
    run = _learn(context, settings)
    sessions = list(_record(context, settings, run, unsuited))
    again = zip(sessions, _replayed(run, sessions), strict=True)
    done = [msgspec.structs.replace(session, **found) for session, found in again]
    figures = _counted(done)
    context.say(f"{settings.world.id} done: {figures['identical']} of {figures['decisions']} decisions identical")
    return Found({settings.world.id: figures}, Replayed(done, unsuited))


def _counted(sessions: list[Recorded]) -> dict[str, Any]:
    return {
        "decisions": sum(one.decisions for one in sessions), "identical": sum(one.identical for one in sessions),
        "largest_difference": max((one.difference for one in sessions), default=0.0), "sessions": len(sessions),
        "planners": len({one.planner for one in sessions}),
    }


def summary(results: Results) -> Outcome:
    """All worlds together."""
    found = [one.record(Replayed) for one in results]
    sessions = [session for one in found for session in one.sessions]
    unsuited = [words for one in found for words in one.unsuited]
    rows = [
        Row(label=f"{one.planner}, {one.setting}", group=one.world, figures={
            "decisions": Figure(value=one.decisions), "identical": Figure(value=one.identical),
            "difference": Figure(value=one.difference)})
        for one in sessions
    ]
    table = Table(
        name="replay", title="Decisions made again by another process",
        columns=(Column(key="decisions", title="decisions", form="count"),
                 Column(key="identical", title="identical", form="count", better="higher"),
                 Column(key="difference", title="largest difference", better="lower")),
        rows=tuple(rows), protocol={"episodes": results.finished[0].cell.settings.episodes, "seed": results.seed},
        notes=("Identical: every entry of the whole plan, bit for bit.",
               f"Not suited, and said so: {'; '.join(unsuited) or 'none'}."),
    )
    shown = picture(_draw(rows), "replay", "Recorded and replayed", "decisions and identical replays by planner",
                    "One bar a session; the dark part is identical.")
    return Outcome({"": _counted(sessions)}, (table,), (shown,))


def _learn(context: Context, settings: Settings) -> Path:
    """A small model is enough: what counts is that its decisions come again."""
    place, world = context.folder, settings.world
    if world.id == "two-rooms":
        log = two_rooms.log(place / "log", episodes=64, seed=context.seed)
        config = two_rooms.recipe(steps=30, seed=context.seed)
    else:
        log = _log(world.id, place / "log", settings.log, context.seed)
        config = vectors.recipe(steps=settings.steps, size=5, seed=context.seed)
    config = msgspec.structs.replace(config, gauge_every=0)
    with training.create_run(place / "run", config, log, recipe=world.id) as run:
        training.train(config, log, run, progress=context.progress)
    fit_readout(Run.open(place / "run"), training.split(config, log)[0], seed=context.seed)
    return place / "run"


def _log(env: str, path: Path, steps: int, seed: int) -> Dataset:
    world = make_world(env)
    with CacheWriter(path, world.signature, origin=f"{env}, seed {seed}") as writer:
        for episode in act(world.env, steps=steps, seed=seed, adapter=world.adapter):
            if len(episode) >= 8:
                writer.append([episode])
        writer.finish()
    world.close()
    return Dataset.open(path)


def _record(context: Context, settings: Settings, path: Path, unsuited: list[str]) -> Iterator[Recorded]:
    run, world = Run.open(path), settings.world
    for config in _planners():
        name = str(config.__struct_config__.tag)
        agent = Agent.load(run, planner=config.build())
        for setting, task in _tasks(settings, agent, context.seed):
            try:
                recorder = record_decisions(agent, run, world=world.id)
                try:
                    act_in(agent, world.id, task, episodes=settings.episodes, seed=context.seed,
                           longest=world.longest)
                finally:
                    recorder.close()
                    agent.recorder = None
            except (PlanningError, UsageError) as error:  # for instance, A* remembers no graph of scenes
                unsuited.append(f"{name} on {world.id} ({error.expected})")
                break
            yield Recorded(world.id, name, setting, recorder.session)


def _planners() -> Iterator[Any]:
    """Every registered planner with its defaults; one that needs another gets iCEM."""
    for config in registered(Planner):
        for words in ({}, {"planner": actor.ICEM.Config()}):
            try:
                yield config(**words)
                break
            except (TypeError, ConfigError):
                continue


def _tasks(settings: Settings, agent: Agent, seed: int) -> Iterator[tuple[str, Task]]:
    world = settings.world
    if world.goal is None:
        goal: ObservationGoal | ColumnGoal = own_goal(world.id, settings.episodes, seed)
    else:
        goal = ColumnGoal(world.goal)
    task = Task(goal, horizon=8)
    yield "free", task
    if world.limit is not None and agent.readout is not None:
        column, low, high = world.limit
        yield "guarded", replace(task, guardrails=(Box(agent.readout, {column: (low, high)}),))
    yield "by the clock", replace(task, budget=Budget(seconds=0.02))


def _replayed(run: Path, sessions: list[Recorded]) -> list[dict[str, Any]]:
    words = [sys.executable, "-c", _AGAIN, str(run), *(s.session for s in sessions)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError("a replay of every session", done.stderr.strip().splitlines()[-1], "report this")
    return [json.loads(line) for line in done.stdout.splitlines()]


def _draw(rows: list[Row]) -> Any:
    figure, axes = canvas(7, 0.22 * len(rows) + 0.9)
    labels = [f"{row.group}: {row.label}" for row in rows]
    axes.barh(range(len(rows)), [row.figures["decisions"].value or 0 for row in rows], color="#cccccc")
    axes.barh(range(len(rows)), [row.figures["identical"].value or 0 for row in rows], color="#0072b2")
    axes.set_yticks(range(len(rows)), labels, fontsize="x-small")
    axes.invert_yaxis()
    axes.set_xlabel("decisions")
    return figure
