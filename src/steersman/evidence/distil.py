"""Mode 1 beside the Mode 2 that it was distilled from: what is kept of its success, and how many times faster it is.

Pendulum and Hazards from logs. A policy copies the plans of a look of fifteen steps (thirty-five for the pendulum) on
moments of the log, with relabelling in imagination; another one of the pendulum descends the goal's cost through the
model. Acted in from starts, and in Hazards layouts and goals, that neither the log nor the plans had.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman.actor import DistilledPolicy
from steersman.agent import Agent
from steersman.agent.descending import descend
from steersman.agent.distilling import distil
from steersman.core import ColumnGoal, Observation, Task
from steersman.data import Dataset
from steersman.evaluation import Tally, drifted
from steersman.evaluation.acting import start_seed
from steersman.evidence import critic as looks
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.drawing import canvas, picture
from steersman.runs.artefacts import Column, Figure, Row, Table
from steersman.studio import quantities as q
from steersman.worlds import GymnasiumTrials, Hazards, Trials, make_world

SEEDS = 3
WORLDS = ("pendulum", "hazards")
AHEAD = {"pendulum": (35, 4480), "hazards": (15, 720)}  # horizon, calls of a decision
_TIMED = 20


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """steps, log: as in `critic`; moments: of the log planned for; relabel: rounds; fit: steps of each; descent: steps
    of descending; scored: episodes, of the pendulum and of Hazards."""

    steps: int | None = None
    log: int = 1500
    moments: tuple[int, int] = (1500, 6000)
    relabel: int = 2
    fit: int = 2500
    descent: int = 300
    scored: tuple[int, int] = (16, 150)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One cell."""

    world: str
    sizes: Sizes


class Habits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Scores of the same episodes, returns or 1 and 0; ms: CPU-time of one decision for one observation.

    descended  of the policy that descended the cost; empty where there is none
    """

    mode1: list[float]
    mode2: list[float]
    floor: list[float]
    descended: list[float]
    mode1_ms: float
    mode2_ms: float
    error: float
    constant: float


def cells(seed: int, sizes: Sizes = Sizes()) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """Both worlds, three training seeds each."""
    return tuple(Cell(world, perform, 120, s, Settings(world, sizes))
                 for s in range(seed, seed + SEEDS) for world in WORLDS)


def perform(context: Context) -> Found:
    """Train, distil, act."""
    settings: Settings = context.settings
    world, sizes, seed = settings.world, settings.sizes, context.seed
    hazards = world == "hazards"
    run = looks.learned(world, context.folder, seed, sizes.steps, sizes.log, unseen())
    agent = looks.looking(run, world, *AHEAD[world], unseen())
    log, task = Dataset.open(context.folder / "log"), Task(looks.goal_of(world), weights=looks.weights_of(world))
    policy, fidelity = distil(agent, task, log, told=("x", "y") if hazards else (), moments=sizes.moments[hazards],
                              relabel=sizes.relabel, steps=sizes.fit, seed=seed,
                              config=DistilledPolicy.Config(hidden=(256, 256) if hazards else (128, 128)))
    agent.add_policy("habit", policy)
    count = sizes.scored[hazards]
    mode2, mode1 = (acted(one, world, task, count, seed) for one in (planned(agent), by_habit(agent)))
    descended: list[float] = []
    if not hazards:
        other, _ = descend(agent, task, log, horizon=AHEAD[world][0], steps=sizes.descent, seed=seed)
        agent.add_policy("habit", other)
        descended = acted(by_habit(agent), world, task, count, seed)
        agent.add_policy("habit", policy)
    times = [milliseconds(agent, world, task, one, seed) for one in (by_habit(agent), planned(agent))]
    found = Habits(mode1=mode1, mode2=mode2, floor=_floor(world, count, seed), descended=descended, mode1_ms=times[0],
                   mode2_ms=times[1], error=fidelity.error, constant=fidelity.constant)
    figures = figures_of([found])
    context.say(f"{world}, seed {seed}: Mode 2 {figures['mode2']:.3g}, Mode 1 {figures['mode1']:.3g}, share "
                f"{figures['mode1_share']:.3f}, {figures['speedup']:.0f} times faster")
    return Found({world: figures}, found)


def summary(results: Results) -> Outcome:
    """Figures of each world over its seeds."""
    found: dict[str, list[Habits]] = {}
    for one in results:
        found.setdefault(one.cell.row, []).append(one.record(Habits))
    figures = {world: figures_of(seeds) for world, seeds in found.items()}
    shown = picture(_draw(figures), "habits", "Mode 1 beside Mode 2",
                    "scores of Mode 2, of the policy distilled from it and of random actions, one panel a world",
                    "Bars: means over episodes of all seeds. Higher is better.")
    return Outcome(figures, (_table(figures, found),), (shown,))


def figures_of(seeds: list[Habits]) -> dict[str, Any]:
    """`mode1_share`: of what Mode 2 gains over random actions, Mode 1 gains (in Hazards random actions gain nothing);
    `speedup`: CPU-time of a decision of Mode 2 over that of Mode 1."""
    def mean(pick: str) -> float:
        return statistics.fmean(statistics.fmean(getattr(seed, pick)) for seed in seeds)

    def share(seed: Habits, pick: str) -> float | None:
        floor, top = statistics.fmean(seed.floor), statistics.fmean(seed.mode2)
        return (statistics.fmean(getattr(seed, pick)) - floor) / (top - floor) if top > floor else None

    shares = [share(seed, "mode1") for seed in seeds]
    known = [x for x in shares if x is not None]
    figures: dict[str, Any] = {
        "mode1_share": statistics.fmean(known) if known else 0.0, "mode1_share_by_seed": shares,
        "speedup": min(seed.mode2_ms / seed.mode1_ms for seed in seeds),
        "speedup_by_seed": [seed.mode2_ms / seed.mode1_ms for seed in seeds],
        "mode1": mean("mode1"), "mode2": mean("mode2"), "floor": mean("floor"),
        "mode1_ms": statistics.fmean(seed.mode1_ms for seed in seeds),
        "mode2_ms": statistics.fmean(seed.mode2_ms for seed in seeds),
        "copy_error": statistics.fmean(seed.error for seed in seeds),
        "constant_error": statistics.fmean(seed.constant for seed in seeds),
    }
    if all(seed.descended for seed in seeds):
        figures["descended"] = mean("descended")
        told = [x for x in (share(seed, "descended") for seed in seeds) if x is not None]
        figures["descended_share"] = statistics.fmean(told) if told else 0.0
    return figures


# Who acts ----------------------------------------------------------------------------------------------------------

Acts = Callable[[Observation, Task, int], Tensor]
"""Observations of B episodes, the task and the number of the step -> actions (B, A)."""


def unseen() -> Hazards.Config:
    """Hazards as usual: every episode has a layout of its own."""
    return Hazards.Config()


def planned(agent: Agent) -> Acts:
    """Mode 2."""
    def act(observation: Observation, task: Task, step: int) -> Tensor:
        if step == 0:
            agent.reset(0)
        return agent.act(observation, task).action

    return act


def by_habit(agent: Agent) -> Acts:
    """Mode 1: the policy that the agent calls "habit"."""
    return lambda observation, task, step: agent.propose(observation, task, "habit")


def begun(world: str, count: int, seed: int) -> Trials:
    """Episodes that nothing was learned from."""
    if world == "hazards":
        return unseen().begin(count, 1_000_003 * (seed + 1))
    return GymnasiumTrials([make_world(looks.ENV) for _ in range(count)], [start_seed(seed, i) for i in range(count)])


def begun_for(world: str) -> Callable[[int, int], Trials]:
    """Episodes and a seed -> such episodes."""
    return partial(begun, world)


def acted(act: Acts, world: str, task: Task, count: int, seed: int) -> list[float]:
    """Returns, or whether goals were reached without touching anything."""
    trials = begun(world, count, seed)
    task = towards_trials(task, trials)
    tally = Tally(trials, 200 if world == "pendulum" else unseen().step_limit)
    while bool(tally.on.any()):
        tally.step(act(trials.observe(), task, tally.time).clone())
    return scores_of(tally)


def milliseconds(agent: Agent, world: str, task: Task, act: Acts, seed: int) -> float:
    """CPU-time of a decision for one observation, median."""
    trials = begun(world, 1, seed)
    task, seen, times = towards_trials(task, trials), trials.observe(), []
    for step in range(_TIMED):
        before = time.process_time()
        act(seen, task, step)
        times.append(1000 * (time.process_time() - before))
    agent.reset()
    return statistics.median(times[2:])


def _floor(world: str, count: int, seed: int) -> list[float]:
    limit = 200 if world == "pendulum" else unseen().step_limit
    return scores_of(drifted(begun(world, count, seed), limit, torch.Generator().manual_seed(seed)))


def scores_of(tally: Tally) -> list[float]:
    trials = tally.trials
    if isinstance(trials, GymnasiumTrials):
        return [float(x) for x in trials.returns.tolist()]
    return [float(x) for x in (tally.success & ~tally.violated).tolist()]


def towards_trials(task: Task, trials: Trials) -> Task:
    if isinstance(trials, GymnasiumTrials) or not isinstance(task.goal, ColumnGoal):
        return task
    aims = trials.goals()
    assert isinstance(aims, ColumnGoal)
    return replace(task, goal=replace(task.goal, targets=aims.targets))


# What is shown -----------------------------------------------------------------------------------------------------


def _table(figures: dict[str, dict[str, Any]], found: dict[str, list[Habits]]) -> Table:
    rows = []
    for world, given in figures.items():
        kinds = [("Mode 2, the planner", "mode2", "baseline"), ("Mode 1, distilled from it", "mode1", "agent"),
                 ("random actions", "floor", "baseline")]
        if "descended" in given:
            kinds.insert(2, ("Mode 1, by descending the cost", "descended", "ablation"))
        for label, key, kind in kinds:
            told = {"score": q.mean([x for seed in found[world] for x in getattr(seed, key)])}
            if key in ("mode1", "mode2"):
                told["ms"] = Figure(value=given[f"{key}_ms"])
            if key == "mode1":
                told |= {"share": Figure(value=given["mode1_share"]), "speedup": Figure(value=given["speedup"])}
            rows.append(Row(label=label, kind=kind, figures=told, group=world))  # type: ignore[arg-type]
    return Table(
        name="distil", title="Mode 1 beside Mode 2",
        columns=(Column(key="score", title="score", better="higher"),
                 Column(key="share", title="share of Mode 2's", better="higher", target=0.9),
                 Column(key="speedup", title="times faster", better="higher", target=50.0),
                 Column(key="ms", title="a decision, CPU", unit="ms", better="lower")),
        rows=tuple(rows), protocol={"seeds": max(map(len, found.values())), "starts": "the same for all"},
        notes=("Score: return of the pendulum; in Hazards the share that reached the goal and touched nothing.",
               "The share is of what Mode 2 gains over random actions. Times faster: the least of the seeds.",
               "Intervals: 95%, normal approximation over episodes of all seeds."),
    )


def _draw(figures: dict[str, dict[str, Any]]) -> Any:
    figure, axes = canvas(3.2 * len(figures), 3.0, 1, len(figures), squeeze=False)
    for panel, (world, given) in zip(axes[0], figures.items(), strict=True):
        heights = [given[key] for key in ("mode2", "mode1", "floor")]
        panel.bar(range(3), heights, color=["#009e73", "#0072b2", "#999999"])
        panel.set_xticks(range(3), ["Mode 2", "Mode 1", "random"])
        panel.set_title(world)
    return figure
