"""Goals beyond a flat horizon: nine rooms in a snake, and MountainCarContinuous, by levels of abstraction and without.

What is measured, three training seeds each: success by how many doors lie between start and goal, predictor calls a
step of the world and CPU-seconds of planning an episode, for Reach and, on the same model and the same starts, for
three flat planners. The car is learned from logs of pushes that are held for 10 steps on average, and of white noise,
which never come near the goal by design.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import torch

from steersman import training
from steersman.actor import CEM
from steersman.agent import Agent
from steersman.agent.believing import Boxes
from steersman.agent.distance import fit_distance
from steersman.agent.fitting import fit_readout
from steersman.agent.remembered import ways_from
from steersman.core import ColumnGoal, Episode, Signature, Task
from steersman.data import CacheWriter, Dataset
from steersman.evaluation import PROTOCOLS, evaluate, wilson
from steersman.evaluation.protocol import Seen
from steersman.evidence import hierarchy_leaks, hierarchy_pendulum, hierarchy_pixels, pendulum
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.drawing import canvas, picture
from steersman.recipes import far
from steersman.runs import Run
from steersman.runs.artefacts import Column, Figure, Row, Table
from steersman.worlds import GymnasiumWorld, NineRooms, held, make_env, record

SEEDS = 3
CAR, CAR_STEPS, CAR_EPISODE = "MountainCarContinuous-v0", 15_000, 200
RANGES = ("short", "middle", "long")
HOLDS = {"held": 10.0, "white": 1.0}


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """episodes: of the log of rooms; steps: of training, None: the recipe's; played: episodes of every range; flat: of
    each flat planner; car: episodes of the car, car_steps: of its training; nodes: of graphs;
    filmed, swing: of rooms as pictures, of the pendulum."""

    episodes: int = 300
    steps: int | None = None
    played: int = 100
    flat: int = 44
    car: int = 30
    car_steps: int = 2500
    nodes: int = 3000
    filmed: hierarchy_pixels.Filmed = hierarchy_pixels.Filmed()
    swing: pendulum.Sizes = pendulum.Sizes()


class Played(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One planner in episodes of one range. returns: of the car, else empty."""

    label: str
    range: str
    wins: int
    episodes: int
    calls: float
    cpu_seconds: float
    returns: list[float] = []

    @property
    def figures(self) -> dict[str, Any]:
        """As the table of figures holds them."""
        found = {"success": self.wins / self.episodes, "calls": self.calls, "cpu_seconds": self.cpu_seconds}
        return found | ({"mean_return": sum(self.returns) / len(self.returns)} if self.returns else {})


class Scored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a cell played, and CPU-seconds of its training."""

    played: list[Played]
    train: float = 0.0


class Flat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A flat planner by name."""

    planner: str
    sizes: Sizes


FLAT: dict[str, Any] = {
    "flat-15": CEM.Config(samples=64, iterations=3, elites=8, horizon=15, execute=4),
    "flat-60-held-6": CEM.Config(samples=64, iterations=3, elites=8, horizon=60, hold=6, execute=4),
    "temporal-distance-12": CEM.Config(samples=64, iterations=3, elites=8, horizon=12, execute=4),
}
"""A short horizon, a long one of held actions, and a short one towards a temporal distance, none of them tuned."""


def cells(seed: int, sizes: Sizes = Sizes()) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """Three times: learn the rooms and play them with Reach; the car from two logs; the flat planners once."""
    found: list[Cell] = []
    for s in range(seed, seed + SEEDS):
        learned = Cell("rooms/learned", learn_rooms, 100, s, sizes)
        found += [learned, Cell("rooms/reach", play_rooms, 60, s, sizes, needs=(learned,)),
                  Cell("rooms/leaks", hierarchy_leaks.perform, 60, s, sizes, needs=(learned,), usual=s == seed)]
        found += [Cell(f"rooms/{name}", play_flat, 180, s, Flat(name, sizes), needs=(learned,), usual=s == seed)
                  for name in FLAT]
        found += [Cell(f"mountain-car/{log}", drive, 60, s, sizes) for log in HOLDS]
        filmed = Cell("pixels/learned", hierarchy_pixels.learn, 300, s, sizes.filmed, usual=False)
        found += [filmed, Cell("pixels/reach", hierarchy_pixels.play, 180, s, sizes.filmed, (filmed,), usual=False),
                  Cell("pendulum/reach", hierarchy_pendulum.swing, 60, s, sizes.swing, usual=False,
                       needs=(Cell("pendulum", pendulum.perform, 150, s, sizes.swing, usual=False),))]
    return tuple(found)


def learn_rooms(context: Context) -> Found:
    """Record and train."""
    sizes: Sizes = context.settings
    world = NineRooms()
    log = _logged(context.folder / "log", world.signature, world.log(sizes.episodes, 200, context.seed), context.seed)
    seconds = _train(context, log, sizes.steps, sizes.nodes)
    context.say(f"seed {context.seed}: trained in {seconds:.0f} CPU-seconds")
    return Found({"rooms/level-1": {"train_cpu_seconds": seconds}}, Scored([], seconds))


def play_rooms(context: Context) -> Found:
    """Reach, its graph made from the run's log, at every range."""
    agent, sizes = with_ways(context.needs[0].folder), context.settings
    played = [_played(agent, f"nine-rooms-{name}", "reach", name, sizes.played, context.seed) for name in RANGES]
    return _found(context, "rooms", played)


def with_ways(folder: Path) -> Agent:
    """The agent that `learn_rooms` left in `folder`, and a planner whose graph is made from the log beside it."""
    agent, log = Agent.load(folder / "run"), Dataset.open(folder / "log")
    by = Boxes(agent.perception, agent.world_model, agent.signature)
    agent.planner.recall(lambda config: ways_from(log, by, agent.readout, config))
    return agent


def play_flat(context: Context) -> Found:
    """One flat planner on the same model and starts."""
    flat: Flat = context.settings
    run = context.needs[0].folder / "run"
    agent, task = Agent.load(run, planner=FLAT[flat.planner].build()), None
    if flat.planner.startswith("temporal"):
        dataset = Dataset.open(context.needs[0].folder / "log")
        agent.add_cost(fit_distance(agent, dataset, context.seed)[0])
        task = Task(ColumnGoal({"x": 0.0, "y": 0.0}), weights={"temporal-distance": 1.0})
    played = [_played(agent, f"nine-rooms-{name}", flat.planner, name, flat.sizes.flat, context.seed, task)
              for name in RANGES]
    return _found(context, "rooms", played)


def drive(context: Context) -> Found:
    """Learn the car from one kind of log, drive it with Reach."""
    sizes: Sizes = context.settings
    name = context.folder.name.split("@")[0].rpartition("+")[2]
    world = GymnasiumWorld(make_env(CAR))
    behaviour = held(world.signature.action, HOLDS[name])
    episodes = record(world.env, steps=CAR_STEPS, longest=CAR_EPISODE, seed=context.seed, behaviour=behaviour,
                      adapter=world.adapter)
    log = _logged(context.folder / "log", world.signature, episodes, context.seed)
    seconds = _train(context, log, sizes.car_steps, sizes.nodes, waves=0)  # hills have no edges
    agent = Agent.load(context.folder / "run")
    played = [_played(agent, "mountain-car", "reach", name, sizes.car, context.seed)]
    return _found(context, "mountain-car", played, seconds)


def _logged(place: Path, signature: Signature, episodes: Iterator[Episode], seed: int) -> Dataset:
    with CacheWriter(place, signature, origin=f"held pushes, seed {seed}") as writer:
        writer.append(episodes)
        writer.finish()
    return Dataset.open(place)


def _train(context: Context, log: Dataset, steps: int | None, nodes: int, **others: int) -> float:
    given = {} if steps is None else {"steps": steps}
    config = far.recipe(seed=context.seed, nodes=nodes, **given, **others)
    before = time.process_time()
    with training.create_run(context.folder / "run", config, log, recipe="far") as run:
        training.train(config, log, run, progress=context.progress)
    fit_readout(Run.open(context.folder / "run"), log, seed=context.seed)
    return time.process_time() - before


def _played(agent: Agent, protocol: str, label: str, where: str, episodes: int, seed: int, task: Task | None = None,
            ) -> Played:
    spent = [0]

    def watch(seen: Seen) -> None:
        spent[0] += int(seen.plan.calls.sum())

    with torch.inference_mode():
        found = evaluate(agent, PROTOCOLS[protocol], episodes=episodes, seed=seed, task=task, random=False, watch=watch)
    trials = found.trials.returns
    return Played(label=label, range=where, wins=int(found.success.sum()), episodes=episodes,
                  calls=spent[0] / max(1, int(found.steps.sum())), cpu_seconds=float(found.planning.mean()),
                  returns=[] if trials is None else trials.tolist())


def _found(context: Context, world: str, played: list[Played], seconds: float = 0.0) -> Found:
    for one in played:
        context.say(f"{world}, {one.range}, {one.label}, seed {context.seed}: {one.wins} of {one.episodes}, "
                    f"{one.calls:.0f} calls a step")
    return Found({f"{world}/{one.range}/{one.label}": one.figures for one in played}, Scored(played, seconds))


def summary(results: Results) -> Outcome:
    """Over all seeds; `*_by_seed` tell them apart."""
    every: dict[str, list[Played]] = {}
    own = [one for one in results if one.cell.row.startswith(("rooms/", "mountain-car/"))]
    for one in (one for one in own if one.cell.row != "rooms/leaks"):
        world = one.cell.row.partition("/")[0]
        for played in one.record(Scored).played:
            every.setdefault(f"{world}/{played.range}/{played.label}", []).append(played)
    figures = {row: _summed(found) for row, found in every.items()}
    found = [one.record(hierarchy_leaks.Leaks).graphs for one in results.of("rooms/leaks")]
    figures |= hierarchy_leaks.figures([graph for graphs in found for graph in graphs])
    filmed = [one.record(hierarchy_pixels.Pictured).seen for one in results.of("pixels/reach")]
    figures |= hierarchy_pixels.figures([one for seen in filmed for one in seen])
    swung = [one.record(hierarchy_pendulum.Swung) for one in results.of("pendulum/reach")]
    figures |= hierarchy_pendulum.figures(swung)
    trained = [one.record(Scored).train for one in results.of("rooms/learned")]
    if trained:
        figures["training"] = {"cpu_seconds": max(trained)}
    shown = picture(_draw(every), "rooms", "Nine rooms by distance",
                    "share of goals reached by doors between start and goal, for every planner",
                    "Share of goals reached, all seeds together; bars are Wilson's 95% intervals.")
    return Outcome(figures, (_table(every),), (shown,))


def _summed(found: list[Played]) -> dict[str, Any]:
    wins, episodes = sum(one.wins for one in found), sum(one.episodes for one in found)
    figures: dict[str, Any] = {
        "success": wins / episodes, "success_ci95": list(wilson(wins, episodes)), "episodes": episodes,
        "success_by_seed": [one.wins / one.episodes for one in found],
        "calls": max(one.calls for one in found), "cpu_seconds": max(one.cpu_seconds for one in found),
    }
    returns = [r for one in found for r in one.returns]
    if returns:
        figures |= {"mean_return": sum(returns) / len(returns), "worst_return": min(returns),
                    "mean_return_by_seed": [sum(one.returns) / len(one.returns) for one in found]}
    return figures


def _table(every: dict[str, list[Played]]) -> Table:
    rows = []
    for name, found in every.items():
        world, where, label = name.split("/")
        sums = _summed(found)
        low, high = sums["success_ci95"]
        figures = {"success": Figure(value=sums["success"], low=low, high=high), "calls": Figure(value=sums["calls"]),
                   "cpu": Figure(value=sums["cpu_seconds"])}
        if "mean_return" in sums:
            figures["return"] = Figure(value=sums["mean_return"])
        rows.append(Row(label=label, kind="agent" if label == "reach" else "baseline", figures=figures,
                        group=f"{world}, {where}"))
    return Table(
        name="hierarchy", title="Goals beyond a flat horizon",
        columns=(Column(key="success", title="goals reached", form="share", better="higher"),
                 Column(key="return", title="mean return", better="higher", target=91.0),
                 Column(key="calls", title="calls a step", better="lower", target=160.0),
                 Column(key="cpu", title="planning an episode", form="seconds", better="lower")),
        rows=tuple(rows),
        protocol={"rooms": "60,000 logged steps", "car": f"{CAR_STEPS:,} logged steps", "goal": "columns"},
        notes=("Calls and seconds: the largest of the seeds. Intervals: Wilson's, 95%.",),
    )


def _draw(every: dict[str, list[Played]]) -> Any:
    figure, axes = canvas(7, 3.2)
    labels = list(dict.fromkeys(name.split("/")[2] for name in every if name.startswith("rooms/")))
    for i, label in enumerate(labels):
        for j, where in enumerate(RANGES):
            found = every.get(f"rooms/{where}/{label}")
            if not found:
                continue
            sums = _summed(found)
            x = j + 0.15 * (i - (len(labels) - 1) / 2)
            axes.plot([x, x], [100 * v for v in sums["success_ci95"]], color=f"C{i}")
            axes.plot(x, 100 * sums["success"], "o", color=f"C{i}", label=label if j == 0 else None)
    axes.set_xticks(range(len(RANGES)), RANGES)
    axes.set_ylim(-2, 102)
    axes.set_ylabel("goals reached (%)")
    if labels:
        axes.legend(fontsize="small")
    return figure
