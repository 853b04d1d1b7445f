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
from dataclasses import dataclass, replace
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
from steersman.evidence.context import Context, Outcome
from steersman.evidence.drawing import canvas, picture
from steersman.recipes import two_rooms, vectors
from steersman.runs import Run
from steersman.runs.artefacts import Column, Figure, Row, Table
from steersman.worlds import make_world
from steersman.worlds import record as act

EPISODES = 2
STEPS, LOG = 200, 4000
"""Of training on vectors, and of their log."""
_AGAIN = """
import json, sys
from steersman.agent.replay import replays
for session in sys.argv[2:]:
    found = [(again.identical, again.difference) for again in replays(sys.argv[1], session=session)]
    print(json.dumps({"session": session, "decisions": len(found), "identical": sum(ok for ok, _ in found),
                      "difference": max(gap for _, gap in found)}), flush=True)
"""


@dataclass(frozen=True)
class World:
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


@dataclass(frozen=True)
class Recorded:
    """One session: a world, a planner, what was set."""

    world: str
    planner: str
    setting: str
    session: str


def experiment(context: Context) -> Outcome:
    """Record with every planner that suits a world, then have another process replay every session."""
    rows: list[Row] = []
    totals = {"decisions": 0, "identical": 0}
    unsuited: list[str] = []
    worst = 0.0
    for world in WORLDS:
        run = _learn(context, world)
        sessions = list(_record(context, world, run, unsuited))
        for session, found in zip(sessions, _replayed(run, sessions), strict=True):
            totals = {name: totals[name] + found[name] for name in totals}
            worst = max(worst, found["difference"])
            rows.append(Row(label=f"{session.planner}, {session.setting}", group=session.world, figures={
                "decisions": Figure(value=found["decisions"]), "identical": Figure(value=found["identical"]),
                "difference": Figure(value=found["difference"]),
            }))
        context.say(f"{world.id} done: {totals['identical']} of {totals['decisions']} decisions identical so far")
    table = Table(
        name="replay", title="Decisions made again by another process",
        columns=(Column(key="decisions", title="decisions", form="count"),
                 Column(key="identical", title="identical", form="count", better="higher"),
                 Column(key="difference", title="largest difference", better="lower")),
        rows=tuple(rows), protocol={"episodes": EPISODES, "seed": context.seed},
        notes=("Identical: every entry of the whole plan, bit for bit.",
               f"Not suited, and said so: {'; '.join(unsuited) or 'none'}."),
    )
    shown = picture(_draw(rows), "replay", "Recorded and replayed", "decisions and identical replays by planner",
                    "One bar a session; the dark part is identical.")
    planners = {row.label.partition(",")[0] for row in rows}
    figures = {**totals, "largest_difference": worst, "sessions": len(rows), "planners": len(planners)}
    return Outcome(figures, (table,), (shown,))


def _learn(context: Context, world: World) -> Path:
    """A small model is enough: what counts is that its decisions come again."""
    place = context.run / world.id.lower()
    if world.id == "two-rooms":
        log = two_rooms.log(place / "log", episodes=64, seed=context.seed)
        config = two_rooms.recipe(steps=30, seed=context.seed)
    else:
        log = _log(world.id, place / "log", context.seed)
        config = vectors.recipe(steps=STEPS, size=5, seed=context.seed)
    config = msgspec.structs.replace(config, gauge_every=0)
    with training.create_run(place / "run", config, log, recipe=world.id) as run:
        training.train(config, log, run, progress=context.progress)
    fit_readout(Run.open(place / "run"), training.split(config, log)[0], seed=context.seed)
    return place / "run"


def _log(env: str, path: Path, seed: int) -> Dataset:
    world = make_world(env)
    with CacheWriter(path, world.signature, origin=f"{env}, seed {seed}") as writer:
        for episode in act(world.env, steps=LOG, seed=seed, adapter=world.adapter):
            if len(episode) >= 8:
                writer.append([episode])
        writer.finish()
    world.close()
    return Dataset.open(path)


def _record(context: Context, world: World, path: Path, unsuited: list[str]) -> Iterator[Recorded]:
    run = Run.open(path)
    for config in _planners():
        name = str(config.__struct_config__.tag)
        agent = Agent.load(run, planner=config.build())
        for setting, task in _tasks(world, agent, context.seed):
            try:
                recorder = record_decisions(agent, run, world=world.id)
                try:
                    act_in(agent, world.id, task, episodes=EPISODES, seed=context.seed, longest=world.longest)
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


def _tasks(world: World, agent: Agent, seed: int) -> Iterator[tuple[str, Task]]:
    if world.goal is None:
        goal: ObservationGoal | ColumnGoal = own_goal(world.id, EPISODES, seed)
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
