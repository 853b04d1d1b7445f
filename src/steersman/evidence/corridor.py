"""Risk over a chance that was learned: in the corridor every attitude to risk has one right way, which is known.

What is measured: from a log of random walks, whether planners that sample, follow gradients and search a tree take the
right way over the wind that the model's latent variable learned, for the mean, the worst case and CVaR; and whether a
guardrail that may be broken in a share δ of the scenarios is broken no more often than that in the world.

Shapes: B planning problems, H steps, K candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman.actor import CEM, Beam, Gradient
from steersman.agent import Agent
from steersman.agent.fitting import fit_readout
from steersman.core import CallableGoal, Guardrail, Imagined, Observation, Plan, Planner, Problem, Readout, Risk, Task
from steersman.cost import GoalCost, HalfSpace
from steersman.evaluation import rank_histogram, unevenness
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.drawing import canvas, picture
from steersman.evidence.futures import RANKED, RANKS, Learned, configuration, learn, opened, recorded
from steersman.perception import LinearReadout
from steersman.runs import Run
from steersman.runs.artefacts import Column, Figure, Row, Table
from steersman.world_model.latent_variable import Categorical
from steersman.worlds import Corridor
from steersman.worlds.corridor import BRIDGE

SEEDS, SCENARIOS, PRICE = 3, 40, 0.03
PLANNERS = ("cem", "gradient", "beam")
ATTITUDES: dict[str, Risk] = {
    "mean": Risk(scenarios=SCENARIOS),
    "worst": Risk(scenarios=SCENARIOS, over="worst"),
    "cvar": Risk(scenarios=SCENARIOS, over="cvar", tail=0.1),
    "cvar-bold": Risk(scenarios=SCENARIOS, over="cvar", tail=0.9),
}
"""The corridor's odds turn at a tail of 2/3: "cvar" goes round, "cvar-bold" over the bridge."""
LEAST = 0.02
"""Outcomes that come more seldom than this are not planned for; the wind comes in 1 step of 10."""
DELTAS = (0.05, 0.2)
ASKED = 0.25
"""Share of δ that imagined scenarios may break: a learned chance is blurred where it begins, and plans seek edges."""
EPISODES = 10_000
_TOGETHER = 25  # problems planned side by side
_FALLEN, _SOFT, _EDGE = -1.5, 0.1, 0.01  # y below which the walker has fallen; widths of soft steps of the energy


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """episodes recorded, steps of training; problems planned, of each attitude."""

    planner: str = ""
    episodes: int = 8000
    steps: int = 1500
    problems: int = 100


class Ways(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Share of problems whose plan goes the right way, by attitude."""

    right: dict[str, float]


class Broken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """δ -> share of the world's episodes in which the walker was swept off, and share of plans that go round."""

    broken: dict[str, float]
    round: dict[str, float]
    episodes: int


class Calibrated(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rank histogram of y after the step onto the bridge, its total variation from uniform, the wind that was learned,
    and nats that z tells there."""

    ranks: list[float]
    calibration: float
    wind: float


def cells(seed: int, settings: Settings = Settings()) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """Three models; with each, every planner and the guardrail."""
    found = []
    for i in range(SEEDS):
        model = Cell("model", train, 40, seed + i, settings)
        found.append(model)
        for name in PLANNERS:
            found.append(Cell(name, plan, 60, seed + i, msgspec.structs.replace(settings, planner=name), (model,)))
        found.append(Cell("guarded", guard, 30, seed + i, settings, (model,)))
    return tuple(found)


def train(context: Context) -> Found:
    """Record random walks, learn, and see how the wind was learned."""
    settings: Settings = context.settings
    world = Corridor.Config()
    dataset = recorded(world, context.folder / "log", settings.episodes, world.length, 1000 + context.seed)
    variable = Categorical.Config(codes=3, width=64, temperature=PRICE, least=LEAST)
    config = configuration(variable, 2, PRICE, settings.steps, context.seed)
    agent = msgspec.structs.replace(config.agent, readout=LinearReadout.Config())
    learned = learn(msgspec.structs.replace(config, agent=agent), dataset, context.folder / "run", observed,
                    context.progress)
    fit_readout(Run.open(context.folder / "run"), dataset, seed=context.seed)
    found = calibrated(learned, Corridor(world), context.seed)
    context.say(f"seed {context.seed}: wind {found.wind:.3f} learned of {world.wind:g}, ranks {found.calibration:.3f} "
                "from uniform")
    return Found({"": {"calibration": found.calibration, "wind": found.wind}}, found)


@torch.no_grad()
def calibrated(learned: Learned, world: Corridor, seed: int) -> Calibrated:
    """The rank of where the step onto the bridge leads among draws from the prior."""
    generator = torch.Generator().manual_seed(seed)
    state = torch.stack([torch.full((RANKS,), world.config.length / 2 - 1),
                         1.2 * torch.rand(RANKS, generator=generator) - 0.6], 1)
    action = 1.6 * torch.rand(RANKS, 1, generator=generator) - 0.8
    truth, _ = world.step(state, action, torch.rand(RANKS, generator=generator))
    draws = learned.imagine(state, action[:, None], RANKED, generator)[:, :, 0]
    histogram = rank_histogram(draws, truth, 0.5, generator)[1]
    on_it = ((state[:, 1] + action[:, 0] / 2).abs() < 0.8 * BRIDGE)
    wind = float((draws[on_it][..., 1] < _FALLEN).float().mean())
    return Calibrated([float(x) for x in histogram], float(unevenness(histogram)), wind)


def energy(world: Corridor, columns: Mapping[str, Tensor], imagined: Imagined) -> Tensor:
    """The corridor's energy of imagined columns (B, K, H), with soft edges so that it has a slope; the
    detour is paid in full from the bridge's edge on."""
    y, half = columns["y"], world.config.length / 2
    steps = torch.arange(1, y.shape[2] + 1, device=y.device)
    fallen = ((_FALLEN - y) / _SOFT).sigmoid()
    before = torch.cat([torch.zeros_like(fallen[..., :1]), fallen[..., :-1]], -1)
    aside = ((y.abs() - BRIDGE) / _EDGE + 3).sigmoid() * (1 - fallen)
    swept = (fallen - before).clamp(min=0)
    return 1 + world.config.detour * (steps == half) * aside + world.config.fall * swept


def planner(name: str) -> Planner:
    """A planner of its kind: samples, gradients, or a tree."""
    if name == "cem":
        return CEM(CEM.Config(samples=48, iterations=3, elites=6, horizon=8))
    if name == "gradient":
        return Gradient(Gradient.Config(restarts=8, steps=12, horizon=8, spread=1.0))
    return Beam(Beam.Config(width=16, fan=7, hold=2, horizon=8))


def plans(
    name: str, parts: tuple[Learned, Readout], world: Corridor, risk: Risk, problems: int, seed: int,
    guardrails: tuple[Guardrail, ...] = (),
) -> Tensor:
    """Actions (B, H, 1) of so many problems from the corridor's beginning, each with its own draws."""
    learned, readout = parts
    goal = CallableGoal(lambda columns, imagined: energy(world, columns, imagined), "corridor")
    found = []
    for first in range(0, problems, _TOGETHER):
        count = min(_TOGETHER, problems - first)
        task = Task(goal, guardrails=guardrails, horizon=world.config.length, risk=risk)
        problem = Problem(
            learned.model, learned.belief(world.start(count), 1), (GoalCost(readout),), task,
            world.config.signature.action, seed * 1_000_000 + torch.arange(first, first + count),
            torch.zeros(count, dtype=torch.int64))
        decided: Plan = planner(name).plan(problem)
        found.append(decided.actions.detach())
    return torch.cat(found)


def ways(world: Corridor, actions: Tensor) -> Tensor:
    """(B,) bool: plans (B, H, 1) that lead over the bridge, if no wind comes."""
    calm = torch.ones(actions.shape[:2])
    states, _ = world.rollout(actions.clamp(-1, 1), calm)
    return states[:, world.config.length // 2, 1].abs() < BRIDGE


def observed(state: Tensor) -> Observation:
    """What is seen of states (N, 2)."""
    return {"vector": state}


def needed(context: Context) -> tuple[Learned, Readout]:
    """The model of the cell that this one needs, and its read-out."""
    path = context.needs[0].folder / "run"
    readout = Agent.load(Run.open(path)).readout
    assert readout is not None
    return opened(path, observed), readout


def plan(context: Context) -> Found:
    """One planner, every attitude to risk."""
    settings: Settings = context.settings
    world, parts, right = Corridor(), needed(context), dict[str, float]()
    for attitude, risk in ATTITUDES.items():
        over = ways(world, plans(settings.planner, parts, world, risk, settings.problems, context.seed))
        best = world.best(risk.tail if risk.over == "cvar" else risk.over)
        right[attitude] = float((over == (best == "bridge")).float().mean())
    context.say(f"{settings.planner}, seed {context.seed}: " + ", ".join(f"{k} {v:.0%}" for k, v in right.items()))
    return Found({settings.planner: {f"{k}_right": v for k, v in right.items()}}, Ways(right))


def guard(context: Context) -> Found:
    """A guardrail that may be broken in a share δ, for several δ, and how often the world breaks it."""
    settings: Settings = context.settings
    world, parts = Corridor(), needed(context)
    rail = HalfSpace(parts[1], {"y": -1.0}, -_FALLEN, name="not swept off")
    broken, aside = dict[str, float](), dict[str, float]()
    generator = torch.Generator().manual_seed(context.seed)
    for delta in DELTAS:
        risk = Risk(scenarios=SCENARIOS, broken=ASKED * delta)
        actions = plans("cem", parts, world, risk, settings.problems, context.seed, (rail,))
        many = actions.repeat(-(-EPISODES // len(actions)), 1, 1)[:EPISODES]
        states, _ = world.rollout(many, torch.rand(many.shape[:2], generator=generator))
        broken[f"{delta:g}"] = float((states[:, -1, 1] < _FALLEN).float().mean())
        aside[f"{delta:g}"] = float((~ways(world, actions)).float().mean())
    context.say(f"guarded, seed {context.seed}: " + ", ".join(f"δ {k}: broken {v:.1%}" for k, v in broken.items()))
    figures = {f"guard-{k}": {"broken": v, "delta": float(k), "episodes": EPISODES} for k, v in broken.items()}
    return Found(figures, Broken(broken, aside, EPISODES))


def summary(results: Results) -> Outcome:
    """{planner: mean_right, worst_right, cvar_right, cvar-bold_right, calibration}: the least share of right ways of
    any training seed; guard-δ: the largest share of episodes in which the limit was broken."""
    figures: dict[str, dict[str, Any]] = {}
    models = [one.record(Calibrated) for one in results.of("model")]
    calibration = max((one.calibration for one in models), default=None)
    for name in PLANNERS:
        seeds = [one.record(Ways).right for one in results.of(name)]
        if seeds:
            figures[name] = {f"{key}_right": min(one[key] for one in seeds) for key in ATTITUDES}
            figures[name] |= {f"{key}_right_by_seed": [one[key] for one in seeds] for key in ATTITUDES}
            figures[name]["calibration"] = calibration
    guarded = [one.record(Broken) for one in results.of("guarded")]
    if guarded:
        for delta in guarded[0].broken:
            figures[f"guard-{delta}"] = {
                "broken": max(one.broken[delta] for one in guarded), "delta": float(delta),
                "broken_by_seed": [one.broken[delta] for one in guarded], "episodes": guarded[0].episodes,
                "round": min(one.round[delta] for one in guarded)}
    if models:
        figures["model"] = {"calibration": calibration, "wind_by_seed": [one.wind for one in models],
                            "calibration_by_seed": [one.calibration for one in models]}
    shown = () if not models else (picture(
        _draw(models), "ranks", "Rank of what came among 15 draws from the prior",
        "one line of 16 shares for each training seed, beside the uniform share",
        "Flat is calibrated; a U says that draws lie too close together, a hill that they lie too far apart."),)
    return Outcome(figures, (_table(figures),), shown)


def _table(figures: dict[str, dict[str, Any]]) -> Table:
    keys = tuple(f"{key}_right" for key in ATTITUDES)
    rows = tuple(Row(label=name, kind="agent", figures={key: Figure(value=figures[name][key]) for key in keys})
                 for name in PLANNERS if name in figures)
    return Table(
        name="corridor", title="The right way for each attitude to risk",
        columns=tuple(Column(key=key, title=key.replace("_", " "), better="higher", target=0.97) for key in keys),
        rows=rows, notes=("Least share of 100 planning seeds over the training seeds; half would be chance.",))


def _draw(models: list[Calibrated]) -> Any:
    drawn, axes = canvas(6, 2.6)
    for i, model in enumerate(models):
        axes.plot(range(len(model.ranks)), model.ranks, "o-", markersize=3, label=f"seed {i}")
    axes.axhline(1 / len(models[0].ranks), color="#555555", linewidth=0.8, linestyle="--")
    axes.set_ylim(0, 3 / len(models[0].ranks))
    axes.set_xlabel("rank")
    axes.set_ylabel("share")
    axes.legend(fontsize="x-small")
    return drawn
