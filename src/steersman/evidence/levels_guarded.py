"""Guardrails at the upper level, at the lower one, at both and at none: nine rooms with a disk in each, entered or not.

What is measured, three training seeds: episodes in which a disk was entered and goals that were reached, from the same
starts. The log and the model know nothing of the disks; one guardrail on the columns x and y is all that is told of
them. Upper: edges of the graph whose imagined way crosses a disk are cut. Lower: candidates are vetoed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor

from steersman.actor import Reach
from steersman.agent import Agent
from steersman.core import ColumnGoal, Guardrail, Task
from steersman.cost import OnColumns
from steersman.evaluation import PlanningProtocol, evaluate, wilson
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.hierarchy import SEEDS, Sizes, learn_rooms, with_ways
from steersman.memory.graphs.cutting import cut_by
from steersman.runs.artefacts import Column, Figure, Row, Table
from steersman.worlds import NineRooms
from steersman.worlds.nine_rooms import DISK

WORLD = NineRooms(disks=True)
PROTOCOL = PlanningProtocol(world=WORLD)
Where = Literal["none", "upper", "lower", "both"]
WHERE: tuple[Where, ...] = ("none", "upper", "lower", "both")


class Guarded(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """where guardrails act; played: episodes of a seed with both, others: of the rest; kept: m from a disk's edge, for
    the model's error; sizes: of what is learned."""

    where: Where
    played: int = 340
    others: int = 100
    kept: float = 0.03
    sizes: Sizes = Sizes()


class Counted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of one seed."""

    where: Where
    episodes: int
    wins: int
    violations: int
    infeasible: int


def cells(seed: int, settings: Guarded = Guarded(where="none")) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """Three times: learn the rooms as `hierarchy` does, play them four times."""
    found: list[Cell] = []
    for s in range(seed, seed + SEEDS):
        learned = Cell("learned", learn_rooms, 100, s, settings.sizes)
        found += [Cell(where, play, 60, s, msgspec.structs.replace(settings, where=where), needs=(learned,))
                  for where in WHERE]
    return tuple(found)


def disks(agent: Agent, kept: float) -> Guardrail:
    """Stay out of the disks of `WORLD`, and as far from them as said."""
    assert agent.readout is not None
    middles = WORLD.disk_places(torch.tensor([WORLD.doors]))[0]

    def inside(columns: Mapping[str, Tensor]) -> Tensor:
        place = torch.stack([columns["x"], columns["y"]], -1)[..., None, :]
        return DISK - (place - middles).norm(dim=-1).amin(-1)

    return OnColumns(agent.readout, inside, margin=kept, name="out of the disks")


def play(context: Context) -> Found:
    """The same starts with guardrails where the settings say."""
    settings: Guarded = context.settings
    agent = with_ways(context.needs[0].folder)
    rail, where, own = disks(agent, settings.kept), settings.where, agent.planner
    assert isinstance(own, Reach)
    graph = own.memory()
    if where == "upper":
        graph = cut_by((rail,), graph, agent.world_model).leaves(graph)
    config = msgspec.structs.replace(own.config, cut=where == "both")
    agent = Agent(agent.config, agent.signature, agent.perception, agent.world_model, readout=agent.readout,
                  planner=Reach(config, graph))
    task = Task(ColumnGoal({"x": 0.0, "y": 0.0}), guardrails=(rail,) if where in ("lower", "both") else ())
    count = settings.played if where == "both" else settings.others
    found = evaluate(agent, PROTOCOL, episodes=count, seed=context.seed, task=task, random=False)
    counted = Counted(where=where, episodes=count, wins=int(found.success.sum()),
                      violations=int(found.violated.sum()), infeasible=found.infeasible)
    context.say(f"guardrails {where}, seed {context.seed}: {counted.violations} of {count} entered a disk, "
                f"{counted.wins} arrived")
    return Found({where: _figures([counted])}, counted)


def _figures(counted: list[Counted]) -> dict[str, Any]:
    episodes, wins = sum(one.episodes for one in counted), sum(one.wins for one in counted)
    violations = sum(one.violations for one in counted)
    return {
        "episodes": episodes, "violations": violations, "violations_ci95": list(wilson(violations, episodes)),
        "success": wins / episodes, "success_ci95": list(wilson(wins, episodes)),
        "success_by_seed": [one.wins / one.episodes for one in counted],
        "infeasible_decisions": sum(one.infeasible for one in counted),
    }


def summary(results: Results) -> Outcome:
    """Over all seeds."""
    every = {where: [one.record(Counted) for one in results.of(where)] for where in WHERE}
    figures: dict[str, dict[str, Any]] = {}
    figures.update({where: _figures(counted) for where, counted in every.items() if counted})
    rows = tuple(Row(label=where, kind="agent" if where == "both" else "baseline", figures={
        "episodes": Figure(value=found["episodes"]),
        "violations": Figure(value=found["violations"] / found["episodes"], low=found["violations_ci95"][0],
                             high=found["violations_ci95"][1]),
        "success": Figure(value=found["success"], low=found["success_ci95"][0], high=found["success_ci95"][1]),
    }) for where, found in figures.items())
    table = Table(
        name="levels-guarded", title="Guardrails by level of abstraction",
        columns=(Column(key="episodes", title="episodes", form="count"),
                 Column(key="violations", title="a disk was entered", form="share", better="lower", target=0.0),
                 Column(key="success", title="goals reached", form="share", better="higher")),
        rows=rows, protocol={"world": "nine rooms, a disk in each", "log": "60,000 steps without disks"},
        notes=("None, upper, lower, both: the levels at which the guardrail acts. Intervals: Wilson's, 95%.",),
    )
    return Outcome(figures, (table,))
