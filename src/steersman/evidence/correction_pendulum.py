"""Pendulum-v1 with one and a half times the mass: torques turn it two thirds as fast, and the agent is not told.

Knows Gymnasium's pendulum, the recipe and the stream of `correction_trial`.
"""

from __future__ import annotations

import statistics

import msgspec
import torch

from steersman import data, training
from steersman.agent import Agent, record_experience
from steersman.agent.fitting import fit_readout
from steersman.core import ObservationGoal, Task
from steersman.evaluation import calibrate_alarm
from steersman.evaluation.acting import start_seed
from steersman.evidence.cell import Context, Found
from steersman.evidence.correction_trial import Corrected, Stream, measured
from steersman.evidence.pendulum import ENV, UPRIGHT, record
from steersman.evidence.pendulum_optimum import optimal_return
from steersman.recipes import pendulum as recipe
from steersman.runs import Run
from steersman.worlds import GymnasiumTrials, make_world

MASS, HEAVIER = 1.0, 1.5
LEVEL = 0.05


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """log: random steps recorded; steps: of training, None: the recipe's; episodes: measured each time; own:
    undisturbed episodes that the alarm is calibrated on, undisturbed: those that false alarms are counted in;
    decisions: lived after each change; limit: decisions of an episode."""

    log: int = 20_000
    steps: int | None = None
    episodes: int = 16
    own: int = 4
    undisturbed: int = 2
    decisions: int = 60
    limit: int = 200


def perform(context: Context) -> Found:
    """Record, train; live in the old world, the changed one, the old one; measure in between."""
    path, seed, sizes = context.folder, context.seed, context.settings
    log = record(path / "logs", seed, sizes.log)
    dataset = data.build(data.read(log), path / "cache")
    config = recipe.recipe(seed=seed, **({} if sizes.steps is None else {"steps": sizes.steps}))
    with training.create_run(path / "run", config, dataset, recipe="pendulum") as run:
        training.train(config, dataset, run, progress=context.progress)
    run = Run.open(path / "run")
    fit_readout(run, dataset, seed=seed)
    agent = Agent.load(run)
    task = Task(ObservationGoal({"vector": torch.tensor(UPRIGHT)}))

    def figure(mass: float) -> float:
        trials = swinging(mass, sizes.episodes, seed)
        measured(agent, trials, task, sizes.limit, seed)
        return statistics.fmean(trials.returns.tolist())

    before, shifted = figure(MASS), figure(HEAVIER)
    record_experience(agent, run)
    measured(agent, swinging(MASS, sizes.own, seed + 50), task, sizes.limit, seed + 50, recorded=True)
    assert agent.log is not None
    agent.log.close()
    own = data.build(data.read(run.path / "experience"), path / "own")
    alarm = calibrate_alarm(agent, own, level=LEVEL, seed=seed)
    context.say(f"seed {seed}: alarm above {alarm.threshold:.2g}, {alarm.units} pieces of {sizes.own} own episodes")
    corrector = training.LadderCorrector.Config().build(agent.perception, agent.world_model, run.path)
    stream = Stream.begin(agent, run, corrector, alarm)
    for i in range(sizes.undisturbed):
        stream.live(swinging(MASS, 1, seed + 100 + i), task, sizes.limit, seed + 100 + i)
    calm, alarms = stream.decisions, stream.alarms
    told = agent.standing.updates
    stream.live(swinging(HEAVIER, 1, seed + 200), task, sizes.decisions, seed + 200)
    updates, decisions = agent.standing.updates - told, stream.latest
    recovered, uncorrected = figure(HEAVIER), figure(MASS)
    stream.live(swinging(MASS, 1, seed + 300), task, sizes.decisions, seed + 300)
    again = figure(MASS)
    assert agent.log is not None
    agent.log.close()
    found = Corrected(
        before=before, shifted=shifted, recovered=recovered, old_again=again, uncorrected_again=uncorrected,
        best_before=_best(MASS, sizes.episodes, seed), best_shifted=_best(HEAVIER, sizes.episodes, seed),
        decisions=decisions, back=stream.latest, updates=updates, false_alarms=alarms / calm, level=LEVEL)
    context.say(f"seed {seed}: {before:.0f}, changed {shifted:.0f}, corrected {recovered:.0f} (at best "
                f"{found.best_shifted:.0f}) after {decisions} decisions, old world {again:.0f}")
    return Found({"pendulum": found.figures()}, found)


def swinging(mass: float, count: int, seed: int) -> GymnasiumTrials:
    """Episodes of a pendulum of this mass, kg."""
    worlds = [make_world(ENV) for _ in range(count)]
    for world in worlds:
        world.env.unwrapped.m = mass  # type: ignore[attr-defined]
    return GymnasiumTrials(worlds, [start_seed(seed, i) for i in range(count)])


def _best(mass: float, episodes: int, seed: int) -> float:
    """Mean return that the true equations allow from the starts of `swinging`."""
    seen = swinging(mass, episodes, seed).observe()["vector"]
    return float(optimal_return(torch.atan2(seen[:, 1], seen[:, 0]), seen[:, 2], mass).mean())
