"""Is the trust that a log gives deserved? Bounds counted on episodes recorded afterwards, on several worlds and seeds.

What is measured: the coverage of 90% bounds over fresh episodes, each bound calibrated on others, at every horizon; the
true-action rank, beside a model whose log had its actions mixed up; the horizon at which the model stops beating the
simplest predictors.

Shapes: W windows, H horizon, S calibration sets.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from steersman import data, training
from steersman.agent import Agent
from steersman.agent.fitting import fit_readout
from steersman.core import Episode
from steersman.cost import grouped_quantile
from steersman.data import CacheWriter, Dataset
from steersman.evaluation.bands import coverage_of
from steersman.evaluation.offline import Measure, measure
from steersman.evaluation.tape import draw, record
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.drawing import canvas, picture
from steersman.recipes import vectors
from steersman.runs import Run
from steersman.runs.artefacts import Column, Figure, Row, Table
from steersman.runs.trust import Trust
from steersman.worlds import make_world
from steersman.worlds import record as act

SEEDS = 3
LEVEL = 0.9


class World(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A Gymnasium environment under random actions; episodes end after `length` steps at most."""

    id: str
    length: int
    horizon: int


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """log: episodes of a log, of which a fifth is held out; fresh: recorded afterwards; part: of those in one
    calibration set; steps: of training."""

    log: int = 250
    fresh: int = 1000
    part: int = 100
    steps: int = 1200


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One trial. mixed: every episode of its logs has the actions of another one."""

    world: World
    sizes: Sizes
    mixed: bool = False


WORLDS = (World("Pendulum-v1", 60, 25), World("CartPole-v1", 60, 10), World("MountainCarContinuous-v0", 60, 25))


class Seen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A trial as it is kept; `shares` as in `Trial`."""

    trust: Trust
    shares: list[list[list[float]]]


@dataclass(frozen=True)
class Trial:
    """One world, one seed: what its log said, and what happened afterwards.

    shares  (S, 2, H): how many windows of all other sets lie within the bound of each, at a step alone and at all steps
            up to it
    """

    trust: Trust
    shares: torch.Tensor

    def whole(self) -> list[float]:
        """The same for all steps to the last, of each calibration set."""
        found: list[float] = self.shares[:, 1, -1].tolist()
        return found


def cells(seed: int, sizes: Sizes = Sizes(), worlds: tuple[World, ...] = WORLDS) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """Three seeds on each world, and one with its actions mixed up."""
    trials = [Cell(world.id, perform, 140, seed + 100 * i, Settings(world, sizes))
              for world in worlds for i in range(SEEDS)]
    return (*trials, Cell("mixed", perform, 140, seed, Settings(worlds[0], sizes, mixed=True)))


def summary(results: Results) -> Outcome:
    """Over everything that was recorded afterwards; the bound of one set of fresh episodes is counted on the others."""
    trials: dict[str, list[Trial]] = {}
    mixed = None
    for one in results:
        seen = one.record(Seen)
        trial = Trial(seen.trust, torch.tensor(seen.shares))
        if one.cell.row == "mixed":
            mixed = trial
        else:
            trials.setdefault(one.cell.row, []).append(trial)
    if not trials:
        return Outcome({})
    every = [t for of_world in trials.values() for t in of_world]
    by_world = {name: torch.cat([t.shares for t in of_world]).mean(0) for name, of_world in trials.items()}  # (2, H)
    steps = torch.cat([x.flatten() for x in by_world.values()])
    figures: dict[str, Any] = {
        "coverage_90": statistics.fmean(share for t in every for share in t.whole()),
        "coverage_90_by_world": {name: float(x[1, -1]) for name, x in by_world.items()},
        "coverage_90_at_each_step": {name: x[0] for name, x in by_world.items()},
        "coverage_90_up_to_each_step": {name: x[1] for name, x in by_world.items()},
        "coverage_90_farthest": float(steps[(steps - LEVEL).abs().argmax()]),
        "bounds": sum(x.numel() for t in every for x in t.shares),
        "true_action_rank_mean": statistics.fmean(t.trust.rank.mean for t in every),
        "true_action_rank_by_world": {k: statistics.fmean(t.trust.rank.mean for t in v) for k, v in trials.items()},
        "true_action_rank_chance": statistics.fmean(t.trust.rank.chance for t in every),
        "true_action_rank_mixed_actions": mixed and mixed.trust.rank.mean,
        "horizon": statistics.fmean(t.trust.horizon for t in every),
        "horizon_by_world": {k: [t.trust.horizon for t in v] for k, v in trials.items()},
        "horizon_measured": {k: v[0].trust.steps for k, v in trials.items()},
    }
    shown = picture(
        _draw(trials), "coverage", "How often the 90% bound held",
        "share of windows within the bound for each calibration set, by world, beside the 90% line",
        "One dot a calibration set of fresh episodes, counted on all others: sets scatter, their mean is what is "
        "promised. All steps up to the last.")
    return Outcome({"": figures}, (_table(trials, mixed),), (shown,))


def perform(context: Context) -> Found:
    """One world, one seed: learn from a log, measure trust, count on what is recorded afterwards."""
    place, seed, settings = context.folder, context.seed, context.settings
    world, sizes, mixed = settings.world, settings.sizes, settings.mixed
    log = _record(world, place / "log", sizes.log, seed, mixed)
    fresh = _record(world, place / "fresh", sizes.fresh, seed + 50, mixed)
    config = vectors.recipe(steps=sizes.steps, window=min(16, world.horizon), size=5,
                            horizon=world.horizon, seed=seed)
    config = msgspec.structs.replace(config, held_out=0.2, gauge_every=0)
    with training.create_run(place / "run", config, log, recipe="vectors") as run:
        training.train(config, log, run, progress=context.progress)
    learned, held_out = training.split(config, log)
    fit_readout(Run.open(place / "run"), learned, seed=seed)
    agent = Agent.load(place / "run")
    trust = measure(agent, learned, held_out, source="held-out part", checkpoint=config.steps, horizon=world.horizon,
                    level=LEVEL, seed=seed)
    shares = _shares(agent, learned, fresh, world.horizon, sizes.part, seed)
    context.say(
        f"{world.id}, seed {seed}{', actions mixed up' if mixed else ''}: rank {trust.rank.mean:.3f}, horizon "
        f"{trust.horizon} of {world.horizon}, {LEVEL:.0%} bounds held for {shares.mean(0).min():.1%} to "
        f"{shares.mean(0).max():.1%}"
    )
    kept = Seen(trust, shares.tolist())
    figures = {"coverage_90": float(shares[:, 1, -1].mean()), "true_action_rank_mean": trust.rank.mean,
               "horizon": trust.horizon}
    return Found({"mixed" if mixed else world.id: figures}, kept)


def _shares(
    agent: Agent, learned: Dataset, fresh: Dataset, horizon: int, size: int, seed: int
) -> torch.Tensor:
    """Calibrate on each set of fresh episodes, count on the others: every bound meets episodes that it never saw."""
    tape = record(agent, fresh, 10**9, seed)
    fitted = Measure.fitted(agent, record(agent, learned, 20_000, seed), horizon, seed)
    rows = draw(tape.episode, tape.ahead, tape, horizon, agent.config.history, 10 * len(fresh), seed)
    unit = tape.episode[rows]
    alone = fitted.apply(agent, tape, rows, unit).joint[0]
    score = torch.stack([alone, alone.cummax(1).values], 1)  # (W, 2, H)
    sets = [torch.isin(unit, part) for part in unit.unique().split(size) if len(part) > 8]
    shares = []
    for here in sets:
        bound = grouped_quantile(score[here].flatten(1), unit[here], LEVEL).view(score.shape[1:])
        shares.append(coverage_of(score[~here], unit[~here], bound).mean(0))
    return torch.stack(shares)


def _record(world: World, place: Path, episodes: int, seed: int, mixed: bool) -> Dataset:
    """Random actions; `mixed`: every episode has the actions of another one."""
    env = make_world(world.id, max_episode_steps=world.length)  # each begins anew: pieces of one are no episodes
    try:
        recorded: Iterator[Episode] = act(env.env, episodes=episodes, seed=seed, adapter=env.adapter)
        with CacheWriter(place, env.signature) as writer:
            writer.append(_mixed(recorded) if mixed else recorded)
            writer.finish(f"{world.id} {seed}")
    finally:
        env.close()
    return data.Dataset.open(place)


def _mixed(episodes: Iterator[Episode]) -> Iterator[Episode]:
    before = None
    for episode in episodes:
        if before is not None and len(before) == len(episode):
            yield Episode(episode.observations, before.actions)
        before = episode


def _table(trials: dict[str, list[Trial]], mixed: Trial | None) -> Table:
    rows = [_row(name, list(of_world)) for name, of_world in trials.items()]
    rows += [_row(f"{WORLDS[0].id}, actions mixed up", [mixed], "ablation")] if mixed else []
    return Table(
        name="trust", title="Trust from a log, held against episodes recorded afterwards",
        columns=(
            Column(key="coverage", title="within the 90% bound", form="share", target=LEVEL),
            Column(key="least", title="least of all steps", form="share"),
            Column(key="most", title="most", form="share"),
            Column(key="rank", title="true-action rank", better="lower"), Column(key="chance", title="by chance"),
            Column(key="horizon", title="trusted horizon", form="count"),
            Column(key="measured", title="of", form="count"),
        ),
        rows=tuple(rows),
        protocol={"seeds": max(map(len, trials.values())), "held out": "a fifth of each log"},
        notes=("Bounds are simultaneous over all steps up to the last; least and most are over bounds for each step "
               "alone and up to each step. Episodes are the exchangeable units. Interval: 95%, normal approximation "
               "over calibration sets.",
               "Rank: share of random actions that the model holds likelier than the logged one; 0.5 knows nothing."),
    )


def _row(name: str, trials: list[Trial], kind: Any = "agent") -> Row:
    shares = [share for t in trials for share in t.whole()]
    steps = torch.cat([t.shares for t in trials]).mean(0)
    half = 1.96 * statistics.pstdev(shares) / math.sqrt(len(shares))
    mean = statistics.fmean(shares)
    return Row(label=name, kind=kind, figures={
        "coverage": Figure(value=mean, low=mean - half, high=min(1.0, mean + half), n=len(shares)),
        "least": Figure(value=float(steps.min())), "most": Figure(value=float(steps.max())),
        "rank": Figure(value=statistics.fmean(t.trust.rank.mean for t in trials)),
        "chance": Figure(value=statistics.fmean(t.trust.rank.chance for t in trials)),
        "horizon": Figure(value=statistics.fmean(t.trust.horizon for t in trials)),
        "measured": Figure(value=trials[0].trust.steps),
    })


def _draw(trials: dict[str, list[Trial]]) -> Any:
    figure, axes = canvas(7, 3)
    for i, of_world in enumerate(trials.values()):
        for j, trial in enumerate(of_world):
            x = [i + 0.22 * (j - 1) + 0.015 * (k - len(trial.shares) / 2) for k in range(len(trial.shares))]
            axes.plot(x, trial.whole(), ".", color="#0072b2")
        every = [share for trial in of_world for share in trial.whole()]
        axes.plot([i - 0.35, i + 0.35], [statistics.fmean(every)] * 2, color="#d55e00", linewidth=2)
    axes.axhline(LEVEL, color="#555555", linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(trials)), list(trials))
    axes.set_ylabel("share within the bound")
    return figure
