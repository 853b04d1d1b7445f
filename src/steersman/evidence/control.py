"""Beside others in control from vectors: equal steps of the world, and equal predictor calls a decision.

Pendulum, CartPole and Acrobot, scored by return, and nine rooms, scored by goals reached. Ours is this library's recipe
for vectors with a goal, in the rooms `recipes.far` with Reach; the rivals are PETS-style and TD-MPC2-style agents of
the same parts, HIQL and QRL, and Stable-Baselines3's SAC. All but SAC learn from the same log of random actions; SAC
acts for as many steps as that log has. Who needs a reward gets the world's own (in the rooms minus the distance).
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor

from steersman import training
from steersman.agent import Agent
from steersman.agent.fitting import fit_readout
from steersman.core import Budget, Observation, Task, UsageError
from steersman.data import Dataset
from steersman.evaluation import PROTOCOLS, evaluate, wilson
from steersman.evaluation.acting import act_in
from steersman.evaluation.deciding import Decides, PolicyFunction
from steersman.evaluation.protocol import Seen
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.control_worlds import RANGES, WORLDS, ControlWorld, control_world
from steersman.evidence.drawing import canvas, picture
from steersman.evidence.hierarchy import with_ways
from steersman.evidence.peers import hiql, pets, qrl, sac, tdmpc2
from steersman.evidence.peers.networks import Fit
from steersman.evidence.peers.policy import GoalPolicy
from steersman.evidence.seeds import spread
from steersman.runs import Run
from steersman.runs.artefacts import Column, Figure, Row, Table
from steersman.world_model import ResidualModel

SEEDS = 3
OURS = "ours"
AGENTS = (OURS, "pets", "td-mpc2", "hiql", "qrl", "sac")
WORDS = {
    OURS: "world model and planner, a goal", "pets": "ensemble, trajectory sampling, CEM, the world's cost",
    "td-mpc2": "latent from rewards and values, MPPI with a policy prior",
    "hiql": "goal-conditioned policy, two levels", "qrl": "goal-conditioned policy, a quasimetric",
    "sac": "Stable-Baselines3, acts while it learns"}
EXECUTED = 4
"""Actions of a plan that planners carry out in the rooms before they decide again, as ours does there."""
FEW = pets.Config(futures=2, horizon=10, execute=EXECUTED)
"""PETS in the rooms at equal calls: as it comes they would pay for one candidate."""
_SECONDS = {OURS: 45.0, "pets": 75.0, "td-mpc2": 75.0, "hiql": 30.0, "qrl": 30.0, "sac": 75.0}
_IN_ROOMS = {OURS: 100.0, "pets": 150.0, "td-mpc2": 110.0, "hiql": 60.0, "qrl": 60.0, "sac": 200.0}
_USUAL_ROOMS = (OURS, "pets", "td-mpc2", "hiql", "qrl")


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """episodes: scored in worlds with a return; trips: of each range of the rooms; steps: of the world, None: each
    world's own; ours: updates of our training, None: the recipe's; td_mpc2, policies: updates of TD-MPC2, and of HIQL
    and QRL, about as many CPU-seconds as ours; in the rooms, where ours trains for longer, `longer` times as many;
    nodes: of the rooms' graph."""

    episodes: int = 8
    trips: int = 12
    steps: int | None = None
    ours: int | None = None
    td_mpc2: int = 1500
    policies: int = 1500
    longer: float = 2.0
    nodes: int = 3000


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One agent in one world."""

    world: str
    agent: str
    sizes: Sizes


class Played(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One agent, scored once.

    scores  returns of episodes, or 1 and 0 for goals reached, by range of rooms
    calls   predictor calls a decision, 0 where nothing is imagined
    ms      CPU-time of a step of one episode, the world's included, where all are decided together
    """

    scores: dict[str, list[float]]
    calls: float = 0.0
    ms: float = 0.0

    @property
    def all(self) -> list[float]:
        """Of every range."""
        return [score for scores in self.scores.values() for score in scores]


class Scored(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a cell found. own: with the agent's own settings; equal: planners alone, within the world's `calls`; random:
    of random actions from the same starts; train: CPU-seconds; steps: of the world, logged or acted."""

    own: Played
    equal: Played | None
    random: Played
    train: float
    steps: int


def cells(seed: int, sizes: Sizes = Sizes()) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """Every agent in every world three times; the plain command performs the first seed of all but SAC in the rooms.
    Where Stable-Baselines3 is not installed there is no SAC."""
    installed = importlib.util.find_spec("stable_baselines3") is not None
    found = []
    for s in range(seed, seed + SEEDS):
        for world in WORLDS:
            for agent in AGENTS:
                if agent == "sac" and not installed:
                    continue
                seconds = (_IN_ROOMS if WORLDS[world].rooms else _SECONDS)[agent]
                usual = s == seed and (agent in _USUAL_ROOMS or not WORLDS[world].rooms)
                found.append(Cell(f"{world}/{agent}", perform, seconds, s, Settings(world, agent, sizes), usual=usual))
    return tuple(found)


def perform(context: Context) -> Found:
    """Record, learn, be scored."""
    settings: Settings = context.settings
    learn = _LEARNERS.get(settings.agent)
    if learn is None:
        raise UsageError(f"an agent of {', '.join(AGENTS)}", repr(settings.agent), "choose one of them")
    world, sizes = control_world(settings.world), settings.sizes
    log = world.log(context.folder / "log", context.seed, sizes.steps)
    before = time.process_time()
    made = learn(context, world, log)
    train = time.process_time() - before
    own, floor = play(made.own, world, made.task, sizes, context.seed)
    equal = None
    if made.equal is not None:
        task = replace(made.equal_task, budget=Budget(calls=world.calls))
        equal, _ = play(made.equal, world, task, sizes, context.seed)
    scored = Scored(own=own, equal=equal, random=floor, train=train, steps=log.steps)
    said = f"{settings.world}, {settings.agent}, seed {context.seed}: {_mean(own.all):.4g} at {own.calls:.0f} calls"
    said += "" if equal is None else f", {_mean(equal.all):.4g} at {equal.calls:.0f}"
    context.say(f"{said}, random {_mean(floor.all):.4g}; trained in {train:.0f} CPU-seconds")
    return Found({f"{settings.world}/{settings.agent}": {"score": _mean(own.all)}}, scored)


# Who learns ----------------------------------------------------------------------------------------------------------


class Made:
    """An agent that has learned. task: what it is asked; equal: who is held to a budget, where it plans; equal_task:
    what that one is asked, None: the same."""

    def __init__(
        self, own: Decides | PolicyFunction, task: Task, equal: Decides | None = None, equal_task: Task | None = None
    ) -> None:
        self.own, self.task, self.equal, self.equal_task = own, task, equal, equal_task or task


def _trained(context: Context, world: ControlWorld, log: Dataset, members: int) -> Path:
    sizes: Sizes = context.settings.sizes
    given: dict[str, Any] = {} if sizes.ours is None else {"steps": sizes.ours}
    config = world.ours(seed=context.seed, **given, **({"nodes": sizes.nodes} if world.rooms else {}))
    if members > 1:
        assert isinstance(config.agent.world_model, ResidualModel.Config)
        model = msgspec.structs.replace(config.agent.world_model, members=members)
        config = msgspec.structs.replace(config, agent=msgspec.structs.replace(config.agent, world_model=model))
    folder = context.folder / "run"
    with training.create_run(folder, config, log, recipe="control") as run:
        training.train(config, log, run, progress=context.progress)
    fit_readout(Run.open(folder), log, seed=context.seed)
    return folder


def _learn_ours(context: Context, world: ControlWorld, log: Dataset) -> Made:
    run = _trained(context, world, log, members=1)
    made = with_ways(context.folder) if world.rooms else Agent.load(run)
    return Made(made, world.task(), made)


def _learn_pets(context: Context, world: ControlWorld, log: Dataset) -> Made:
    config = pets.Config(execute=EXECUTED if world.rooms else 1)
    run = _trained(context, world, log, config.members)
    few = FEW if world.rooms else config
    return Made(pets.agent(run, world, config), pets.task(world, config),
                pets.agent(run, world, few), pets.task(world, few))


def _learn_tdmpc2(context: Context, world: ControlWorld, log: Dataset) -> Made:
    config = tdmpc2.Config(steps=_updates(context, world, context.settings.sizes.td_mpc2))
    planner = msgspec.structs.replace(config.planner, execute=EXECUTED if world.rooms else 1)
    config = msgspec.structs.replace(config, planner=planner)
    made = tdmpc2.agent(tdmpc2.train(world, log, config, seed=context.seed).networks)
    return Made(made, world.task({tdmpc2.LearnedReturn.name: 1.0}), made)


def _learn_hiql(context: Context, world: ControlWorld, log: Dataset) -> Made:
    return _shown(world, hiql.train(log, hiql.Config(fit=_fit(context, world)), 0.0, context.seed).policy)


def _learn_qrl(context: Context, world: ControlWorld, log: Dataset) -> Made:
    return _shown(world, qrl.train(log, qrl.Config(fit=_fit(context, world)), 0.0, context.seed).policy)


def _fit(context: Context, world: ControlWorld) -> Fit:
    return Fit(lr=1e-3, batch_size=128, hidden=(128, 128), features=64, target=0.01,
               steps=_updates(context, world, context.settings.sizes.policies))


def _updates(context: Context, world: ControlWorld, plain: int) -> int:
    return round(plain * (context.settings.sizes.longer if world.rooms else 1))


def _shown(world: ControlWorld, policy: GoalPolicy) -> Made:
    if not world.rooms:
        return Made(policy, world.whole_goal())

    def act(observation: Observation, goal: Observation) -> Tensor:
        place = torch.stack([goal[name] for name in world.told], 1)
        return policy(observation, {"vector": torch.cat([place, torch.zeros_like(place)], 1)})  # at rest

    return Made(act, world.task())


def _learn_sac(context: Context, world: ControlWorld, log: Dataset) -> Made:
    config = sac.Config(every=8 if world.rooms else 1)
    learned = sac.train(world, log.steps, config, context.seed)
    return Made(learned, world.task())


_LEARNERS: dict[str, Callable[[Context, ControlWorld, Dataset], Made]] = {
    OURS: _learn_ours, "pets": _learn_pets, "td-mpc2": _learn_tdmpc2, "hiql": _learn_hiql, "qrl": _learn_qrl,
    "sac": _learn_sac}


# Scoring -------------------------------------------------------------------------------------------------------------


def play(
    who: Decides | PolicyFunction, world: ControlWorld, task: Task, sizes: Sizes, seed: int
) -> tuple[Played, Played]:
    """Scores of an agent, and of random actions from the same starts."""
    before, counted = time.process_time(), _Counted(who)
    with torch.inference_mode():
        if world.rooms:
            found = {name: evaluate(counted.who, PROTOCOLS[f"nine-rooms-{name}"], episodes=sizes.trips, seed=seed,
                                    task=task, watch=counted.watch) for name in RANGES}
            scores = {name: [float(x) for x in one.success] for name, one in found.items()}
            floor = {name: [float(x) for x in one.random] for name, one in found.items() if one.random is not None}
        else:
            acted = act_in(counted.who, world.env, task, episodes=sizes.episodes, seed=seed, longest=world.longest)
            scores, floor = {"": acted.returns}, {"": acted.random_returns}
            decided, counted.decisions = acted.decisions, sum(acted.lengths)
            counted.calls = counted.decisions * sum(one.calls for one in decided) / max(1, len(decided))
    ms = 1000 * (time.process_time() - before) / max(1, counted.decisions)
    return (Played(scores=scores, calls=counted.calls / max(1, counted.decisions), ms=ms), Played(scores=floor))


class _Counted:
    """Counts the calls of decisions."""

    def __init__(self, who: Decides | PolicyFunction) -> None:
        self.who, self.calls, self.decisions = who, 0.0, 0

    def watch(self, seen: Seen) -> None:
        """After every decision."""
        self.calls += int(seen.plan.calls.sum())
        self.decisions += len(seen.rows)


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


# Summary -------------------------------------------------------------------------------------------------------------


def summary(results: Results) -> Outcome:
    """{world/agent: `score`, …} over all seeds, beside random actions."""
    every: dict[str, list[Scored]] = {}
    for one in results:
        every.setdefault(one.cell.row, []).append(one.record(Scored))
    figures = {row: _figures(found, control_world(row.partition("/")[0])) for row, found in every.items()}
    shown = picture(_draw(figures), "control", "Control from vectors, by agent",
                    "score of every agent in four worlds at equal steps of the world, with 95% intervals",
                    "Grey: random actions. Hollow: planners held to the same predictor calls a decision.")
    return Outcome(figures, (_table(figures),), (shown,))


def _figures(found: list[Scored], world: ControlWorld) -> dict[str, Any]:
    figures: dict[str, Any] = {"seeds": len(found), "steps": found[0].steps,
                               "train_cpu_seconds": max(one.train for one in found)}
    for kind in ("own", "equal", "random"):
        played = [one for one in (getattr(scored, kind) for scored in found) if one is not None]
        if not played:
            continue
        name = {"own": "score", "equal": "score_equal_calls", "random": "random_score"}[kind]
        scores = [score for one in played for score in one.all]
        figures |= {name: _mean(scores), f"{name}_ci95": _interval(scores, world.rooms)}
        if kind == "own":
            figures |= {"score_by_seed": [_mean(one.all) for one in played], "episodes": len(scores)}
        if kind != "random" and played[0].calls:
            figures["calls" if kind == "own" else "equal_calls"] = max(one.calls for one in played)
        if world.rooms and kind != "random":
            for where in RANGES:
                figures[where if kind == "own" else f"{where}_equal_calls"] = _mean(
                    [score for one in played for score in one.scores[where]])
    return figures


def _interval(scores: list[float], shares: bool) -> list[float]:
    """Wilson's of shares, Student's of returns."""
    if shares:
        return list(wilson(int(sum(scores)), len(scores)))
    figure = spread(scores)
    return [] if figure.low is None or figure.high is None else [figure.low, figure.high]


_JUDGED: tuple[str, ...] = ("score", "score_equal_calls", "random_score")
_COUNTED: tuple[str, ...] = ("long", "calls", "equal_calls", "train_cpu_seconds")


def _table(figures: dict[str, dict[str, Any]]) -> Table:
    rows = []
    for name, found in figures.items():
        world, agent = name.split("/")
        cells: dict[str, Figure] = {key: _figure(found, key) for key in _JUDGED if key in found}
        cells |= {key: Figure(value=found[key]) for key in _COUNTED if key in found}
        kind: Literal["agent", "baseline"] = "agent" if agent == OURS else "baseline"
        rows.append(Row(label=f"{agent}: {WORDS[agent]}", kind=kind, figures=cells,
                        group=f"{world}, {found['steps']:,} steps"))
    notes = ["Scores: mean return; in the rooms the share of goals reached, a third of them short, middle, long.",
             "Intervals: 95%, Student's over starts of all seeds; of shares Wilson's.",
             "All but SAC learn from one log of random actions; SAC acts for as many steps, its choices cut from one "
             "amount."]
    if not any(name.endswith("/sac") for name in figures):
        notes.append('SAC is left out where stable-baselines3 is not installed: pip install "steersman[sac]".')
    return Table(
        name="control", title="Control from vectors, beside others",
        columns=(Column(key="score", title="score", better="higher"),
                 Column(key="score_equal_calls", title="at equal calls", better="higher"),
                 Column(key="random_score", title="random"),
                 Column(key="long", title="long ways", form="share", better="higher"),
                 Column(key="calls", title="calls a decision", better="lower"),
                 Column(key="equal_calls", title="equal calls"),
                 Column(key="train_cpu_seconds", title="training, CPU", form="seconds", better="lower")),
        rows=tuple(rows), protocol={"episodes": "the same starts for all"}, notes=tuple(notes),
    )


def _figure(found: dict[str, Any], key: str) -> Figure:
    interval = found.get(f"{key}_ci95") or [None, None]
    return Figure(value=found[key], low=interval[0], high=interval[1])


def _draw(figures: dict[str, dict[str, Any]]) -> Any:
    worlds = list(dict.fromkeys(name.partition("/")[0] for name in figures))
    figure, axes = canvas(3 * len(worlds), 3.2, 1, len(worlds), squeeze=False)
    for panel, world in zip(axes[0], worlds, strict=True):
        agents = [name.partition("/")[2] for name in figures if name.startswith(f"{world}/")]
        for i, agent in enumerate(agents):
            found = figures[f"{world}/{agent}"]
            for key, face, shift in (("score", "C0", 0.0), ("score_equal_calls", "none", 0.2)):
                if key in found:
                    if found[f"{key}_ci95"]:
                        panel.plot([i + shift] * 2, found[f"{key}_ci95"], color="C0", linewidth=1)
                    panel.plot(i + shift, found[key], "o", color="C0", markerfacecolor=face)
        panel.axhline(figures[f"{world}/{agents[0]}"]["random_score"], color="#999999", linewidth=1)
        panel.set_xticks(range(len(agents)), agents, rotation=60)
        panel.set_title(world)
    return figure


