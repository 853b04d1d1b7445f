"""Weights from demonstrations: an expert drives a cart and does not say what it weighs; it is read off its ways.

Five weight vectors a run, drawn anew from the seed. The expert plans with the true weights and much effort; whoever
learns sees its trajectories from 12 starts, plans with a smaller budget, and is judged from 32 other starts by the
true weights. Beside it: the weights that count every term alike by its typical size, which is where learning begins.

Shapes: B starts, H steps, I terms, V weight vectors.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman.actor import Gradient
from steersman.core import ActionSpec, Belief, ColumnGoal, Cost, Imagined, Problem, Readout, Task
from steersman.cost import EffortCost, GoalCost, Recovered, SmoothnessCost, recover_weights, term_energies
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.drawing import canvas, picture
from steersman.runs.artefacts import Column, Figure, Row, Table
from steersman.world_model import LinearModel

VECTORS = 5
ACTION = ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0))
TASK = Task(ColumnGoal({"x": 2.0, "y": 0.0}))
SIZE = {"goal": 2.0, "speed": 0.5, "mud": 0.12, "effort": 0.1, "smoothness": 0.01}
"""What each term typically amounts to. Weights are drawn, and compared, in these units, or the term that happens to be
measured in the smallest unit alone would decide the cosine."""


# The world and what can matter in it -----------------------------------------------------------------------------


def cart() -> LinearModel:
    """A point with inertia: v' = .95 v + .35 a, p' = p + .2 v'; state (x, y, vx, vy)."""
    one, none = torch.eye(2), torch.zeros(2, 2)
    transition = torch.cat([torch.cat([one, 0.2 * 0.95 * one], 1), torch.cat([none, 0.95 * one], 1)])
    return LinearModel(transition, torch.cat([0.2 * 0.35 * one, 0.35 * one]))


class Columns(Readout):
    """The state is its columns."""

    columns = ("x", "y", "vx", "vy")

    def read(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        return states


class Speed(Cost):
    """e = |v|²."""

    name = "speed"

    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        return imagined.states[:, :, 1:, 2:].square().sum(-1)


class Mud(Cost):
    """e = exp(-|p - m|² / (2 · .5²)): a soft place m at (.5, .3) on the way."""

    name = "mud"

    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        place = imagined.states[:, :, 1:, :2] - torch.tensor([0.5, 0.3])
        return (-place.square().sum(-1) / 0.5).exp()


COSTS: tuple[Cost, ...] = (GoalCost(Columns()), Speed(), Mud(), EffortCost(ACTION), SmoothnessCost(ACTION))
NAMES = tuple(cost.name for cost in COSTS)


# The experiment --------------------------------------------------------------------------------------------------


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """number: which of the experts; starts: of its demonstrations; judged: new ones; rounds: of learning."""

    number: int = 0
    starts: int = 12
    judged: int = 32
    rounds: int = 30
    expert: Gradient.Config = Gradient.Config(restarts=10, steps=250, horizon=20, rate=0.1)
    learner: Gradient.Config = Gradient.Config(restarts=2, steps=60, horizon=20, rate=0.05)


class Expert(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One weight vector: the true weights, what was recovered, and what they cost from new starts by the true ones.

    cosine, alike_cosine   between true weights and recovered ones, or such that count every term alike, in typical
                           sizes; `plain_cosine`: in the terms' own units
    ratio, alike_ratio     cost of what is replanned over the expert's
    ways                   a few of the expert's (B, H+1, 4), and what is replanned from the same starts
    """

    true: dict[str, float]
    recovered: dict[str, float]
    cosine: float
    alike_cosine: float
    plain_cosine: float
    ratio: float
    alike_ratio: float
    ways: tuple[list[list[list[float]]], list[list[list[float]]]]


def cells(seed: int, sizes: Sizes = Sizes(), vectors: int = VECTORS) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """The experts one by one; their weights and starts are drawn one after the other from the seed."""
    return tuple(Cell(f"expert-{i + 1}", perform, 60, seed, msgspec.structs.replace(sizes, number=i))
                 for i in range(vectors))


def summary(results: Results) -> Outcome:
    """`cosine` and `cost_ratio` are the worst of the vectors; `*_by_vector` has them all."""
    experts = [one.record(Expert) for one in results]
    sizes: Sizes = results.finished[0].cell.settings
    figures = {
        "cosine": min(e.cosine for e in experts),
        "cost_ratio": max(e.ratio for e in experts),
        "cosine_by_vector": [e.cosine for e in experts],
        "cost_ratio_by_vector": [e.ratio for e in experts],
        "plain_cosine_by_vector": [e.plain_cosine for e in experts],
        "alike_cosine": statistics.fmean(e.alike_cosine for e in experts),
        "alike_cost_ratio": statistics.fmean(e.alike_ratio for e in experts),
    }
    shown = picture(
        _draw(experts), "weights", "Weights read off demonstrations",
        "true and recovered weights of each expert, and a few of its ways beside the replanned ones",
        "Left: true weights against recovered ones, each expert in a colour. Right: an expert's ways (lines) and what "
        "is planned from the same new starts with the recovered weights (dots); the soft place grey.")
    return Outcome({"": figures}, (_table(experts, sizes),), (shown,))


def perform(context: Context) -> Found:
    """One expert: it demonstrates, its weights are recovered, and the two plan from new starts."""
    sizes: Sizes = context.settings
    size, generator = torch.tensor([SIZE[name] for name in NAMES]), torch.Generator().manual_seed(context.seed)
    for _ in range(sizes.number + 1):  # those before it draw as well
        true = torch.exp(0.7 * torch.randn(len(NAMES), generator=generator)) / size
        starts, others = _starts(sizes.starts, generator), _starts(sizes.judged, generator)
    true = true / true.sum()
    demonstrated, _, seen = drive(sizes.expert, starts, _named(true))
    recovered = learn(sizes, starts, demonstrated, seen)
    found = torch.tensor([recovered.weights[name] for name in NAMES])
    alike = (1 / size) / (1 / size).sum()
    best, way, _ = drive(sizes.expert, others, _named(true))
    mine, replanned, _ = drive(sizes.expert, others, recovered.weights)
    theirs, _, _ = drive(sizes.expert, others, _named(alike))
    cost = [float((energies * true).sum()) for energies in (best, mine, theirs)]
    expert = Expert(
        _named(true), dict(recovered.weights), _cosine(found * size, true * size), _cosine(alike * size, true * size),
        _cosine(found, true), cost[1] / cost[0], cost[2] / cost[0], (way[:6].tolist(), replanned[:6].tolist()),
    )
    context.say(f"expert {sizes.number + 1}: cosine {expert.cosine:.4f} (alike {expert.alike_cosine:.2f}), "
                f"in the terms' own units {expert.plain_cosine:.4f}, cost {expert.ratio:.4f} of the expert's "
                f"(alike {expert.alike_ratio:.2f})")
    return Found({f"expert-{sizes.number + 1}": {"cosine": expert.cosine, "cost_ratio": expert.ratio}}, expert)


def learn(sizes: Sizes, starts: Tensor, demonstrated: Tensor, seen: Tensor) -> Recovered:
    """Weights from the terms' energies (B, I) and actions (B, H, A) of demonstrations. Whoever learns plans from
    nothing, and from what was seen."""
    return recover_weights(COSTS, demonstrated, lambda w: drive(sizes.learner, starts, w, seen)[0], steps=sizes.rounds,
                           start={name: 1 / SIZE[name] for name in NAMES})


def drive(
    config: Gradient.Config, starts: Tensor, weights: Mapping[str, float], proposal: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Plan from `starts` (B, 4) and carry it out: the terms' mean energies (B, I), ways (B, H+1, 4), actions."""
    world, b = cart(), len(starts)
    problem = Problem(
        world, Belief(starts), COSTS, Task(TASK.goal, weights), ACTION, torch.arange(b),
        torch.zeros(b, dtype=torch.int64), proposal=proposal,
    )
    actions = config.build().plan(problem).actions.detach()
    done = world.imagine(Belief(starts), actions[:, None])
    return term_energies(COSTS, done, actions[:, None], TASK)[:, 0], done.states[:, 0], actions


def _starts(count: int, generator: torch.Generator) -> Tensor:
    place = 0.7 * torch.randn(count, 2, generator=generator) - torch.tensor([1.0, 0.0])
    return torch.cat([place, 0.3 * torch.randn(count, 2, generator=generator)], 1)


def _named(weights: Tensor) -> dict[str, float]:
    return dict(zip(NAMES, weights.tolist(), strict=True))


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


# Showing it ------------------------------------------------------------------------------------------------------


def _table(experts: list[Expert], sizes: Sizes) -> Table:
    rows = []
    for i, e in enumerate(experts):
        group = f"expert {i + 1}"
        rows += [
            Row(label="recovered", kind="agent", group=group,
                figures={"cosine": Figure(value=e.cosine), "ratio": Figure(value=e.ratio)}),
            Row(label="every term alike", kind="baseline", group=group,
                figures={"cosine": Figure(value=e.alike_cosine), "ratio": Figure(value=e.alike_ratio)}),
        ]
    return Table(
        name="demonstrations", title="Weights of five terms from 12 demonstrations",
        columns=(
            Column(key="cosine", title="cosine to the true weights", better="higher", target=0.95),
            Column(key="ratio", title="cost over the expert's", better="lower", target=1.05),
        ),
        rows=tuple(rows),
        protocol={
            "starts": sizes.starts, "judged": sizes.judged, "horizon": sizes.expert.horizon, "terms": ", ".join(NAMES),
            "vectors": len(experts),
            "planner": "gradient, 10 restarts of 250 steps; learning: 2 of 60, one of them from what was seen",
        },
        notes=(
            "Cosine with each term in units of what it typically amounts to; cost by the true weights.",
            "World and planner have the same equations: the learning of weights is measured, not that of a model.",
        ),
    )


def _draw(experts: list[Expert]) -> Any:
    from matplotlib.patches import Circle

    figure, (weights, ways) = canvas(8.5, 3.8, 1, 2)
    for i, e in enumerate(experts):
        weights.loglog([e.true[n] for n in NAMES], [e.recovered[n] for n in NAMES], "o", color=f"C{i}",
                       label=f"expert {i + 1}", alpha=0.8)
    edges = [min(weights.get_xlim()[0], weights.get_ylim()[0]), max(weights.get_xlim()[1], weights.get_ylim()[1])]
    weights.plot(edges, edges, color="#999999", linewidth=0.8)
    weights.set(xlabel="true weight", ylabel="recovered weight")
    weights.legend(fontsize="small")
    ways.add_patch(Circle((0.5, 0.3), 0.5, color="#dddddd"))
    for true, mine in zip(*map(torch.tensor, experts[0].ways), strict=True):
        ways.plot(true[:, 0], true[:, 1], color="#0072b2", linewidth=1.2)
        ways.plot(mine[:, 0], mine[:, 1], ".", color="#d55e00", markersize=3)
    ways.plot(2.0, 0.0, "k*", markersize=10)
    ways.set(aspect="equal", xlabel="x", ylabel="y")
    return figure
