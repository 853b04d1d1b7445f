"""A plant: hold a stirred-tank reactor's product through disturbances under a temperature limit, from 20,000 steps.

What is measured, over unseen episodes: periods above the limit, and the integrated tracking error, beside do-mpc's
controller that knows the true equations, a tuned PID, and the same agent without its guardrail; planning time a step.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman import training
from steersman.agent import Agent
from steersman.agent.fitting import fit_readout
from steersman.core import ColumnGoal, Guardrail, Task
from steersman.cost import Box, Margins
from steersman.data import CacheWriter, Dataset
from steersman.evaluation import margins_kept, measure_margins
from steersman.evidence import tensors
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.reactor_nmpc import NMPC, replay
from steersman.evidence.reactor_pid import PID, tune
from steersman.evidence.reactor_report import picture, table
from steersman.evidence.reactor_trials import IDLE, MOVE, WARM, Controller, Scenario, Trial, perform
from steersman.recipes import reactor as recipe
from steersman.runs import Run
from steersman.worlds import Plant, reactor
from steersman.worlds.reactor import LIMIT, SCALE, WARMTH

TRIAL = "trial.safetensors"
LEVEL, RECOURSE = 0.97, 5
"""What the margin promises, and for how many steps: the jacket takes about five periods to cool the reactor."""


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much of everything.

    log, log_steps     episodes of the log, and steps of each; fresh: of a new log that the promise is measured on
    steps              of training
    level              what the margin promises
    episodes, periods  of control, a controller
    tuning             rounds of search for the PID
    clocked            decisions that are timed
    compared           periods over which our integration is held against do-mpc's
    """

    log: int = 100
    log_steps: int = 200
    fresh: int = 40
    steps: int = 1500
    level: float = LEVEL
    episodes: int = 20
    periods: int = 120
    tuning: int = 20
    clocked: int = 60
    compared: int = 40


class Tuned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The PID's settings, as `reactor_pid.NAMES`."""

    settings: list[float]


class Learned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What learning left besides the run."""

    margins: Margins
    seconds: float


@dataclass
class Steersman:
    """Our agent as a controller: a goal on two columns, moves of the inputs, and a guardrail or none."""

    agent: Agent
    guardrails: tuple[Guardrail, ...] = ()
    infeasible: int = 0

    def reset(self, episodes: int) -> None:
        self.agent.reset(range(episodes))
        self.infeasible, self.ms, self.foreseen = 0, [], []  # type: ignore[var-annotated]

    def act(self, measured: Tensor, target: Tensor, executed: Tensor | None) -> Tensor:
        goal = ColumnGoal({"C_b": target.float(), "T_R": WARMTH}, SCALE)  # type: ignore[dict-item]
        task = Task(
            goal, {"goal": 1.0, "smoothness": MOVE}, self.guardrails, fallback=torch.tensor([IDLE[0], reactor.LOW[1]])
        )
        since = None if executed is None else executed.float()[:, None]
        started = time.perf_counter()
        plan = self.agent.act({"vector": measured.float()}, task, since=since)
        self.ms.append(1e3 * (time.perf_counter() - started))
        self.infeasible += int((~plan.feasible).sum())
        assert self.agent.readout is not None
        with torch.inference_mode():
            following = self.agent.readout.read(plan.imagined.states[:, 0, 1], plan.imagined.context)
        self.foreseen.append(following[:, self.agent.readout.columns.index("T_R")].clone().double())
        return plan.action


def cells(seed: int, sizes: Sizes = Sizes()) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """A model, whether its margin holds, and every controller on the same scenario."""
    model = Cell("model", learn, 180, seed, sizes)
    ours = Cell("steersman", guarded, 180, seed, sizes, (model,))
    pid = Cell("tuning", tuned, 120, seed, sizes)
    return (
        model, Cell("promise", promise, 60, seed, sizes, (model,)), ours,
        Cell("without-guardrail", unguarded, 180, seed, sizes, (model,)),
        pid, Cell("PID", proportional, 30, seed, sizes, (pid,)), Cell("do-mpc", nonlinear, 240, seed, sizes),
        Cell("clock", clocked, 120, seed, sizes, (model,)), Cell("simulator", compared, 30, seed, sizes, (ours,)),
    )


# Cells -----------------------------------------------------------------------------------------------------------


def learn(context: Context) -> Found:
    """Record the log, train on it, calibrate the margin on what was held out."""
    sizes: Sizes = context.settings
    context.say(f"{sizes.log * sizes.log_steps:,} steps of the plant under random inputs")
    dataset = historian(context.folder / "log", context.seed, sizes.log, sizes.log_steps)
    config = recipe.recipe(steps=sizes.steps, seed=context.seed)
    with training.create_run(context.folder / "run", config, dataset, recipe="reactor") as run:
        trained = training.train(config, dataset, run, progress=context.progress)
    learned, later = training.split(config, dataset)
    fit_readout(Run.open(context.folder / "run"), learned, seed=context.seed)
    agent = Agent.load(context.folder / "run")
    margins = measure_margins(
        agent, learned, later, limit(agent), level=sizes.level, recourse=RECOURSE, seed=context.seed)
    context.say(margins.promise)
    figures = {"stated_probability": sizes.level, "recourse": RECOURSE, "margin_first": margins.by_step[0],
               "margin_last": margins.by_step[-1], "train_seconds": trained.seconds}
    return Found({"": figures}, Learned(margins, trained.seconds))


def promise(context: Context) -> Found:
    """How often the margin holds in a log that is recorded afterwards."""
    agent, margins = _loaded(context)
    sizes: Sizes = context.settings
    fresh = historian(context.folder / "fresh", context.seed + 4_000_000, sizes.fresh, sizes.log_steps)
    measured = margins_kept(agent, fresh, limit(agent), margins, seed=context.seed)
    context.say(f"measured on {sizes.fresh} new episodes: {measured:.4f}")
    return Found({"": {"measured_probability": measured}})


def guarded(context: Context) -> Found:
    """Our agent; and whether what it foresaw one step ahead stayed within the margin."""
    sizes: Sizes = context.settings
    agent, margins = _loaded(context)
    ours = Steersman(agent, (limit(agent, margins),))
    trial = _tried(context, "steersman", ours)
    colder = trial.states[..., 2] - torch.stack(ours.foreseen, 1)[:, WARM:]
    return Found({"": {
        "violations": int(trial.violations.sum()), "error": float(trial.error.mean()), "episodes": sizes.episodes,
        "hottest": float(trial.hottest.max()),
        "infeasible": ours.infeasible / (sizes.episodes * (sizes.periods + WARM)),
        "first_step_probability": float((colder <= margins.by_step[0]).double().mean()),
    }})


def unguarded(context: Context) -> Found:
    """The same agent without its guardrail."""
    trial = _tried(context, "without guardrail", Steersman(_loaded(context)[0]))
    return Found({"": {
        "unguarded_violations": int(trial.violations.sum()), "error_unguarded": float(trial.error.mean()),
        "unguarded_episodes": int((trial.violations > 0).sum()),
    }})


def nonlinear(context: Context) -> Found:
    """do-mpc's controller, which knows the true equations."""
    trial = _tried(context, "do-mpc", NMPC())
    return Found({"": {"error_nmpc": float(trial.error.mean()), "violations_nmpc": int(trial.violations.sum())}})


def tuned(context: Context) -> Found:
    """Search for the PID's settings, on scenarios of its own."""
    sizes: Sizes = context.settings
    context.say("tuning the PID on scenarios of its own")
    return Found({}, Tuned(tune(context.seed + 1_000_000, rounds=sizes.tuning).tolist()))


def proportional(context: Context) -> Found:
    """The tuned PID."""
    (settings,) = context.needs
    trial = _tried(context, "PID", PID(torch.tensor(settings.record(Tuned).settings, dtype=torch.float64)))
    return Found({"": {"error_pid": float(trial.error.mean()), "violations_pid": int(trial.violations.sum())}})


def clocked(context: Context) -> Found:
    """What a decision takes, beside do-mpc's."""
    agent, margins = _loaded(context)
    mine, theirs = clock(agent, (limit(agent, margins),), NMPC(), context.seed + 3_000_000, context.settings.clocked)
    return Found({"": {"ms_per_step": mine, "ms_per_step_nmpc": theirs}})


def compared(context: Context) -> Found:
    """Our integration beside do-mpc's simulator."""
    trial = tensors.load(context.needs[0].folder / TRIAL, Trial)
    return Found({"": {"simulator_difference": difference(trial, _scenario(context), context.settings.compared)}})


def _loaded(context: Context) -> tuple[Agent, Margins]:
    (model,) = context.needs
    return Agent.load(model.folder / "run"), model.record(Learned).margins


def _scenario(context: Context) -> Scenario:
    sizes: Sizes = context.settings
    return Scenario.drawn(sizes.episodes, sizes.periods, context.seed + 2_000_000)


def _tried(context: Context, name: str, controller: Controller) -> Trial:
    """Put a controller through the scenario; its trajectories are left for the summary."""
    trial = perform(controller, _scenario(context))
    context.say(f"{name}: error {trial.error.mean():.5f} mol h/l, {int(trial.violations.sum())} periods above "
                f"{LIMIT:g} °C in {int((trial.violations > 0).sum())} of {len(trial.error)} episodes")
    tensors.save(context.folder / TRIAL, trial)
    return trial


def summary(results: Results) -> Outcome:
    """The controllers side by side."""
    figures: dict[str, Any] = {}
    trials: dict[str, Trial] = {}
    margins = None
    for one in results:
        figures |= one.kept.figures.get("", {})
        if (one.folder / TRIAL).exists():
            trials[one.cell.row.replace("-guardrail", " guardrail")] = tensors.load(one.folder / TRIAL, Trial)
        if one.cell.row == "model":
            margins = one.record(Learned).margins
    if {"error", "error_nmpc"} <= set(figures):
        figures["ratio_nmpc"] = figures["error"] / figures["error_nmpc"]
    if not trials:
        return Outcome({"": figures})
    return Outcome({"": figures}, (table(trials, figures, margins),), (picture(trials),))


# What they are made of -------------------------------------------------------------------------------------------


def limit(agent: Agent, margins: Margins | float = 0.0) -> Box:
    """The guardrail: the reactor's temperature."""
    assert agent.readout is not None
    return Box(agent.readout, {"T_R": (-torch.inf, LIMIT)}, margin={"T_R": margins}, name=f"T_R <= {LIMIT:g}")


def historian(place: Path, seed: int, episodes: int, steps: int) -> Dataset:
    """A log as a dataset at `place`."""
    with CacheWriter(place, reactor.SIGNATURE, origin="the reactor under random inputs") as writer:
        writer.append(Plant().log(episodes, steps, seed))
        writer.finish(f"reactor {seed} {episodes} {steps}")
    return Dataset.open(place)


def clock(
    agent: Agent, guardrails: tuple[Guardrail, ...], nmpc: NMPC, seed: int, count: int
) -> tuple[float, float]:
    """Median milliseconds of a decision for one plant, ours and do-mpc's in turn in one loop, estimation included."""
    scenario = Scenario.drawn(1, count, seed)
    ours = Steersman(agent, guardrails)
    ours.reset(1)
    nmpc.reset(1)
    state = torch.tensor(reactor.START, dtype=torch.float64)[None]
    executed = None
    for t in range(WARM + count):  # time is sequential
        measured = state + scenario.noise[:, t]
        wanted = ours.act(measured, scenario.target[:, t], executed)
        nmpc.act(measured, scenario.target[:, t], executed)
        executed = torch.tensor(IDLE, dtype=torch.float64)[None] if t < WARM else wanted.double()
        state, _ = reactor.advance(state, executed, scenario.conditions[:, t])
    return statistics.median(ours.ms[WARM:]), statistics.median(nmpc.ms[WARM:])


def difference(trial: Trial, scenario: Scenario, periods: int) -> float:
    """Largest difference between our integration and do-mpc's simulator, in units of each column's noise."""
    theirs = replay(trial.states[0, 0], trial.inputs[0, 1 : periods + 1], scenario.conditions[0, WARM + 1 :])
    ours = trial.states[0, 1 : periods + 1]
    return float(((theirs - ours) / torch.tensor(reactor.NOISE, dtype=torch.float64)).abs().max())
