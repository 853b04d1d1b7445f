"""What experiments on worlds behind a camera share: a log with a few labels, a training on it, and what that came to.

Knows worlds by the protocols that measure in them, and recipes by the configurations that they return. Shapes: n
labelled frames, C columns, L rows before a frame, m model steps.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load_file, save_file

from steersman import training
from steersman.agent import Agent, load_parts
from steersman.agent.believing import encode
from steersman.agent.distance import fit_distance
from steersman.agent.fitting import fit_readout
from steersman.agent.labelling import fit_labelled
from steersman.core import Latent, Observation, ObservationGoal, Pace, Task, UsageError
from steersman.core.pacing import chunked
from steersman.data import CacheWriter, Dataset
from steersman.evaluation import PROTOCOLS, Evaluation, evaluate
from steersman.evaluation.seeds import FRAMES, LOG, derived
from steersman.evidence.cell import Context, Found
from steersman.recipes import read
from steersman.runs import Run
from steersman.training import TrainConfig
from steersman.worlds import Labelled

LABELS, TESTED, AHEAD = 500, 200, 25
"""Labelled frames that a read-out is fitted to, further ones that it is tested on, and rows that are foreseen there."""
_TRIED = 12  # optimiser steps that are timed


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A log to be recorded.

    protocol  that agents are measured in
    log       the protocol whose world the log is of; "": the same
    episodes, steps   how many, of at most how many steps; 0: as the world says
    labels    frames of which the truth is told
    far       weight of a temporal distance, from where a plan ends, beside a goal on columns: the way there may first
              lead away from it
    read      goals on columns are planned to in what is read, by a second training (`recipes.read`)
    tiles     pictures are taken by their tiles
    patches   pixels along the side of the patches that pictures are taken by; 0: as they are
    acted     episodes acted in; 0: as many as the protocol has
    """

    protocol: str
    log: str = ""
    episodes: int = 0
    steps: int = 0
    labels: int = LABELS
    far: float = 0.0
    read: bool = False
    tiles: bool = False
    patches: int = 0
    acted: int = 0


class Scored(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one training came to.

    score, worst   mean and least return, or share of goals reached (worst: 0 or 1)
    random         the score of the strongest policy that looks at nothing, from the same starts
    wins, n        episodes whose goal was met, of how many
    violations, random_violations   episodes in which what is forbidden was done; None where nothing is
    seconds        of training on the wall, fitting to labels included; cpu: of processor time, all threads
    decide         CPU-seconds of planning an episode, median
    read           column -> R² of the read-out on frames that it was not fitted to
    decoded_ratio  error of the columns as imagined about `AHEAD` rows ahead, in deviations, as a share of
                   persistence's; None: the labelled frames have too few rows before them
    pace           that the log was seen at
    """

    score: float
    worst: float
    random: float | None
    wins: int
    n: int
    violations: int | None = None
    random_violations: int | None = None
    seconds: float
    cpu: float
    decide: float
    read: dict[str, float]
    decoded_ratio: float | None
    pace: Pace

    def figures(self) -> dict[str, Any]:
        """Those that tables show."""
        return {"score": self.score, "worst": self.worst, "random": self.random, "seconds": self.seconds,
                "decoded_ratio": self.decoded_ratio, "upright": self.wins, "episodes": self.n}


def record(context: Context) -> Found:
    """Record the log that the settings (`Log`) ask for, and its labelled frames."""
    log: Log = context.settings
    world = PROTOCOLS[log.log or log.protocol].world
    episodes, steps = log.episodes or world.recorded[0], log.steps or world.recorded[1]
    context.say(f"{episodes:,} episodes of at most {steps} steps of {log.protocol}")
    began = time.perf_counter()
    with CacheWriter(context.folder / "log", world.signature, origin=f"{log.protocol} {context.seed}") as writer:
        for episode in world.log(episodes, steps, derived(context.seed, LOG)):
            writer.append([episode])
        writer.finish()
    recorded = time.perf_counter() - began
    generator = torch.Generator().manual_seed(derived(context.seed, FRAMES))
    _keep(context.folder / "labels.safetensors", world.labelled(log.labels, 8, generator))
    _keep(context.folder / "tests.safetensors", world.labelled(TESTED, AHEAD + 32, generator))
    found = Dataset.open(context.folder / "log")
    return Found({"": {"steps": found.steps, "seconds": recorded}})


def _keep(path: Path, labelled: Labelled) -> None:
    found = {f"observation.{name}": value.contiguous() for name, value in labelled.observations.items()}
    save_file(found | {"actions": labelled.actions.contiguous(), "values": labelled.values.contiguous()}, path,
              {"columns": "\n".join(labelled.columns)})


def labels(path: Path) -> Labelled:
    """What `record` kept under this name."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        columns = file.metadata()["columns"].split("\n")
    found = load_file(path)
    return Labelled({name.removeprefix("observation."): x for name, x in found.items() if "." in name},
                    found["actions"], found["values"], tuple(columns))


def learn(
    context: Context, config: TrainConfig, log: Path, recipe: str = "pixels", dataset: Dataset | None = None
) -> tuple[Run, float, float]:
    """Train on the log of a cell's folder and fit the read-out to its labels -> the run, seconds and CPU-seconds of
    both.

    dataset  a part of that log
    """
    dataset, path = dataset or Dataset.open(log / "log"), context.folder / "run"
    cpu = time.process_time()
    with training.create_run(path, config, dataset, recipe=recipe) as run:
        trained = training.train(config, dataset, run, progress=context.progress)
    run, began = Run.open(path), time.perf_counter()
    fit_labelled(run, labels(log / "labels.safetensors"))
    return run, trained.seconds + time.perf_counter() - began, time.process_time() - cpu


def learn_read(
    context: Context, learned: tuple[Run, float, float], log: Path, dataset: Dataset | None = None, seed: int = 0
) -> tuple[Run, float, float]:
    """The second training, over what the read-out of the first one reads -> its run, seconds and CPU-seconds of both.

    dataset  the part of the log that both may know
    """
    first, seconds, cpu = learned
    dataset, path, config = dataset or Dataset.open(log / "log"), context.folder / "read", read.recipe(
        over=str(first.path), seed=seed)
    began = time.process_time()
    with training.create_run(path, config, dataset, recipe="read") as run:
        trained = training.train(config, dataset, run, progress=context.progress)
    run = Run.open(path)
    fit_readout(run, training.split(config, dataset)[0])
    return run, seconds + trained.seconds, cpu + time.process_time() - began


def within(
    config: TrainConfig, dataset: Dataset, seconds: float, clock: Callable[[], float] = time.process_time,
) -> TrainConfig:
    """The same with as many steps as take so many seconds of the clock here; a few of the last stage of its rollouts
    are made and timed, the first half of them left out; the median counts."""
    times: list[float] = []
    short = msgspec.structs.replace(config, steps=_TRIED, gauge_every=0, rollout=config.rollout[-1:])
    training.train(short, dataset, None, progress=lambda _: times.append(clock()))
    each = statistics.median(after - before for before, after in pairwise(times[len(times) // 2 :]))
    return msgspec.structs.replace(config, steps=max(1, int(seconds / each)))


def judge(
    context: Context, learned: tuple[Run, float, float], log: Path, protocol: str, episodes: int | None = None,
    change: Callable[[Agent], Agent] | None = None, task: Task | None = None, dataset: Dataset | None = None,
    far: float = 0.0, searched: bool = False,
) -> Scored:
    """What an agent of the run does under the protocol, and how well it reads and foresees the truth. Where goals are
    pictures and no task says otherwise, plans go by a temporal distance that is fitted to the log.

    far      weight of that distance beside the goal where goals are columns
    searched  the planner finds ways by itself: no distance is fitted
    dataset  the part of the log that the run may know; None: all of it
    """
    run, seconds, cpu = learned
    agent = Agent.load(run)
    agent = agent if change is None else change(agent)
    asked = PROTOCOLS[protocol]
    goal = asked.world.begin(1, asked.seed(context.seed)).goals()
    pictured = isinstance(goal, ObservationGoal)
    if task is None and not searched and (far > 0 or pictured):
        known, pace = dataset or Dataset.open(log / "log"), agent.signature.pace
        began, used = time.perf_counter(), time.process_time()
        distance, _ = fit_distance(agent, known if pace.plain else known.paced(pace), context.seed,
                                   "steps" if pictured else "last")
        seconds, cpu = seconds + time.perf_counter() - began, cpu + time.process_time() - used
        agent.add_cost(distance)
        task = Task(goal, weights={"goal": 0.0, distance.name: 1.0} if pictured else {"goal": 1.0, distance.name: far})
    with torch.inference_mode():
        found = evaluate(agent, asked, episodes, asked.seed(context.seed), task=task)
        told, ratio = foreseen(run, labels(log / "tests.safetensors"))
    return scored(found, seconds, cpu, told, ratio, agent.signature.pace)


def scored(
    found: Evaluation, seconds: float, cpu: float, read: dict[str, float], ratio: float | None, pace: Pace
) -> Scored:
    """An evaluation as `Scored`."""
    values = found.success.double() if found.returns is None else found.returns.double()
    floor = found.random if found.returns is None else found.random_returns
    return Scored(
        score=float(values.mean()), worst=float(values.min()),
        random=None if floor is None else float(floor.double().mean()), wins=int(found.success.sum()), n=len(found),
        violations=int(found.violated.sum()) if found.forbids else None,
        random_violations=None if found.random_violated is None else int(found.random_violated.sum()),
        seconds=seconds, cpu=cpu, decide=float(found.planning.median()), read=read, decoded_ratio=ratio, pace=pace)


@torch.inference_mode()
def foreseen(run: Run, tests: Labelled) -> tuple[dict[str, float], float | None]:
    """R² of each column read off the frames, and the error of the columns as imagined m model steps before, as a share
    of the error of those that stand still; None where too few rows lie before the frames for the model's history."""
    parts, agent = load_parts(run), Agent.load(run)
    readout, signature = agent.readout, parts.signature
    if readout is None:
        raise UsageError("a run with a read-out", "one without", "fit one first")
    pace, history = signature.pace, parts.config.history
    m = max(1, round(AHEAD / pace.step))
    rows = tests.actions.shape[1]
    first = rows - (m + history - 1) * pace.step
    truth = tests.values[:, [tests.columns.index(name) for name in readout.columns]]
    spread = truth.std(0).clamp(min=1e-6)
    error = readout.read(_encoded(parts.parts.perception, tests.moments(pace)).state) - truth
    r2 = 1 - error.square().mean(0) / truth.var(0).clamp(min=1e-12)
    told = {name: float(value) for name, value in zip(readout.columns, r2, strict=True)}
    if first < pace.before:
        return told, None
    seen = [_encoded(parts.parts.perception, _at(tests, first + i * pace.step, pace)) for i in range(history)]
    done = tests.actions[:, first:].unflatten(1, (-1, pace.step))
    actions = chunked(done, signature.action) if pace.step > 1 else done[:, :, 0]
    past, maps = torch.stack([latent.state for latent in seen], 1), [latent.context for latent in seen]
    context = torch.stack([found for found in maps if found is not None], 1) if maps[-1] is not None else None
    belief = agent.world_model.begin(Latent(past, context), actions[:, : history - 1], None)
    imagined = agent.world_model.imagine(belief, actions[:, None, history - 1 :]).states[:, 0, -1]
    ahead, still = (((readout.read(x) - truth) / spread).norm(dim=-1).mean() for x in (imagined, past[:, -1]))
    return told, float(ahead / still)


def _at(labelled: Labelled, row: int, pace: Pace) -> Observation:
    """The moments (n, …) at a row before the labelled one."""
    upto = dataclasses.replace(
        labelled, observations={name: x[:, : row + 1] for name, x in labelled.observations.items()},
        actions=labelled.actions[:, :row])
    return upto.moments(pace)


def _encoded(perception: Any, moment: Observation) -> Latent:
    count = len(next(iter(moment.values())))
    found = [encode(perception, {name: x[i : i + 100] for name, x in moment.items()}) for i in range(0, count, 100)]
    maps = [latent.context for latent in found if latent.context is not None]
    return Latent(torch.cat([latent.state for latent in found]), torch.cat(maps) if maps else None)
