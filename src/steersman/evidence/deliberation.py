"""How far a decision is worth thinking about: success against predictor calls, with fixed budgets and with a gate.

Pendulum and Hazards from logs, as in `distil`: a policy acts by habit, iCEM thinks. Fixed budgets and the gate are one
planner with the same habit; they differ in who gets the calls. And Hazards under guardrails, 1,000 episodes a budget.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch

from steersman.actor import DistilledPolicy, Gate
from steersman.agent import Agent
from steersman.agent.descending import descend
from steersman.agent.distilling import distil
from steersman.agent.fitted.gates import load_gate, store_gate
from steersman.agent.in_run import store_additions
from steersman.core import Task, TaskSettings
from steersman.data import Dataset
from steersman.evaluation import Tally, drifted
from steersman.evaluation.deliberating import calibrate_gate
from steersman.evaluation.protocol import Seen, follow
from steersman.evidence import critic as looks
from steersman.evidence import deliberation_guarded as guarded
from steersman.evidence import deliberation_report as report
from steersman.evidence import distil as habits
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.deliberation_report import Budget, Frontier
from steersman.runs import Run

WORLDS = ("pendulum", "hazards")
SIGNALS = {"pendulum": ("habit", "surprise"), "hazards": ("intrinsic", "habit")}
WORTH = {"pendulum": {"habit": 3.0}, "hazards": {"intrinsic": 3.0}}
"""How much more a signal counts. Chosen for Hazards on 150 episodes of seed 0 (LOG.md), so judge it by other seeds; not
tried on the pendulum."""
FIXED = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
GATED = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
SKILL = "habit"


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """steps, log: as in `critic`; moments, relabel, fit: of distilling, in pendulum and in Hazards; descent: steps of
    descending, in Hazards; practice: episodes of a life in which the gate is calibrated; scored: episodes of every
    budget."""

    steps: int | None = None
    log: int = 1500
    moments: tuple[int, int] = (1500, 4000)
    relabel: int = 1
    fit: int = 2500
    descent: int = 400
    practice: tuple[int, int] = (8, 50)
    scored: tuple[int, int] = (32, 300)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One cell."""

    world: str
    sizes: Sizes


def cells(seed: int, sizes: Sizes = Sizes()) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """A model, a policy and a gate of each world; its frontier; and Hazards under guardrails at several budgets."""
    found = list[Cell]()
    for number in range(3):
        for world in WORLDS:
            settings = Settings(world, sizes)
            model = Cell(f"{world}/model", learn, 120, seed + number, settings, usual=not number)
            found += [model, Cell(f"{world}/frontier", act, 150, seed + number, settings, (model,), usual=not number)]
            if world == "hazards" and not number:
                found += guarded.cells(seed, model)
    return tuple(found)


def learn(context: Context) -> Found:
    """Train, distil, calibrate the gate; everything stays in the run."""
    settings: Settings = context.settings
    world, sizes, seed = settings.world, settings.sizes, context.seed
    hazards = world == "hazards"
    path = looks.learned(world, context.folder, seed, sizes.steps, sizes.log, habits.unseen())
    agent, log, task = _looking(path, world), Dataset.open(context.folder / "log"), _task(world)
    told = ("x", "y") if hazards else ()
    policy, fidelity = distil(
        agent, task, log, told=told, moments=sizes.moments[hazards], relabel=sizes.relabel, steps=sizes.fit, seed=seed,
        config=DistilledPolicy.Config(hidden=(256, 256) if hazards else (128, 128)))
    if hazards and sizes.descent:
        policy, _ = descend(agent, task, log, told=told, moments=10 * sizes.moments[1], steps=sizes.descent,
                            policy=policy, seed=seed)
    agent.add_policy(SKILL, policy)
    gate = calibrate_gate(
        agent, habits.begun_for(world), _asked(task, 0.25), told=told, signals=SIGNALS[world], worth=WORTH[world],
        episodes=sizes.practice[hazards], longest=200 if not hazards else habits.unseen().step_limit, lives=3,
        seed=seed + 77)
    run = Run.open(path)
    store_policy(agent, run)
    store_gate(run, gate)
    context.say(f"{world}, seed {seed}: copied within {fidelity.error:.3f} (the planner itself "
                f"{fidelity.planner:.3f}); a full decision takes {gate.calls} calls")
    return Found({world: {"full_calls": gate.calls, "copy_error": fidelity.error}})


def act(context: Context) -> Found:
    """The same episodes with every budget, fixed and by the gate."""
    settings: Settings = context.settings
    world, seed = settings.world, context.seed
    path = context.needs[0].folder / "run"
    count = settings.sizes.scored[world == "hazards"]
    full = scored(_looking(path, world), world, _task(world), count, seed, 1.0)
    calls = full.share
    full = msgspec.structs.replace(full, share=1.0)
    kept = load_gate(Run.open(path))
    assert kept is not None
    found: dict[str, list[Budget]] = {}
    for name, gate, shares in (("fixed", Gate(calls=kept.calls), FIXED), ("gated", kept, GATED)):
        agent = _looking(path, world)
        agent.gate = gate
        budgets = [scored(agent, world, _asked(_task(world), share), count, seed, share) for share in shares]
        found[name] = [msgspec.structs.replace(one, share=one.share / calls) for one in budgets]
    limit = 200 if world == "pendulum" else habits.unseen().step_limit
    floor = habits.scores_of(drifted(habits.begun(world, count, seed), limit, torch.Generator().manual_seed(seed)))
    record = Frontier(full=full, fixed=found["fixed"], gated=found["gated"], floor=floor)
    for name, budgets in found.items():
        context.say(f"{world}, seed {seed}, {name}: " + ", ".join(
            f"{statistics.fmean(one.scores):.3g} at {one.share:.3f}" for one in budgets))
    return Found({world: report.figures_of(world, [record])}, record)


def summary(results: Results) -> Outcome:
    """Frontiers over their seeds, and what guardrails kept."""
    frontiers = {world: [one.record(Frontier) for one in results.of(f"{world}/frontier")] for world in WORLDS}
    frontiers = {world: seeds for world, seeds in frontiers.items() if seeds}
    figures: dict[str, dict[str, Any]] = {
        world: report.figures_of(world, seeds) for world, seeds in frontiers.items()}
    safe = guarded.figures_of(results)
    if safe:
        figures["guarded"] = safe
    tables = [report.frontier_table(frontiers, figures)] if frontiers else []
    if safe:
        tables.append(guarded.table(safe))
    pictures = (report.drawn(frontiers),) if frontiers else ()
    return Outcome(figures, tuple(tables), pictures)


# What is given and asked -------------------------------------------------------------------------------------------


def _looking(path: Path, world: str) -> Agent:
    """The run's agent, with the planner, the costs and the policy of this experiment."""
    return looks.looking(path, world, *habits.AHEAD[world], habits.unseen())


def store_policy(agent: Agent, run: Run) -> None:
    """Keep the policy with the run, and leave the costs of the experiment out."""
    bare = Agent.load(run)
    bare.add_policy(SKILL, agent.policies[SKILL])
    store_additions(bare, run)


def _task(world: str) -> Task:
    return Task(looks.goal_of(world), weights=looks.weights_of(world))


def _asked(task: Task, share: float) -> Task:
    return replace(task, settings=TaskSettings(skill=SKILL, deliberation=share))


def scored(agent: Agent, world: str, task: Task, count: int, seed: int, wanted: float) -> Budget:
    """Episodes that neither log, policy nor gate had; `share` is the mean number of predictor calls of a decision."""
    trials = habits.begun(world, count, seed)
    tally = Tally(trials, 200 if world == "pendulum" else habits.unseen().step_limit)
    spent = list[torch.Tensor]()

    def look(seen: Seen) -> None:
        spent.append(seen.plan.calls.double())

    follow(agent, tally, habits.towards_trials(task, trials), seed, look)
    return Budget(wanted=wanted, scores=habits.scores_of(tally), share=float(torch.cat(spent).mean()))
