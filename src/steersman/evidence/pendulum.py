"""Swing-up from a log of another tool: 20,000 random steps of Pendulum-v1, no reward, three training seeds.

What is measured: the mean and the worst return over 20 unseen starts a seed, with the goal read as columns (the
default) and as plain latent distance, beside random actions from the same starts, and beside the most that the true
equations allow from them: starts differ so much that the mean of 20 moves by 17 from one draw to the next.
"""

from __future__ import annotations

import os
import statistics
import sys
from pathlib import Path
from typing import Any

import msgspec
import torch

from steersman import data, training
from steersman.agent import Agent
from steersman.agent.fitting import fit_readout
from steersman.core import ObservationGoal, Task, UsageError
from steersman.evaluation.acting import act_in, start_seed
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.drawing import canvas, picture
from steersman.evidence.pendulum_optimum import optimal_return
from steersman.recipes import pendulum
from steersman.runs import Run
from steersman.runs.artefacts import Column, Figure, Row, Table
from steersman.studio import quantities as q

ENV, SEEDS = "Pendulum-v1", 3
UPRIGHT = (1.0, 0.0, 0.0)
PUBLISHED = "published at 20,000 steps, learning from rewards: SAC -157 ± 89, TD3 -152"


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """log: random steps recorded; steps: of training, None: the recipe's; episodes: acted in, of each kind."""

    log: int = 20_000
    steps: int | None = None
    episodes: int = 20


class Seed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one training seed gave: returns of the same 20 starts, seconds of training, milliseconds of a decision."""

    columns: list[float]
    latent: list[float]
    random: list[float]
    optimal: list[float]
    seconds: float
    ms_per_act: float


def cells(seed: int, sizes: Sizes = Sizes()) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """Three times: record, train, act."""
    return tuple(Cell("pendulum", perform, 150, seed + i, sizes) for i in range(SEEDS))


def summary(results: Results) -> Outcome:
    """Figures over all episodes; `*_by_seed` tell the seeds apart."""
    names = [one.cell.seed for one in results]
    seeds = [one.record(Seed) for one in results]
    every = [r for seed in seeds for r in seed.columns]
    figures = {
        "mean_return": statistics.fmean(every),
        "worst_return": min(every),
        "mean_return_by_seed": [statistics.fmean(seed.columns) for seed in seeds],
        "worst_return_by_seed": [min(seed.columns) for seed in seeds],
        "latent_distance_return": statistics.fmean(r for seed in seeds for r in seed.latent),
        "latent_distance_return_by_seed": [statistics.fmean(seed.latent) for seed in seeds],
        "random_return": statistics.fmean(r for seed in seeds for r in seed.random),
        "optimal_return": statistics.fmean(r for seed in seeds for r in seed.optimal),
        "optimal_return_by_seed": [statistics.fmean(seed.optimal) for seed in seeds],
        "train_seconds": max(seed.seconds for seed in seeds),
        "ms_per_act": max(seed.ms_per_act for seed in seeds),
    }
    shown = picture(
        _draw(names, seeds), "returns", "Return of every start",
        "returns of all starts for each training seed: columns, latent distance, random actions",
        "One dot a start; each training seed has its own log and its own unseen starts. Higher is better.")
    return Outcome({"": figures}, (_table(names, seeds),), (shown,))


def perform(context: Context) -> Found:
    """One log and training seed: record, train, act from unseen starts."""
    path, seed, sizes = context.folder, context.seed, context.settings
    context.say(f"seed {seed}: {sizes.log:,} random steps of {ENV} by Minari's recorder")
    log = record(path / "logs", seed, sizes.log)
    dataset = data.build(data.read(log), path / "cache")
    given = {} if sizes.steps is None else {"steps": sizes.steps}
    config = pendulum.recipe(seed=seed, **given)
    with training.create_run(path / "run", config, dataset, recipe="pendulum") as run:
        trained = training.train(config, dataset, run, progress=context.progress)
    fit_readout(Run.open(path / "run"), dataset, seed=seed)
    goal = Task(ObservationGoal({"vector": torch.tensor(UPRIGHT)}))
    agent = Agent.load(path / "run")
    columns = act_in(agent, ENV, goal, episodes=sizes.episodes, seed=seed)
    plain = Agent(
        msgspec.structs.replace(agent.config, goal_space="latent"), agent.signature, agent.perception,
        agent.world_model, readout=agent.readout,
    )
    latent = act_in(plain, ENV, goal, episodes=sizes.episodes, seed=seed)
    optimal = _optimal(seed, sizes.episodes)
    context.say(
        f"seed {seed}: return {statistics.fmean(columns.returns):.0f} (worst {min(columns.returns):.0f}), latent "
        f"distance {statistics.fmean(latent.returns):.0f}, random {statistics.fmean(columns.random_returns):.0f}, "
        f"at best {statistics.fmean(optimal):.0f}"
    )
    found = Seed(columns.returns, latent.returns, columns.random_returns, optimal, trained.seconds, columns.ms_per_act)
    return Found({"": {"mean_return": statistics.fmean(found.columns), "worst_return": min(found.columns)}}, found)


def _optimal(seed: int, episodes: int) -> list[float]:
    """What the true equations allow from the starts that `act_in` used."""
    import gymnasium

    env = gymnasium.make(ENV)
    starts = torch.stack([torch.from_numpy(env.reset(seed=start_seed(seed, i))[0]) for i in range(episodes)])
    env.close()
    return [float(value) for value in optimal_return(torch.atan2(starts[:, 1], starts[:, 0]), starts[:, 2])]


def record(folder: Path, seed: int, steps: int) -> Path:
    """Random steps of the pendulum as Minari's `DataCollector` records them; the dataset's folder.

    Raises:
        UsageError: Minari's recorder is not installed.
    """
    folder.mkdir(parents=True)
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(folder.resolve())
    try:
        import gymnasium
        import minari

        env: Any = minari.DataCollector(gymnasium.make(ENV))
        env.action_space.seed(seed)
        env.reset(seed=seed)
        for _ in range(steps):
            *_, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated:
                env.reset()
        env.create_dataset("pendulum/random-v0", algorithm_name="uniform random actions")
        env.close()
    except ImportError as error:
        raise UsageError("Minari with its recorder", f"{error}", "install steersman[minari]") from error
    finally:
        if before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        else:
            os.environ["MINARI_DATASETS_PATH"] = before
    return folder / "pendulum" / "random-v0"


def _table(names: list[int], seeds: list[Seed]) -> Table:
    rows = []
    for i, seed in enumerate(seeds):
        for label, kind, returns in [
            ("goal read as columns", "agent", seed.columns), ("plain latent distance", "ablation", seed.latent),
            ("random actions", "baseline", seed.random), ("at best, by the true equations", "baseline", seed.optimal),
        ]:
            figures = {"mean": q.mean(returns), "worst": Figure(value=min(returns))}
            if kind == "agent":
                figures |= {"train": Figure(value=seed.seconds), "ms": Figure(value=seed.ms_per_act)}
            rows.append(Row(label=label, kind=kind, figures=figures, group=f"seed {names[i]}"))  # type: ignore[arg-type]
    return Table(
        name="pendulum", title=f"{ENV}: swing-up from random steps without reward",
        columns=(
            Column(key="mean", title="mean return", better="higher", target=-160.0),
            Column(key="worst", title="worst", better="higher", target=-400.0),
            Column(key="train", title="training", form="seconds", better="lower", target=60.0),
            Column(key="ms", title="decision", unit="ms", better="lower", target=10.0),
        ),
        rows=tuple(rows),
        protocol={"env": ENV, "goal": "cos=1, sin=0, speed=0", "episodes": len(seeds[0].columns),
                  "log": "Minari DataCollector", "python": sys.version.split()[0]},
        notes=("Intervals: 95%, normal approximation over starts.", PUBLISHED),
    )


def _draw(names: list[int], seeds: list[Seed]) -> Any:
    figure, axes = canvas(7, 3.2)
    for offset, (label, colour, pick) in enumerate([
        ("goal read as columns", "#0072b2", lambda s: s.columns),
        ("plain latent distance", "#e69f00", lambda s: s.latent),
        ("random actions", "#999999", lambda s: s.random),
        ("at best, by the true equations", "#000000", lambda s: s.optimal),
    ]):
        for i, seed in enumerate(seeds):
            x = [i + 0.2 * (offset - 1.5) + 0.006 * (j - len(pick(seed)) / 2) for j in range(len(pick(seed)))]
            axes.plot(x, pick(seed), ".", color=colour, label=label if i == 0 else None)
    axes.axhline(-160, color="#555555", linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(seeds)), [f"seed {name}" for name in names])
    axes.set_ylabel("return")
    axes.legend(loc="lower left", fontsize="small")
    return figure
