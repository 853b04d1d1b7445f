"""What a critic of intrinsic cost is worth to a short look: three steps with it, three without, fifteen without.

Pendulum and Hazards, learned from logs; the critic is fitted to practice whose
first life looks fifteen steps ahead, and every planner is given equal predictor
calls. In Hazards nothing keeps the point away from obstacles but what touching them costs: a look of three steps sees
an obstacle when it is too late to stop.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch

from steersman import training
from steersman.actor import ICEM
from steersman.agent import Agent
from steersman.agent.fitting import fit_readout
from steersman.core import ColumnGoal, Task
from steersman.cost import ExcessCost, IntrinsicCritic
from steersman.data import CacheWriter, Dataset
from steersman.evaluation import Tally, drifted
from steersman.evaluation.acting import act_in, start_seed
from steersman.evaluation.practising import kept_round, practise
from steersman.evaluation.protocol import follow
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.control_worlds import WORLDS as CONTROL
from steersman.evidence.drawing import canvas, picture
from steersman.evidence.guardrails_trial import guardrails
from steersman.recipes import hazards as recipe
from steersman.runs import Run
from steersman.runs.artefacts import Column, Figure, Row, Table
from steersman.studio import quantities as q
from steersman.worlds import GymnasiumTrials, Hazards, Trials, make_world

SEEDS = 3
WORLDS = ("pendulum", "hazards")
SHORT, LONG = 3, 15
CALLS = 720
"""Predictor calls a decision, of every planner: two rounds of iCEM."""
ENV, UPRIGHT = "Pendulum-v1", {"cos": 1.0, "sin": 0.0, "speed": 0.0}
HAZARDS = Hazards.Config(radius=(0.6, 1.0), drag=0.1, layouts=8)
"""Faster than usual, between larger obstacles, in eight layouts; starts and goals are new in every episode."""
PAIN, DEEP = 20.0, 0.5
"""What touching costs, in squared metres to the goal, and the depth that costs as much again, m."""


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """steps: of training, None: the recipe's; log: episodes of Hazards logged; scored: episodes, in pendulum and in
    Hazards; rounds, lived: fits, and episodes of each life, of practice; fit: steps of a fit."""

    steps: int | None = None
    log: int = 1500
    scored: tuple[int, int] = (16, 150)
    rounds: tuple[int, int] = (4, 2)
    lived: tuple[int, int] = (40, 512)
    fit: int = 2500


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One cell."""

    world: str
    sizes: Sizes


class Looks(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Scores of the same episodes, returns or 1 and 0, of each look; `floor`: of who looks at nothing.

    r2      of the kept critic, on held-out episodes of practice; lives: what a moment cost in each life of practice
    steps   of the world that practice took; train, practice: CPU-seconds
    """

    with_critic: list[float]
    without: list[float]
    long: list[float]
    floor: list[float]
    r2: float
    lives: list[float]
    steps: int
    train: float
    practice: float


def cells(seed: int, sizes: Sizes = Sizes()) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """Both worlds, three training seeds each."""
    return tuple(Cell(world, perform, 150, s, Settings(world, sizes))
                 for s in range(seed, seed + SEEDS) for world in WORLDS)


def perform(context: Context) -> Found:
    """Train, practise, look."""
    settings: Settings = context.settings
    sizes, hazards = settings.sizes, settings.world == "hazards"
    started = time.process_time()
    run = learned(settings.world, context.folder, context.seed, sizes.steps, sizes.log)
    trained = time.process_time()
    agent = looking(run, settings.world, SHORT, CALLS // 3)
    weights = weights_of(settings.world)
    config = IntrinsicCritic.Config(discount=0.9 if hazards else 0.96, steps=sizes.fit,
                                    hidden=(256, 256) if hazards else (128, 128))
    lives = practise(
        agent, HAZARDS.begin if hazards else swings, Task(goal_of(settings.world), weights={**weights, "critic": 1.0}),
        told=("x", "y") if hazards else (), rounds=sizes.rounds[hazards], episodes=sizes.lived[hazards],
        longest=60 if hazards else 200, astray=10 if hazards else 40, remember=3, first=LONG,
        config=config, seed=context.seed)
    critic, best = agent.additions.costs["critic"], kept_round(lives)
    practised = time.process_time()
    count = sizes.scored[hazards]
    short = looking(run, settings.world, SHORT, CALLS)
    without, floor = score(short, settings.world, weights, count, context.seed)
    long, _ = score(looking(run, settings.world, LONG, CALLS), settings.world, weights, count, context.seed)
    short.add_cost(critic)
    found, _ = score(short, settings.world, {**weights, "critic": 1.0}, count, context.seed)
    assert best.fit is not None
    context.say(f"{settings.world}, seed {context.seed}: {SHORT} steps with the critic {statistics.fmean(found):.3g}, "
                f"without {statistics.fmean(without):.3g}, {LONG} without {statistics.fmean(long):.3g}; R² "
                f"{best.fit.r2:.3f}; lives {', '.join(f'{one.cost:.3g}' for one in lives)}")
    record = Looks(with_critic=found, without=without, long=long, floor=floor, r2=best.fit.r2,
                   lives=[one.cost for one in lives], steps=sum(one.steps for one in lives), train=trained - started,
                   practice=practised - trained)
    return Found({settings.world: figures_of([record])}, record)


def summary(results: Results) -> Outcome:
    """Figures of each world over its seeds."""
    figures: dict[str, dict[str, Any]] = {}
    found: dict[str, list[Looks]] = {}
    for one in results:
        found.setdefault(one.cell.row, []).append(one.record(Looks))
    for world, seeds in found.items():
        figures[world] = figures_of(seeds)
    shown = picture(_draw(figures), "looks", "A short look with a critic",
                    "scores of three steps with and without a critic and of fifteen without, one panel a world",
                    "Bars: means over episodes of all seeds; dots: seeds. Higher is better.")
    return Outcome(figures, (_table(figures, found),), (shown,))


def figures_of(seeds: list[Looks]) -> dict[str, Any]:
    """Means over seeds, and each seed's; `short_share`: of what 15 steps gain over the floor, 3 gain without."""
    def mean(pick: str) -> tuple[float, list[float]]:
        each = [statistics.fmean(getattr(seed, pick)) for seed in seeds]
        return statistics.fmean(each), each

    figures: dict[str, Any] = {}
    for key, pick in (("h3_with_critic", "with_critic"), ("h3_without", "without"), ("h15_without", "long"),
                      ("floor", "floor")):
        figures[key], figures[f"{key}_by_seed"] = mean(pick)
    gained = figures["h15_without"] - figures["floor"]
    figures["short_share"] = (figures["h3_without"] - figures["floor"]) / gained if gained else None
    figures |= {"r2": statistics.fmean(seed.r2 for seed in seeds), "r2_by_seed": [seed.r2 for seed in seeds],
                "calls": CALLS, "practice_steps": statistics.fmean(seed.steps for seed in seeds),
                "train_cpu_seconds": max(seed.train for seed in seeds),
                "practice_cpu_seconds": max(seed.practice for seed in seeds)}
    return figures


# What is given and asked -------------------------------------------------------------------------------------------


def learned(
    world: str, folder: Path, seed: int, steps: int | None, log: int, hazards: Hazards.Config = HAZARDS
) -> Path:
    """A run trained on a log: 5,000 random steps of the pendulum, or `log` roamed episodes of Hazards."""
    given = {} if steps is None else {"steps": steps}
    if world == "pendulum":
        dataset = CONTROL[world].log(folder / "log", seed)
        config = CONTROL[world].ours(seed=seed, **given)
    else:
        with CacheWriter(folder / "log", hazards.signature, origin=f"roaming, seed {seed}") as writer:
            writer.append(hazards.log(log, 64, seed))
            writer.finish()
        dataset = Dataset.open(folder / "log")
        config = recipe.recipe(seed=seed, **({"steps": 2500} | given))
    with training.create_run(folder / "run", config, dataset, recipe=world) as run:
        training.train(config, dataset, run)
    fit_readout(Run.open(folder / "run"), dataset, seed=seed)
    return folder / "run"


def looking(
    run: Path, world: str, horizon: int, calls: int, hazards: Hazards.Config = HAZARDS
) -> Agent:
    """The run's agent with two rounds of iCEM, `calls` predictor calls a decision; in Hazards touching hurts."""
    agent = Agent.load(run, planner=planner(horizon, calls))
    if world == "hazards":
        assert agent.readout is not None
        for limit in guardrails(agent.readout, hazards):
            agent.add_cost(ExcessCost(limit, size=DEEP), intrinsic=True)
    return agent


def planner(horizon: int, calls: int) -> ICEM:
    """Two rounds of iCEM, `calls` predictor calls a decision."""
    samples = max(4, calls // (2 * horizon))
    return ICEM(ICEM.Config(samples=samples, iterations=2, elites=max(2, samples // 8), horizon=horizon))


def goal_of(world: str) -> ColumnGoal:
    """Of the pendulum; of Hazards without the places, which are each episode's."""
    return ColumnGoal(UPRIGHT) if world == "pendulum" else ColumnGoal({"x": 0.0, "y": 0.0}, {"x": 1.0, "y": 1.0})


def weights_of(world: str) -> dict[str, float]:
    """What a moment costs: the goal, and touching."""
    return {"goal": 1.0} if world == "pendulum" else {"goal": 1.0, "obstacles-broken": PAIN, "arena-broken": PAIN}


def swings(count: int, seed: int) -> Trials:
    """Pendulums in any position."""
    return GymnasiumTrials([make_world(ENV) for _ in range(count)], [start_seed(seed, i) for i in range(count)])


def score(
    agent: Agent, world: str, weights: dict[str, float], count: int, seed: int
) -> tuple[list[float], list[float]]:
    """Returns of unseen starts; or whether goals were reached without touching anything. And the floor's."""
    task = Task(goal_of(world), weights=weights)
    if world == "pendulum":
        acted = act_in(agent, ENV, task, episodes=count, seed=seed)
        return acted.returns, acted.random_returns
    trials = HAZARDS.begin(count, 1_000_003 * (seed + 1))
    generator = torch.Generator().manual_seed(seed)
    floor = drifted(HAZARDS.begin(count, 1_000_003 * (seed + 1)), HAZARDS.step_limit, generator)
    tally = Tally(trials, HAZARDS.step_limit)
    assert isinstance(task.goal, ColumnGoal)
    aims = trials.goals()
    follow(agent, tally, replace(task, goal=replace(task.goal, targets=aims.targets)), seed)
    return ((tally.success & ~tally.violated).float().tolist(), (floor.success & ~floor.violated).float().tolist())


# What is shown -----------------------------------------------------------------------------------------------------


def _table(figures: dict[str, dict[str, Any]], found: dict[str, list[Looks]]) -> Table:
    rows = []
    for world, given in figures.items():
        for label, key, pick in ((f"{SHORT} steps with the critic", "h3_with_critic", "with_critic"),
                                 (f"{SHORT} steps", "h3_without", "without"), (f"{LONG} steps", "h15_without", "long"),
                                 ("random actions", "floor", "floor")):
            told = {"score": q.mean([x for seed in found[world] for x in getattr(seed, pick)])}
            if key == "h3_with_critic":
                told["r2"] = Figure(value=given["r2"])
            kind = {"h3_with_critic": "agent", "floor": "baseline"}.get(key, "ablation")
            rows.append(Row(label=label, kind=kind, figures=told, group=world))  # type: ignore[arg-type]
    return Table(
        name="critic", title="A short look with a critic",
        columns=(Column(key="score", title="score", better="higher"),
                 Column(key="r2", title="R² of returns, held out", better="higher", target=0.9)),
        rows=tuple(rows), protocol={"calls a decision": CALLS, "seeds": max(map(len, found.values()))},
        notes=("Score: return of the pendulum; in Hazards the share that reached the goal and touched nothing.",
               "Equal predictor calls a decision: a shorter look tries more plans.",
               "Intervals: 95%, normal approximation over episodes of all seeds.",
               f"Hazards: {HAZARDS.layouts} layouts, radii {HAZARDS.radius[0]:g} to {HAZARDS.radius[1]:g} m, drag "
               f"{HAZARDS.drag:g}; no guardrails, touching costs."),
    )


def _draw(figures: dict[str, dict[str, Any]]) -> Any:
    figure, axes = canvas(3.4 * len(figures), 3.0, 1, len(figures), squeeze=False)
    for panel, (world, given) in zip(axes[0], figures.items(), strict=True):
        keys = ("h3_with_critic", "h3_without", "h15_without", "floor")
        panel.bar(range(4), [given[key] for key in keys], color=["#0072b2", "#e69f00", "#009e73", "#999999"])
        for i, key in enumerate(keys):
            panel.plot([i] * len(given[f"{key}_by_seed"]), given[f"{key}_by_seed"], "k.")
        panel.set_xticks(range(4), ["3 + critic", "3", "15", "random"])
        panel.set_title(world)
    return figure
