"""A plant: hold a stirred-tank reactor's product through disturbances under a temperature limit, from 20,000 steps.

What is measured, over unseen episodes: periods above the limit, and the integrated tracking error, beside do-mpc's
controller that knows the true equations, a tuned PID, and the same agent without its guardrail; planning time a step.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from steersman import training
from steersman.agent import Agent
from steersman.agent.fitting import fit_readout
from steersman.core import ColumnGoal, Guardrail, Task
from steersman.cost import Box, Margins
from steersman.data import CacheWriter, Dataset
from steersman.evaluation import margins_kept, measure_margins
from steersman.evidence.context import Context, Outcome
from steersman.evidence.reactor_nmpc import NMPC, do_mpc, replay
from steersman.evidence.reactor_pid import PID, tune
from steersman.evidence.reactor_report import picture, table
from steersman.evidence.reactor_trials import IDLE, MOVE, WARM, Controller, Scenario, Trial, perform
from steersman.recipes import reactor as recipe
from steersman.runs import Run
from steersman.worlds import Plant, reactor
from steersman.worlds.reactor import LIMIT, SCALE, WARMTH

EPISODES, PERIODS = 20, 120
LOG = (100, 200)
"""Episodes of the log and steps of each: 20,000 steps."""
STEPS = 1500
LEVEL, RECOURSE = 0.97, 5
"""What the margin promises, and for how many steps: the jacket takes about five periods to cool the reactor."""
FRESH = 40
"""Episodes of a new log that the promise is measured on."""
TUNING = 20
CLOCKED = 60


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


def experiment(context: Context) -> Outcome:
    """Record, train, calibrate, tune, compare."""
    do_mpc()
    agent, margins, seconds = learn(context)
    context.say(margins.promise)
    guardrails = (limit(agent, margins),)
    fresh = historian(context.run / "fresh", context.seed + 4_000_000, FRESH)
    measured = margins_kept(agent, fresh, limit(agent), margins, seed=context.seed)
    context.say(f"measured on {FRESH} new episodes: {measured:.4f}")
    context.say("tuning the PID on scenarios of its own")
    pid = PID(tune(context.seed + 1_000_000, rounds=TUNING))
    scenario = Scenario.drawn(EPISODES, PERIODS, context.seed + 2_000_000)
    ours, nmpc = Steersman(agent, guardrails), NMPC()
    trials: dict[str, Trial] = {}
    controllers: list[tuple[str, Controller]] = [
        ("steersman", ours), ("without guardrail", Steersman(agent)), ("do-mpc", nmpc), ("PID", pid)
    ]
    for name, controller in controllers:
        trials[name] = trial = perform(controller, scenario)
        context.say(f"{name}: error {trial.error.mean():.5f} mol h/l, {int(trial.violations.sum())} periods above "
                    f"{LIMIT:g} °C in {int((trial.violations > 0).sum())} of {EPISODES} episodes")
    infeasible = ours.infeasible / (EPISODES * (PERIODS + WARM))
    colder = trials["steersman"].states[..., 2] - torch.stack(ours.foreseen, 1)[:, WARM:]
    first = float((colder <= margins.by_step[0]).double().mean())
    mine, theirs = clock(agent, guardrails, nmpc, context.seed + 3_000_000)
    error = {name: float(trial.error.mean()) for name, trial in trials.items()}
    over = {name: int(trial.violations.sum()) for name, trial in trials.items()}
    figures = {
        "violations": over["steersman"], "error": error["steersman"], "error_nmpc": error["do-mpc"],
        "error_pid": error["PID"], "ratio_nmpc": error["steersman"] / error["do-mpc"], "ms_per_step": mine,
        "ms_per_step_nmpc": theirs, "episodes": EPISODES, "unguarded_violations": over["without guardrail"],
        "unguarded_episodes": int((trials["without guardrail"].violations > 0).sum()),
        "error_unguarded": error["without guardrail"], "violations_nmpc": over["do-mpc"],
        "violations_pid": over["PID"], "hottest": float(trials["steersman"].hottest.max()), "infeasible": infeasible,
        "stated_probability": LEVEL, "measured_probability": measured, "recourse": RECOURSE,
        "first_step_probability": first, "margin_first": margins.by_step[0], "margin_last": margins.by_step[-1],
        "simulator_difference": difference(trials["steersman"], scenario), "train_seconds": seconds,
    }
    return Outcome(figures, (table(trials, mine, theirs, margins, measured),), (picture(trials),))


def learn(context: Context) -> tuple[Agent, Margins, float]:
    """Record the log, train on it, calibrate the margin on what was held out; seconds of training."""
    context.say(f"{LOG[0] * LOG[1]:,} steps of the plant under random inputs")
    dataset = historian(context.run / "log", context.seed, LOG[0])
    config = recipe.recipe(steps=STEPS, seed=context.seed)
    with training.create_run(context.run / "run", config, dataset, recipe="reactor") as run:
        trained = training.train(config, dataset, run, progress=context.progress)
    learned, later = training.split(config, dataset)
    fit_readout(Run.open(context.run / "run"), learned, seed=context.seed)
    agent = Agent.load(context.run / "run")
    margins = measure_margins(
        agent, learned, later, limit(agent), level=LEVEL, recourse=RECOURSE, seed=context.seed)
    return agent, margins, trained.seconds


def limit(agent: Agent, margins: Margins | float = 0.0) -> Box:
    """The guardrail: the reactor's temperature."""
    assert agent.readout is not None
    return Box(agent.readout, {"T_R": (-torch.inf, LIMIT)}, margin={"T_R": margins}, name=f"T_R <= {LIMIT:g}")


def historian(place: Path, seed: int, episodes: int) -> Dataset:
    """A log as a dataset at `place`."""
    with CacheWriter(place, reactor.SIGNATURE, origin="the reactor under random inputs") as writer:
        writer.append(Plant().log(episodes, LOG[1], seed))
        writer.finish(f"reactor {seed} {episodes} {LOG[1]}")
    return Dataset.open(place)


def clock(agent: Agent, guardrails: tuple[Guardrail, ...], nmpc: NMPC, seed: int) -> tuple[float, float]:
    """Median milliseconds of a decision for one plant, ours and do-mpc's in turn in one loop, estimation included."""
    scenario = Scenario.drawn(1, CLOCKED, seed)
    ours = Steersman(agent, guardrails)
    ours.reset(1)
    nmpc.reset(1)
    state = torch.tensor(reactor.START, dtype=torch.float64)[None]
    executed = None
    for t in range(WARM + CLOCKED):  # time is sequential
        measured = state + scenario.noise[:, t]
        wanted = ours.act(measured, scenario.target[:, t], executed)
        nmpc.act(measured, scenario.target[:, t], executed)
        executed = torch.tensor(IDLE, dtype=torch.float64)[None] if t < WARM else wanted.double()
        state, _ = reactor.advance(state, executed, scenario.conditions[:, t])
    return statistics.median(ours.ms[WARM:]), statistics.median(nmpc.ms[WARM:])


def difference(trial: Trial, scenario: Scenario, periods: int = 40) -> float:
    """Largest difference between our integration and do-mpc's simulator, in units of each column's noise."""
    theirs = replay(trial.states[0, 0], trial.inputs[0, 1 : periods + 1], scenario.conditions[0, WARM + 1 :])
    ours = trial.states[0, 1 : periods + 1]
    return float(((theirs - ours) / torch.tensor(reactor.NOISE, dtype=torch.float64)).abs().max())
